"""Training steps and inference of the five networks in cnnmath and PyTorch."""

from __future__ import annotations

import argparse

from .networks import NETWORKS
from .peak import with_peak
from .race import Runner, add_arguments, installed, race
from .report import Row, report

TOLERANCE = {"train": 2e-3, "infer": 2e-4}  # steps amplify rounding


def add_network_arguments(parser: argparse.ArgumentParser, modes: list[str]) -> None:
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--modes", nargs="+", choices=["train", "infer"], default=modes)
    parser.add_argument("--batch", type=int, help="instead of each network's own")


def measure(case: str, options: argparse.Namespace) -> None:
    rows: list[Row] = []
    for name in options.networks:
        batch = options.batch or NETWORKS[name].batch
        for mode in options.modes:
            workload = {"name": name, "mode": mode, "batch": batch, "threads": options.threads}
            runners = [
                Runner(library, "bench.backends:network_session", {"backend": library, **workload})
                for library in installed(options.libraries)
            ]
            for row in race(runners, options.threads, options.rounds, options.seconds, TOLERANCE[mode]):
                label = {"network": name, "mode": mode, "batch": batch}
                rows.append(label | row | {"images/s": 1e3 * batch / row["ms"]})
    report(case, with_peak(rows, options.threads), options.threads, options.json)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench peers", description=__doc__)
    add_arguments(parser, ["cnnmath", "torch", "torch-channels_last"])
    add_network_arguments(parser, ["train", "infer"])
    measure("peers", parser.parse_args(arguments))
