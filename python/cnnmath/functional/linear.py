"""The dense layer and the matrix product under it."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from ..graph.ir import Node, Op, Spec, Tensor, apply, as_tensor
from ..planner.eager import function
from ..planner.lowering import Lowering
from ._checks import floating
from ._moves import expand, reshape_op

Grads = Sequence["Tensor | None"]


class _Matmul(Op):
    """C = act(A B + bias), A stored transposed with `ta`, B with `tb`; act is relu where `relu` is set."""

    name = "matmul"
    fuses_relu = True

    def infer(self, a: Tensor, b: Tensor, bias: Tensor | None, ta: bool, tb: bool) -> Spec:
        return Spec((a.shape[ta], b.shape[not tb]), a.dtype)

    def gradient(self, node: Node, grads: Grads, needs: Sequence[bool]) -> Grads:
        a, b, _ = node.inputs
        ta, tb = node.attrs["ta"], node.attrs["tb"]
        dc = grads[0]
        da = db = None
        if needs[0]:
            da = matmul(b, dc, tb, True) if ta else matmul(dc, b, False, not tb)
        if needs[1]:
            db = matmul(dc, a, True, ta) if tb else matmul(a, dc, not ta, False)
        return da, db, apply(column_sums_op, dc) if needs[2] else None

    def lower(self, low: Lowering, node: Node) -> None:
        a, b, bias = node.inputs
        assert a is not None and b is not None
        ta, tb = node.attrs["ta"], node.attrs["tb"]
        m, n = node.output.shape
        low.call(
            "matmul", [a, b, bias, node.output], m=m, n=n, k=a.shape[not ta], ta=ta, tb=tb,
            accumulate=0, relu=bool(node.attrs.get("relu")), weights=b,
        )  # fmt: skip

    def flops(self, node: Node) -> int:
        a, _, bias = node.inputs
        assert a is not None
        m, n = node.output.shape
        return m * n * (2 * a.shape[not node.attrs["ta"]] + (bias is not None))


class _ColumnSums(Op):
    """y[c] = sum of x over all dims but the fastest in memory: channels of an image, features of a row."""

    name = "column_sums"

    def infer(self, x: Tensor) -> Spec:
        return Spec((x.shape[x.order[-1]],), x.dtype)

    def gradient(self, node: Node, grads: Grads, needs: Sequence[bool]) -> Grads:
        (x,) = node.inputs
        assert x is not None and grads[0] is not None
        return (expand(grads[0], x.shape, (x.order[-1],), x.order),)

    def lower(self, low: Lowering, node: Node) -> None:
        (x,) = node.inputs
        assert x is not None
        columns = node.output.size
        rows = prod(x.shape[d] for d in x.order[:-1])
        low.call("column_sums", [x, node.output], rows=rows, columns=columns)

    def flops(self, node: Node) -> int:
        (x,) = node.inputs
        assert x is not None
        return x.size


matmul_op = _Matmul()
column_sums_op = _ColumnSums()


def matmul(a: Any, b: Any, ta: bool = False, tb: bool = False, bias: Any = None) -> Tensor:
    """The product of two matrices, either of them transposed; `bias` is added to every row."""
    return apply(matmul_op, a, b, bias, ta=bool(ta), tb=bool(tb))  # type: ignore[no-any-return]


@function
def linear(input: Any, weight: Any, bias: Any = None) -> Any:
    """Dense layer, y = x Wᵀ + b.

        y[..., o] = bias[o] + Σ_i weight[o, i] input[..., i]

    Args:
        input: x, float32 or float64, shape (..., in_features).
        weight: W, shape (out_features, in_features); of shape (in_features,) it is a single row, whose dim y lacks.
        bias: b, shape (out_features,), or () for a weight of one dim.

    Returns:
        y, shape (..., out_features).

    Raises:
        ValueError: the shapes do not fit. TypeError: dtypes differ or are not floating.

    >>> import numpy as np, cnnmath
    >>> cnnmath.functional.linear(np.array([1.0, 2.0]), np.array([[3.0, 4.0], [5.0, 6.0]])).tolist()
    [11.0, 17.0]
    """
    x, w = as_tensor(input), as_tensor(weight)
    b = None if bias is None else as_tensor(bias)
    floating("linear", input=x, weight=w, bias=b)
    if w.ndim not in (1, 2):
        raise ValueError(f"linear: weight expects 1 or 2 dims, got shape {w.shape}")
    if x.ndim == 0:
        raise ValueError("linear: input expects at least 1 dim, got shape ()")
    if x.shape[-1] != w.shape[-1]:
        raise ValueError(
            f"linear: weight expects {w.shape[-1]} input features, input has {x.shape[-1]} "
            f"(input: {x.shape}, weight: {w.shape})"
        )
    features = w.shape[:-1]
    if b is not None and b.shape not in (features, (1,), ()):
        raise ValueError(f"linear: bias expects shape {features}, got {b.shape} (weight: {w.shape})")
    out = x.shape[:-1] + features
    n = prod(features)
    if b is not None and b.shape != (n,):
        b = expand(_reshaped(b, (1,)), (n,))
    y = matmul(
        _reshaped(x, (prod(x.shape[:-1]), x.shape[-1])), _reshaped(w, (n, w.shape[-1])), tb=True, bias=b
    )
    return _reshaped(y, out)


def _reshaped(t: Tensor, shape: tuple[int, ...]) -> Tensor:
    return t if t.shape == shape else apply(reshape_op, t, shape=shape)
