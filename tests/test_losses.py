"""Losses as objects: the functional's values, a buffer for the weights, traced and not."""

from __future__ import annotations

import numpy as np
import pytest

from cnnmath import functional, losses, nn, value_and_grad


def cross_entropy(x: np.ndarray, t: np.ndarray, w: np.ndarray, s: float) -> np.ndarray:
    """Losses of rows and the weights of their targets, from the definition."""
    log_p = x - np.log(np.exp(x).sum(1, keepdims=True))
    rows = np.arange(len(x))
    return -(1 - s) * w[t] * log_p[rows, t] - s / x.shape[1] * (w * log_p).sum(1)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy(reduction: str, smoothing: float, weighted: bool, rng: np.random.Generator) -> None:
    x, t = rng.standard_normal((6, 4)), rng.integers(0, 4, 6)
    w = rng.uniform(0.5, 2, 4) if weighted else np.ones(4)
    t[2] = 1
    loss = losses.CrossEntropyLoss(w if weighted else None, 3, reduction, smoothing)
    keep = t != 3
    expected = np.where(keep, cross_entropy(x, t, w, smoothing), 0)
    if reduction != "none":
        expected = expected.sum() / (w[t][keep].sum() if reduction == "mean" else 1)
    np.testing.assert_allclose(loss(x, t), expected, rtol=1e-12)


def test_long_doubles_of_the_caller_stay_numbers(rng: np.random.Generator) -> None:
    """A kernel that leaves a number in an MMX register takes the room of an x87 one."""
    for dtype in (np.float32, np.float64):
        x, t = rng.random((2, 5, 7)).astype(dtype), rng.integers(0, 5, (2, 7))
        functional.cross_entropy(x, t, rng.random(5).astype(dtype))
        with np.errstate(all="raise"):
            assert np.arange(9.0).astype(np.longdouble).cumsum().tolist() == np.arange(9.0).cumsum().tolist()


def test_weight_is_a_buffer() -> None:
    loss = losses.CrossEntropyLoss(weight=[1.0, 2.0])
    assert list(loss.state_dict()) == ["weight"] and loss.weight.dtype == np.float32
    x, t = np.array([[0.0, 1.0], [2.0, 0.0]], np.float32), np.array([0, 1])
    first = loss(x, t)
    loss.weight.assign([5.0, 2.0])
    assert loss(x, t) != first
    np.testing.assert_allclose(loss(x, t), functional.cross_entropy(x, t, np.array([5, 2], np.float32)))
    assert not list(losses.CrossEntropyLoss().state_dict())


def test_attributes_take_effect() -> None:
    loss = losses.CrossEntropyLoss()
    x, t = np.array([[0.0, 1.0]]), np.array([1])
    mean = loss(x, t)
    loss.label_smoothing = 0.5
    assert loss(x, t) > mean
    loss.reduction = "none"
    assert loss(x, t).shape == (1,)


def test_mse(rng: np.random.Generator) -> None:
    x, t = rng.standard_normal((3, 2)), rng.standard_normal((3, 2))
    for reduction, f in (("mean", np.mean), ("sum", np.sum), ("none", np.asarray)):
        np.testing.assert_allclose(losses.MSELoss(reduction)(x, t), f((x - t) ** 2), rtol=1e-12)


def test_traced(rng: np.random.Generator) -> None:
    x, t = rng.standard_normal((3, 2)), rng.standard_normal((3, 2))
    scale = nn.Parameter(np.ones(2))

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = scale

        def forward(self, x: np.ndarray) -> np.ndarray:
            return x * self.scale

    model, loss = Model(), losses.MSELoss()
    value, grads = value_and_grad(lambda x, t: loss(model(x), t), model)(x, t)
    np.testing.assert_allclose(value, ((x - t) ** 2).mean(), rtol=1e-12)
    np.testing.assert_allclose(grads["scale"], (2 * (x - t) * x).sum(0) / 6, rtol=1e-12)


def test_errors() -> None:
    with pytest.raises(ValueError, match="CrossEntropyLoss: reduction expects one of"):
        losses.CrossEntropyLoss(reduction="median")
    with pytest.raises(ValueError, match=r"label_smoothing expects a number in \[0, 1\], got 2"):
        losses.CrossEntropyLoss(label_smoothing=2)
    with pytest.raises(ValueError, match=r"\[0, 1\] or ignore_index \(-100\), got 2"):
        losses.CrossEntropyLoss()(np.zeros((1, 2)), np.array([2]))
    with pytest.raises(TypeError, match="int64 class indices, got int32"):
        losses.CrossEntropyLoss()(np.zeros((1, 2)), np.array([1], np.int32))


def test_repr() -> None:
    assert repr(losses.CrossEntropyLoss()) == "CrossEntropyLoss()"
    assert repr(losses.MSELoss()) == "MSELoss()"
