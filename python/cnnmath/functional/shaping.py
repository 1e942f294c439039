"""Shapes: reshape, flatten, permute, cat, pad. Numbers are moved, never changed."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from ..graph.ir import Shape, Tensor, apply, as_tensor
from ..planner.eager import function
from ._moves import cat_op, narrow, pad_op, permute_op, reshape_op
from ._nest import normalize_dim


def _resolve(op: str, x: Tensor, shape: Any) -> Shape:
    """The wanted shape with its -1 filled in."""
    sizes = [shape] if hasattr(shape, "__index__") else list(shape)
    for n in sizes:
        if isinstance(n, bool) or not hasattr(n, "__index__"):
            raise TypeError(f"{op}: shape expects ints, got {n!r}")
    wanted = [n.__index__() for n in sizes]
    if any(n < -1 for n in wanted) or wanted.count(-1) > 1:
        raise ValueError(f"{op}: shape expects sizes >= 0 and at most one -1, got {tuple(wanted)}")
    if -1 in wanted:
        known = prod(n for n in wanted if n != -1)
        if known == 0 or x.size % known:
            raise ValueError(
                f"{op}: cannot fill in -1: {x.size} elements (input: {x.shape}), shape {tuple(wanted)}"
            )
        wanted[wanted.index(-1)] = x.size // known
    if prod(wanted) != x.size:
        raise ValueError(
            f"{op}: {tuple(wanted)} has {prod(wanted)} elements, input has {x.size} (input: {x.shape})"
        )
    return tuple(wanted)


@function
def reshape(input: Any, shape: Any) -> Any:
    """The same elements, read in row-major order, in another shape.

    Args:
        input: any shape.
        shape: the new sizes; one may be -1 and is filled in.

    Raises ValueError where the number of elements differs.

    >>> import numpy as np, cnnmath
    >>> cnnmath.functional.reshape(np.arange(6.0), (2, -1)).tolist()
    [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    """
    x = as_tensor(input)
    wanted = _resolve("reshape", x, shape)
    return x if wanted == x.shape else apply(reshape_op, x, shape=wanted)


@function
def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """The dims from `start_dim` to `end_dim`, both included, made one; a 0-d input becomes shape (1,).

    >>> import numpy as np, cnnmath
    >>> cnnmath.functional.flatten(np.zeros((2, 3, 4)), 1).shape
    (2, 12)
    """
    x = as_tensor(input)
    first = normalize_dim("flatten", start_dim, x.ndim, "start_dim")
    last = normalize_dim("flatten", end_dim, x.ndim, "end_dim")
    if first > last:
        raise ValueError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim} (input: {x.shape})")
    shape = (*x.shape[:first], prod(x.shape[first : last + 1]), *x.shape[last + 1 :])
    return x if shape == x.shape else apply(reshape_op, x, shape=shape)


@function
def permute(input: Any, dims: Sequence[int]) -> Any:
    """The dims in another sequence: dim k of the result is dim `dims[k]` of the input.

    >>> import numpy as np, cnnmath
    >>> cnnmath.functional.permute(np.zeros((2, 3, 4)), (2, 0, 1)).shape
    (4, 2, 3)
    """
    x = as_tensor(input)
    wanted = tuple(normalize_dim("permute", d, x.ndim, "dims") for d in dims)
    if sorted(wanted) != list(range(x.ndim)):
        raise ValueError(f"permute: dims expects each of the {x.ndim} dims once, got {tuple(dims)}")
    return x if wanted == tuple(range(x.ndim)) else apply(permute_op, x, dims=wanted)


@function
def cat(tensors: Sequence[Any], dim: int = 0) -> Any:
    """Arrays one behind the other along `dim`.

    Args:
        tensors: arrays of one dtype whose other dims agree; an empty one of shape (0,) is left out.
        dim: the dim along which they are joined; negative ones count from the back.

    Raises ValueError where there is none, or their shapes do not fit; TypeError where dtypes differ.

    >>> import numpy as np, cnnmath
    >>> cnnmath.functional.cat([np.zeros((1, 2)), np.ones((2, 2))]).shape
    (3, 2)
    """
    if not isinstance(tensors, (tuple, list)):
        raise TypeError(f"cat: tensors expects a list or tuple of arrays, got {type(tensors).__name__}")
    given = [as_tensor(t) for t in tensors]
    if not given:
        raise ValueError("cat: expected at least one array, got none")
    for t in given:
        if t.dtype != given[0].dtype:
            raise TypeError(
                f"cat: expected one dtype, got {given[0].dtype} and {t.dtype}; cast them with .astype"
            )
        if t.ndim == 0:
            raise ValueError("cat: 0-d arrays cannot be joined; reshape them to (1,)")
    parts = [t for t in given if t.shape != (0,)]
    if not parts:
        normalize_dim("cat", dim, 1)
        return given[0]
    axis = normalize_dim("cat", dim, parts[0].ndim)
    for t in parts:
        if t.ndim != parts[0].ndim or any(
            a != b for d, (a, b) in enumerate(zip(t.shape, parts[0].shape)) if d != axis
        ):
            raise ValueError(f"cat: shapes must agree but for dim {axis}, got {parts[0].shape} and {t.shape}")
    return apply(cat_op, *parts, dim=axis)


_MODES = ("constant", "reflect", "replicate", "circular")


@function
def pad(input: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Any:
    """Padding at the edges, of the last dims first.

    Args:
        input: any shape. Modes other than constant pad the last dim of ranks 2 and 3, the last two of ranks 3 and 4,
            the last three of ranks 4 and 5.
        pad: (before, behind) of the last dim, then of the one before it, and so on. Negative numbers cut off.
        mode: "constant" (`value`, 0 if None), "reflect" (-1 reads 1), "replicate" (-1 reads 0) or "circular" (-1 reads
            the last).
        value: the constant.

    Raises ValueError where padding does not fit the input.

    >>> import numpy as np, cnnmath
    >>> cnnmath.functional.pad(np.array([1.0, 2.0]), (1, 2)).tolist()
    [0.0, 1.0, 2.0, 0.0, 0.0]
    """
    x = as_tensor(input)
    if mode not in _MODES:
        raise ValueError(f"pad: mode expects one of {', '.join(_MODES)}, got {mode!r}")
    amounts = _amounts(x, pad)
    if x.dtype.name not in ("float32", "float64") and mode != "constant":
        raise TypeError(f"pad: mode {mode} expects float32 or float64, got {x.dtype}")
    if mode == "constant":
        number = 0.0 if value is None else float(value)
        if x.dtype.kind != "f" and number != int(number):
            raise TypeError(f"pad: value {value} does not fit dtype {x.dtype}")
        for d, (a, b) in enumerate(amounts):
            if x.shape[d] + a + b < 0:
                raise ValueError(f"pad: {(a, b)} leaves dim {d} with a negative size (input: {x.shape})")
            # Cutting comes first: the other side's padding does not bring back what is not there.
            if (a < 0 and b > 0 and -a > x.shape[d]) or (b < 0 and a > 0 and -b > x.shape[d]):
                raise ValueError(f"pad: {(a, b)} cuts more than dim {d} has (input: {x.shape})")
        if not any(a or b for a, b in amounts):
            return x
        return apply(pad_op, x, pads=tuple(amounts), mode=0, cells={"value": number})
    if value is not None and value != 0:
        raise ValueError(f"pad: mode {mode} takes no value, got {value}")
    _check_edges(x, pad, amounts, mode)
    if mode == "circular":
        for d, (a, b) in enumerate(amounts):
            x = narrow(x, d, max(-a, 0), x.shape[d] + min(a, 0) + min(b, 0))
        amounts = [(max(a, 0), max(b, 0)) for a, b in amounts]
    if not any(a or b for a, b in amounts):
        return x
    return apply(pad_op, x, pads=tuple(amounts), mode=_MODES.index(mode))


def _amounts(x: Tensor, pad: Any) -> list[tuple[int, int]]:
    """(before, behind) of every dim."""
    sizes = list(pad) if isinstance(pad, (tuple, list)) else [pad]
    for n in sizes:
        if isinstance(n, bool) or not hasattr(n, "__index__"):
            raise TypeError(f"pad: pad expects ints, got {n!r}")
    if len(sizes) % 2:
        raise ValueError(f"pad: pad expects an even number of sizes, got {tuple(sizes)}")
    if len(sizes) > 2 * x.ndim:
        raise ValueError(
            f"pad: {len(sizes)} sizes pad {len(sizes) // 2} dims, input has {x.ndim} (input: {x.shape})"
        )
    amounts = [(0, 0)] * x.ndim
    for k in range(len(sizes) // 2):
        amounts[x.ndim - 1 - k] = (int(sizes[2 * k]), int(sizes[2 * k + 1]))
    return amounts


def _check_edges(x: Tensor, pad: Any, amounts: list[tuple[int, int]], mode: str) -> None:
    """What reflect, replicate and circular padding ask of the input."""
    dims = len(pad) // 2
    if dims not in (1, 2, 3) or x.ndim not in (dims + 1, dims + 2):
        raise ValueError(
            f"pad: mode {mode} pads the last dim of ranks 2 and 3, the last two of ranks 3 and 4, the last three of "
            f"ranks 4 and 5; got {len(pad)} sizes for an input of rank {x.ndim} (input: {x.shape})"
        )
    if any(n == 0 for n in x.shape[1 if x.ndim == dims + 2 else 0 :]):
        raise ValueError(f"pad: mode {mode} expects dims of size > 0 beside the batch (input: {x.shape})")
    sizes = [n + a + b for n, (a, b) in zip(x.shape, amounts)][-dims:]
    if mode != "circular" and not any(sizes):  # a single empty dim is allowed, as in PyTorch
        raise ValueError(f"pad: {tuple(pad)} leaves nothing (input: {x.shape})")
    for d, (a, b) in enumerate(amounts):
        n = x.shape[d]
        if not a and not b:
            continue
        if n + a + b < 0 or (mode != "replicate" and n + min(a, 0) + min(b, 0) < 0):
            raise ValueError(f"pad: {(a, b)} takes more than there is of dim {d} (input: {x.shape})")
        # What is read must be there: reflect does not repeat the edge, circular goes around once.
        most = {"reflect": n - 1, "replicate": max(a, b), "circular": n + min(a, 0) + min(b, 0)}[mode]
        if max(a, b) > most:
            raise ValueError(
                f"pad: mode {mode} expects at most {most} on each side of dim {d}, got {(a, b)} (input: {x.shape})"
            )


Tensor.operators.update(reshape=reshape, flatten=flatten)
