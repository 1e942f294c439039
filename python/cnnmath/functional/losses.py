"""Losses: how far a prediction is from its target. Each kernel gives the gradient in the same pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph.ir import CellLike, Node, Op, Order, Spec, Tensor, apply, as_tensor, current_graph
from ..planner.eager import default_layout, function
from ..planner.lowering import Lowering
from ._checks import floating
from ._moves import expand, in_order, permute_op, relayout_op, reshape_op, split_at
from .arithmetic import broadcast_shapes, mul, neg_op, scaled
from .shaping import reshape
from .softmax import log_softmax

REDUCTIONS = ("none", "mean", "sum")


class _CrossEntropy(Op):
    """(loss, dx): cross-entropy of logits x, and its gradient for a cotangent of one in every loss."""

    name = "cross_entropy"

    def infer(
        self,
        x: Tensor,
        target: Tensor,
        weight: Tensor | None,
        reduction: int,
        ignore_index: int,
        smoothing: float,
    ) -> tuple[Spec, Spec]:
        axis = class_dim(x)
        loss = (
            Spec((), x.dtype)
            if reduction
            else Spec((*x.shape[:axis], *x.shape[axis + 1 :]), x.dtype, row_order(x))
        )
        return loss, Spec(x.shape, x.dtype, x.order)

    def gradient(
        self, node: Node, grads: Sequence[Tensor | None], needs: Sequence[bool]
    ) -> Sequence[Tensor | None]:
        x, target, weight = node.inputs
        g = grads[0]
        if x is None or target is None or g is None:
            raise ValueError("cross_entropy: the gradient with respect to its gradient is not defined")
        if weight is not None and needs[2]:
            raise ValueError("cross_entropy: weight has no gradient")
        axis = class_dim(x)
        if g.ndim:
            g = reshape(g, (*x.shape[:axis], 1, *x.shape[axis + 1 :]))
        dx = times(node.outputs[1], g) if needs[0] else None
        return dx, _target_gradient(node, x, weight, g) if needs[1] else None, None

    def lower(self, low: Lowering, node: Node) -> None:
        x, target, weight = node.inputs
        assert x is not None and target is not None
        loss, dx = node.outputs
        outer, classes, inner = split_at(x, class_dim(x))
        low.call(
            "cross_entropy",
            [x, target, weight, node.cells.get("smoothing"), loss, dx if low.wanted(dx) else None, None],
            outer=outer, classes=classes, inner=inner, probabilities=int(target.ndim == x.ndim),
            reduction=node.attrs["reduction"], ignore_index=node.attrs["ignore_index"],
        )  # fmt: skip

    def flops(self, node: Node) -> int:
        return 20 * node.outputs[1].size


def _target_gradient(node: Node, x: Tensor, weight: Tensor | None, g: Tensor) -> Tensor:
    """dt_c = -(1 - s) w_c log p_c, for targets that are probabilities."""
    axis = class_dim(x)
    d = neg_of(log_softmax(x, axis))
    if weight is not None:
        d = mul(d, reshape(weight, (-1, *(1,) * (x.ndim - axis - 1))))
    smoothing = node.attrs["smoothing"]
    count = x.size // x.shape[axis] if node.attrs["reduction"] == 1 else 1
    return times(d, scaled(g, (1 - smoothing) / max(count, 1)))


class _Mse(Op):
    """(loss, dx): l = (x - y)² and dx = 2 (x - y) for a cotangent of one in every loss."""

    name = "mse_loss"

    def infer(self, x: Tensor, target: Tensor, reduction: int) -> tuple[Spec, Spec]:
        each = Spec(x.shape, x.dtype, x.order)
        return Spec((), x.dtype) if reduction else each, each

    def gradient(
        self, node: Node, grads: Sequence[Tensor | None], needs: Sequence[bool]
    ) -> Sequence[Tensor | None]:
        if grads[0] is None:
            raise ValueError("mse_loss: the gradient with respect to its gradient is not defined")
        d = times(node.outputs[1], grads[0])
        return d if needs[0] else None, apply(neg_op, d) if needs[1] else None

    def lower(self, low: Lowering, node: Node) -> None:
        x, target = node.inputs
        assert x is not None
        loss, dx = node.outputs
        low.call(
            "mse_loss",
            [x, target, loss, dx if low.wanted(dx) else None],
            n=x.size,
            reduction=node.attrs["reduction"],
        )

    def flops(self, node: Node) -> int:
        return 4 * node.outputs[1].size


cross_entropy_op = _CrossEntropy()
mse_loss_op = _Mse()


def neg_of(t: Tensor) -> Tensor:
    return apply(neg_op, t)  # type: ignore[no-any-return]


def times(saved: Tensor, g: Tensor) -> Tensor:
    """g · saved; `saved` itself where g is known to be one, as it is in a training step."""
    known = saved.graph.constants.get(g)
    if known is not None and known.ndim == 0 and known == 1:
        return saved
    return mul(saved, g)  # type: ignore[no-any-return]


def class_dim(x: Tensor) -> int:
    """The dim of the classes: 0 for one sample (C,), else 1."""
    return 0 if x.ndim == 1 else 1


def row_order(x: Tensor) -> Order:
    """The order of an array of one number per sample that lies as the samples of `x` do."""
    axis = class_dim(x)
    return tuple(d if d < axis else d - 1 for d in x.order if d != axis)


def _reduction(op: str, reduction: str, size_average: Any, reduce: Any) -> int:
    """0, 1, 2 for "none", "mean", "sum"; the two older arguments overrule it as in PyTorch."""
    if size_average is not None or reduce is not None:
        size_average, reduce = size_average is None or size_average, reduce is None or reduce
        reduction = "none" if not reduce else "mean" if size_average else "sum"
    if reduction not in REDUCTIONS:
        raise ValueError(f"{op}: reduction expects one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    return REDUCTIONS.index(reduction)


def check_targets(target: Tensor, classes: int, ignore_index: int) -> None:
    """Has the class indices checked at every run, where they come in: all in [0, classes) or ignore_index."""
    graph = current_graph()
    assert graph is not None

    def test(array: np.ndarray) -> None:
        if array.size == 0:
            return
        low, high = array.min(), array.max()
        if low >= 0 and high < classes:
            return
        wrong = array[((array < 0) | (array >= classes)) & (array != ignore_index)]
        if wrong.size:
            raise ValueError(
                f"cross_entropy: target expects class indices in [0, {classes - 1}] or ignore_index ({ignore_index}), "
                f"got {wrong.flat[0]}"
            )

    while target.node is not None and target.node.op in (
        relayout_op,
        reshape_op,
        permute_op,
    ):  # the same values
        source = target.node.inputs[0]
        assert source is not None
        target = source
    if target in graph.constants:
        test(graph.constants[target])
    else:
        graph.check(target, test)


@function
def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """Cross-entropy of logits: l = -Σ_c q_c log p_c, p = softmax(x) over the classes c.

    With s = label_smoothing and w = weight (1 if None): for a class index t, q_c = w_t (1 - s) [c = t] + w_c s / C, and
    0 where t is ignore_index; for probabilities t, q_c = w_c ((1 - s) t_c + s / C).

    Args:
        input: logits x of shape (C,), (N, C) or (N, C, d1, ...), float32 or float64.
        target: class indices (int64) of the shape of `input` without C, or probabilities of its shape and dtype.
        weight: (C,), one weight for each class.
        size_average, reduce: older forms of `reduction`; they overrule it where given.
        ignore_index: targets with this index count for nothing.
        reduction: "none": every l; "sum": their sum; "mean": that divided by Σ w_t over the targets not ignored, or
            with probabilities by the number of l.
        label_smoothing: s in [0, 1].

    Returns:
        A scalar, or for reduction "none" an array of the shape of `input` without C.

    Raises ValueError where shapes do not fit or a class index lies outside [0, C), TypeError for wrong dtypes.

    >>> import numpy as np, cnnmath
    >>> float(cnnmath.functional.cross_entropy(np.zeros((1, 2)), np.array([1])).round(6))
    0.693147
    """
    op = "cross_entropy"
    kind = _reduction(op, reduction, size_average, reduce)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{op}: label_smoothing expects a number in [0, 1], got {label_smoothing}")
    x, t = as_tensor(input), as_tensor(target)
    w = None if weight is None else as_tensor(weight)
    floating(op, input=x, weight=w)
    if x.ndim == 0:
        raise ValueError(f"{op}: input expects a dim of classes, got shape ()")
    axis = class_dim(x)
    classes = x.shape[axis]
    if w is not None and w.shape != (classes,):
        raise ValueError(f"{op}: weight expects shape ({classes},), got {w.shape} (input: {x.shape})")
    if t.shape == x.shape and t.dtype.kind == "f":
        floating(op, input=x, target=t)
        t = in_order(t, x.order)
    elif t.shape == x.shape and x.ndim > 1:
        raise TypeError(
            f"{op}: target has the shape of input: probabilities expect {x.dtype}, got {t.dtype} (cast it with .astype)"
        )
    else:
        expected = (*x.shape[:axis], *x.shape[axis + 1 :])
        if t.shape != expected:
            raise ValueError(
                f"{op}: target expects class indices of shape {expected} or probabilities of shape {x.shape}, "
                f"got {t.shape} (input: {x.shape})"
            )
        if t.dtype != np.int64:
            raise TypeError(
                f"{op}: target expects int64 class indices, got {t.dtype}; cast it: .astype(np.int64)"
            )
        check_targets(t, classes, ignore_index)
        t = in_order(t, row_order(x))
    cells: dict[str, CellLike] = {"smoothing": label_smoothing} if label_smoothing else {}
    loss, _ = apply(
        cross_entropy_op, x, t, w, reduction=kind, ignore_index=int(ignore_index), smoothing=float(label_smoothing),
        cells=cells,
    )  # fmt: skip
    return default_layout(loss)


@function
def mse_loss(
    input: Any,
    target: Any,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    weight: Any = None,
) -> Any:
    """Squared error, l = (input - target)², broadcast.

    Args:
        input, target: float32 or float64 arrays of one dtype.
        size_average, reduce: older forms of `reduction`; they overrule it where given.
        reduction: "none": every l; "sum": their sum; "mean": their mean.
        weight: factors of l, of the shape of the result; "mean" then divides by their sum.

    Raises ValueError where shapes do not broadcast, TypeError where dtypes differ.

    >>> import numpy as np, cnnmath
    >>> float(cnnmath.functional.mse_loss(np.array([1.0, 3.0]), np.array([1.0, 1.0])))
    2.0
    """
    op = "mse_loss"
    kind = _reduction(op, reduction, size_average, reduce)
    x, y = floating(op, input=as_tensor(input), target=as_tensor(target))
    shape = broadcast_shapes(op, x.shape, y.shape)
    x = expand(x, shape)
    y = expand(y, shape, order=x.order)
    if weight is None:
        return apply(mse_loss_op, x, y, reduction=kind)[0]
    w = floating(op, weight=as_tensor(weight))
    if w.shape != shape:
        raise ValueError(f"{op}: weight expects shape {shape}, got {w.shape}")
    loss = mul(apply(mse_loss_op, x, y, reduction=0)[0], w)
    if kind == 0:
        return loss
    total = Tensor.operators["sum"](loss)
    return total if kind == 2 else Tensor.operators["div"](total, Tensor.operators["sum"](w))
