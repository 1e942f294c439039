"""Activations: one non-linear function, element by element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..graph.ir import CellLike, Node, Op, Spec, Tensor, apply, as_tensor
from ..planner.eager import function
from ..planner.lowering import Lowering
from ._checks import floating
from ._moves import in_order


class _Activation(Op):
    """y = f(x), perhaps with a number; in place where nothing else reads x."""

    def __init__(
        self, name: str, grad: Op, of_input: bool = False, cell: str | None = None, cost: int = 1
    ) -> None:
        self.name = name
        self.grad = grad  # dx from dy and the output, or from dy and the input
        self.of_input = of_input
        self.cell = cell
        self.cost = cost

    def infer(self, x: Tensor) -> Spec:
        return Spec(x.shape, x.dtype, x.order)

    def gradient(
        self, node: Node, grads: Sequence[Tensor | None], needs: Sequence[bool]
    ) -> Sequence[Tensor | None]:
        (x,) = node.inputs
        assert x is not None and grads[0] is not None
        dy, known = in_order(grads[0], x.order), x if self.of_input else node.output
        return (apply(self.grad, dy, known, cells=dict(node.cells)),)

    def lower(self, low: Lowering, node: Node) -> None:
        (x,) = node.inputs
        assert x is not None
        low.share(node.output, x)
        cells = [] if self.cell is None else [node.cells[self.cell]]
        low.call(self.name, [x, *cells, node.output], n=x.size)

    def flops(self, node: Node) -> int:
        return self.cost * node.output.size


class _ActivationGrad(Op):
    """dx = dy f'(x), f' told by the output or by the input."""

    def __init__(self, name: str, cell: str | None = None, cost: int = 1) -> None:
        self.name = name
        self.cell = cell
        self.cost = cost

    def infer(self, dy: Tensor, y: Tensor) -> Spec:
        return Spec(y.shape, y.dtype, y.order)

    def lower(self, low: Lowering, node: Node) -> None:
        dy, y = node.inputs
        assert dy is not None and y is not None
        low.share(node.output, dy)
        cells = [] if self.cell is None else [node.cells[self.cell]]
        low.call(self.name, [dy, y, *cells, node.output], n=y.size)

    def flops(self, node: Node) -> int:
        return self.cost * node.output.size


# f(x) and how its gradient follows: costs are operations per element, a division or a polynomial's step as one.
relu_grad = _ActivationGrad("relu_grad")
leaky_relu_grad = _ActivationGrad("leaky_relu_grad", cell="slope", cost=2)
sigmoid_grad = _ActivationGrad("sigmoid_grad", cost=3)
tanh_grad = _ActivationGrad("tanh_grad", cost=3)
relu_op = _Activation("relu", relu_grad)
leaky_relu_op = _Activation("leaky_relu", leaky_relu_grad, of_input=True, cell="slope", cost=2)
sigmoid_op = _Activation("sigmoid", sigmoid_grad, cost=20)
tanh_op = _Activation("tanh", tanh_grad, cost=20)


@function
def relu(input: Any, inplace: bool = False) -> Any:
    """Rectified linear unit, y = max(x, 0), element by element; NaN stays NaN.

    Args:
        input: x, float32 or float64, any shape.
        inplace: accepted for PyTorch's sake, without effect.

    Returns:
        An array of the shape and dtype of `input`. Raises TypeError for other dtypes.

    >>> import numpy as np, cnnmath
    >>> cnnmath.functional.relu(np.array([-1.0, 0.0, 2.0])).tolist()
    [0.0, 0.0, 2.0]
    """
    return apply(relu_op, floating("relu", input=as_tensor(input)))


@function
def leaky_relu(input: Any, negative_slope: CellLike = 0.01, inplace: bool = False) -> Any:
    """Leaky rectified linear unit, y = x where x > 0, else negative_slope · x.

    Args:
        input: x, float32 or float64, any shape.
        negative_slope: the slope below 0.
        inplace: accepted for PyTorch's sake, without effect.

    Returns:
        An array of the shape and dtype of `input`. Raises TypeError for other dtypes.

    >>> import numpy as np, cnnmath
    >>> cnnmath.functional.leaky_relu(np.array([-1.0, 2.0]), 0.5).tolist()
    [-0.5, 2.0]
    """
    return apply(
        leaky_relu_op, floating("leaky_relu", input=as_tensor(input)), cells={"slope": negative_slope}
    )


@function
def sigmoid(input: Any) -> Any:
    """Logistic function, y = 1 / (1 + e^-x), with dy/dx = y (1 - y).

    Args:
        input: x, float32 or float64, any shape.

    Returns:
        An array of the shape and dtype of `input`. Raises TypeError for other dtypes.

    >>> import numpy as np, cnnmath
    >>> cnnmath.functional.sigmoid(np.array([0.0])).tolist()
    [0.5]
    """
    return apply(sigmoid_op, floating("sigmoid", input=as_tensor(input)))


@function
def tanh(input: Any) -> Any:
    """Hyperbolic tangent, y = (e^x - e^-x) / (e^x + e^-x), with dy/dx = 1 - y².

    Args:
        input: x, float32 or float64, any shape.

    Returns:
        An array of the shape and dtype of `input`. Raises TypeError for other dtypes.

    >>> import numpy as np, cnnmath
    >>> cnnmath.functional.tanh(np.array([0.0])).tolist()
    [0.0]
    """
    return apply(tanh_op, floating("tanh", input=as_tensor(input)))
