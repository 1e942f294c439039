"""How training scales: with threads, batch, channels and the size of images, one at a time, against PyTorch.

The network has four 3x3 convolutions, of C, C, 2C and 2C channels, with ReLU, and a maximum after every second one.
"""

from __future__ import annotations

import argparse
from copy import copy
from typing import Any

from .._arguments import whole
from .networks import flops
from .peers import TOLERANCE
from .race import add_arguments, contest, parsed, progress
from .report import Row, report

AXES = {
    "threads": [1, 2],
    "batch": [1, 4, 16, 64, 256],
    "channels": [4, 8, 16, 32, 64, 128],
    "size": [8, 16, 32, 64, 128],
}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="cnnmath bench scaling", description=__doc__)
    add_arguments(parser, ["cnnmath", "torch", "torch-channels_last"], seconds=0.5, rounds=5)
    parser.add_argument("--axes", nargs="+", choices=AXES, default=list(AXES))
    for axis, usual in AXES.items():
        name = "--thread-counts" if axis == "threads" else f"--{axis}"
        shown = " ".join(map(str, usual))
        parser.add_argument(name, type=whole(1), nargs="+", default=usual, help=f"values of {axis} ({shown})")
    options = parsed(parser, arguments)
    values = {name: getattr(options, name) for name in AXES} | {"threads": options.thread_counts}
    rows: list[Row] = []
    points = [(name, value) for name in options.axes for value in values[name]]
    for axis, value in progress(points, "scaling"):
        point = {"threads": options.threads, "batch": 32, "channels": 32, "size": 32} | {axis: value}
        name = f"plain-{point['channels']}-{point['size']}"
        work = float(flops(name)[1] * point["batch"])
        workload = {"name": name, "mode": "train", "batch": point["batch"], "work": work}
        how = copy(options)
        how.threads = point["threads"]
        for row in contest("cnnmath.bench.backends:network_session", workload, how, TOLERANCE["train"]):
            speed = {"images/s": 1e3 * point["batch"] / row["ms"]}
            rows.append({"axis": axis, "value": value} | point | row | speed)
    report("scaling", rows, options.threads, options, pictures={"scaling": draw})


def draw(rows: list[Row]) -> Any:
    """A panel for each axis: GFLOP/s of the libraries over its values."""
    from ..viz.canvas import matplotlib, new_figure

    axes_names = list(dict.fromkeys(row["axis"] for row in rows))
    libraries = list(dict.fromkeys(row["library"] for row in rows))
    columns = min(2, len(axes_names))
    lines = -(-len(axes_names) // columns)
    figure = new_figure(5.5 * columns, 3.6 * lines)
    most = max(row["GFLOP/s"] for row in rows)
    for i, axis in enumerate(axes_names):
        panel = figure.add_subplot(lines, columns, i + 1)
        for j, library in enumerate(libraries):
            own = [row for row in rows if (row["axis"], row["library"]) == (axis, library)]
            values, speeds = [row["value"] for row in own], [row["GFLOP/s"] for row in own]
            panel.plot(values, speeds, "o-", color=f"C{j}", label=library)
        ticks = sorted({row["value"] for row in rows if row["axis"] == axis})
        panel.set_xscale("log", base=2)
        panel.set_xticks(ticks, list(map(str, ticks)))
        panel.xaxis.set_minor_locator(matplotlib("ticker").NullLocator())
        panel.set_ylim(0, 1.05 * most)
        panel.set_xlabel({"size": "image size"}.get(axis, axis))
        panel.set_ylabel("GFLOP/s")
        panel.grid(alpha=0.3)
        panel.legend()
    return figure
