"""Element-wise sums and products, with NumPy's broadcasting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def unbroadcast(grad: Array, shape: Sequence[int]) -> Array:
    """The gradient of an array of `shape` broadcast to grad.shape: the sum over what was repeated."""
    grad = np.asarray(grad)
    grad = grad.sum(tuple(range(grad.ndim - len(shape))))
    repeated = tuple(i for i, n in enumerate(shape) if n == 1)
    return np.asarray(grad.sum(repeated, keepdims=True))


def add(input: Array, other: Array, alpha: float = 1) -> Array:
    """y = input + alpha other"""
    return np.asarray(input + alpha * other)


def add_backward(grad: Array, input: Array, other: Array, alpha: float = 1) -> tuple[Array, Array]:
    """(grad, alpha grad), each summed over the dimensions along which its array was broadcast."""
    return unbroadcast(grad, input.shape), unbroadcast(alpha * grad, other.shape)


def sub(input: Array, other: Array, alpha: float = 1) -> Array:
    """y = input − alpha other"""
    return np.asarray(input - alpha * other)


def sub_backward(grad: Array, input: Array, other: Array, alpha: float = 1) -> tuple[Array, Array]:
    """(grad, −alpha grad), each summed over the dimensions along which its array was broadcast."""
    return unbroadcast(grad, input.shape), unbroadcast(-alpha * grad, other.shape)


def mul(input: Array, other: Array) -> Array:
    """y = input · other"""
    return np.asarray(input * other)


def mul_backward(grad: Array, input: Array, other: Array) -> tuple[Array, Array]:
    """(grad · other, grad · input), each summed over the dimensions along which its array was broadcast."""
    return unbroadcast(grad * other, input.shape), unbroadcast(grad * input, other.shape)
