"""relu, leaky_relu, sigmoid, tanh; and through them the accuracy of our own exponentials."""

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

from .checks import FLOATS, close, same_bits_on_any_threads, strided

OPS = {
    "relu": (F.relu, reference.relu, reference.relu_backward),
    "leaky_relu": (F.leaky_relu, reference.leaky_relu, reference.leaky_relu_backward),
    "sigmoid": (F.sigmoid, reference.sigmoid, reference.sigmoid_backward),
    "tanh": (F.tanh, reference.tanh, reference.tanh_backward),
}
shapes = hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=9)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", OPS)
@given(shape=shapes, seed=st.integers(0, 2**32 - 1))
def test_values_and_gradients(name: str, dtype: Any, shape: tuple[int, ...], seed: int) -> None:
    ours, forward, backward = OPS[name]
    rng = np.random.default_rng(seed)
    x = np.asarray(rng.normal(0, 3, shape), dtype)
    v = np.asarray(rng.normal(0, 1, shape), dtype)
    out, pullback = cnnmath.vjp(ours, x)
    close(out, forward(x), 8)
    close(
        pullback(v)[0], backward(v, x), 16, atol=16 * float(np.finfo(dtype).eps)
    )  # 1 - y² cancels near y = ±1


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("shape", [(17,), (3, 5, 7), (2, 3, 4, 5)])
def test_gradcheck(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    x = rng.normal(0, 1, shape)
    assert cnnmath.gradcheck(OPS[name][0], [x + 0.01 * np.sign(x)])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", OPS)
def test_non_finite(name: str, dtype: Any) -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e30, -1e30, 1e-30, -1e-30], dtype)
    ours, forward, _ = OPS[name]
    np.testing.assert_allclose(ours(x), forward(x), rtol=1e-6)


@pytest.mark.parametrize("dtype", FLOATS)
def test_gradient_of_relu_at_zero_and_nan(dtype: Any) -> None:
    x = np.array([0.0, -0.0, np.nan, 1.0, -1.0], dtype)
    _, pullback = cnnmath.vjp(F.relu, x)
    assert pullback(np.full(5, 2.0, dtype))[0].tolist() == [0.0, 0.0, 2.0, 2.0, 0.0]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_accuracy(name: str, dtype: Any, rng: np.random.Generator) -> None:
    """Within 3 units in the last place of the exact value, from tiny arguments to saturation."""
    if np.finfo(np.longdouble).nmant < 60:
        pytest.skip("no wider floats to compare with")
    x = np.concatenate(
        [
            rng.uniform(-1, 1, 40000),
            rng.uniform(-30, 30, 40000),
            rng.normal(0, 1, 20000) * 10.0 ** rng.uniform(-30, 2, 20000),
        ]
    ).astype(dtype)
    wide = x.astype(np.longdouble)
    exact = np.tanh(wide) if name == "tanh" else 1 / (1 + np.exp(-wide))
    normal = np.abs(exact) > np.finfo(dtype).tiny
    unit = np.spacing(np.abs(exact[normal]).astype(dtype))
    assert float(np.max(np.abs(OPS[name][0](x)[normal] - exact[normal]) / unit)) < 3


@pytest.mark.parametrize("name", OPS)
def test_threads(name: str, threads: Any, rng: np.random.Generator) -> None:
    same_bits_on_any_threads(threads, OPS[name][0], rng.normal(0, 1, (3, 7, 61, 53)).astype(np.float32))


@pytest.mark.parametrize("name", OPS)
def test_strides(name: str, rng: np.random.Generator) -> None:
    x = rng.normal(0, 1, (2, 3, 4, 5))
    np.testing.assert_array_equal(OPS[name][0](strided(x)), OPS[name][0](x))
    np.testing.assert_array_equal(
        OPS[name][0](x.transpose(3, 1, 0, 2)), OPS[name][0](x).transpose(3, 1, 0, 2)
    )


def test_slope() -> None:
    x = np.array([-2.0, 3.0])
    assert F.leaky_relu(x, 0.25).tolist() == [-0.5, 3.0]
    assert F.leaky_relu(x, negative_slope=-1.0).tolist() == [2.0, 3.0]
    _, pullback = cnnmath.vjp(lambda x: F.leaky_relu(x, -1.0), x)
    assert pullback(np.ones(2))[0].tolist() == [-1.0, 1.0]


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_integers_are_refused(name: str, dtype: Any) -> None:
    with pytest.raises(TypeError, match=f"{name}: input expects float32 or float64, got {np.dtype(dtype)}"):
        OPS[name][0](np.ones(3, dtype))
