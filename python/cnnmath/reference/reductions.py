"""Sums and means over some or all dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Dims = int | Sequence[int] | None


def _axes(ndim: int, dim: Dims) -> tuple[int, ...]:
    """The dimensions meant: all of them for None and for an empty list."""
    if isinstance(dim, int):
        dim = [dim]
    if not dim or ndim == 0:
        return tuple(range(ndim))
    return tuple(d % ndim for d in dim)


def sum(x: Array, dim: Dims = None, keepdim: bool = False) -> Array:
    """y = Σ x over dim"""
    return np.asarray(x.sum(_axes(x.ndim, dim), keepdims=keepdim))


def sum_backward(grad: Array, x: Array, dim: Dims = None, keepdim: bool = False) -> Array:
    """dL/dx = grad, repeated along dim. Only the shape of x matters."""
    if not keepdim:
        grad = np.expand_dims(grad, _axes(x.ndim, dim))
    return np.broadcast_to(grad, x.shape).copy()


def mean(x: Array, dim: Dims = None, keepdim: bool = False) -> Array:
    """y = 1/n Σ x over dim, n elements in each sum; NaN where there are none"""
    with np.errstate(invalid="ignore"):
        return np.asarray(sum(x, dim, keepdim) / x.dtype.type(_count(x, dim)))


def mean_backward(grad: Array, x: Array, dim: Dims = None, keepdim: bool = False) -> Array:
    """dL/dx = grad / n, repeated along dim. Only the shape of x matters."""
    return np.asarray(sum_backward(grad, x, dim, keepdim) / x.dtype.type(max(_count(x, dim), 1)))


def _count(x: Array, dim: Dims) -> int:
    return int(np.prod([x.shape[d] for d in _axes(x.ndim, dim)]))
