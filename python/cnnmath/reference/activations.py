"""Activations: one non-linear function applied to every element. NaN goes in, NaN comes out."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def relu(x: Array) -> Array:
    """y = max(x, 0)"""
    return np.asarray(np.maximum(x, 0))


def relu_backward(grad: Array, x: Array) -> Array:
    """dL/dx = grad where x > 0, else 0 (at 0 too); grad where x is NaN."""
    return np.where(x <= 0, 0, grad).astype(grad.dtype)


def leaky_relu(x: Array, negative_slope: float = 0.01) -> Array:
    """y = x where x > 0, else negative_slope x"""
    return np.where(x > 0, x, x * negative_slope)


def leaky_relu_backward(grad: Array, x: Array, negative_slope: float = 0.01) -> Array:
    """dL/dx = grad where x > 0, else negative_slope grad"""
    return np.where(x > 0, grad, grad * negative_slope)


def sigmoid(x: Array) -> Array:
    """y = 1 / (1 + e^−x)

    Computed from e^−|x|, which cannot overflow: 1 / (1 + e^−x) = e^x / (1 + e^x).
    """
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, e, 1) / (1 + e))


def sigmoid_backward(grad: Array, x: Array) -> Array:
    """dL/dx = grad y (1 − y), y = sigmoid(x)"""
    y = sigmoid(x)
    return np.asarray(grad * y * (1 - y))


def tanh(x: Array) -> Array:
    """y = (e^x − e^−x) / (e^x + e^−x)"""
    return np.asarray(np.tanh(x))


def tanh_backward(grad: Array, x: Array) -> Array:
    """dL/dx = grad (1 − y²), y = tanh(x)"""
    y = np.tanh(x)
    return np.asarray(grad * (1 - y * y))
