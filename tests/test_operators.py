"""+ - * / of parameters and tensors, with arrays and numbers, inside and outside traced functions."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cnnmath
import cnnmath.functional as F
from cnnmath import nn

OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv]


class Both(nn.Module):
    """f(a, b) of two parameters, and f(x, a) of its input."""

    def __init__(self, f: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.a = nn.Parameter([2.0, 3.0])
        self.b = nn.Parameter([0.5, 4.0])
        self.f = f

    def forward(self, x: Any) -> Any:
        return self.f(self.a, self.b), self.f(x, self.a), self.f(self.a, x), self.f(2.0, self.a)


@pytest.mark.parametrize("f", OPERATORS)
def test_operators_of_parameters(f: Callable[[Any, Any], Any]) -> None:
    model, x = Both(f), np.array([[1.0, 2.0], [3.0, 5.0]], np.float32)
    a, b = model.a.numpy(), model.b.numpy()
    expected = f(a, b), f(x, a), f(a, x), f(np.float32(2), a)
    outside = f(model.a, model.b), f(x, model.a), f(model.a, x), f(2.0, model.a)
    for found in (model(x), outside):
        for got, wanted in zip(found, expected):
            assert isinstance(got, np.ndarray) and got.dtype == np.float32
            np.testing.assert_array_equal(got, wanted)


def test_negation_and_gradients() -> None:
    model = Both(operator.mul)
    value, grads = cnnmath.value_and_grad(lambda: F.sum(-model.a * model.b / 2 + (1 - model.a)), model)()
    a, b = model.a.numpy(), model.b.numpy()
    assert float(value) == (-a * b / 2 + 1 - a).sum()
    np.testing.assert_array_equal(grads["a"], -b / 2 - 1)
    np.testing.assert_array_equal(grads["b"], -a / 2)


@pytest.mark.parametrize("f", [operator.iadd, operator.isub, operator.imul, operator.itruediv])
def test_in_place(f: Callable[[Any, Any], Any]) -> None:
    p = nn.Parameter([[2.0, 3.0]])
    before, version = p.numpy(), p.version
    assert f(p, np.float32(4)) is p
    np.testing.assert_array_equal(p.numpy(), f(before, np.float32(4)))
    assert p.version > version


def test_in_place_keeps_shape_and_trace() -> None:
    p = nn.Parameter([2.0, 3.0])
    with pytest.raises(ValueError, match=r"assign: expected shape \(2,\), got \(3, 2\)"):
        p += np.ones((3, 2), np.float32)

    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.p = nn.Parameter([1.0])

        def forward(self, x: Any) -> Any:
            self.p += x
            return x

    with pytest.raises(TypeError, match="cannot go to NumPy"):
        Counts()(np.ones(1, np.float32))


def test_dtypes_are_not_cast() -> None:
    p = nn.Parameter([1.0, 2.0])
    for wrong in (lambda: p * np.ones(2), lambda: np.ones(2) * p, lambda: np.arange(2) + p):
        with pytest.raises(TypeError, match=r"cast|expects float32"):
            wrong()


def test_numpy_functions_see_the_values() -> None:
    p = nn.Parameter([1.0, 4.0])
    np.testing.assert_array_equal(np.sqrt(p), [1, 2])
    assert np.sum(p) == 5 and np.isfinite(p).all() and np.add.reduce(p) == 5
    with pytest.raises(TypeError):
        np.sqrt(np.ones(2, np.float32), out=p)  # type: ignore[arg-type]


def test_numpy_functions_cannot_be_traced() -> None:
    model = Both(lambda a, b: np.maximum(a, 0))
    with pytest.raises(TypeError, match=r"np\.maximum cannot be traced"):
        model(np.ones(2, np.float32))


def test_flatten_of_a_symbol(rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 3, 4, 5))
    value, grad = cnnmath.value_and_grad(lambda x: F.sum(x.flatten(1)))(x)
    np.testing.assert_allclose(value, x.sum())
    assert grad.shape == x.shape


@pytest.mark.parametrize("f", [operator.lt, operator.le, operator.gt, operator.ge])
def test_comparisons_are_unknown(f: Callable[[Any, Any], Any]) -> None:
    with pytest.raises(TypeError, match="the truth of a traced value"):
        cnnmath.grad(lambda x: x if f(x, 0.0) else -x)(np.array(1.0))


def test_a_symbol_has_no_elements() -> None:
    with pytest.raises(TypeError, match="a traced value cannot be indexed"):
        cnnmath.grad(lambda x: x[0])(np.ones(2))
