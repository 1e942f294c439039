"""linear, and the matrix product and column sums under it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cnnmath
import cnnmath.functional as F
from cnnmath import reference
from cnnmath.functional.linear import column_sums_op, matmul
from cnnmath.graph.ir import apply
from cnnmath.planner.eager import function

from .checks import FLOATS, Array, same_bits_on_any_threads, strided

sizes = st.sampled_from([1, 2, 3, 5, 7, 8, 9, 12, 15, 16, 17, 31, 33, 48, 64, 65, 97, 130])
product = function(matmul)
sums = function(partial(apply, column_sums_op))


def whole(rng: np.random.Generator, shape: Any, dtype: Any) -> Array:
    """Small whole numbers: products and sums are exact in any order."""
    return rng.integers(-3, 4, shape).astype(dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@given(
    m=sizes, n=sizes, k=sizes, turned=st.tuples(st.booleans(), st.booleans()), seed=st.integers(0, 2**32 - 1)
)
def test_matmul(dtype: Any, m: int, n: int, k: int, turned: tuple[bool, bool], seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b, bias = whole(rng, (m, k), dtype), whole(rng, (k, n), dtype), whole(rng, n, dtype)
    left, right = np.array(a.T if turned[0] else a), np.array(b.T if turned[1] else b)
    out, pullback = cnnmath.vjp(lambda x, y, z: matmul(x, y, *turned, bias=z), left, right, bias)
    v = whole(rng, out.shape, dtype)
    da, db, dbias = pullback(v)
    # NumPy's products of integers: those of floats raise false flags in some processors and emulators.
    ints, ints_b, ints_v = (z.astype(int) for z in (a, b, v))
    np.testing.assert_array_equal(out, ints @ ints_b + bias)
    grad_a, grad_b = ints_v @ ints_b.T, ints.T @ ints_v
    np.testing.assert_array_equal(da, grad_a.T if turned[0] else grad_a)
    np.testing.assert_array_equal(db, grad_b.T if turned[1] else grad_b)
    np.testing.assert_array_equal(dbias, v.sum(0))


@pytest.mark.parametrize("turned", [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize(
    ("m", "n", "k"),
    [
        (64, 10, 4096),  # few outputs: the sum is cut in chunks
        (10, 64, 5000),
        (300, 290, 1024),  # rows of 4 KiB are copied
        (1, 300, 700),  # one row: dot products along it
        (4, 9, 33),
        (5, 7, 0),
        (0, 7, 5),
        (5, 0, 7),
    ],
)
def test_every_way_to_cut_the_work(
    m: int, n: int, k: int, turned: tuple[bool, bool], rng: np.random.Generator
) -> None:
    a, b = whole(rng, (m, k), np.float32), whole(rng, (k, n), np.float32)
    left, right = np.array(a.T if turned[0] else a), np.array(b.T if turned[1] else b)
    np.testing.assert_array_equal(product(left, right, *turned), a @ b)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("rows", "columns"), [(0, 3), (1, 1), (7, 5), (65, 16), (3000, 129), (40000, 3), (5, 1000)]
)
def test_column_sums(dtype: Any, rows: int, columns: int, rng: np.random.Generator) -> None:
    x = whole(rng, (rows, columns), dtype)
    np.testing.assert_array_equal(sums(x), x.sum(0))


def test_long_sums_keep_their_digits() -> None:
    """A million equal numbers that float32 cannot add up one by one."""
    assert abs(float(sums(np.full((1 << 20, 1), 0.1, np.float32))[0]) / (0.1 * (1 << 20)) - 1) < 2e-6


@pytest.mark.parametrize("dtype", FLOATS)
@given(
    lead=st.lists(st.integers(0, 4), max_size=4),
    n_in=sizes,
    n_out=st.none() | sizes,
    with_bias=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_linear(
    dtype: Any, lead: list[int], n_in: int, n_out: int | None, with_bias: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    features = () if n_out is None else (n_out,)
    arrays = [whole(rng, shape, dtype) for shape in ((*lead, n_in), (*features, n_in), features)]
    out, pullback = cnnmath.vjp(F.linear, *arrays[: 2 + with_bias])
    np.testing.assert_array_equal(out, reference.linear(*arrays[: 2 + with_bias]))
    assert (out.shape, out.dtype) == ((*lead, *features), dtype)
    v = whole(rng, out.shape, dtype)
    expected = reference.linear_backward(v, *arrays[:2])
    for mine, other in zip(pullback(v), expected, strict=False):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("dtype", FLOATS)
@given(m=sizes, n=sizes, k=st.integers(1, 3000), seed=st.integers(0, 2**32 - 1))
def test_rounding(dtype: Any, m: int, n: int, k: int, seed: int) -> None:
    """Within c·eps·Σ|a||b| of the exact result."""
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((n, k)).astype(dtype)
    exact = x.astype(np.longdouble) @ w.astype(np.longdouble).T
    size = np.abs(x) @ np.abs(w).T
    assert (np.abs(F.linear(x, w) - exact) <= 8 * np.finfo(dtype).eps * size).all()


def sweep() -> None:
    """Exact values and finite differences; runs alone, on each instruction set."""
    import itertools

    import numpy as np

    import cnnmath
    import cnnmath.functional as F
    from cnnmath import reference

    rng = np.random.default_rng(0)
    ends = (1, 3, 4, 8, 9, 16, 17, 40, 70)
    for dtype, m, n, k in itertools.product((np.float32, np.float64), ends, ends, (1, 15, 64, 900)):
        x, w, b = (rng.integers(-3, 4, shape).astype(dtype) for shape in ((m, k), (n, k), n))
        out, pullback = cnnmath.vjp(F.linear, x, w, b)
        np.testing.assert_array_equal(out, reference.linear(x, w, b))
        v = rng.integers(-3, 4, out.shape).astype(dtype)
        for mine, other in zip(pullback(v), reference.linear_backward(v, x, w), strict=True):
            np.testing.assert_array_equal(mine, other)
    assert cnnmath.gradcheck(F.linear, [rng.standard_normal(s) for s in ((2, 3, 7), (5, 7), 5)])


def test_every_instruction_set(isa: str, run_on: Callable[[str, str], str]) -> None:
    run_on(isa, f"{inspect.getsource(sweep)}\nsweep()")


@pytest.mark.parametrize(("m", "n", "k"), [(128, 300, 700), (64, 10, 4096), (2, 2000, 500)])
def test_threads(m: int, n: int, k: int, threads: Callable[[int], None], rng: np.random.Generator) -> None:
    arrays = [rng.standard_normal(shape, np.float32) for shape in ((m, k), (n, k), (n,))]
    same_bits_on_any_threads(threads, F.linear, *arrays)


def test_strided(rng: np.random.Generator) -> None:
    x, w = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((6, 5))
    np.testing.assert_array_equal(F.linear(strided(x), strided(w)), F.linear(x, w))


@pytest.mark.parametrize(
    ("x", "w", "b", "message"),
    [
        ((), (3, 4), None, r"linear: input expects at least 1 dim, got shape \(\)"),
        ((2, 4), (3, 4, 1), None, r"linear: weight expects 1 or 2 dims, got shape \(3, 4, 1\)"),
        ((2, 5), (3, 4), None, r"weight expects 4 input features, input has 5 \(input: \(2, 5\), weight"),
        ((2, 4), (3, 4), (4,), r"linear: bias expects shape \(3,\), got \(4,\)"),
    ],
)
def test_wrong_shapes(x: Any, w: Any, b: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        F.linear(np.zeros(x), np.zeros(w), None if b is None else np.zeros(b))


def test_wrong_types() -> None:
    with pytest.raises(TypeError, match="linear: weight is float32, input is float64"):
        F.linear(np.zeros((2, 4)), np.zeros((3, 4), np.float32))
    with pytest.raises(TypeError, match="linear: input expects float32 or float64, got int64"):
        F.linear(np.zeros((2, 4), np.int64), np.zeros((3, 4)))


@pytest.mark.parametrize("features", [(40, 10), (1500, 128), (9216, 33)])
def test_a_row_does_not_depend_on_its_batch_mates(
    features: tuple[int, int], rng: np.random.Generator
) -> None:
    k, n = features
    x = rng.standard_normal((200, k)).astype(np.float32)
    weight, bias = rng.standard_normal((n, k)).astype(np.float32), rng.standard_normal(n).astype(np.float32)
    whole = F.linear(x, weight, bias)
    for rows in (1, 3, 7, 64):
        assert np.array_equal(F.linear(x[:rows], weight, bias), whole[:rows])
