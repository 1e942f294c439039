"""Single ops, forward and with their gradients, against NumPy as a good NumPy user writes it (numpy_cnn.py).

With --libraries also against PyTorch: cnnmath numpy torch torch-channels_last.
"""

from __future__ import annotations

import argparse
from typing import Any

from .layers import FACTORY
from .peers import fastest
from .plots import advantage
from .race import Team, add_arguments, contest, parsed, progress
from .report import Row, report

TOLERANCE = 1e-4


def _conv(batch: int, inputs: int, outputs: int, size: int, kernel: int, **other: int) -> dict[str, Any]:
    arguments = {"in_channels": inputs, "out_channels": outputs, "kernel_size": kernel, **other}
    return {"module": "Conv2d", "arguments": arguments, "input": [batch, inputs, size, size]}


def _op(module: str, *shape: int, **arguments: int) -> dict[str, Any]:
    return {"module": module, "arguments": arguments, "input": list(shape)}


OPS = {
    "conv2d 5x5, 1 channel": _conv(64, 1, 6, 28, 5, padding=2),
    "conv2d 3x3, 64 channels": _conv(16, 64, 64, 32, 3, padding=1),
    "conv2d 3x3, stride 2": _conv(32, 32, 64, 32, 3, padding=1, stride=2),
    "conv2d 1x1": _conv(32, 128, 128, 16, 1),
    "max_pool2d 2x2": _op("MaxPool2d", 64, 32, 32, 32, kernel_size=2),
    "max_pool2d 3x3, stride 2": _op("MaxPool2d", 16, 64, 56, 56, kernel_size=3, stride=2, padding=1),
    "adaptive_avg_pool2d": _op("AdaptiveAvgPool2d", 64, 128, 8, 8, output_size=1),
    "linear": _op("Linear", 64, 9216, in_features=9216, out_features=128),
    "batch_norm": _op("BatchNorm2d", 32, 64, 32, 32, num_features=64),
    "relu": _op("ReLU", 32, 64, 32, 32, inplace=False),
    "flatten": _op("Flatten", 64, 64, 12, 12),
    "cross_entropy": _op("CrossEntropyLoss", 256, 1000),
}
PASSES = {"forward": False, "forward and backward": True}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="cnnmath bench ops", description=__doc__)
    add_arguments(parser, ["cnnmath", "numpy"], seconds=0.1, rounds=5)
    parser.add_argument("--ops", nargs="+", choices=OPS, default=list(OPS), metavar="OP", help=", ".join(OPS))
    options = parsed(parser, arguments)
    rows: list[Row] = []
    with Team(options.threads) as team:
        for which, backward in PASSES.items():
            for op in progress(options.ops, f"ops, {which}"):
                workload = {"spec": OPS[op], "backward": backward}
                for row in contest(FACTORY, workload, options, TOLERANCE, team):
                    del row["GFLOP/s"]  # most are bound by memory
                    rows.append({"op": op, "pass": which} | row)
    pictures = {"ops": _picture}
    report("ops", rows, options.threads, options, fastest(rows, "pass", "op", "ms"), pictures)


def _picture(rows: list[Row]) -> Any:
    """A bar for each pass of an op, and library."""
    first = rows[0]["library"]
    passes = {which: "" if which == "forward" else ", with gradients" for which in PASSES}
    named = [
        row | {"library": row["library"] + passes[row["pass"]] * (row["library"] != first)} for row in rows
    ]
    return advantage(named, ("op",), f"Single ops: how many times as fast {first} is")
