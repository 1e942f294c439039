"""Reductions: sums and means over dims."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ..graph.ir import Node, Op, Shape, Spec, Tensor, apply, as_tensor
from ..planner.eager import function
from ..planner.lowering import Lowering
from ._moves import cast, expand
from ._nest import coalesce, copy_fields, dense_strides, fields, normalize_dims


class _Sum(Op):
    """y = sum of x over all its dims but those in `kept`, divided by `divisor`; y has `shape`, its dims beside those
    of size 1 being the kept ones, in their sequence."""

    name = "sum"

    def infer(self, x: Tensor, kept: tuple[int, ...], shape: Shape, divisor: float) -> Spec:
        return Spec(shape, x.dtype)

    def gradient(
        self, node: Node, grads: Sequence[Tensor | None], needs: Sequence[bool]
    ) -> Sequence[Tensor | None]:
        from .arithmetic import scaled
        from .shaping import reshape

        (x,) = node.inputs
        (g,) = grads
        assert x is not None and g is not None
        kept, divisor = node.attrs["kept"], node.attrs["divisor"]
        g = reshape(g, tuple(x.shape[d] for d in kept))
        if divisor != 1:
            g = scaled(g, 1 / divisor if divisor else 1.0)
        return (expand(g, x.shape, kept, x.order),)

    def lower(self, low: Lowering, node: Node) -> None:
        (x,) = node.inputs
        assert x is not None
        y = node.output
        low.place(y)
        if y.size == 0:
            return
        kept = set(node.attrs["kept"])
        # Kept dims in the order of x: so the sums run along its memory. Where y has another order, it is brought there.
        ours = [d for d in x.order if d in kept and x.shape[d] != 1]
        n_kept, (s_kept,) = coalesce([x.shape[d] for d in ours], [x.strides[d] for d in ours])
        reduced = [d for d in x.order if d not in kept]
        n_reduced, (s_reduced,) = coalesce([x.shape[d] for d in reduced], [x.strides[d] for d in reduced])
        call = {
            "kept": len(n_kept), "reduced": len(n_reduced), "divisor": float(node.attrs["divisor"]),
            **fields(n=n_kept + n_reduced, s=s_kept + s_reduced),
        }  # fmt: skip
        own = [d for d in y.order if y.shape[d] != 1]  # dims of y, slowest first
        logical = [d for d in range(x.ndim) if d in kept and x.shape[d] != 1]
        of_y = dict(zip((d for d in range(y.ndim) if y.shape[d] != 1), logical))  # its dims as those of x
        if [of_y[d] for d in own] == ours:
            low.call("sum", [x, y], **call)
            return
        temp = low.temp(y.nbytes)
        low.call("sum", [x, temp], **call)
        strides = dict(zip(ours, dense_strides([x.shape[d] for d in ours])))
        sizes = [y.shape[d] for d in own]
        copy = copy_fields(sizes, [strides[of_y[d]] for d in own], [y.strides[d] for d in own])
        low.call("relayout", [temp, y], dtype=y.dtype, **copy)

    def flops(self, node: Node) -> int:
        (x,) = node.inputs
        assert x is not None
        return x.size


class _Penalty(Op):
    """y = strength · sum f(x), f = x² or |x|."""

    def __init__(self, name: str) -> None:
        self.name = name

    def infer(self, x: Tensor) -> Spec:
        return Spec((), x.dtype)

    def gradient(
        self, node: Node, grads: Sequence[Tensor | None], needs: Sequence[bool]
    ) -> Sequence[Tensor | None]:
        return (apply(_penalty_grads[self.name], grads[0], node.inputs[0], cells=dict(node.cells)),)

    def lower(self, low: Lowering, node: Node) -> None:
        (x,) = node.inputs
        assert x is not None
        low.call(self.name, [x, node.cells.get("strength"), node.output], n=x.size)

    def flops(self, node: Node) -> int:
        (x,) = node.inputs
        assert x is not None
        return 2 * x.size


class _PenaltyGrad(Op):
    """dx = dy · strength · f'(x)."""

    def __init__(self, name: str) -> None:
        self.name = name

    def infer(self, dy: Tensor, x: Tensor) -> Spec:
        return Spec(x.shape, x.dtype, x.order)

    def lower(self, low: Lowering, node: Node) -> None:
        dy, x = node.inputs
        assert x is not None
        low.call(self.name, [dy, x, node.cells.get("strength"), node.output], n=x.size)


sum_op = _Sum()
sum_squares_op, sum_abs_op = _Penalty("sum_squares"), _Penalty("sum_abs")
_penalty_grads = {name: _PenaltyGrad(f"{name}_grad") for name in ("sum_squares", "sum_abs")}


def sum_to(t: Tensor, shape: Shape, dims: tuple[int, ...] | None = None) -> Tensor:
    """The gradient of broadcasting: `t` summed over the dims in which an array of `shape` was repeated.

    `dims` says which dims of `t` are those of `shape`; the default is the last ones.
    """
    if t.shape == shape:
        return t
    own = tuple(range(t.ndim - len(shape), t.ndim)) if dims is None else dims
    kept = tuple(d for d, n in zip(own, shape) if n == t.shape[d])
    # dims kept must be in the sequence of t; others have size 1
    if list(kept) != sorted(kept):
        raise ValueError(f"sum_to: dims {own} are out of sequence")
    return apply(sum_op, t, kept=kept, shape=shape, divisor=1.0)  # type: ignore[no-any-return]


def _reduced(op: str, x: Any, dim: Any, keepdim: bool, dtype: Any, mean: bool) -> Tensor:
    x = as_tensor(x)
    if dtype is not None:
        if np.dtype(dtype).name not in ("float32", "float64"):
            raise TypeError(f"{op}: dtype expects float32 or float64, got {np.dtype(dtype)}")
        x = cast(x, dtype)
    if x.dtype.kind != "f":
        raise TypeError(f"{op}: input expects float32 or float64, got {x.dtype}; dtype= converts it first")
    dims = normalize_dims(op, dim, x.ndim)
    kept = tuple(d for d in range(x.ndim) if d not in dims)
    shape = tuple(1 if d in dims else n for d, n in enumerate(x.shape) if keepdim or d not in dims)
    count = prod(x.shape[d] for d in dims)
    return apply(sum_op, x, kept=kept, shape=shape, divisor=float(count) if mean else 1.0)  # type: ignore[no-any-return]


@function
def sum(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The sum of the elements over some dims, y = Σ x; in blocks, so that rounding errors stay small.

    Args:
        input: float32 or float64, any shape.
        dim: a dim or several; all of them for None and for an empty tuple. Negative ones count from the back.
        keepdim: whether the dims summed over stay, with size 1.
        dtype: np.float32 or np.float64: the input is converted first (integers may be, too).

    Raises ValueError where a dim does not exist or stands twice, TypeError for other dtypes.

    >>> import numpy as np, cnnmath
    >>> cnnmath.functional.sum(np.array([[1.0, 2.0], [3.0, 4.0]]), dim=1).tolist()
    [3.0, 7.0]
    """
    return _reduced("sum", input, dim, keepdim, dtype, mean=False)


@function
def mean(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The mean of the elements over some dims, y = 1/n Σ x; NaN where there are none.

    Args and errors as for `sum`.

    >>> import numpy as np, cnnmath
    >>> cnnmath.functional.mean(np.array([[1.0, 2.0], [3.0, 4.0]]), dim=0, keepdim=True).tolist()
    [[2.0, 3.0]]
    """
    return _reduced("mean", input, dim, keepdim, dtype, mean=True)


def sum_squares(x: Tensor, strength: Any = 1.0) -> Tensor:
    """strength · Σ x² of a tensor in a graph; `strength` may be a cell. What L2 adds to a loss."""
    return apply(sum_squares_op, x, cells={"strength": strength})  # type: ignore[no-any-return]


def sum_abs(x: Tensor, strength: Any = 1.0) -> Tensor:
    """strength · Σ |x| of a tensor in a graph; `strength` may be a cell. What L1 adds to a loss."""
    return apply(sum_abs_op, x, cells={"strength": strength})  # type: ignore[no-any-return]


Tensor.operators["sum"] = sum
Tensor.operators["mean"] = mean
