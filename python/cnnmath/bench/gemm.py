"""Matrix products C = A B against NumPy's: GFLOP/s, and how much of the same run's peak."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import numpy.typing as npt

from .kernel import DTYPES, KernelCall, aligned, build
from .peak import with_peak
from .plots import bars
from .race import Team, add_arguments, contest, parsed, progress
from .report import Row, report
from .session import Session, sampled

Array = npt.NDArray[Any]

# name: m, n, k, and which of A and B are stored transposed
PRODUCTS = {
    "1024": (1024, 1024, 1024, ""),
    "2048": (2048, 2048, 2048, ""),
    "257": (257, 257, 257, ""),
    "lenet.fc1": (64, 120, 400, "b"),
    "lenet.fc1.dx": (64, 400, 120, ""),
    "lenet.fc1.dw": (120, 400, 64, "a"),
    "mnist.fc1": (64, 128, 9216, "b"),
    "mnist.fc1.dx": (64, 9216, 128, ""),
    "mnist.fc1.dw": (128, 9216, 64, "a"),
    "resnet18.fc": (16, 1000, 512, "b"),
    "pixels": (65536, 64, 576, ""),
    "pixels.dw": (576, 64, 65536, "a"),
}
TOLERANCE = {"f32": 1e-5, "f64": 1e-13}


def gemm_session(library: str, product: str, dtype: str, threads: int) -> Session:
    m, n, k, transposed = PRODUCTS[product]
    rng = np.random.default_rng(0)
    a = rng.normal(size=(k, m) if "a" in transposed else (m, k)).astype(DTYPES[dtype])
    b = rng.normal(size=(n, k) if "b" in transposed else (k, n)).astype(DTYPES[dtype])
    c = np.zeros((m, n), DTYPES[dtype])
    work = 2.0 * m * n * k
    if library == "numpy":
        left, right = a.T if "a" in transposed else a, b.T if "b" in transposed else b

        def step() -> None:
            np.matmul(left, right, out=c)

        step()
        return Session(step, sampled(c), work, f"numpy {np.__version__}")

    from ..machine import set_num_threads

    set_num_threads(threads)
    ours = aligned((m, n), dtype)
    fields = {"m": m, "n": n, "k": k, "ta": "a" in transposed, "tb": "b" in transposed}
    call = KernelCall(
        "matmul", dtype, fields | {"accumulate": 0, "relu": 0, "lasting": 0}, [a, b, None, ours]
    )
    call()
    return Session(call, sampled(ours), work, build())


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="cnnmath bench gemm", description=__doc__)
    add_arguments(parser, ["cnnmath", "numpy"], seconds=0.2)
    parser.add_argument("--products", nargs="+", choices=PRODUCTS, default=list(PRODUCTS))
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    options = parsed(parser, arguments)
    rows: list[Row] = []
    with Team(options.threads) as team:
        for product in progress(options.products, "gemm"):
            workload = {"product": product, "dtype": options.dtype}
            tolerance = TOLERANCE[options.dtype]
            measured = contest("cnnmath.bench.gemm:gemm_session", workload, options, tolerance, team)
            m, n, k, _ = PRODUCTS[product]
            rows += [{"product": product, "m": m, "n": n, "k": k} | row for row in measured]
    rows = with_peak(rows, options.threads, options.dtype)
    pictures = {"gemm": bars(("product",), "GFLOP/s", "Matrix products")}
    report("gemm", rows, options.threads, options, pictures=pictures)
