"""sum and mean over any dims, their accuracy, and the penalties built on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import cnnmath
import cnnmath.functional as F
from cnnmath import reference
from cnnmath.functional.reductions import sum_abs, sum_squares

from .checks import FLOATS, close, same_bits_on_any_threads, strided

OPS = {
    "sum": (F.sum, reference.sum, reference.sum_backward),
    "mean": (F.mean, reference.mean, reference.mean_backward),
}


@st.composite
def cases(draw: Any) -> tuple[tuple[int, ...], Any]:
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=9))
    dims = (
        st.lists(st.integers(-len(shape), len(shape) - 1), unique_by=lambda d: d % len(shape))
        if shape
        else st.just([])
    )
    return shape, draw(st.one_of(st.none(), dims.map(tuple)))


@pytest.mark.parametrize("name", OPS)
@given(case=cases(), keepdim=st.booleans(), dtype=st.sampled_from(FLOATS), seed=st.integers(0, 2**32 - 1))
def test_values_and_gradients(name: str, case: Any, keepdim: bool, dtype: Any, seed: int) -> None:
    shape, dim = case
    ours, forward, backward = OPS[name]
    rng = np.random.default_rng(seed)
    x = np.asarray(rng.integers(-9, 9, shape), dtype)
    out, pullback = cnnmath.vjp(lambda x: ours(x, dim, keepdim), x)
    expected = forward(x, dim, keepdim)
    (np.testing.assert_array_equal if name == "sum" else close)(out, expected)  # small integers: exact
    v = np.asarray(rng.integers(-9, 9, expected.shape), dtype)
    close(pullback(v)[0], backward(v, x, dim, keepdim), 4)


LARGE = [
    ((300000,), None),
    ((3, 100003), 1),
    ((100003, 3), 0),
    ((100003, 17), 0),
    ((50021, 64), 0),
    ((700, 1000), 0),
    ((700, 1000), 1),
    ((16, 20, 30, 31), (0, 2, 3)),
    ((16, 20, 30, 31), 1),
    ((16, 20, 30, 31), (2, 3)),
    ((4, 50, 60, 7), 2),
    ((4, 50, 60, 7), 0),
    ((16, 9, 999), (0, 2)),
    ((2, 70000), 0),
    ((5, 6, 7, 8, 9), (1, 3)),
]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("shape", "dim"), LARGE)
def test_large(shape: Any, dim: Any, dtype: Any, threads: Any, rng: np.random.Generator) -> None:
    """Every way of cutting a sum: exact on small integers, and within a few roundings of the largest sum of |x|."""
    integers = rng.integers(-3, 4, shape).astype(dtype)
    np.testing.assert_array_equal(F.sum(integers, dim), integers.sum(dim))
    x = rng.uniform(0, 1, shape).astype(dtype)
    exact = x.astype(np.longdouble).sum(dim)
    error = np.max(np.abs(F.sum(x, dim) - exact) / exact)
    assert float(error) < 8 * np.finfo(dtype).eps
    same_bits_on_any_threads(threads, lambda x: F.mean(x, dim), x)


def test_strides(rng: np.random.Generator) -> None:
    x = rng.integers(-9, 9, (3, 4, 5, 6)).astype(np.float64)
    np.testing.assert_array_equal(F.sum(strided(x), (0, 3)), x.sum((0, 3)))


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("dim", [None, 1, (0, 2), (-1, 1)])
def test_gradcheck(name: str, dim: Any, rng: np.random.Generator) -> None:
    assert cnnmath.gradcheck(lambda x: OPS[name][0](x, dim), [rng.normal(0, 1, (2, 3, 4, 2))])


def test_empty() -> None:
    assert F.sum(np.zeros((0, 3)), 0).tolist() == [0.0, 0.0, 0.0]
    assert np.isnan(F.mean(np.zeros((0, 3)), 0)).all()
    assert F.sum(np.zeros((0, 3)), 1).shape == (0,)
    assert F.sum(np.array(3.0)).item() == 3.0
    assert F.mean(np.ones((2, 2)), ()).item() == 1.0  # as None


def test_dtype() -> None:
    x = np.arange(5, dtype=np.float32)
    assert F.sum(x, dtype=np.float64).dtype == np.float64
    assert F.mean(np.arange(4), dtype=np.float32).item() == 1.5
    assert F.sum(np.arange(4, dtype=np.uint8), dtype=np.float64).item() == 6.0
    _, pullback = cnnmath.vjp(lambda x: F.sum(x, dtype=np.float64), x)
    assert pullback(np.float64(2))[0].dtype == np.float32


@pytest.mark.parametrize("name", OPS)
def test_errors(name: str) -> None:
    ours = OPS[name][0]
    with pytest.raises(TypeError, match=f"{name}: input expects float32 or float64, got int64"):
        ours(np.arange(3))
    with pytest.raises(ValueError, match=rf"{name}: dim expects a dim in \[-2, 1\], got 2"):
        ours(np.zeros((2, 3)), 2)
    with pytest.raises(ValueError, match=f"{name}: dim .* names a dim twice"):
        ours(np.zeros((2, 3)), (1, -1))
    with pytest.raises(TypeError, match=f"{name}: dtype expects float32 or float64, got int64"):
        ours(np.zeros(3), dtype=np.int64)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", [0, 1, 17, 20481, 100003])
def test_penalties(n: int, dtype: Any, threads: Any, rng: np.random.Generator) -> None:
    x = rng.normal(0, 1, n).astype(dtype)
    for op, value, slope in (
        (sum_squares, np.sum(x.astype(np.float64) ** 2), 2 * x),
        (sum_abs, np.sum(np.abs(x), dtype=float), np.sign(x)),
    ):
        fn = cnnmath.planner.eager.function(lambda x, op=op: op(x, 0.5))
        out, pullback = cnnmath.vjp(fn, x)
        close(out, np.asarray(0.5 * value, dtype), 8)
        close(pullback(dtype(3))[0], (1.5 * slope).astype(dtype), 4)
        same_bits_on_any_threads(threads, fn, x)
