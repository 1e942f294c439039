"""The machine's peak: fused multiply-adds in registers, and the triad y = a + s b in memory."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from .._arguments import whole
from .kernel import DTYPES, KernelCall, aligned, build
from .report import Row, output_arguments, report
from .session import Session

ROUNDS = 2_000_000  # of an FMA loop: some milliseconds


def fma_session(dtype: str, threads: int) -> Session:
    from ..machine import set_num_threads

    set_num_threads(threads)
    x = np.array([0.5, 1.0], DTYPES[dtype])
    y = np.zeros(threads + 1, DTYPES[dtype])
    call = KernelCall("fma_peak", dtype, {"chunks": threads, "rounds": ROUNDS}, [x, y])
    call()
    if not np.allclose(y[:-1], y[-1] * 2):  # each sum tends to b / (1 - a) = 2
        raise RuntimeError(f"fma_peak: expected sums of {y[-1] * 2}, got {y[:-1]}")
    return Session(call, [], 2.0 * float(y[-1]) * ROUNDS * threads, build())


def triad_session(dtype: str, threads: int, megabytes: int) -> Session:
    """`work` is in bytes: two arrays read, one written, each of `megabytes`."""
    from ..machine import set_num_threads

    set_num_threads(threads)
    n = megabytes * 2**20 // np.dtype(DTYPES[dtype]).itemsize
    a, b, y = (aligned((n,), dtype) for _ in range(3))
    a[:], b[:] = np.arange(n) % 7, np.arange(n) % 5
    s = np.array([3.0], DTYPES[dtype])
    call = KernelCall("triad", dtype, {"n": n, "chunks": 8 * threads}, [s, a, b, y])
    call()
    if not np.array_equal(y, a + s * b):
        raise RuntimeError("triad: wrong answer")
    return Session(call, [], 3.0 * a.nbytes, build())


def best(session: Session, runs: int) -> float:
    """Work in a second, of the best run."""
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        session.step()
        seconds.append(time.perf_counter() - start)
    return session.work / min(seconds)


def peak(dtype: str, threads: int, runs: int = 30) -> float:
    """GFLOP/s."""
    return best(fma_session(dtype, threads), runs) / 1e9


def triad(threads: int, runs: int = 10) -> float:
    """GB/s of arrays beyond the caches."""
    return best(triad_session("f32", threads, 128), runs) / 1e9


def with_peak(rows: list[Row], threads: int, dtype: str = "f32") -> list[Row]:
    """Adds the fraction of the peak, measured now."""
    most = peak(dtype, threads)
    return [row | {"of peak": row["GFLOP/s"] / most} for row in rows]


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="cnnmath bench peak", description=__doc__)
    parser.add_argument("--threads", type=whole(1, 1024), nargs="+", default=[1, 2])
    parser.add_argument("--runs", type=whole(1), default=30, help="the best of which counts")
    parser.add_argument("--megabytes", type=whole(1), default=256, help="of each of the triad's three arrays")
    output_arguments(parser)
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    measures: dict[str, Callable[[int], Session]] = {
        "fp32 GFLOP/s": lambda threads: fma_session("f32", threads),
        "fp64 GFLOP/s": lambda threads: fma_session("f64", threads),
        "triad GB/s": lambda threads: triad_session("f32", threads, options.megabytes),
    }
    for threads in options.threads:
        row: Row = {"threads": threads}
        for name, session in measures.items():
            row[name] = best(session(threads), options.runs) / 1e9
        rows.append(row)
    report("peak", rows, max(options.threads), options)
