"""add, sub, mul, div, neg: broadcasting, alpha, numbers, gradients."""

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
from cnnmath.graph.autodiff import differentiate
from cnnmath.graph.ir import as_tensor
from cnnmath.graph.variable import Variable
from cnnmath.planner import eager

from .checks import FLOATS, close, same_bits_on_any_threads, strided

OPS = {
    "add": (F.add, reference.add, reference.add_backward),
    "sub": (F.sub, reference.sub, reference.sub_backward),
    "mul": (F.mul, reference.mul, reference.mul_backward),
}
pairs = hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=6, min_side=0, max_side=6)


@pytest.mark.parametrize("name", [*OPS, "div"])
@given(pair=pairs, dtype=st.sampled_from(FLOATS), seed=st.integers(0, 2**32 - 1))
def test_broadcasting(name: str, pair: hnp.BroadcastableShapes, dtype: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (np.asarray(rng.integers(-9, 9, s), dtype) for s in pair.input_shapes)
    v = np.asarray(rng.integers(-9, 9, pair.result_shape), dtype)
    if name == "div":
        b = np.where(b == 0, 1, b).astype(dtype)
        out, pullback = cnnmath.vjp(F.div, a, b)
        close(out, np.asarray(a / b), 2)
        wanted = reference.unbroadcast(v / b, a.shape), reference.unbroadcast(-v * a / b / b, b.shape)
        for got, expected in zip(pullback(v), wanted):
            close(got, expected.astype(dtype), 512)
        return
    ours, forward, backward = OPS[name]
    out, pullback = cnnmath.vjp(ours, a, b)
    np.testing.assert_array_equal(out, forward(a, b))
    for got, expected in zip(pullback(v), backward(v, a, b)):
        np.testing.assert_array_equal(got, expected)  # small integers: exact


@pytest.mark.parametrize("name", ["add", "sub"])
@pytest.mark.parametrize("alpha", [2, -1, 0.5, 0])
def test_alpha(name: str, alpha: float) -> None:
    ours, forward, backward = OPS[name]
    a, b, v = np.arange(12.0).reshape(3, 4), np.arange(4.0), np.arange(12.0).reshape(3, 4) - 5
    out, pullback = cnnmath.vjp(lambda a, b: ours(a, b, alpha=alpha), a, b)
    np.testing.assert_array_equal(out, forward(a, b, alpha))
    for got, expected in zip(pullback(v), backward(v, a, b, alpha)):
        np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(ours(a, 3, alpha=alpha), forward(a, np.float64(3), alpha))
    np.testing.assert_array_equal(ours(3, b, alpha=alpha), forward(np.float64(3), b, alpha))


@pytest.mark.parametrize("dtype", FLOATS)
def test_numbers(dtype: Any) -> None:
    x = np.array([1.0, -2.0, 4.0], dtype)
    for got, expected in [
        (F.add(x, 2), x + 2),
        (F.add(2, x), 2 + x),
        (F.sub(x, 2.5), x - 2.5),
        (F.sub(2.5, x), 2.5 - x),
        (F.mul(x, 3), x * 3),
        (F.mul(True, x), x),
        (F.div(x, 2), x / 2),
        (F.div(2, x), 2 / x),
        (F.neg(x), -x),
    ]:
        np.testing.assert_array_equal(got, expected)
        assert got.dtype == dtype
    assert F.add(1, 2).dtype == np.float32
    assert F.add(x, np.float64(2)).dtype == dtype  # a 0-d array takes the dtype of one with dims
    assert F.add(x, np.array(2, np.float32)).dtype == dtype


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: F.sub(2.0, x),
        lambda x: F.div(2.0, x),
        lambda x: F.div(x, 3.0),
        F.neg,
        lambda x: F.mul(x, x),
        lambda x: F.add(x, 1.0),
        lambda x: F.mul(x, -2.0),
    ],
)
def test_gradcheck_with_numbers(fn: Any, rng: np.random.Generator) -> None:
    assert cnnmath.gradcheck(fn, [rng.uniform(0.5, 2, (3, 5))])


@pytest.mark.parametrize("name", [*OPS, "div"])
@pytest.mark.parametrize(
    "shapes", [((2, 3, 4, 5), (3, 1, 1)), ((5,), (2, 3, 1, 5)), ((), (4,)), ((2, 1, 3), (1, 4, 1))]
)
def test_gradcheck(name: str, shapes: Any, rng: np.random.Generator) -> None:
    assert cnnmath.gradcheck(getattr(F, name), [rng.uniform(0.5, 2, s) for s in shapes])


def test_orders_mix(rng: np.random.Generator) -> None:
    """Channels-last meets row-major and strided memory."""
    a, b = rng.normal(0, 1, (2, 3, 4, 5)), rng.normal(0, 1, (2, 3, 4, 5))
    for x in (a, strided(a), np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)):
        np.testing.assert_array_equal(F.sub(x, b), a - b)


ORDERS: dict[str, tuple[Any, Any]] = {
    "add": (F.add, np.add),
    "mul": (
        lambda w, y: F.mul(F.relu(w), F.mean(w, 1, True)),
        lambda w, y: np.maximum(w, 0) * w.mean(1, keepdims=True),
    ),
    "sum": (lambda w, y: F.sum(w, (0, 2)), lambda w, y: w.sum((0, 2))),
    "reshape": (lambda w, y: F.reshape(w, (12, 10)), lambda w, y: w.reshape(12, 10)),
    "cat": (lambda w, y: F.cat([w, y], 2), lambda w, y: np.concatenate([w, y], 2)),
    "pad": (lambda w, y: F.pad(w, (1, 2, 3, 0)), lambda w, y: np.pad(w, ((0, 0), (0, 0), (3, 0), (1, 2)))),
    "permute": (lambda w, y: F.permute(w, (3, 1, 0, 2)), lambda w, y: w.transpose(3, 1, 0, 2)),
    "softmax": (lambda w, y: F.softmax(w, 1), lambda w, y: reference.softmax(w, 1)),
    "mse_loss": (lambda w, y: F.mse_loss(y, w, reduction="none"), lambda w, y: (w - y) ** 2),
}


@pytest.mark.parametrize("name", ORDERS)
def test_variables_of_another_order(name: str, rng: np.random.Generator) -> None:
    """Convolution weights lie as [kh][kw][in][out]: every op takes them, and its gradient fits them."""
    ours, numpys = ORDERS[name]
    value, y = rng.normal(0, 1, (2, 4, 3, 2, 5))
    w = Variable(value, order=(2, 3, 1, 0))

    def loss(w: Any, y: Any) -> Any:
        out = ours(w, y)
        return F.sum(F.mul(out, out))

    def gradient(y: Any) -> Any:
        t = as_tensor(w)
        out = loss(t, y)
        return differentiate(out.graph, [out], [out.graph.constant(1.0, out.dtype)], [t])[0]

    found = eager.call(lambda y: ours(as_tensor(w), y), (y,), {}, key=object())
    np.testing.assert_allclose(found, numpys(value, y), rtol=1e-12, atol=1e-15)
    expected = cnnmath.grad(loss)(value, y)  # in the default order, where finite differences have checked it
    np.testing.assert_allclose(eager.call(gradient, (y,), {}, key=object()), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "shapes", [((64, 3, 33, 31), (3, 1, 1)), ((40000, 10), (10,)), ((300, 1), (1, 301)), ((200, 7, 30), ())]
)
def test_threads(shapes: Any, threads: Any, rng: np.random.Generator) -> None:
    arrays = [np.asarray(rng.normal(0, 1, s), np.float32) for s in shapes]
    same_bits_on_any_threads(threads, F.mul, *arrays)
    np.testing.assert_array_equal(F.mul(*arrays), arrays[0] * arrays[1])


def test_more_dims_than_the_kernels_walk() -> None:
    x = np.zeros((2,) * 14)
    assert F.add(x, x).shape == x.shape  # merged into one
    with pytest.raises(ValueError, match="at most 6 dims"):
        F.add(x, np.zeros((1, 2) * 7))


@pytest.mark.parametrize("name", [*OPS, "div"])
def test_errors(name: str) -> None:
    ours = getattr(F, name)
    with pytest.raises(ValueError, match=rf"{name}: shapes \(2, 3\) and \(4,\) do not broadcast"):
        ours(np.zeros((2, 3)), np.zeros(4))
    with pytest.raises(TypeError, match=f"{name}: other is float32, input is float64"):
        ours(np.zeros(3), np.zeros(3, np.float32))
    with pytest.raises(TypeError, match=f"{name}: input expects float32 or float64, got int64"):
        ours(np.zeros(3, np.int64), 1.0)
    with pytest.raises(TypeError, match=f"{name}: other expects an array or a number"):
        ours(np.zeros(3), "1")
