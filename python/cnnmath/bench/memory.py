"""Memory of training: what a process grows by, against PyTorch's, and what the plan says beforehand.

Each library trains in a process of its own. "growth MB" is the resident set after ten steps less that before the
first (in cnnmath: before planning), "peak MB" the highest in between less the same, "process MB" the highest of the
whole process, with the library itself. "plan MB" is `plan.memory`, "state MB" what the optimizer keeps besides
(momenta); "growth / foretold" compares the growth with both together.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
from collections.abc import Callable
from functools import partial

import numpy as np

from .networks import NETWORKS, data, network
from .peers import TOLERANCE, add_network_arguments
from .plots import bars
from .race import Team, WrongAnswer, libraries_argument, parsed, progress, threads_argument
from .report import Row, output_arguments, report

STEPS = 10


def trained(library: str, name: str, batch: int, threads: int) -> Row:
    """What training takes, in MB; for a fresh process."""
    from .backends import BACKENDS, cnnmath_trainer

    x, target = data(name, batch)
    trainer = None
    if library == "cnnmath":
        from ..machine import set_num_threads

        set_num_threads(threads)
        trainer = cnnmath_trainer(name)
        step: Callable[[], float] = partial(trainer.train_step, x, target)
    else:
        step, _, _ = BACKENDS[library](name, batch, "train", threads)
    _give_back()
    before = resident()
    row: Row = {}
    if trainer is not None:
        parameters = set(trainer.model.parameters()) | set(trainer.model.buffers())
        plan = trainer.plan(x, target)
        state = sum(v.physical.nbytes for v in plan.graph.variables if v not in parameters)
        row = {"plan MB": plan.memory / 1e6, "state MB": state / 1e6}
    losses = [step() for _ in range(STEPS)]
    row |= {"growth MB": (resident() - before) / 1e6, "peak MB": (peak() - before) / 1e6}
    row |= {"process MB": peak() / 1e6}
    return row | {"losses": losses[:3]}


def resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    """The most bytes of this process in memory, since the system was told to forget."""
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))


def _give_back() -> None:
    """What was freed goes back to the system, or it would be taken before anything new; the peak is that of now."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="cnnmath bench memory", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    libraries = ["cnnmath", "torch", "torch-channels_last"]
    libraries_argument(parser, libraries)
    threads_argument(parser)
    add_network_arguments(parser, ["train"], NETWORKS)
    output_arguments(parser)
    options = parsed(parser, arguments)
    rows: list[Row] = []
    for name in progress(options.networks, "memory"):
        batch = options.batch or network(name).batch
        first: Row | None = None
        for library in options.libraries:
            workload = {"library": library, "name": name, "batch": batch, "threads": options.threads}
            with Team(options.threads) as team:
                row = team[library].ask(call="cnnmath.bench.memory:trained", arguments=workload)
            losses = row.pop("losses")
            if first is None:
                first, expected = row, losses
            if not np.allclose(losses, expected, rtol=TOLERANCE["train"]):
                raise WrongAnswer(f"{library}: expected the losses {expected}, got {losses}")
            row |= {
                f"{what} / first": row[f"{what} MB"] / first[f"{what} MB"] for what in ("peak", "process")
            }
            if "plan MB" in row:
                row |= {"growth / foretold": row["growth MB"] / (row["plan MB"] + row["state MB"])}
            rows.append({"network": name, "batch": batch, "library": library} | row)
    pictures = {"memory": bars(("network",), "peak MB", "Training: growth of the resident set at its peak")}
    report("memory", rows, options.threads, options, pictures=pictures)
