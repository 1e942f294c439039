"""A random sweep of convolution layers: is any much slower than PyTorch's, both channels-last?

Each layer's forward pass and both gradients (and its bias') are one planned step in cnnmath, and y = conv(x) with
torch.autograd.grad in PyTorch. Layers depend on the seed and their number alone: channels 1 to 512, maps 1 to 224,
kernels 1 to 7, strides, dilations, groups (depthwise too), a forward pass of at most 4 GFLOP. Those that take more than
1.1 times PyTorch's time are measured again at the end, and the second figure counts. "ratio" is cnnmath's time over
PyTorch's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from .._arguments import whole
from .layers import FACTORY
from .race import Ended, Runner, Team, add_arguments, parsed, progress, race
from .report import Row, report

MOST_FLOP, MOST_BYTES = 4e9, 30e6  # of a forward pass; of x or y: larger arrays get fresh pages at each step
AGAIN = 1.1  # times PyTorch's time
TOLERANCE = 1e-4
PAUSE = 0.02  # PyTorch's threads and ours spin for less


def layer(seed: int, number: int) -> dict[str, Any]:
    """A layer as layers.py takes it."""
    rng = np.random.default_rng([seed, number])

    def upto(most: int) -> int:
        """As likely between 1 and 2 as between 256 and 512."""
        return min(int(np.exp(rng.uniform(0, np.log(most + 1)))), most)

    while True:
        kernel = [int(k) for k in rng.choice(np.arange(1, 8), 2, p=[0.2, 0.1, 0.3, 0.1, 0.15, 0.05, 0.1])]
        size = [1 + int(224 * u**2) for u in rng.random(2)]
        if rng.random() < 0.75:
            kernel[1], size[1] = kernel[0], size[0]
        stride, dilation = (int(rng.choice([1, 2, 3], p=p)) for p in ([0.65, 0.28, 0.07], [0.85, 0.1, 0.05]))
        inputs, outputs = upto(512), upto(512)
        kind = rng.random()
        groups = 1
        if kind < 0.15:  # depthwise
            groups, outputs = inputs, inputs * (1 + int(kind < 0.04))
        elif kind < 0.3:
            groups = upto(min(inputs, outputs))
            inputs, outputs = inputs // groups * groups, outputs // groups * groups
        padding = [int(rng.choice([0, dilation * (k - 1) // 2])) for k in kernel]
        if size[0] == size[1] and kernel[0] == kernel[1]:
            padding[1] = padding[0]
        batch, bias = upto(64), bool(rng.random() < 0.5)
        out = [
            (s + 2 * p - dilation * (k - 1) - 1) // stride + 1
            for s, p, k in zip(size, padding, kernel, strict=True)
        ]
        if min(out) < 1 or outputs > 512:
            continue
        pixels = out[0] * out[1]
        flop = 2.0 * pixels * outputs * (inputs // groups) * kernel[0] * kernel[1]
        nbytes = 4.0 * max(pixels * outputs, size[0] * size[1] * inputs)
        batch = min(batch, int(MOST_FLOP / flop), int(MOST_BYTES / nbytes))
        if batch < 1:
            continue
        arguments = {"in_channels": inputs, "out_channels": outputs, "kernel_size": kernel, "stride": stride}
        arguments |= {"padding": padding, "dilation": dilation, "groups": groups, "bias": bias}
        spec = {"module": "Conv2d", "arguments": arguments, "input": [batch, inputs, *size]}
        return spec | {"flop": 3 * flop * batch}


def described(spec: dict[str, Any]) -> Row:
    a, (batch, inputs, height, width) = spec["arguments"], spec["input"]
    groups = a["groups"]
    kind = "dense" if groups == 1 else "depthwise" if groups == inputs else "grouped"
    row: Row = {"kind": kind, "n": batch, "in": inputs, "out": a["out_channels"], "map": f"{height}x{width}"}
    row |= {"kernel": "x".join(map(str, a["kernel_size"])), "stride": a["stride"], "dilation": a["dilation"]}
    row |= {"padding": "x".join(map(str, a["padding"])), "groups": groups, "bias": a["bias"]}
    return row


def measure(
    spec: dict[str, Any], libraries: list[str], team: Team, rounds: int, seconds: float
) -> dict[str, Row]:
    told = {key: spec[key] for key in ("module", "arguments", "input")}
    workload = {"spec": told, "backward": True, "threads": team.threads, "work": spec["flop"]}
    runners = [Runner(library, FACTORY, {"library": library, **workload}) for library in libraries]
    try:
        rows = race(runners, team, rounds, seconds, TOLERANCE, PAUSE)
    except Ended as error:
        team.forget(error.label)
        raise
    return {row["library"]: row for row in rows}


def result(found: dict[str, Row], libraries: list[str]) -> Row:
    peer, own = (found[library] for library in libraries)
    row: Row = {"GFLOP/s": own["GFLOP/s"], "ms": own["ms"], "PyTorch ms": peer["ms"]}
    return row | {"error": own["error"], "ratio": own["time / first"]}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="cnnmath bench cliffs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser, ["torch-channels_last", "cnnmath"], seconds=0.03, rounds=3)
    parser.add_argument("--seed", type=whole(0), default=0)
    parser.add_argument("--count", type=whole(0), default=300, help="how many layers")
    parser.add_argument(
        "--first", type=whole(0), default=0, help="the number of the first one: a sweep in parts"
    )
    parser.add_argument(
        "--parts", nargs="+", metavar="FILE", default=[], help="JSON of parts, whose rows join in"
    )
    options = parsed(parser, arguments)
    libraries = options.libraries
    if len(libraries) != 2:
        raise ValueError(f"cliffs compares two libraries, got {', '.join(libraries)}")
    parts = [json.loads(Path(part).read_text()) for part in options.parts]
    if not all(part["case"] == "cliffs" for part in parts):
        raise ValueError(f"--parts: expected files that cnnmath bench cliffs wrote, got {options.parts}")
    rows: list[Row] = []
    with Team(options.threads) as team:
        numbers = range(options.first, options.first + options.count)
        for number in progress(numbers, "cliffs"):
            spec = layer(options.seed, number)
            try:
                found = measure(spec, libraries, team, options.rounds, options.seconds)
            except Ended as error:  # PyTorch has ended with a corrupted heap, and another time went on
                if error.label.startswith("cnnmath"):
                    raise
                tqdm.write(f"layer {number} is left out: {error}", file=sys.stderr)
                continue
            rows.append(
                {"seed": options.seed, "layer": number, **described(spec), **result(found, libraries)}
            )
        slow = [row for row in rows if row["ratio"] > AGAIN]
        for row in progress(slow, "again"):
            spec = layer(options.seed, row["layer"])
            found = measure(spec, libraries, team, 5, 3 * options.seconds)
            row |= {"first ratio": row["ratio"]} | result(found, libraries)
    rows = [row for part in parts for row in part["rows"]] + rows
    slowest = sorted(rows, key=lambda row: -float(row["ratio"]))
    shown = slowest[: max(5, sum(row["ratio"] > 1 for row in rows))]
    report("cliffs", rows, options.threads, options, distribution(rows), {"cliffs": draw}, shown)


def distribution(rows: list[Row]) -> list[Row]:
    """How the ratios are spread, of each kind of layer and of all."""
    summary: list[Row] = []
    for kind in (*sorted({row["kind"] for row in rows}), "all"):
        ratios = [row["ratio"] for row in rows if kind in (row["kind"], "all")]
        shares = {f"<= {most}x": float(np.mean(np.array(ratios) <= most)) for most in (0.5, 1.0, 1.1, 1.5)}
        spread = {"median": statistics.median(ratios), "mean": statistics.geometric_mean(ratios)}
        summary.append({"kind": kind, "layers": len(ratios)} | shares | spread | {"worst": max(ratios)})
    return summary


def draw(rows: list[Row]) -> Any:
    """The ratios in order, and over the size of the layer."""
    from ..viz.canvas import new_figure

    figure = new_figure(11, 4.5)
    ordered, sizes = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    ratios = sorted(row["ratio"] for row in rows)
    ordered.step(np.arange(1, len(ratios) + 1) / len(ratios) * 100, ratios, where="mid")
    ordered.set_xlabel("layers (%)")
    ordered.set_ylabel("time / PyTorch's, channels-last")
    for i, kind in enumerate(sorted({row["kind"] for row in rows})):
        own = [row for row in rows if row["kind"] == kind]
        work = [row["GFLOP/s"] * row["ms"] / 1e3 for row in own]
        sizes.scatter(work, [row["ratio"] for row in own], s=12, color=f"C{i}", label=kind)
    sizes.set_xscale("log")
    sizes.set_xlabel("GFLOP of forward and backward")
    sizes.legend()
    for axes in (ordered, sizes):
        axes.set_yscale("log")
        axes.axhline(1, color="black", linewidth=0.8)
        axes.grid(alpha=0.3, which="both")
    figure.suptitle(
        f"{len(rows)} random convolution layers: {np.mean(np.array(ratios) <= 1):.0%} at most 1.0x"
    )
    return figure
