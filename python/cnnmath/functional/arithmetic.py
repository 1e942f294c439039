"""Arithmetic of two operands with NumPy's broadcasting, and of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph.ir import Cell, CellLike, Node, Op, Order, Shape, Spec, Tensor, apply, as_tensor
from ..planner.eager import function
from ..planner.lowering import Lowering
from ._checks import floating
from ._moves import cast
from ._nest import coalesce, fields, operand_strides
from .reductions import sum_to

Grads = Sequence["Tensor | None"]


class _Binary(Op):
    """y = f(a, b), broadcast."""

    def infer(self, a: Tensor, b: Tensor) -> Spec:
        shape = broadcast_shapes(self.name, a.shape, b.shape)
        return Spec(shape, a.dtype, _order(shape, a, b))

    def lower(self, low: Lowering, node: Node) -> None:
        a, b = node.inputs
        assert a is not None and b is not None
        y = node.output
        # In place only over an operand that is read where y is written.
        if not (_same_memory(a, y) and low.share(y, a)) and _same_memory(b, y):
            low.share(y, b)
        of_a, of_b = operand_strides(a, y.shape), operand_strides(b, y.shape)
        sizes = [y.shape[d] for d in y.order]
        n, (sa, sb) = coalesce(sizes, [of_a[d] for d in y.order], [of_b[d] for d in y.order])
        cells: list[Any] = [node.cells["alpha"]] if "alpha" in node.cells else []
        low.call(self.kernel(node), [a, b, *cells, y], rank=len(n), **fields(n=n, a=sa, b=sb))

    def kernel(self, node: Node) -> str:
        return self.name

    def flops(self, node: Node) -> int:
        return node.output.size


class _Add(_Binary):
    """y = a + alpha b. da = dy, db = alpha dy, each summed over the dims along which it was repeated."""

    name = "add"

    def kernel(self, node: Node) -> str:
        return "add_scaled" if "alpha" in node.cells else "add"

    def gradient(self, node: Node, grads: Grads, needs: Sequence[bool]) -> Grads:
        a, b = node.inputs
        (g,) = grads
        assert a is not None and b is not None and g is not None
        alpha = node.cells.get("alpha")
        return (
            sum_to(g, a.shape) if needs[0] else None,
            _scaled_maybe(sum_to(g, b.shape), alpha) if needs[1] else None,
        )


class _Sub(_Binary):
    """y = a - b. da = dy, db = -dy, each summed over the dims along which it was repeated."""

    name = "sub"

    def gradient(self, node: Node, grads: Grads, needs: Sequence[bool]) -> Grads:
        a, b = node.inputs
        (g,) = grads
        assert a is not None and b is not None and g is not None
        return sum_to(g, a.shape) if needs[0] else None, apply(neg_op, sum_to(g, b.shape)) if needs[
            1
        ] else None


class _Mul(_Binary):
    """y = a b. da = dy b, db = dy a, each summed over the dims along which it was repeated."""

    name = "mul"

    def gradient(self, node: Node, grads: Grads, needs: Sequence[bool]) -> Grads:
        a, b = node.inputs
        (g,) = grads
        assert a is not None and b is not None and g is not None
        return (
            sum_to(apply(mul_op, g, b), a.shape) if needs[0] else None,
            sum_to(apply(mul_op, g, a), b.shape) if needs[1] else None,
        )


class _Div(_Binary):
    """y = a / b. da = dy / b, db = -dy y / b, each summed over the dims along which it was repeated."""

    name = "div"

    def gradient(self, node: Node, grads: Grads, needs: Sequence[bool]) -> Grads:
        a, b = node.inputs
        (g,) = grads
        assert a is not None and b is not None and g is not None
        da = apply(div_op, g, b)
        db = apply(neg_op, apply(mul_op, da, node.output)) if needs[1] else None
        return sum_to(da, a.shape) if needs[0] else None, None if db is None else sum_to(db, b.shape)


class _WithScalar(Op):
    """y = f(x, c), c a number that is read at run time; `slope` says how its gradient follows."""

    def __init__(self, name: str) -> None:
        self.name = name

    def infer(self, x: Tensor) -> Spec:
        return Spec(x.shape, x.dtype, x.order)

    def gradient(self, node: Node, grads: Grads, needs: Sequence[bool]) -> Grads:
        (x,) = node.inputs
        (g,) = grads
        assert x is not None and g is not None
        c = node.cells["c"]
        if self.name == "add_scalar":
            return (g,)
        if self.name == "scalar_sub":
            return (apply(neg_op, g),)
        if self.name == "scale":
            return (scaled(g, c),)
        if self.name == "div_scalar":
            return (apply(div_scalar_op, g, cells={"c": c}),)
        return (apply(neg_op, apply(div_op, apply(mul_op, g, node.output), x)),)  # c / x

    def lower(self, low: Lowering, node: Node) -> None:
        (x,) = node.inputs
        assert x is not None
        low.share(node.output, x)
        more = {"value": 0} if self.name == "scale" else {}
        low.call(self.name, [x, node.cells["c"], node.output], n=x.size, **more)

    def flops(self, node: Node) -> int:
        return node.output.size


class _Neg(Op):
    """y = -x."""

    name = "neg"

    def infer(self, x: Tensor) -> Spec:
        return Spec(x.shape, x.dtype, x.order)

    def gradient(self, node: Node, grads: Grads, needs: Sequence[bool]) -> Grads:
        return (apply(neg_op, grads[0]),)

    def lower(self, low: Lowering, node: Node) -> None:
        (x,) = node.inputs
        assert x is not None
        low.share(node.output, x)
        low.call("neg", [x, node.output], n=x.size)


add_op, sub_op, mul_op, div_op, neg_op = _Add(), _Sub(), _Mul(), _Div(), _Neg()
add_scalar_op, scalar_sub_op, scale_op, div_scalar_op, scalar_div_op = map(
    _WithScalar, ("add_scalar", "scalar_sub", "scale", "div_scalar", "scalar_div")
)


def broadcast_shapes(op: str, a: Shape, b: Shape) -> Shape:
    """NumPy's rule: aligned at the last dim, sizes are equal or one of them is 1."""
    try:
        return tuple(np.broadcast_shapes(a, b))
    except ValueError:
        raise ValueError(f"{op}: shapes {a} and {b} do not broadcast (sizes must be equal or 1)") from None


def _order(shape: Shape, a: Tensor, b: Tensor) -> Order | None:
    """That of the operand that has the result's shape; the default where neither has."""
    for t in (a, b):
        if t.shape == shape:
            return t.order
    return None


def _same_memory(t: Tensor, y: Tensor) -> bool:
    return t.shape == y.shape and t.has_order(y.order)


def scaled(x: Tensor, factor: CellLike) -> Tensor:
    """factor · x in a graph; the factor may be a cell."""
    return apply(scale_op, x, cells={"c": factor})  # type: ignore[no-any-return]


def _scaled_maybe(x: Tensor, factor: Cell | None) -> Tensor:
    return x if factor is None else scaled(x, factor)


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float)) and not isinstance(value, np.generic)


def _operands(op: str, input: Any, other: Any) -> tuple[Any, Any]:
    """Both as tensors of one floating dtype, or one of them as a Python float. A 0-d float array takes the dtype of an
    array with dims."""
    for name, value in (("input", input), ("other", other)):
        if isinstance(value, (complex, str)) or value is None:
            raise TypeError(f"{op}: {name} expects an array or a number, got {type(value).__name__}")
    if _is_number(input) and _is_number(other):
        return as_tensor(np.float32(input)), float(other)  # two numbers make PyTorch's default dtype
    if _is_number(other):
        return floating(op, input=as_tensor(input)), float(other)
    if _is_number(input):
        return float(input), floating(op, other=as_tensor(other))
    a, b = as_tensor(input), as_tensor(other)
    if a.dtype != b.dtype and a.dtype.kind == b.dtype.kind == "f" and (a.ndim == 0) != (b.ndim == 0):
        a, b = (cast(a, b.dtype), b) if a.ndim == 0 else (a, cast(b, a.dtype))
    return floating(op, input=a, other=b)  # type: ignore[no-any-return]


@function
def add(input: Any, other: Any, *, alpha: float = 1) -> Any:
    """y = input + alpha · other, broadcast.

    Args:
        input, other: float32 or float64 arrays of one dtype, or numbers.
        alpha: the factor of `other`.

    Raises ValueError where shapes do not broadcast, TypeError where dtypes differ.

    >>> import numpy as np, cnnmath
    >>> cnnmath.functional.add(np.array([1.0, 2.0]), np.array([10.0]), alpha=2).tolist()
    [21.0, 22.0]
    """
    return _sum("add", input, other, alpha, 1.0)


@function
def sub(input: Any, other: Any, *, alpha: float = 1) -> Any:
    """y = input - alpha · other, broadcast. Arguments as for `add`.

    >>> import numpy as np, cnnmath
    >>> cnnmath.functional.sub(np.array([1.0, 2.0]), 1.0).tolist()
    [0.0, 1.0]
    """
    return _sum("sub", input, other, alpha, -1.0)


def _sum(op: str, input: Any, other: Any, alpha: Any, sign: float) -> Any:
    if not _is_number(alpha) and not isinstance(alpha, np.generic):
        raise TypeError(f"{op}: alpha expects a number, got {type(alpha).__name__}")
    factor = sign * float(alpha)
    a, b = _operands(op, input, other)
    if isinstance(b, float):
        return apply(add_scalar_op, a, cells={"c": factor * b})
    if isinstance(a, float):
        if factor == -1:
            return apply(scalar_sub_op, b, cells={"c": a})
        return apply(add_scalar_op, b if factor == 1 else scaled(b, factor), cells={"c": a})
    broadcast_shapes(op, a.shape, b.shape)
    if factor == 1:
        return apply(add_op, a, b)
    if factor == -1:
        return apply(sub_op, a, b)
    return apply(add_op, a, b, cells={"alpha": factor})


@function
def mul(input: Any, other: Any) -> Any:
    """y = input · other, element by element, broadcast. Arguments as for `add`.

    >>> import numpy as np, cnnmath
    >>> cnnmath.functional.mul(np.array([1.0, 2.0]), np.array([3.0, 4.0])).tolist()
    [3.0, 8.0]
    """
    a, b = _operands("mul", input, other)
    if isinstance(b, float):
        return scaled(a, b)
    return scaled(b, a) if isinstance(a, float) else apply(mul_op, a, b)


@function
def div(input: Any, other: Any) -> Any:
    """y = input / other, element by element, broadcast. Arguments as for `add`.

    >>> import numpy as np, cnnmath
    >>> cnnmath.functional.div(np.array([1.0, 2.0]), 2).tolist()
    [0.5, 1.0]
    """
    a, b = _operands("div", input, other)
    if isinstance(b, float):
        return apply(div_scalar_op, a, cells={"c": b})
    return apply(scalar_div_op, b, cells={"c": a}) if isinstance(a, float) else apply(div_op, a, b)


@function
def neg(input: Any) -> Any:
    """y = -input.

    >>> import numpy as np, cnnmath
    >>> cnnmath.functional.neg(np.array([1.0, -2.0])).tolist()
    [-1.0, 2.0]
    """
    return apply(neg_op, floating("neg", input=as_tensor(input)))


Tensor.operators.update(add=add, sub=sub, mul=mul, div=div, neg=neg)
