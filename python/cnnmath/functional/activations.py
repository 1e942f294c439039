"""Activations: one non-linear function, element by element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..graph.ir import Node, Op, Spec, Tensor, apply, as_tensor
from ..planner.eager import function
from ..planner.lowering import Lowering
from ._checks import floating


class _Relu(Op):
    """y = max(x, 0)."""

    name = "relu"

    def infer(self, x: Tensor) -> Spec:
        return Spec(x.shape, x.dtype, x.order)

    def gradient(self, node: Node, grads: Sequence[Tensor | None], needs: Sequence[bool]) -> Sequence[Tensor | None]:
        return (apply(relu_grad, grads[0], node.output),)

    def lower(self, low: Lowering, node: Node) -> None:
        (x,) = node.inputs
        assert x is not None
        low.share(node.output, x)
        low.call("relu", [x, node.output], n=x.size)

    def flops(self, node: Node) -> int:
        return node.output.size


class _ReluGrad(Op):
    """dx = dy where y > 0, else 0: the output alone tells where x was positive."""

    name = "relu_grad"

    def infer(self, dy: Tensor, y: Tensor) -> Spec:
        return Spec(y.shape, y.dtype, y.order)

    def lower(self, low: Lowering, node: Node) -> None:
        dy, y = node.inputs
        assert dy is not None and y is not None
        low.share(node.output, dy)
        low.call("relu_grad", [dy, y, node.output], n=y.size)

    def flops(self, node: Node) -> int:
        return node.output.size


relu_op = _Relu()
relu_grad = _ReluGrad()


@function
def relu(x: Any) -> Any:
    """Rectified linear unit, y = max(x, 0), element by element; NaN stays NaN.

    Args:
        x: an array of float32 or float64, any shape.

    Returns:
        An array of the shape and dtype of `x`. Raises TypeError for other dtypes.

    >>> import numpy as np, cnnmath
    >>> cnnmath.functional.relu(np.array([-1.0, 0.0, 2.0])).tolist()
    [0.0, 0.0, 2.0]
    """
    return apply(relu_op, floating("relu", x=as_tensor(x)))
