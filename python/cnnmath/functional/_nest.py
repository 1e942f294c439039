"""Nests of strided dimensions: how the kernels of the memory-bound ops see arrays of any order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..graph.ir import Tensor

MAX_DIMS = 6


def operand_strides(t: Tensor, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of `t` in an array of `shape` that it is broadcast to: 0 along the dims in which it is repeated."""
    lead = len(shape) - t.ndim
    return (0,) * lead + tuple(0 if n == 1 else s for n, s in zip(t.shape, t.strides))


def coalesce(sizes: Sequence[int], *strides: Sequence[int]) -> tuple[list[int], list[list[int]]]:
    """Merges neighbouring dims (slowest first) where that leaves every operand's strides; drops those of size 1."""
    merged: list[int] = []
    kept: list[list[int]] = [[] for _ in strides]
    for d, n in enumerate(sizes):
        if n == 1:
            continue
        if merged and all(k[-1] == s[d] * n for k, s in zip(kept, strides)):
            merged[-1] *= n
            for k, s in zip(kept, strides):
                k[-1] = s[d]
        else:
            merged.append(n)
            for k, s in zip(kept, strides):
                k.append(s[d])
    return merged, kept


def fields(**lists: Sequence[int]) -> dict[str, int]:
    """n=[2, 3] as the kernel parameters n0=2, n1=3, n2=0, ..."""
    result = {}
    for name, values in lists.items():
        if len(values) > MAX_DIMS:
            raise ValueError(f"expected at most {MAX_DIMS} dims that cannot be merged, got {len(values)}")
        for d in range(MAX_DIMS):
            result[f"{name}{d}"] = int(values[d]) if d < len(values) else 0
    return result


def copy_fields(
    sizes: Sequence[int], x: Sequence[int], y: Sequence[int], x0: int = 0, y0: int = 0
) -> dict[str, int]:
    """Parameters of kernel `relayout` for y[y0 + i·y] = x[x0 + i·x], the fastest dim of y last."""
    order = sorted(range(len(sizes)), key=lambda d: -y[d])
    n, (sx, sy) = coalesce([sizes[d] for d in order], [x[d] for d in order], [y[d] for d in order])
    return {"rank": len(n), "x0": x0, "y0": y0, **fields(n=n, sx=sx, sy=sy)}


def dense_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Row-major strides in elements."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


def normalize_dim(op: str, dim: Any, ndim: int, name: str = "dim") -> int:
    """A dim counted from the front; negative ones count from the back. A 0-d array takes 0 and -1."""
    if isinstance(dim, bool) or not hasattr(dim, "__index__"):
        raise TypeError(f"{op}: {name} expects an int, got {dim!r}")
    index = dim.__index__()
    most = max(ndim, 1)
    if not -most <= index < most:
        raise ValueError(f"{op}: {name} expects a dim in [{-most}, {most - 1}], got {index}")
    return int(index % most)


def normalize_dims(op: str, dim: Any, ndim: int) -> tuple[int, ...]:
    """The dims that a reduction runs over: all of them for None and for an empty list."""
    if dim is None:
        return tuple(range(ndim))
    dims = [normalize_dim(op, d, ndim) for d in (dim if isinstance(dim, (tuple, list)) else (dim,))]
    if len(set(dims)) != len(dims):
        raise ValueError(f"{op}: dim {tuple(dim)} names a dim twice")
    return tuple(sorted(dims)) if dims and ndim else tuple(range(ndim))
