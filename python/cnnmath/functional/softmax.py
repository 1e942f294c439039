"""Softmax: scores become probabilities along one dim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph.ir import Node, Op, Spec, Tensor, apply, as_tensor
from ..planner.eager import function
from ..planner.lowering import Lowering
from ._checks import floating
from ._moves import cast, in_order, split_at
from ._nest import normalize_dim


class _Softmax(Op):
    """y = e^(x - m) / S or its logarithm, along `dim`."""

    def __init__(self, name: str, grad: Op) -> None:
        self.name = name
        self.grad = grad

    def infer(self, x: Tensor, dim: int) -> Spec:
        return Spec(x.shape, x.dtype, x.order)

    def gradient(
        self, node: Node, grads: Sequence[Tensor | None], needs: Sequence[bool]
    ) -> Sequence[Tensor | None]:
        y = node.output
        assert grads[0] is not None
        return (apply(self.grad, in_order(grads[0], y.order), y, **node.attrs),)

    def lower(self, low: Lowering, node: Node) -> None:
        (x,) = node.inputs
        assert x is not None
        low.share(node.output, x)
        outer, n, inner = split_at(x, node.attrs["dim"])
        low.call(self.name, [x, node.output], outer=outer, n=n, inner=inner)

    def flops(self, node: Node) -> int:
        return 15 * node.output.size


class _SoftmaxGrad(Op):
    """dx = y (dy - sum dy y); of the logarithm dx = dy - e^y sum dy."""

    def __init__(self, name: str) -> None:
        self.name = name

    def infer(self, dy: Tensor, y: Tensor, dim: int) -> Spec:
        return Spec(y.shape, y.dtype, y.order)

    def lower(self, low: Lowering, node: Node) -> None:
        dy, y = node.inputs
        assert dy is not None and y is not None
        low.share(node.output, dy)
        outer, n, inner = split_at(y, node.attrs["dim"])
        low.call(self.name, [dy, y, node.output], outer=outer, n=n, inner=inner)

    def flops(self, node: Node) -> int:
        return 4 * node.output.size


softmax_op = _Softmax("softmax", _SoftmaxGrad("softmax_grad"))
log_softmax_op = _Softmax("log_softmax", _SoftmaxGrad("log_softmax_grad"))


def _along(op: _Softmax, input: Any, dim: Any, dtype: Any) -> Tensor:
    x = as_tensor(input)
    if dtype is not None:
        if np.dtype(dtype).name not in ("float32", "float64"):
            raise TypeError(f"{op.name}: dtype expects float32 or float64, got {np.dtype(dtype)}")
        x = cast(x, dtype)
    x = floating(op.name, input=x)
    if dim is None:
        dim = 0 if x.ndim in (0, 1, 3) else 1
    axis = normalize_dim(op.name, dim, x.ndim)
    if x.ndim == 0:  # one number is a line of its own
        from .shaping import reshape

        return reshape(apply(op, reshape(x, (1,)), dim=0), ())  # type: ignore[no-any-return]
    return apply(op, x, dim=axis)  # type: ignore[no-any-return]


@function
def softmax(input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """y_i = e^(x_i) / Σ_k e^(x_k), the sum along `dim`.

    Args:
        input: x, float32 or float64, any shape.
        dim: the dim along which the results add up to 1. None stands for 0 at ranks 0, 1 and 3, else 1.
        dtype: np.float32 or np.float64: the input is converted first (integers may be, too).

    Raises ValueError where there is no such dim, TypeError for other dtypes. `_stacklevel` has no effect; it keeps
    PyTorch's sequence of arguments.

    >>> import numpy as np, cnnmath
    >>> cnnmath.functional.softmax(np.zeros(4), dim=0).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    return _along(softmax_op, input, dim, dtype)


@function
def log_softmax(input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """y_i = x_i - log Σ_k e^(x_k), the sum along `dim`. Arguments as for `softmax`.

    >>> import numpy as np, cnnmath
    >>> np.exp(cnnmath.functional.log_softmax(np.zeros(2), dim=0)).round(12).tolist()
    [0.5, 0.5]
    """
    return _along(log_softmax_op, input, dim, dtype)
