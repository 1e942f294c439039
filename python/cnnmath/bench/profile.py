"""Each op and pass of a network in cnnmath: milliseconds, share of the step, and how much of the same run's peak.

GFLOP/s count what the equations ask for; Winograd's filtering does fewer operations, and a matrix unit does them
faster than the vector units whose peak is measured, so fractions above 1 are possible.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from .._arguments import whole
from .backends import cnnmath_trainer
from .networks import data, network
from .peak import peak, triad
from .peers import add_network_arguments
from .race import progress
from .report import Row, output_arguments, report

COLOURS = {"forward": "C0", "backward": "C1", "update": "C2"}


def profiled(name: str, mode: str, batch: int, steps: int) -> Any:
    """The Profile of a training step, or of inference."""
    from ..planner.profile import measured

    trainer = cnnmath_trainer(name)
    x, target = data(name, batch)
    if mode == "train":
        return trainer.profile(x, target, steps)
    trainer.model.eval()
    return measured(trainer.model.plan(x), [x], steps)


def main(arguments: list[str]) -> None:
    from ..machine import set_num_threads

    parser = argparse.ArgumentParser(prog="cnnmath bench profile", description=__doc__)
    add_network_arguments(parser, ["train"])
    parser.add_argument("--threads", type=whole(1, 1024), default=2)
    parser.add_argument("--steps", type=whole(1), default=10, help="each time is the median over them")
    parser.add_argument(
        "--by", choices=["op", "layer"], default="layer", help="a row for each op and pass, or layer"
    )
    output_arguments(parser)
    options = parser.parse_args(arguments)
    set_num_threads(options.threads)
    most, bandwidth = peak("f32", options.threads), triad(options.threads)
    rows: dict[str, list[Row]] = {"op": [], "layer": []}
    summary: list[Row] = []
    for name, mode in progress([(n, m) for n in options.networks for m in options.modes], "profile"):
        batch = options.batch or network(name).batch
        profile = profiled(name, mode, batch, options.steps)
        label = {"network": name, "mode": mode}
        for by, lines in (("op", profile.ops), ("layer", profile.nodes)):
            for line in lines:
                row = label | {
                    "op": line.op,
                    "pass": line.direction,
                    "shapes": line.shapes,
                    "calls": line.calls,
                }
                row |= {"ms": 1e3 * line.seconds, "share": line.seconds / profile.seconds}
                row |= {"GFLOP/s": line.gflops, "of peak": line.gflops / most}
                rows[by].append(row | {"GB/s": line.bandwidth, "of triad": line.bandwidth / bandwidth})
        gflops = sum(line.flops for line in profile.nodes) / profile.seconds / 1e9
        row = label | {
            "batch": batch,
            "ms": 1e3 * profile.seconds,
            "GFLOP/s": gflops,
            "of peak": gflops / most,
        }
        row |= {"outside kernels": profile.outside / profile.seconds}
        summary.append(row | {"peak GFLOP/s": most, "triad GB/s": bandwidth})
    pictures = {"profile": lambda _: skylines(rows["layer"])}
    report("profile", rows[options.by], options.threads, options, summary, pictures)


def skylines(rows: list[Row]) -> Any:
    """A panel for each network: ops one after the other as they run, as wide as their time, as high as their speed."""
    from ..viz.canvas import new_figure

    panels = list(dict.fromkeys((row["network"], row["mode"]) for row in rows))
    figure = new_figure(11, 2.6 * len(panels))
    for i, panel in enumerate(panels):
        own = [row for row in rows if (row["network"], row["mode"]) == panel]
        widths = np.array([row["ms"] for row in own])
        starts = np.cumsum(widths) - widths
        heights = np.array([row["of peak"] for row in own])
        axes = figure.add_subplot(len(panels), 1, i + 1)
        for name, colour in COLOURS.items():
            chosen = [row["pass"] == name for row in own]
            if any(chosen):
                bars = (starts[chosen], heights[chosen], widths[chosen])
                axes.bar(*bars, align="edge", color=colour, edgecolor="white", linewidth=0.3, label=name)
        for start, width, height, row in zip(starts, widths, heights, own):
            if width > 0.04 * widths.sum():
                axes.text(
                    start + width / 2, height, row["op"], rotation=20, fontsize=6, ha="left", va="bottom"
                )
        axes.set_xlim(0, widths.sum())
        axes.set_ylim(0, 1.35 * max(heights.max(), 0.1))
        axes.set_title(" ".join(panel))
        axes.set_ylabel("GFLOP/s / peak")
        axes.grid(axis="y", alpha=0.3)
    axes.set_xlabel("ms")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right upper")
    return figure
