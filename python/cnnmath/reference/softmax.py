"""Softmax: scores become probabilities along one dimension."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def _dim(x: Array, dim: int | None) -> int:
    """The dimension meant by None: 0 for 0, 1 or 3 dimensions, else 1."""
    if dim is None:
        return 0 if x.ndim in (0, 1, 3) else 1
    return dim


def log_softmax(x: Array, dim: int | None = None) -> Array:
    """y_i = x_i − log Σ_k e^(x_k), the sum along dim

    The maximum is taken from every x first: it cancels, and keeps e^x from overflowing.
    """
    if x.size == 0 or x.ndim == 0:
        return np.zeros_like(x) if x.ndim == 0 else x.copy()
    axis = _dim(x, dim)
    with np.errstate(invalid="ignore"):  # infinities give NaN
        shifted = x - x.max(axis, keepdims=True)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(axis, keepdims=True)))


def log_softmax_backward(grad: Array, x: Array, dim: int | None = None) -> Array:
    """dL/dx_i = grad_i − softmax(x)_i Σ_k grad_k"""
    if x.ndim == 0:
        return np.zeros_like(x)
    return np.asarray(grad - softmax(x, dim) * grad.sum(_dim(x, dim), keepdims=True))


def softmax(x: Array, dim: int | None = None) -> Array:
    """y_i = e^(x_i) / Σ_k e^(x_k), the sum along dim"""
    if x.size == 0 or x.ndim == 0:
        return np.ones_like(x)
    axis = _dim(x, dim)
    with np.errstate(invalid="ignore"):
        e = np.exp(x - x.max(axis, keepdims=True))
        return np.asarray(e / e.sum(axis, keepdims=True))


def softmax_backward(grad: Array, x: Array, dim: int | None = None) -> Array:
    """dL/dx_i = y_i (grad_i − Σ_k grad_k y_k), y = softmax(x)"""
    if x.ndim == 0:
        return np.zeros_like(x)
    y = softmax(x, dim)
    return np.asarray(y * (grad - (grad * y).sum(_dim(x, dim), keepdims=True)))
