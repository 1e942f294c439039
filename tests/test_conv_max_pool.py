"""A convolution with a max-pool behind it, which a plan computes in one op, and the gradient through the pool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cnnmath
import cnnmath.functional as F
from cnnmath import nn, reference

from .checks import FLOATS, Array, close


def fused(x: Array, w: Array, b: Array | None, v: Array, relu: bool, padding: Any) -> list[Array]:
    """The pooled maxima, and the gradients of w and b where each of them counts v."""

    def loss(x: Any, v: Any, w: Any, *b: Any) -> tuple[Any, Any]:
        y = F.conv2d(x, w, *b, padding=padding)
        y = F.max_pool2d(F.relu(y) if relu else y, 2)
        return F.sum(F.mul(y, v)), y

    (_, y), grads = cnnmath.value_and_grad(loss, (2,) if b is None else (2, 3))(
        x, v, w, *([] if b is None else [b])
    )
    return [y, *grads]


def apart(x: Array, w: Array, b: Array | None, v: Array, relu: bool, padding: Any) -> list[Array]:
    """The same by the reference, step by step."""
    z = reference.conv2d(x, w, b, padding=padding)
    a = reference.relu(z) if relu else z
    y, indices = reference.max_pool2d(a, 2)
    da = reference.max_pool2d_backward(v, indices, a.shape)
    dz = reference.relu_backward(da, z) if relu else da
    _, dw, db = reference.conv2d_backward(dz, x, w, padding=padding)
    return [y, dw] if b is None else [y, dw, db]


@st.composite
def layers(draw: st.DrawFn) -> tuple[Any, ...]:
    kernel = draw(st.tuples(st.integers(1, 7), st.integers(1, 6)))
    size = tuple(k + draw(st.integers(1, 40)) for k in kernel)
    inputs, outputs = draw(st.integers(1, 5)), draw(st.sampled_from([1, 2, 3, 5, 6, 8, 13, 16, 29]))
    padding = tuple(draw(st.integers(0, 3)) for _ in range(4))
    shape = draw(st.sampled_from([1, 2, 5, 33])), inputs, *size
    return shape, (outputs, inputs, *kernel), padding, draw(st.booleans()), draw(st.booleans())


@pytest.mark.parametrize("dtype", FLOATS)
@given(layer=layers(), seed=st.integers(0, 2**32 - 1))
def test_whole_numbers(dtype: Any, layer: Any, seed: int) -> None:
    shape, weight, padding, relu, with_bias = layer
    rng = np.random.default_rng(seed)
    x, w = (rng.integers(-2, 3, s).astype(dtype) for s in (shape, weight))
    b = rng.integers(-2, 3, weight[:1]).astype(dtype) if with_bias else None
    pooled = reference.max_pool2d(reference.conv2d(x, w, b, padding=padding), 2)[0]
    v = rng.integers(-3, 4, pooled.shape).astype(dtype)
    for mine, other in zip(fused(x, w, b, v, relu, padding), apart(x, w, b, v, relu, padding), strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("dtype", FLOATS)
def test_rounding(dtype: Any, rng: np.random.Generator) -> None:
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in ((7, 3, 31, 28), (6, 3, 5, 5), (6,)))
    v = rng.standard_normal((7, 6, 15, 14)).astype(dtype)
    for mine, other in zip(fused(x, w, b, v, True, 2), apart(x, w, b, v, True, 2), strict=True):
        close(mine, other, ulps=512)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize(
    "shape, weight",
    [((64, 6, 14, 14), (16, 6, 5, 5)), ((9, 20, 17, 15), (40, 20, 4, 6)), ((8, 12, 31, 30), (13, 12, 7, 7))],
)
def test_the_bits_are_those_of_one_after_the_other(
    shape: tuple[int, ...], weight: tuple[int, ...], padding: int, dtype: Any, rng: np.random.Generator
) -> None:
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in (shape, weight, weight[:1]))
    y = F.relu(F.conv2d(x, w, b, padding=padding))
    pooled, indices = reference.max_pool2d(y, 2)
    v = rng.standard_normal(pooled.shape).astype(dtype)
    got, dw, _ = fused(x, w, b, v, True, padding)
    np.testing.assert_array_equal(got, pooled)
    dz = reference.relu_backward(reference.max_pool2d_backward(v, indices, y.shape), y)
    _, pullback = cnnmath.vjp(lambda w: F.conv2d(x, w, padding=padding), w)
    close(dw, pullback(dz.astype(dtype))[0], ulps=512)


def names(model: nn.Module, x: Array, y: Array) -> list[str]:
    optimizer = cnnmath.optim.SGD(model.parameters(), lr=0.1)
    trainer = cnnmath.Trainer(model, optimizer, cnnmath.losses.CrossEntropyLoss())
    return [node.op.name for node in trainer.plan(x, y).graph.nodes]


def test_a_training_step_has_them() -> None:
    x, y = np.zeros((64, 1, 28, 28), np.float32), np.zeros(64, np.int64)
    found = names(cnnmath.models.lenet5(), x, y)
    assert {"conv2d_max_pool", "conv2d_max_pool_grad_weight"} <= set(found)
    assert found.count("conv2d_max_pool") == 2 and "max_pool2d" not in found
    assert found.count("max_pool2d_grad") == 1  # of the second convolution
    model = nn.Sequential(nn.Conv2d(1, 6, 5), nn.MaxPool2d(3), nn.Flatten(), nn.Linear(384, 10))
    assert "conv2d_max_pool" not in names(model, x, y)  # other windows


def test_a_feature_map_that_others_read_is_kept(rng: np.random.Generator) -> None:
    x, w = rng.standard_normal((2, 1, 9, 9)), rng.standard_normal((4, 1, 3, 3))

    def both(x: Any, w: Any) -> Any:
        z = F.relu(F.conv2d(x, w))
        return F.sum(F.max_pool2d(z, 2)) + F.sum(F.mul(z, z))

    assert cnnmath.gradcheck(both, (x, w))


def test_the_largest_is_nan_where_one_is(rng: np.random.Generator) -> None:
    x, w = rng.standard_normal((1, 1, 12, 40)), rng.standard_normal((3, 1, 3, 3))
    x[0, 0, 5, 17] = np.nan
    v = np.ones((1, 3, 5, 19))
    y, dw = fused(x, w, None, v, False, 0)
    np.testing.assert_allclose(y, reference.max_pool2d(reference.conv2d(x, w), 2)[0], rtol=1e-12)
    assert np.isnan(y).sum() == 12
    assert np.isnan(dw).any(axis=(1, 2, 3)).all()  # the weights that met it with a gradient


def test_the_same_bits_on_any_threads(threads: Callable[[int], None], rng: np.random.Generator) -> None:
    x, w, b = (rng.standard_normal(s).astype(np.float32) for s in ((37, 1, 28, 28), (6, 1, 5, 5), (6,)))
    v = rng.standard_normal((37, 6, 14, 14)).astype(np.float32)
    found = []
    for count in (1, 2, 3, 5):
        threads(count)
        found.append([a.tobytes() for a in fused(x, w, b, v, True, 2)])
    assert all(f == found[0] for f in found)
