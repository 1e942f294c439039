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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from .._arguments import real, whole
from .report import Row, output_arguments

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PACKAGE = Path(__file__).parents[1]
WORK = "from cnnmath.bench.worker import main; main()"
# `cnnmath.bench` without the rest of cnnmath: a peer's process must not load our core and its OpenMP runtime.
ALONE = (
    "import sys, types; package = sys.modules['cnnmath'] = types.ModuleType('cnnmath'); "
    "package.__path__ = [sys.argv[1]]; "
)

T = TypeVar("T")


class WrongAnswer(ValueError):
    """A library computed something else than the others: its time means nothing."""


class Ended(OSError):
    """The process of a library has ended by itself."""

    def __init__(self, label: str) -> None:
        super().__init__(f"{label}: the process ended; its error stands above")
        self.label = label


class Worker:
    """A process that does the work of one library (see worker.py)."""

    def __init__(self, label: str, threads: int) -> None:
        self.label = label
        environment = dict(os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads)))
        path = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(PACKAGE.parent), path)))
        code = WORK if label.split("-")[0] == "cnnmath" else ALONE + WORK
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(PACKAGE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, **command: Any) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        print(json.dumps(command), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise Ended(self.label)
        reply: dict[str, Any] = json.loads(line)
        return reply

    def stop(self) -> None:
        self.process.communicate()  # closes its input, which ends it


class Team:
    """Workers by the labels of their libraries, started when they are first needed."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.workers: dict[str, Worker] = {}

    def __getitem__(self, label: str) -> Worker:
        if label not in self.workers:
            self.workers[label] = Worker(label, self.threads)
        return self.workers[label]

    def forget(self, label: str) -> None:
        """Of one that has ended: the next work starts it anew."""
        self.workers.pop(label).stop()

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers.values():
            worker.stop()


@dataclass
class Runner:
    """One contestant: `factory` ("module:function") makes its session in its library's worker."""

    label: str
    factory: str
    arguments: dict[str, Any]
    seconds: list[float] = field(default_factory=list)
    steps: int = 1


def race(
    runners: list[Runner],
    team: Team,
    rounds: int,
    seconds: float,
    tolerance: float,
    pause: float = 0.3,
    steps: int | None = None,
) -> list[Row]:
    """One row for each runner, in order. Each of `rounds` turns measures every runner for about `seconds`, or `steps`.

    Answers must agree with the first runner's within `tolerance` times their largest number. The first is the
    measure: "time / first" is the median, over the turns, of a runner's time divided by the first's in the
    same turn. A runner that is unavailable has no row; standard error says why. Before each measurement is a
    `pause`, in which the threads of the others go to sleep: those of OpenBLAS spin for 0.1 s.
    """
    rows: list[Row] = []
    present: list[Runner] = []
    expected = None
    for runner in runners:
        first = team[runner.label].ask(load=runner.factory, arguments=runner.arguments)
        if "unavailable" in first:
            tqdm.write(f"{runner.label}: {first['unavailable']}", file=sys.stderr)
            continue
        answers = _groups(first["answers"])
        expected = answers if expected is None else expected
        difference = max(_difference(a, b) for a, b in zip(answers, expected, strict=True))
        if not difference <= tolerance:
            workload = f"{runner.factory} {runner.arguments}"
            raise WrongAnswer(
                f"{runner.label} differs from {present[0].label} by {difference:.1e}: {workload}"
            )
        present.append(runner)
        rows.append(
            {"library": runner.label, "build": first["build"], "error": difference, "work": first["work"]}
        )
    for runner in present:
        runner.steps = steps or max(1, round(seconds / team[runner.label].ask(steps=1)["seconds"]))
    for _ in range(rounds):
        for runner in present:
            time.sleep(pause)
            runner.seconds.append(team[runner.label].ask(steps=runner.steps)["seconds"])
    for row, runner in zip(rows, present, strict=True):
        ratios = [own / first for own, first in zip(runner.seconds, present[0].seconds, strict=True)]
        median = statistics.median(runner.seconds)
        row |= {
            "ms": 1e3 * median,
            "spread": (max(runner.seconds) - min(runner.seconds)) / median,
            "best ms": 1e3 * min(runner.seconds),
            "GFLOP/s": row.pop("work") / median / 1e9,
            "time / first": statistics.median(ratios),
        }
    return rows


def _groups(answers: list[Any]) -> list[Any]:
    return answers if answers and isinstance(answers[0], list) else [answers]


def _difference(answers: list[float], expected: list[float]) -> float:
    """The largest difference, as a part of the largest number that was expected."""
    ours, theirs = np.array(answers), np.array(expected)
    if ours.shape != theirs.shape:
        raise WrongAnswer(f"expected {theirs.size} answers, got {ours.size}")
    return float(np.abs(ours - theirs).max(initial=0) / max(np.abs(theirs).max(initial=0), 1e-30))


def add_arguments(
    parser: argparse.ArgumentParser, libraries: list[str], seconds: float = 1.0, rounds: int = 7
) -> None:
    """What all races have in common."""
    libraries_argument(parser, libraries)
    threads_argument(parser)
    parser.add_argument("--rounds", type=whole(1), default=rounds, help="measurements of each library")
    parser.add_argument("--seconds", type=real(True), default=seconds, help="of each measurement")
    output_arguments(parser)


def threads_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=whole(1, 1024), default=2)


def libraries_argument(
    parser: argparse.ArgumentParser, libraries: list[str], choices: Iterable[str] | None = None
) -> None:
    """Those that are named must be installed; of the usual ones `parsed` tells which are not."""
    parser.add_argument(
        "--libraries",
        nargs="+",
        type=_named,
        choices=choices,
        default=libraries,
        help="the first measures the others",
    )


def parsed(parser: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
    """The options; `libraries` are those that are installed, and the standard error says which are not."""
    options = parser.parse_args(arguments)
    missing = [library for library in options.libraries if not installed([library])]
    if missing:
        print(not_installed(missing), file=sys.stderr)
    options.libraries = installed(options.libraries)
    return options


def _named(library: str) -> str:
    if not installed([library]):
        raise argparse.ArgumentTypeError(not_installed([library]))
    return library


def not_installed(libraries: list[str]) -> str:
    """Says so, and what installs them."""
    packages = list(dict.fromkeys(library.split("-")[0] for library in libraries))
    extra = 'pip install "cnnmath[bench]"'
    ways = {"torch": "pip install torch", "onnxruntime": extra, "openvino": extra}
    how = ", ".join(dict.fromkeys(ways[package] for package in packages if package in ways))
    return f"not installed: {', '.join(packages)}" + (f" ({how})" if how else "")


def installed(libraries: list[str]) -> list[str]:
    """Those that can be imported: "torch-channels_last" is a way of using torch."""
    return [library for library in libraries if find_spec(library.split("-")[0])]


def progress(workloads: Iterable[T], case: str) -> Iterator[T]:
    """The workloads, with a bar on the terminal."""
    yield from tqdm(list(workloads), desc=case, unit="workload", disable=None)


def contest(
    factory: str,
    workload: dict[str, Any],
    options: argparse.Namespace,
    tolerance: float,
    team: Team | None = None,
    libraries: list[str] | None = None,
) -> list[Row]:
    """A race on one workload between `options.libraries` (or `libraries`).

    Without a team, each workload has processes of its own.
    """
    runners = [
        Runner(library, factory, {"library": library, **workload, "threads": options.threads})
        for library in (options.libraries if libraries is None else libraries)
    ]
    if team is not None:
        return race(runners, team, options.rounds, options.seconds, tolerance)
    with Team(options.threads) as team:
        return race(runners, team, options.rounds, options.seconds, tolerance)
