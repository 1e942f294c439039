"""What users of PyTorch, Keras and NumPy try first: it works, or the error says what to take instead."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import cnnmath
import cnnmath.functional as F
from cnnmath import callbacks, losses, nn, optim
from cnnmath.graph import hints

X = np.arange(6.0).reshape(2, 3) + 1


@pytest.mark.parametrize(
    ("owner", "name", "message"),
    [
        (callbacks, "ReduceLROnPlateau", "schedules are in cnnmath.optim.schedules"),
        (callbacks, "LearningRateScheduler", "schedules are in cnnmath.optim.schedules"),
        (nn, "CrossEntropyLoss", "losses are in cnnmath.losses"),
        (nn, "MSELoss", "losses are in cnnmath.losses"),
        (optim, "lr_scheduler", "schedules are in cnnmath.optim.schedules"),
        (cnnmath, "no_grad", "nothing is recorded"),
        (optim.Adam(nn.Linear(1, 1)), "zero_grad", r"optimizer.step\(grads\)"),
        (nn.Linear(1, 1), "to", "CPUs alone"),
        (nn.Linear(1, 1), "compile", "cnnmath.Trainer"),
        (losses.MSELoss(), "backward", "cnnmath.value_and_grad"),
    ],
)
def test_names_that_are_elsewhere(owner: Any, name: str, message: str) -> None:
    with pytest.raises(AttributeError, match=f"has no attribute '{name}': .*{message}"):
        getattr(owner, name)
    with pytest.raises(AttributeError, match=r"has no attribute 'nothing'$"):
        getattr(owner, "nothing")  # noqa: B009  (of Any type checkers know nothing)
    assert not hasattr(owner, name)


def test_what_has_hints_is_copied() -> None:
    optimizer = optim.Adam(nn.Linear(1, 1), lr=0.5)
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert other.param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: x.T, "no 'T': use cnnmath.functional.permute"),
        (lambda x: x.permute(1, 0), "no 'permute': use cnnmath.functional.permute"),
        (lambda x: x.unsqueeze(0), "use cnnmath.functional.reshape"),
        (lambda x: x.max(), "or a cnnmath.Function"),
        (lambda x: x.item(), "has no values yet"),
        (lambda x: x.astype(np.float32), "cast them before the call"),
        (lambda x: x.backward(), "cnnmath.grad"),
        (lambda x: x.nothing, "no 'nothing'$"),
    ],
)
def test_names_that_a_traced_value_has_not(f: Any, message: str) -> None:
    with pytest.raises(AttributeError, match=f"a traced value has .*{message}"):
        cnnmath.grad(f)(X)


def test_ops_that_the_hints_name_are_there() -> None:
    assert all(hasattr(F, op or name) for name, op in hints._OPS.items())
    seen = []
    cnnmath.grad(lambda x: F.sum(x) if seen.append(hasattr(x, "T")) is None else x)(X)  # type: ignore[func-returns-value]
    assert seen == [False]


def test_view_and_numpys_names() -> None:
    def f(x: Any) -> Any:
        rows = np.sum(x.view(x.shape[0], -1), axis=1, keepdims=True)  # type: ignore[call-overload]
        return np.mean(rows) + x.sum(axis=(0, 1)) + np.sum(x)

    value, grad = cnnmath.value_and_grad(f)(X)
    assert float(value) == X.sum(1).mean() + 2 * X.sum()
    np.testing.assert_array_equal(grad, np.full(X.shape, 2.5))
    with pytest.raises(TypeError, match="sum: expected dim or axis"):
        cnnmath.grad(lambda x: x.sum(0, axis=1))(X)
    with pytest.raises(TypeError, match="mean: a traced value has no array yet"):
        cnnmath.grad(lambda x: np.mean(x, out=np.zeros(())))(X)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 12, np.int64(4), 5.0])
def test_whole_powers(n: Any) -> None:
    value, grad = cnnmath.value_and_grad(lambda x: F.sum(x**n))(X)
    np.testing.assert_allclose(value, (X**n).sum(), rtol=1e-14)
    np.testing.assert_allclose(grad, n * X ** (n - 1), rtol=1e-14)
    found = nn.Parameter(X) ** n
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, X**n, rtol=1e-14)


@pytest.mark.parametrize("n", [0, -1, 0.5, True, 65])
def test_other_powers(n: Any) -> None:
    with pytest.raises(TypeError, match=f"expected a whole number from 1 to 64, got {n!r}"):
        cnnmath.grad(lambda x: F.sum(x**n))(X)


def test_products_of_matrices() -> None:
    for f in (lambda x: x @ x, lambda x: x @ X.T, lambda x: X.T @ x):
        with pytest.raises(TypeError, match=r"use cnnmath.functional.linear\(a, w\)"):
            cnnmath.grad(f)(X)
    p = nn.Parameter(X)
    np.testing.assert_array_equal(p @ X.T, X @ X.T)  # values, outside a trace
    np.testing.assert_array_equal(X.T @ p, X.T @ X)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_pixels(dtype: Any) -> None:
    with pytest.raises(
        TypeError, match=rf"got (dtype )?{np.dtype(dtype)}.*\.astype\(np.float32\) / 255 for pixels"
    ):
        nn.Conv2d(1, 2, 3)(np.ones((1, 1, 8, 8), dtype))
