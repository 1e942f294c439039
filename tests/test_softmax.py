"""softmax and log_softmax along any dim."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import cnnmath
import cnnmath.functional as F
from cnnmath import reference

from .checks import FLOATS, close, same_bits_on_any_threads, strided

OPS = {
    "softmax": (F.softmax, reference.softmax_backward, scipy.special.softmax),
    "log_softmax": (F.log_softmax, reference.log_softmax_backward, scipy.special.log_softmax),
}


@pytest.mark.parametrize("name", OPS)
@given(
    data=st.data(),
    shape=hnp.array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=19),
    dtype=st.sampled_from(FLOATS),
)
def test_values_and_gradients(name: str, data: Any, shape: Any, dtype: Any) -> None:
    ours, backward, scipys = OPS[name]
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    x, v = (rng.normal(0, s, shape).astype(dtype) for s in (4, 1))
    out, pullback = cnnmath.vjp(lambda x: ours(x, dim), x)
    if x.size:
        close(out, scipys(x.astype(np.float64), dim).astype(dtype), 16)
        close(
            pullback(v)[0],
            backward(v.astype(np.float64), x.astype(np.float64), dim).astype(dtype),
            64,
            1e-7 if dtype == np.float32 else 1e-15,
        )
    else:
        assert out.shape == pullback(v)[0].shape == shape


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_gradcheck(name: str, dim: int, rng: np.random.Generator) -> None:
    assert cnnmath.gradcheck(lambda x: OPS[name][0](x, dim), [rng.normal(0, 2, (2, 5, 3, 2))])


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_extremes(name: str, dtype: Any) -> None:
    inf = np.inf
    x = np.array(
        [[1e30, 0, -1e30], [-inf, 0, 0], [1000, 1001, 1002], [-inf, -inf, -inf], [inf, 0, 0], [np.nan, 0, 0]],
        dtype,
    )
    with np.errstate(all="ignore"):
        expected = getattr(reference, name)(x, 1)
    np.testing.assert_allclose(OPS[name][0](x, 1), expected, rtol=1e-5)
    np.testing.assert_allclose(OPS[name][0](np.ascontiguousarray(x.T), 0), expected.T, rtol=1e-5)


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize(
    ("shape", "dim"),
    [
        ((5000, 10), 1),
        ((37, 10007), 1),
        ((10007, 37), 0),
        ((4, 21, 50, 40), 1),
        ((4, 21, 50, 40), 2),
        ((3, 100003), -1),
    ],
)
def test_threads(name: str, shape: Any, dim: int, threads: Any, rng: np.random.Generator) -> None:
    x = rng.normal(0, 3, shape).astype(np.float32)
    same_bits_on_any_threads(threads, lambda x: OPS[name][0](x, dim), x)
    close(OPS[name][0](x, dim), OPS[name][2](x.astype(np.float64), dim).astype(np.float32), 32)
    np.testing.assert_array_equal(OPS[name][0](strided(x), dim), OPS[name][0](x, dim))


@pytest.mark.parametrize("shape", [(), (4,), (2, 4), (2, 4, 3), (2, 4, 3, 2)])
def test_default_dim(shape: Any, rng: np.random.Generator) -> None:
    x = rng.normal(0, 1, shape)
    close(F.softmax(x), reference.softmax(x))
    close(F.log_softmax(x), reference.log_softmax(x), atol=1e-15)


def test_dtype() -> None:
    assert F.softmax(np.zeros(2, np.float32), 0, dtype=np.float64).dtype == np.float64
    assert F.softmax(np.zeros(2, np.int64), 0, dtype=np.float32).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("name", OPS)
def test_errors(name: str) -> None:
    ours = OPS[name][0]
    with pytest.raises(ValueError, match=rf"{name}: dim expects a dim in \[-2, 1\], got 2"):
        ours(np.zeros((2, 3)), 2)
    with pytest.raises(TypeError, match=f"{name}: input expects float32 or float64, got int64"):
        ours(np.zeros(3, np.int64), 0)
