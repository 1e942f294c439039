"""Training steps and inference of the five networks in cnnmath and its peers.

Training: PyTorch as it is (NCHW), channels-last, and compiled. Inference: these, ONNX Runtime and OpenVINO (in
float32). Below the rows stand, for each network, the fastest peer and how many times as fast as it cnnmath is,
by the median over turns in which each was measured once, and the geometric mean of these.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable
from functools import partial
from typing import Any

from .._arguments import whole
from .backends import INFERENCE_ONLY
from .networks import NETWORKS, flops, network
from .peak import with_peak
from .plots import advantage
from .race import add_arguments, contest, parsed, progress
from .report import Row, report

TOLERANCE = {"train": 2e-3, "infer": 2e-4}  # steps amplify rounding
TORCH = ["torch", "torch-channels_last", "torch-compiled"]


def add_network_arguments(
    parser: argparse.ArgumentParser, modes: list[str], networks: Iterable[str] = NETWORKS
) -> None:
    parser.add_argument("--networks", nargs="+", choices=networks, default=list(networks))
    parser.add_argument("--modes", nargs="+", choices=["train", "infer"], default=modes)
    parser.add_argument("--batch", type=whole(1), help="instead of each network's own")


def measure(case: str, options: argparse.Namespace) -> None:
    rows: list[Row] = []
    workloads = [(name, mode) for name in options.networks for mode in options.modes]
    for name, mode in progress(workloads, case):
        batch = options.batch or network(name).batch
        work = float(flops(name)[mode == "train"] * batch)
        workload = {"name": name, "mode": mode, "batch": batch, "work": work}
        libraries = [
            library for library in options.libraries if mode == "infer" or library not in INFERENCE_ONLY
        ]
        factory = "cnnmath.bench.backends:network_session"
        for row in contest(factory, workload, options, TOLERANCE[mode], libraries=libraries):
            label = {"network": name, "mode": mode, "batch": batch}
            rows.append(label | row | {"images/s": 1e3 * batch / row["ms"]})
    rows = with_peak(rows, options.threads)
    pictures = {f"{case}-{mode}": partial(_picture, mode=mode) for mode in options.modes}
    report(case, rows, options.threads, options, fastest(rows), pictures)


def _picture(rows: list[Row], mode: str) -> Any:
    title = "Training steps" if mode == "train" else "Inference"
    chosen = [row for row in rows if row["mode"] == mode]
    if not chosen:
        return None
    return advantage(chosen, ("network",), f"{title}: how many times as fast {chosen[0]['library']} is")


def fastest(rows: list[Row], group: str = "mode", key: str = "network", speed: str = "images/s") -> list[Row]:
    """For each workload the fastest of the others, and how many times as fast the first library is.

    Workloads are told by the columns `group` and `key`; below those of a group stands the geometric mean.
    """
    summary: list[Row] = []
    for which in dict.fromkeys(row[group] for row in rows):
        ratios = []
        for name in dict.fromkeys(row[key] for row in rows if row[group] == which):
            first, *others = (row for row in rows if (row[key], row[group]) == (name, which))
            if not others:
                continue
            best = min(others, key=lambda row: float(row["time / first"]))
            ratios.append(best["time / first"])
            own = {f"{first['library']} {speed}": first[speed]}
            peer = {"fastest peer": best["library"], f"peer {speed}": best[speed]}
            summary.append({group: which, key: name} | own | peer | {"times as fast": ratios[-1]})
        if ratios:
            mean = statistics.geometric_mean(ratios)
            summary.append({group: which, key: "geometric mean", "times as fast": mean})
    return summary


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="cnnmath bench peers", description=__doc__)
    add_arguments(parser, ["cnnmath", *TORCH, *sorted(INFERENCE_ONLY)])
    add_network_arguments(parser, ["train", "infer"])
    measure("peers", parsed(parser, arguments))
