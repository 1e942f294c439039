"""Ops that move elements without changing them: cat, flatten, reshape, pad."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def cat(tensors: Sequence[Array], dim: int = 0) -> Array:
    """The arrays one behind the other along dim. An empty array of one dimension, (0,), is left out."""
    return np.concatenate([t for t in tensors if t.shape != (0,)] or tensors[:1], axis=dim)


def cat_backward(grad: Array, tensors: Sequence[Array], dim: int = 0) -> list[Array]:
    """Each array's own part of grad. Only the shapes of the arrays matter."""
    lengths = [0 if t.shape == (0,) else t.shape[dim] for t in tensors]
    parts = np.split(grad, np.cumsum(lengths)[:-1], axis=dim)
    return [part.reshape(t.shape) for part, t in zip(parts, tensors, strict=True)]


def reshape(x: Array, shape: Sequence[int]) -> Array:
    """The elements of x in reading order, in another shape; one length may be −1."""
    return x.reshape(tuple(shape))


def reshape_backward(grad: Array, x: Array) -> Array:
    """grad in the shape of x."""
    return grad.reshape(x.shape)


def flatten(x: Array, start_dim: int = 0, end_dim: int = -1) -> Array:
    """The dimensions from start_dim to end_dim, both included, made one; a 0-d array becomes (1,)."""
    if x.ndim == 0:
        return x.reshape(1)
    first, last = start_dim % x.ndim, end_dim % x.ndim
    return x.reshape(*x.shape[:first], prod(x.shape[first : last + 1]), *x.shape[last + 1 :])


def flatten_backward(grad: Array, x: Array) -> Array:
    """grad in the shape of x."""
    return grad.reshape(x.shape)


def pad(x: Array, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Array:
    """x with pad[0] elements before and pad[1] behind the last dimension, pad[2] and pad[3] so for the one
    before it, and so on.

    Along one dimension of n elements, y(i) = x(i − before) inside, and outside, with j = i − before:

        constant:   value (0 if None)
        reflect:    x(−j) on the left, x(2(n − 1) − j) on the right: the edge itself is not repeated
        replicate:  x(0) on the left, x(n − 1) on the right
        circular:   x(j mod n)

    A negative number of elements crops, before the other side is padded.
    """
    y = x
    for axis, index in _source_indices(x.shape, pad, mode):
        y = (
            np.take(y, np.maximum(index, 0), axis)
            if y.shape[axis]
            else np.zeros(_resized(y, axis, index), y.dtype)
        )
        if mode == "constant":
            inside = (index >= 0).reshape(-1, *(1,) * (y.ndim - axis - 1))
            y = np.where(inside, y, y.dtype.type(0 if value is None else value))
    return y


def pad_backward(grad: Array, x: Array, pad: Sequence[int], mode: str = "constant") -> Array:
    """dL/dx(j) = Σ of grad(i) over the positions i that show x(j). Only the shape of x matters."""
    for axis, index in _source_indices(x.shape, pad, mode):
        shown = index >= 0
        total = np.zeros((x.shape[axis], *np.delete(grad.shape, axis)), grad.dtype)
        np.add.at(total, index[shown], np.moveaxis(grad, axis, 0)[shown])
        grad = np.moveaxis(total, 0, axis)
    return grad


def _source_indices(
    shape: Sequence[int], pad: Sequence[int], mode: str
) -> list[tuple[int, npt.NDArray[np.int64]]]:
    """For each padded axis, the position in x that each position of y shows; −1 for none."""
    result = []
    for k in range(len(pad) // 2):
        axis = len(shape) - 1 - k
        n, before, behind = shape[axis], pad[2 * k], pad[2 * k + 1]
        j = np.arange(-before, n + behind)
        if mode == "constant":
            index = np.where((j >= 0) & (j < n), j, -1)
        elif mode == "reflect":
            index = (n - 1) - np.abs((n - 1) - np.abs(j))
        elif mode == "replicate":
            index = np.clip(j, 0, n - 1)
        elif mode == "circular":
            kept, skipped = n + min(before, 0) + min(behind, 0), max(-before, 0)
            index = skipped + (j - skipped) % max(kept, 1)
        else:
            raise ValueError(
                f"pad: mode must be 'constant', 'reflect', 'replicate' or 'circular', got {mode!r}"
            )
        result.append((axis, index))
    return result


def _resized(y: Array, axis: int, index: Array) -> list[int]:
    return [*y.shape[:axis], len(index), *y.shape[axis + 1 :]]
