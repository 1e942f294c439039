"""Whole training steps against the vectorised NumPy network, and PyTorch where it is installed."""

from __future__ import annotations

import argparse

from .peers import add_network_arguments, measure
from .race import add_arguments, parsed


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="cnnmath bench steps", description=__doc__)
    add_arguments(parser, ["cnnmath", "numpy", "torch"])
    add_network_arguments(parser, ["train"])
    measure("steps", parsed(parser, arguments))
