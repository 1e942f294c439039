"""cross_entropy and mse_loss: every kind of target, weight, reduction and layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cnnmath
import cnnmath.functional as F
from cnnmath import reference

from .checks import FLOATS, close, same_bits_on_any_threads, strided

REDUCTIONS = ("none", "mean", "sum")


@st.composite
def calls(draw: Any) -> dict[str, Any]:
    rank = draw(st.integers(1, 5))
    classes = draw(st.sampled_from([1, 2, 3, 5, 16, 17, 19]))
    extent = st.integers(0 if rank > 1 else 1, 5)
    shape = (classes,) if rank == 1 else (draw(extent), classes, *(draw(extent) for _ in range(rank - 2)))
    return {
        "shape": shape,
        "classes": classes,
        "dtype": draw(st.sampled_from(FLOATS)),
        "probabilities": draw(st.booleans()),
        "weight": draw(st.booleans()),
        "reduction": draw(st.sampled_from(REDUCTIONS)),
        "ignore_index": draw(st.sampled_from([-100, -1, 0])),
        "label_smoothing": draw(st.sampled_from([0.0, 0.1, 1.0])),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


@given(call=calls())
def test_cross_entropy(call: dict[str, Any]) -> None:
    rng = np.random.default_rng(call["seed"])
    shape, classes, dtype = call["shape"], call["classes"], call["dtype"]
    axis = 0 if len(shape) == 1 else 1
    x = rng.normal(0, 3, shape).astype(dtype)
    if call["probabilities"]:
        target = reference.softmax(rng.normal(0, 1, shape), axis).astype(dtype)
    else:
        samples = (*shape[:axis], *shape[axis + 1 :])
        target = np.asarray(
            np.where(rng.random(samples) < 0.2, call["ignore_index"], rng.integers(0, classes, samples))
        )
    weight = rng.uniform(0.5, 2, classes).astype(dtype) if call["weight"] else None
    options = {k: call[k] for k in ("ignore_index", "reduction", "label_smoothing")}

    def loss(x: Any, *probabilities: Any) -> Any:
        return F.cross_entropy(x, *(probabilities or (target,)), weight, **options)

    arrays = (x, target) if call["probabilities"] else (x,)
    out, pullback = cnnmath.vjp(loss, *arrays)
    wide = [a.astype(np.float64) if a is not None and a.dtype.kind == "f" else a for a in (x, target, weight)]
    expected = reference.cross_entropy(*wide, **options)
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    assert out.shape == expected.shape and out.dtype == dtype
    np.testing.assert_allclose(out, expected, rtol=tolerance, atol=tolerance)
    v = np.asarray(rng.normal(0, 1, out.shape), dtype)
    with np.errstate(all="ignore"):
        wanted = reference.cross_entropy_backward(v.astype(np.float64), *wide, **options)
    for got, w in zip(pullback(v), wanted):
        if w is not None and np.isfinite(expected).all():
            assert got.dtype == dtype
            np.testing.assert_allclose(got, w, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 5, 3), (2, 5, 2, 3)])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_gradcheck(shape: Any, reduction: str, smoothing: float, rng: np.random.Generator) -> None:
    axis = 0 if len(shape) == 1 else 1
    x = rng.normal(0, 2, shape)
    weight = rng.uniform(0.5, 2, 5)
    index = rng.integers(0, 5, (*shape[:axis], *shape[axis + 1 :]))
    probability = reference.softmax(rng.normal(0, 1, shape), axis)
    options: dict[str, Any] = {"weight": weight, "reduction": reduction, "label_smoothing": smoothing}
    assert cnnmath.gradcheck(lambda x: F.cross_entropy(x, index, **options), [x])
    assert cnnmath.gradcheck(lambda x, t: F.cross_entropy(x, t, **options), [x, probability])


@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("shape", [(5000, 10), (37, 1003), (4, 21, 50, 40), (3, 7, 3001), (70000, 3)])
def test_threads(shape: Any, probabilities: bool, threads: Any, rng: np.random.Generator) -> None:
    """Calls of several phases: the divisor, the rows, the combination."""
    x = rng.normal(0, 3, shape).astype(np.float32)
    samples = (shape[0], *shape[2:])
    target = reference.softmax(x, 1) if probabilities else rng.integers(0, shape[1], samples)
    if not probabilities:
        target[:3] = -100
    weight = rng.uniform(0.5, 2, shape[1]).astype(np.float32)
    for reduction in REDUCTIONS:
        same_bits_on_any_threads(
            threads,
            lambda x, r=reduction: F.cross_entropy(x, target, weight, reduction=r, label_smoothing=0.1),
            x,
        )
    wide = target.astype(np.float64) if probabilities else target
    expected = reference.cross_entropy(x.astype(np.float64), wide, weight.astype(np.float64))
    np.testing.assert_allclose(F.cross_entropy(x, target, weight), expected, rtol=1e-5)


def test_training_uses_the_gradient_as_it_is(rng: np.random.Generator) -> None:
    """With a cotangent known to be one, no pass over the logits follows the loss."""
    x, t = rng.normal(0, 1, (8, 10)), rng.integers(0, 10, 8)
    value, grad = cnnmath.value_and_grad(F.cross_entropy)(x, t)
    close(value, reference.cross_entropy(x, t))
    close(grad, reference.cross_entropy_backward(np.float64(1), x, t)[0], atol=1e-16)


def test_infinite_logits() -> None:
    x = np.array([[0.0, -np.inf, 1.0], [0.0, -np.inf, 1.0]])
    out = F.cross_entropy(x, np.array([0, 1]), reduction="none")
    np.testing.assert_allclose(out, [np.log1p(np.e), np.inf])
    assert np.isnan(F.cross_entropy(x, np.array([-100, -100])))  # the mean of nothing


def test_strided_logits(rng: np.random.Generator) -> None:
    x, t = rng.normal(0, 1, (2, 5, 4, 3)), rng.integers(0, 5, (2, 4, 3))
    np.testing.assert_array_equal(F.cross_entropy(strided(x), strided(t)), F.cross_entropy(x, t))


def test_older_arguments() -> None:
    x, t = np.arange(6.0).reshape(2, 3), np.array([0, 1])
    assert F.cross_entropy(x, t, None, False) == F.cross_entropy(x, t, reduction="sum")
    assert F.cross_entropy(x, t, reduce=False).shape == (2,)
    assert F.mse_loss(x, 2 * x, True, True) == F.mse_loss(x, 2 * x)


X, T = np.zeros((2, 3)), np.array([0, 1])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: F.cross_entropy(X, np.array([0, 3])),
            ValueError,
            r"target expects class indices in \[0, 2\] or ignore_index \(-100\), got 3",
        ),
        (
            lambda: F.cross_entropy(X, np.array([-1, 0])),
            ValueError,
            r"target expects class indices in \[0, 2\].*, got -1",
        ),
        (lambda: F.cross_entropy(np.zeros((2, 3, 2, 2, 2)), np.full((2, 2, 2, 2), 7)), ValueError, "got 7"),
        (lambda: cnnmath.vjp(lambda x: F.cross_entropy(x, np.array([0, 9])), X), ValueError, "got 9"),
        (
            lambda: F.cross_entropy(X, T.astype(np.int32)),
            TypeError,
            "target expects int64 class indices, got int32",
        ),
        (
            lambda: F.cross_entropy(X, np.zeros(3, np.int64)),
            ValueError,
            r"target expects class indices of shape \(2,\) or probab",
        ),
        (lambda: F.cross_entropy(X, X.astype(np.float32)), TypeError, "target is float32, input is float64"),
        (lambda: F.cross_entropy(X, T, np.ones(2)), ValueError, r"weight expects shape \(3,\), got \(2,\)"),
        (
            lambda: F.cross_entropy(X, T, reduction="avg"),
            ValueError,
            "reduction expects one of none, mean, sum, got 'avg'",
        ),
        (
            lambda: F.cross_entropy(X, T, label_smoothing=1.5),
            ValueError,
            r"label_smoothing expects a number in \[0, 1\], got 1.5",
        ),
        (lambda: F.cross_entropy(np.zeros(()), np.array(0)), ValueError, "input expects a dim of classes"),
        (
            lambda: F.cross_entropy(X.astype(np.int64), T),
            TypeError,
            "input expects float32 or float64, got int64",
        ),
    ],
)
def test_errors(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=f"cross_entropy: .*{message}" if "got 9" not in message else message):
        call()


def test_a_reshaped_target_is_checked_too() -> None:
    loss = cnnmath.value_and_grad(lambda x, t: F.cross_entropy(x, F.reshape(t, (2,))))
    assert loss(X, T.reshape(2, 1))[0] == F.cross_entropy(X, T)
    with pytest.raises(ValueError, match=r"cross_entropy: target .*got 5"):
        loss(X, np.array([[0], [5]]))


def test_a_wrong_target_does_not_spoil_the_next_call() -> None:
    good = F.cross_entropy(X, T)
    with pytest.raises(ValueError, match="cross_entropy: target"):
        F.cross_entropy(X, np.array([0, 3]))
    assert F.cross_entropy(X, T) == good


@given(
    pair=st.sampled_from(
        [
            ((), ()),
            ((3,), (3,)),
            ((2, 3, 4, 5), (2, 3, 4, 5)),
            ((2, 3), (3,)),
            ((4, 1, 2), (3, 1)),
            ((0, 3), (0, 3)),
        ]
    ),
    reduction=st.sampled_from(REDUCTIONS),
    dtype=st.sampled_from(FLOATS),
    seed=st.integers(0, 2**32 - 1),
)
def test_mse_loss(pair: Any, reduction: str, dtype: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = (np.asarray(rng.normal(0, 1, s), dtype) for s in pair)
    out, pullback = cnnmath.vjp(lambda x, y: F.mse_loss(x, y, reduction=reduction), x, y)
    close(out, reference.mse_loss(x, y, reduction))
    v = np.asarray(rng.normal(0, 1, out.shape), dtype)
    if x.size:
        for got, wanted in zip(pullback(v), reference.mse_loss_backward(v, x, y, reduction)):
            close(got, wanted.astype(dtype))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_mse_loss_large(reduction: str, threads: Any, rng: np.random.Generator) -> None:
    x, y = (rng.normal(0, 1, (7, 3, 61, 53)).astype(np.float32) for _ in range(2))
    same_bits_on_any_threads(threads, lambda x, y: F.mse_loss(x, y, reduction=reduction), x, y)
    expected = reference.mse_loss(x.astype(np.float64), y.astype(np.float64), reduction)
    np.testing.assert_allclose(F.mse_loss(x, y, reduction=reduction), expected, rtol=1e-5, atol=1e-6)


def test_mse_loss_weight() -> None:
    x, y, w = np.array([1.0, 2.0]), np.array([0.0, 4.0]), np.array([1.0, 3.0])
    assert F.mse_loss(x, y, weight=w) == (1 + 12) / 4
    assert F.mse_loss(x, y, weight=w, reduction="sum") == 13
    assert F.mse_loss(x, y, weight=w, reduction="none").tolist() == [1, 12]


def test_mse_loss_errors() -> None:
    with pytest.raises(ValueError, match=r"mse_loss: shapes \(2,\) and \(3,\) do not broadcast"):
        F.mse_loss(np.zeros(2), np.zeros(3))
    with pytest.raises(TypeError, match="mse_loss: target is float32, input is float64"):
        F.mse_loss(np.zeros(2), np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="mse_loss: reduction expects one of"):
        F.mse_loss(np.zeros(2), np.zeros(2), reduction="max")
