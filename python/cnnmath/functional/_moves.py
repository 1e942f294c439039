"""Ops that move numbers without changing them; shaping.py makes the public functions of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from ..graph.ir import Node, Op, Order, Shape, Spec, Tensor, apply
from ..graph.variable import same_order
from ..planner.lowering import Lowering
from ._nest import copy_fields, dense_strides, fields

Grads = Sequence["Tensor | None"]


class _Relayout(Op):
    """y = x, in another order of memory."""

    name = "relayout"

    def infer(self, x: Tensor, order: Order) -> Spec:
        return Spec(x.shape, x.dtype, order)

    def gradient(self, node: Node, grads: Grads, needs: Sequence[bool]) -> Grads:
        return (grads[0],)

    def lower(self, low: Lowering, node: Node) -> None:
        (x,) = node.inputs
        assert x is not None
        y = node.output
        if same_order(x.shape, x.order, y.order):
            low.alias(y, x)
        else:
            low.call("relayout", [x, y], **copy_fields(x.shape, x.strides, y.strides))


class _Reshape(Op):
    """y = x read in row-major order, in another shape."""

    name = "reshape"

    def infer(self, x: Tensor, shape: Shape) -> Spec:
        return Spec(shape, x.dtype)

    def gradient(self, node: Node, grads: Grads, needs: Sequence[bool]) -> Grads:
        (x,) = node.inputs
        assert x is not None
        return (apply(reshape_op, grads[0], shape=x.shape),)

    def lower(self, low: Lowering, node: Node) -> None:
        (x,) = node.inputs
        assert x is not None
        y = node.output
        plain_x = x.has_order(tuple(range(x.ndim)))
        plain_y = y.has_order(tuple(range(y.ndim)))
        if plain_x and plain_y:
            low.alias(y, x)
            return
        common = _common_dims(x, y)
        if common is not None:
            low.call("relayout", [x, y], **copy_fields(*common))
            return
        # The two shapes cut the row-major order at unrelated places: by way of it.
        temp = low.temp(x.nbytes)
        low.call(
            "relayout", [x, temp], dtype=x.dtype, **copy_fields(x.shape, x.strides, dense_strides(x.shape))
        )
        low.call(
            "relayout", [temp, y], dtype=x.dtype, **copy_fields(y.shape, dense_strides(y.shape), y.strides)
        )


def _common_dims(x: Tensor, y: Tensor) -> tuple[list[int], list[int], list[int]] | None:
    """Sizes and both strides of dims that refine those of x and those of y, or None where there are none."""
    if x.size == 0:
        return [0], [1], [1]

    def steps(t: Tensor) -> list[tuple[int, int, int]]:
        """(row-major step, size, stride) of the dims, fastest first."""
        dims = zip(dense_strides(t.shape), t.shape, t.strides)
        return sorted((d for d in dims if d[1] > 1), key=lambda d: d[0])

    cuts = sorted({step * n for t in (x, y) for step, n, _ in steps(t)} | {1})
    sizes = [b // a for a, b in pairwise(cuts)]
    if any(b % a for a, b in pairwise(cuts)):
        return None
    strides = []
    for t in (x, y):
        found = []
        for cut in cuts[:-1]:
            step, _, stride = next(d for d in steps(t) if d[0] <= cut < d[0] * d[1])
            found.append(stride * (cut // step))
        strides.append(found)
    return sizes, strides[0], strides[1]


class _Expand(Op):
    """y = x repeated: dim `dims[k]` of y is dim k of x, the others repeat it. Dims of size 1 in x may grow too."""

    name = "expand"

    def infer(self, x: Tensor, shape: Shape, dims: tuple[int, ...], order: Order | None = None) -> Spec:
        return Spec(shape, x.dtype, order)

    def gradient(self, node: Node, grads: Grads, needs: Sequence[bool]) -> Grads:
        from .reductions import sum_to

        (x,) = node.inputs
        assert x is not None and grads[0] is not None
        return (sum_to(grads[0], x.shape, node.attrs["dims"]),)

    def lower(self, low: Lowering, node: Node) -> None:
        (x,) = node.inputs
        assert x is not None
        y, dims = node.output, node.attrs["dims"]
        strides = [0] * y.ndim
        for d, n, s in zip(dims, x.shape, x.strides):
            strides[d] = 0 if n == 1 else s
        low.call("relayout", [x, y], **copy_fields(y.shape, strides, y.strides))


class _Cat(Op):
    """y = the inputs one behind the other along `dim`."""

    name = "cat"

    def infer(self, *inputs: Tensor, dim: int) -> Spec:
        shape = list(inputs[0].shape)
        shape[dim] = sum(t.shape[dim] for t in inputs)
        return Spec(tuple(shape), inputs[0].dtype)

    def gradient(self, node: Node, grads: Grads, needs: Sequence[bool]) -> Grads:
        dim = node.attrs["dim"]
        found: list[Tensor | None] = []
        start = 0
        for t, need in zip(node.inputs, needs):
            assert t is not None and grads[0] is not None
            found.append(narrow(grads[0], dim, start, t.shape[dim]) if need else None)
            start += t.shape[dim]
        return found

    def lower(self, low: Lowering, node: Node) -> None:
        y, dim = node.output, node.attrs["dim"]
        start = 0
        for t in node.inputs:
            assert t is not None
            if t.size:
                low.call(
                    "relayout",
                    [t, y],
                    **copy_fields(t.shape, t.strides, y.strides, y0=start * y.strides[dim]),
                )
            start += t.shape[dim]
        low.place(y)


class _Narrow(Op):
    """y = x[..., start : start + length, ...] along `dim`."""

    name = "narrow"

    def infer(self, x: Tensor, dim: int, start: int, length: int) -> Spec:
        return Spec((*x.shape[:dim], length, *x.shape[dim + 1 :]), x.dtype, x.order)

    def gradient(self, node: Node, grads: Grads, needs: Sequence[bool]) -> Grads:
        (x,) = node.inputs
        assert x is not None
        dim, start, length = node.attrs["dim"], node.attrs["start"], node.attrs["length"]
        pads = tuple((start, x.shape[d] - start - length) if d == dim else (0, 0) for d in range(x.ndim))
        return (apply(pad_op, grads[0], pads=pads, mode=0),)

    def lower(self, low: Lowering, node: Node) -> None:
        (x,) = node.inputs
        assert x is not None
        y = node.output
        x0 = node.attrs["start"] * x.strides[node.attrs["dim"]]
        low.call("relayout", [x, y], **copy_fields(y.shape, x.strides, y.strides, x0=x0))


class _Permute(Op):
    """y[i_0, i_1, ...] = x with its dims in another sequence: dim k of y is dim `dims[k]` of x."""

    name = "permute"

    def infer(self, x: Tensor, dims: tuple[int, ...]) -> Spec:
        return Spec(tuple(x.shape[d] for d in dims), x.dtype)

    def gradient(self, node: Node, grads: Grads, needs: Sequence[bool]) -> Grads:
        dims = node.attrs["dims"]
        return (apply(permute_op, grads[0], dims=tuple(int(d) for d in np.argsort(dims))),)

    def lower(self, low: Lowering, node: Node) -> None:
        (x,) = node.inputs
        assert x is not None
        y = node.output
        low.call(
            "relayout", [x, y], **copy_fields(y.shape, [x.strides[d] for d in node.attrs["dims"]], y.strides)
        )


class _Pad(Op):
    """y(i) = x(source(i - before)) along every dim; mode 0 constant, 1 reflect, 2 replicate, 3 circular."""

    name = "pad"

    def infer(self, x: Tensor, pads: tuple[tuple[int, int], ...], mode: int) -> Spec:
        return Spec(tuple(n + a + b for n, (a, b) in zip(x.shape, pads)), x.dtype, x.order)

    def gradient(self, node: Node, grads: Grads, needs: Sequence[bool]) -> Grads:
        (x,) = node.inputs
        (g,) = grads
        assert x is not None and g is not None
        pads, mode = node.attrs["pads"], node.attrs["mode"]
        if mode == 0:
            return (apply(pad_op, g, pads=tuple((-a, -b) for a, b in pads), mode=0),)
        for dim, (before, behind) in enumerate(pads):
            if before or behind:
                g = apply(pad_grad_op, g, dim=dim, before=before, size=x.shape[dim], mode=mode)
        return (g,)

    def lower(self, low: Lowering, node: Node) -> None:
        (x,) = node.inputs
        assert x is not None
        y, mode = node.output, node.attrs["mode"]
        low.place(y)
        n: list[int] = []
        m: list[int] = []
        left: list[int] = []
        whole = False  # whether the dim before may take the next one in: shifts by whole rows stay shifts
        for d in y.order:
            before = node.attrs["pads"][d][0]
            plain = before == 0 and y.shape[d] == x.shape[d]
            if n and plain and (mode in (0, 3) or whole):
                n[-1], m[-1], left[-1] = n[-1] * y.shape[d], m[-1] * x.shape[d], left[-1] * y.shape[d]
            else:
                n.append(y.shape[d])
                m.append(x.shape[d])
                left.append(before)
                whole = plain
        if y.size == 0:
            return
        low.call(
            "pad", [x, node.cells.get("value"), y], rank=len(n), mode=mode, **fields(n=n, m=m, left=left)
        )


class _PadGrad(Op):
    """dx(k) = sum of dy(i) over the i whose source is k, along one dim."""

    name = "pad_grad"

    def infer(self, dy: Tensor, dim: int, before: int, size: int, mode: int) -> Spec:
        return Spec((*dy.shape[:dim], size, *dy.shape[dim + 1 :]), dy.dtype, dy.order)

    def lower(self, low: Lowering, node: Node) -> None:
        (dy,) = node.inputs
        assert dy is not None
        dim = node.attrs["dim"]
        outer, n, inner = split_at(dy, dim)
        low.call(
            "pad_grad", [dy, node.output], outer=outer, n=n, m=node.attrs["size"], inner=inner,
            left=node.attrs["before"], mode=node.attrs["mode"],
        )  # fmt: skip


class _Cast(Op):
    """y = x in another dtype."""

    name = "cast"

    def infer(self, x: Tensor, dtype: Any) -> Spec:
        return Spec(x.shape, dtype, x.order)

    def gradient(self, node: Node, grads: Grads, needs: Sequence[bool]) -> Grads:
        (x,) = node.inputs
        assert x is not None
        return (apply(cast_op, grads[0], dtype=x.dtype),)

    def lower(self, low: Lowering, node: Node) -> None:
        (x,) = node.inputs
        assert x is not None
        low.call("to_f32" if node.output.dtype == np.float32 else "to_f64", [x, node.output], n=x.size)


relayout_op = _Relayout()
reshape_op = _Reshape()
expand_op = _Expand()
cat_op = _Cat()
narrow_op = _Narrow()
permute_op = _Permute()
pad_op = _Pad()
pad_grad_op = _PadGrad()
cast_op = _Cast()


def split_at(t: Tensor, dim: int) -> tuple[int, int, int]:
    """The memory of `t` as (outer, n, inner) around the logical dim."""
    at = t.order.index(dim)
    sizes = [t.shape[d] for d in t.order]
    return prod(sizes[:at]), sizes[at], prod(sizes[at + 1 :])


def in_order(t: Tensor, order: Order) -> Tensor:
    """`t` in that order of memory."""
    return t if t.has_order(order) else apply(relayout_op, t, order=order)


def narrow(t: Tensor, dim: int, start: int, length: int) -> Tensor:
    """A slice along one dim."""
    if start == 0 and length == t.shape[dim]:
        return t
    return apply(narrow_op, t, dim=dim, start=start, length=length)  # type: ignore[no-any-return]


def expand(
    t: Tensor, shape: Shape, dims: tuple[int, ...] | None = None, order: Order | None = None
) -> Tensor:
    """`t` broadcast to `shape`; `dims` says which dims of the result are its own (default: the last ones)."""
    if t.shape == shape and (order is None or t.has_order(order)):
        return t
    own = tuple(range(len(shape) - t.ndim, len(shape))) if dims is None else dims
    return apply(expand_op, t, shape=shape, dims=own, order=order)  # type: ignore[no-any-return]


def cast(t: Tensor, dtype: Any) -> Tensor:
    """`t` in another floating dtype."""
    return t if t.dtype == dtype else apply(cast_op, t, dtype=np.dtype(dtype))


def relayout(t: Tensor, order: Order) -> Tensor:
    """`t` in another order of memory; its shape and values stay."""
    return in_order(t, order)


Tensor.operators["relayout"] = relayout
