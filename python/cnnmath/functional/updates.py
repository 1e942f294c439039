"""Updates of parameters by an optimizer, as ops of a traced program: one kernel call for a whole list of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..graph.ir import CellLike, Node, Op, Spec, Tensor, apply, as_tensor
from ..planner.lowering import Arg, Lowering

_SGD_CELLS = ("lr", "momentum", "dampening", "weight_decay", "first")
_ADAM_CELLS = ("lr", "beta1", "beta2", "eps", "weight_decay", "correction1", "correction2")


class _Update(Op):
    """Writes parameters and their state in place. Inputs repeat for each parameter: p, g, state..."""

    effect = True

    def __init__(self, name: str, cells: tuple[str, ...]) -> None:
        self.name = name
        self.cells = cells

    def infer(self, *inputs: Tensor, arrays: int, **choices: bool) -> tuple[Spec, ...]:
        return ()

    def writes(self, node: Node) -> tuple[Tensor, ...]:
        arrays = node.attrs["arrays"]
        return tuple(t for i, t in enumerate(node.inputs) if i % arrays != 1 and t is not None)

    def lower(self, low: Lowering, node: Node) -> None:
        choices = dict(node.attrs)
        arrays = choices.pop("arrays")
        tensors = [t for t in node.inputs if t is not None]
        sizes = [t.size for t in tensors[::arrays]]
        args: list[Arg] = [*(node.cells[name] for name in self.cells), *tensors]
        low.call(self.name, args, dtype=tensors[0].dtype, count=len(sizes), sizes=sizes, **choices)

    def flops(self, node: Node) -> int:
        sizes = [t.size for t in node.inputs[:: node.attrs["arrays"]] if t is not None]
        return (6 if self.name == "sgd" else 15) * sum(sizes)


sgd_op = _Update("sgd", _SGD_CELLS)
adam_op = _Update("adam", _ADAM_CELLS)


def sgd(
    params: Sequence[Any],
    grads: Sequence[Any],
    velocities: Sequence[Any] | None = None,
    *,
    lr: CellLike,
    momentum: CellLike = 0.0,
    dampening: CellLike = 0.0,
    weight_decay: CellLike = 0.0,
    first: CellLike = 0.0,
    nesterov: bool = False,
) -> None:
    """Adds stochastic gradient descent with momentum to the graph being traced.

        d = g + weight_decay * p
        v = d where first is not 0, else momentum * v + (1 - dampening) * d
        p = p - lr * (d + momentum * v with nesterov, else v)

    Without velocities p = p - lr * d. Params and velocities (Variables, or their tensors) are changed in place; each
    velocity has the shape, dtype and physical order of its parameter.
    """
    cells = dict(zip(_SGD_CELLS, (lr, momentum, dampening, weight_decay, first)))
    choices = {"nesterov": bool(nesterov), "buffers": velocities is not None}
    _apply(sgd_op, params, grads, [] if velocities is None else [velocities], cells, choices)


def adam(
    params: Sequence[Any],
    grads: Sequence[Any],
    means: Sequence[Any],
    squares: Sequence[Any],
    maxima: Sequence[Any] | None = None,
    *,
    lr: CellLike,
    beta1: CellLike,
    beta2: CellLike,
    eps: CellLike,
    weight_decay: CellLike,
    correction1: CellLike,
    correction2: CellLike,
    decoupled: bool = False,
) -> None:
    """Adds Adam (Kingma and Ba 2015) or AdamW (Loshchilov and Hutter 2019) to the graph being traced.

        g = g + weight_decay * p, or with decoupled: p = (1 - lr * weight_decay) * p
        m = beta1 * m + (1 - beta1) * g
        s = beta2 * s + (1 - beta2) * g^2
        p = p - lr / correction1 * m / (sqrt(s) / sqrt(correction2) + eps)

    where correction1 = 1 - beta1^t and correction2 = 1 - beta2^t at step t. With maxima (AMSGrad) h = max(h, s) stands
    for s in the last line. Params, means m, squares s and maxima h (Variables, or their tensors) are changed in place.
    """
    cells = dict(zip(_ADAM_CELLS, (lr, beta1, beta2, eps, weight_decay, correction1, correction2)))
    choices = {"decoupled": bool(decoupled), "amsgrad": maxima is not None}
    _apply(adam_op, params, grads, [means, squares, *([] if maxima is None else [maxima])], cells, choices)


def _apply(
    op: _Update,
    params: Sequence[Any],
    grads: Sequence[Any],
    states: Sequence[Sequence[Any]],
    cells: dict[str, CellLike],
    choices: dict[str, bool],
) -> None:
    """One node for the parameters of each dtype."""
    groups: dict[Any, list[Tensor]] = {}
    for param, grad, *state in zip(params, grads, *states, strict=True):
        p, g = as_tensor(param), as_tensor(grad)
        if g.shape != p.shape or g.dtype != p.dtype:
            raise ValueError(f"{op.name}: {p.name} is {p.dtype}{p.shape}, its gradient {g.dtype}{g.shape}")
        if not g.has_order(p.order):
            g = Tensor.operators["relayout"](g, p.order)
        rest = [as_tensor(s) for s in state]
        for s in rest:
            if s.shape != p.shape or s.dtype != p.dtype or not s.has_order(p.order):
                raise ValueError(
                    f"{op.name}: the state of {p.name} expects {p.dtype}{p.shape} in its order, got {s!r}"
                )
        groups.setdefault(p.dtype, []).extend((p, g, *rest))
    for tensors in groups.values():
        apply(op, *tensors, cells=cells, arrays=2 + len(states), **choices)
