"""Dropout: numbers are set to zero at random, the others grow, so that the mean stays."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph.ir import Cell, CellLike, Node, Op, Spec, Tensor, apply, as_tensor
from ..planner.eager import function
from ..planner.lowering import Arg, Lowering
from ._checks import floating


class _Dropout(Op):
    """y = x * keep / (1 - p); and what the mask was drawn from (seed, step, p), for the gradient to draw it again."""

    name = "dropout"
    random = True

    def infer(self, x: Tensor) -> tuple[Spec, Spec]:
        return Spec(x.shape, x.dtype, x.order), Spec((3,), np.dtype(np.int64))

    def gradient(
        self, node: Node, grads: Sequence[Tensor | None], needs: Sequence[bool]
    ) -> Sequence[Tensor | None]:
        assert grads[0] is not None
        order = node.output.order
        dy = grads[0] if grads[0].has_order(order) else Tensor.operators["relayout"](grads[0], order)
        return (apply(dropout_grad, dy, node.outputs[1], number=node.number),)

    def lower(self, low: Lowering, node: Node) -> None:
        (x,) = node.inputs
        y, state = node.outputs
        assert x is not None
        low.share(y, x)
        args: list[Arg] = [node.cells["key"], node.cells["p"], x, y, state]
        low.call("dropout", args, dtype=x.dtype, size=x.size, number=node.number)

    def flops(self, node: Node) -> int:
        return node.output.size


class _DropoutGrad(Op):
    """dx = dy * keep / (1 - p)."""

    name = "dropout_grad"

    def infer(self, dy: Tensor, state: Tensor, number: int) -> Spec:
        return Spec(dy.shape, dy.dtype, dy.order)

    def lower(self, low: Lowering, node: Node) -> None:
        dy, state = node.inputs
        assert dy is not None
        low.share(node.output, dy)
        low.call("dropout_backward", [dy, state, node.output], size=dy.size, number=node.attrs["number"])

    def flops(self, node: Node) -> int:
        return node.output.size


dropout_op = _Dropout()
dropout_grad = _DropoutGrad()


def dropout(input: Any, p: CellLike = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Sets each number to zero with probability p and multiplies the others by 1 / (1 - p).

    The random numbers depend on the seed (`cnnmath.manual_seed`), the number of the run, the op and the position of
    the element, not on the number of threads.

    Args:
        input: x, an array of float32 or float64, any shape.
        p: the probability, 0 to 1.
        training: False gives x as it is.
        inplace: accepted for PyTorch's sake, without effect.

    Returns:
        An array of the shape and dtype of `input`. Raises ValueError for another p, TypeError for other dtypes.

    >>> import numpy as np, cnnmath
    >>> sorted(set(cnnmath.functional.dropout(np.ones(100), 0.75).tolist()))
    [0.0, 4.0]
    """
    if not isinstance(p, Cell) and not callable(p):
        try:
            p = float(p)
        except (TypeError, ValueError):
            raise TypeError(f"dropout: p expects a number, got {p!r}") from None
        if not 0 <= p <= 1:
            raise ValueError(f"dropout: p expects a probability between 0 and 1, got {p}")
    return _dropout(input, p, bool(operator.truth(training)))


@function
def _dropout(x: Any, p: CellLike, training: bool) -> Any:
    x = floating("dropout", x=as_tensor(x))
    if not training or p == 0:
        return x
    return apply(dropout_op, x, cells={"p": p})[0]
