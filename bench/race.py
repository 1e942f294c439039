"""Several libraries on one workload, each in a process of its own, measured in turns: medians and ratios.

A process each, because two OpenMP runtimes in one steal from each other; in turns, because the machine's
speed drifts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np

from .report import Row

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class WrongAnswer(RuntimeError):
    """A library computed something else than the others: its time means nothing."""


@dataclass
class Runner:
    """One contestant: `factory` ("module:function") makes its session in the worker process."""

    label: str
    factory: str
    arguments: dict[str, Any]
    seconds: list[float] = field(default_factory=list)
    steps: int = 1

    def start(self, threads: int) -> dict[str, Any]:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", self.factory, json.dumps(self.arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=dict(os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))),
        )
        return self._reply()

    def time(self, steps: int) -> float:
        assert self.process.stdin is not None
        print(steps, file=self.process.stdin, flush=True)
        return float(self._reply()["seconds"])

    def stop(self) -> None:
        if hasattr(self, "process"):
            self.process.communicate()  # closes its input, which ends it

    def _reply(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.label}: the process ended; its error stands above")
        reply: dict[str, Any] = json.loads(line)
        return reply


def race(runners: list[Runner], threads: int, rounds: int, seconds: float, tolerance: float) -> list[Row]:
    """One row for each runner, in order. Each of `rounds` turns measures every runner for about `seconds`.

    Answers must agree with the first runner's within `tolerance` times their largest. The first is the
    measure: "time / first" is the median, over the turns, of a runner's time divided by the first's in the
    same turn.
    """
    try:
        rows: list[Row] = []
        expected = None
        for runner in runners:
            first = runner.start(threads)
            answers = np.array(first["answers"])
            expected = answers if expected is None else expected
            difference = float(np.abs(answers - expected).max() / max(np.abs(expected).max(), 1e-30))
            if not difference <= tolerance:
                workload = f"{runner.factory} {runner.arguments}"
                raise WrongAnswer(
                    f"{runner.label} differs from {runners[0].label} by {difference:.1e}: {workload}"
                )
            rows.append(
                {"library": runner.label, "build": first["build"], "error": difference, "work": first["work"]}
            )
        for runner in runners:
            runner.steps = max(1, round(seconds / runner.time(1)))
        for _ in range(rounds):
            for runner in runners:
                time.sleep(0.3)  # the threads of the others go to sleep: those of OpenBLAS spin for 0.1 s
                runner.seconds.append(runner.time(runner.steps))
    finally:
        for runner in runners:
            runner.stop()
    for row, runner in zip(rows, runners, strict=True):
        ratios = [own / first for own, first in zip(runner.seconds, runners[0].seconds, strict=True)]
        median = statistics.median(runner.seconds)
        row |= {
            "ms": 1e3 * median,
            "spread": (max(runner.seconds) - min(runner.seconds)) / median,
            "best ms": 1e3 * min(runner.seconds),
            "GFLOP/s": row.pop("work") / median / 1e9,
            "time / first": statistics.median(ratios),
        }
    return rows


def add_arguments(parser: argparse.ArgumentParser, libraries: list[str], seconds: float = 1.0) -> None:
    """What all races have in common."""
    parser.add_argument("--libraries", nargs="+", default=libraries, help="the first measures the others")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each library")
    parser.add_argument("--seconds", type=float, default=seconds, help="of each measurement")
    parser.add_argument("--json", metavar="FILE", help="also write the rows there")


def installed(libraries: list[str]) -> list[str]:
    """Those that can be imported: "torch-channels_last" is a way of using torch."""
    return [library for library in libraries if find_spec(library.split("-")[0])]
