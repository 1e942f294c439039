"""What the smallest things take: two ops on an array of (1, 8, 8, 8), a training step on one image of 8x8, the import.

Ops: `F.relu(x)` and `F.conv2d(x, weight)` with 8 to 8 channels and a 3x3 kernel, in float32, medians of 10,000 calls.
The step: Conv2d(1, 8, 3), Flatten, Linear, on one 8x8 image. The import: of the library in a fresh interpreter, the
median, and how much of that is not NumPy's.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from .._arguments import whole
from .layers import normal
from .race import PACKAGE, Runner, Team, libraries_argument, parsed, progress, race, threads_argument
from .report import Row, output_arguments, report
from .session import Session

CASES = ("relu", "conv2d", "train_step")
SHAPE, CLASSES = (1, 8, 8, 8), 10


def overhead_session(library: str, case: str, threads: int) -> Session:
    step, answers = LIBRARIES[library](case, threads)
    return Session(step, answers, 0.0, library)


def _image() -> tuple[Any, Any]:
    return normal((1, 1, 8, 8), 2), np.array([3])


def _cnnmath(case: str, threads: int) -> tuple[Callable[[], object], list[float]]:
    from .. import functional as F
    from .. import losses, nn, optim
    from ..machine import set_num_threads
    from ..training import Trainer
    from .networks import initial_state

    set_num_threads(threads)
    if case == "train_step":
        model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), nn.Linear(288, CLASSES))
        model.load_state_dict(initial_state(model.state_dict()))
        optimizer = optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        trainer = Trainer(model, optimizer, losses.CrossEntropyLoss())
        x, target = _image()
        return lambda: trainer.train_step(x, target), [trainer.train_step(x, target) for _ in range(3)]
    x, weight = normal(SHAPE, 0), normal((8, 8, 3, 3), 1)
    call: Callable[[], Any] = (lambda: F.relu(x)) if case == "relu" else (lambda: F.conv2d(x, weight))
    return call, [float(value) for value in call().ravel()]


def _torch(case: str, threads: int) -> tuple[Callable[[], object], list[float]]:
    import torch
    import torch.nn.functional as F

    from .backends import load_into_torch

    torch.set_num_threads(threads)
    if case == "train_step":
        model = torch.nn.Sequential(
            torch.nn.Conv2d(1, 8, 3), torch.nn.Flatten(), torch.nn.Linear(288, CLASSES)
        )
        load_into_torch(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        image, target = map(torch.from_numpy, _image())

        def step() -> float:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(image), target)
            loss.backward()
            optimizer.step()
            return float(loss.detach())

        return step, [step() for _ in range(3)]
    x, weight = torch.from_numpy(normal(SHAPE, 0)), torch.from_numpy(normal((8, 8, 3, 3), 1))
    call: Callable[[], Any] = (lambda: F.relu(x)) if case == "relu" else (lambda: F.conv2d(x, weight))
    return call, [float(value) for value in call().numpy().ravel()]


LIBRARIES = {"cnnmath": _cnnmath, "torch": _torch}


def import_times(libraries: list[str], runs: int) -> list[Row]:
    """Milliseconds of an import in a fresh interpreter, NumPy first, in turns; the process's CPU time beside it."""
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); "
        "a, c = time.perf_counter(), time.process_time(); import numpy; "
        "b, d = time.perf_counter(), time.process_time(); __import__(sys.argv[2]); "
        "print(b - a, time.perf_counter() - b, d - c, time.process_time() - d)"
    )
    found: dict[str, list[list[float]]] = {library: [] for library in libraries}
    for turn in range(runs + 1):
        for library in libraries:
            command = [sys.executable, "-c", code, str(PACKAGE.parent), library]
            out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            if turn:  # the first one reads files from the disk, and compiles them
                found[library].append([1e3 * float(value) for value in out.split()])
    rows: list[Row] = []
    for library, times in found.items():
        numpy_wall, own_wall, numpy_cpu, own_cpu = map(statistics.median, zip(*times, strict=True))
        row: Row = {"case": "import", "library": library, "ms": own_wall, "NumPy's ms": numpy_wall}
        rows.append(row | {"CPU ms": own_cpu, "NumPy's CPU ms": numpy_cpu})
    return rows


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="cnnmath bench overheads",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    libraries_argument(parser, list(LIBRARIES), LIBRARIES)
    threads_argument(parser)
    parser.add_argument("--calls", type=whole(1), default=10_000, help="of each op; a tenth of the step")
    parser.add_argument("--rounds", type=whole(1), default=5, help="turns in which the calls are made")
    parser.add_argument("--imports", type=whole(1), default=9, help="fresh interpreters")
    output_arguments(parser)
    options = parsed(parser, arguments)
    libraries = options.libraries
    rows: list[Row] = []
    with Team(options.threads) as team:
        for case in progress(CASES, "overheads"):
            factory = "cnnmath.bench.overheads:overhead_session"
            common = {"case": case, "threads": options.threads}
            runners = [Runner(library, factory, {"library": library, **common}) for library in libraries]
            calls = max(1, options.calls // options.rounds // (10 if case == "train_step" else 1))
            for row in race(runners, team, options.rounds, 0.0, 1e-4, steps=calls):
                ratio = row["time / first"]
                rows.append(
                    {"case": case, "library": row["library"], "us": 1e3 * row["ms"], "time / first": ratio}
                )
    rows += import_times(libraries, options.imports)
    report("overheads", rows, options.threads, options, pictures={"overheads": draw})


def draw(rows: list[Row]) -> Any:
    from .plots import bars

    calls = [row for row in rows if row["case"] != "import"]
    figure = bars(("case",), "us", "Smallest calls: microseconds")(calls)
    (axes,) = figure.axes
    axes.set_xscale("log")
    axes.set_xlim(0.5 * min(row["us"] for row in calls), 2 * max(row["us"] for row in calls))
    return figure
