"""Training of networks that no kernel was made for: depthwise-separable, an MLP, odd sizes, a U-Net, one image."""

from __future__ import annotations

import argparse

from .networks import UNTUNED
from .peers import TORCH, add_network_arguments, measure
from .race import add_arguments, parsed


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="cnnmath bench untuned", description=__doc__)
    add_arguments(parser, ["cnnmath", *TORCH])
    add_network_arguments(parser, ["train"], UNTUNED)
    measure("untuned", parsed(parser, arguments))
