"""Training steps and inference of the five networks in cnnmath and PyTorch."""

from __future__ import annotations

import argparse
from importlib.util import find_spec

from .networks import NETWORKS
from .race import Runner, race
from .report import Row, report

TOLERANCE = {"train": 2e-3, "infer": 2e-4}  # steps amplify rounding


def add_arguments(parser: argparse.ArgumentParser, libraries: list[str], seconds: float = 1.0) -> None:
    """What all races have in common."""
    parser.add_argument("--libraries", nargs="+", default=libraries, help="the first measures the others")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each library")
    parser.add_argument("--seconds", type=float, default=seconds, help="of each measurement")
    parser.add_argument("--json", metavar="FILE", help="also write the rows there")


def add_network_arguments(parser: argparse.ArgumentParser, modes: list[str]) -> None:
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--modes", nargs="+", choices=["train", "infer"], default=modes)
    parser.add_argument("--batch", type=int, help="instead of each network's own")


def installed(libraries: list[str]) -> list[str]:
    """Those that can be imported: "torch-channels_last" is a way of using torch."""
    return [library for library in libraries if find_spec(library.split("-")[0])]


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
    report(case, rows, options.threads, options.json)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench peers", description=__doc__)
    add_arguments(parser, ["cnnmath", "torch", "torch-channels_last"])
    add_network_arguments(parser, ["train", "infer"])
    measure("peers", parser.parse_args(arguments))
