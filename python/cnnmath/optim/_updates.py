"""The updates as ops: one node, one kernel call for a list of parameters, written in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..graph.ir import CellLike, Node, Op, Spec, Tensor, apply
from ..graph.variable import Variable
from ..planner.lowering import Lowering


class _Update(Op):
    """Inputs: for each parameter p, its gradient and its state (`arrays` tensors in all)."""

    effect = True

    def infer(self, *inputs: Tensor, arrays: int, **flags: int) -> tuple[Spec, ...]:
        for first in range(0, len(inputs), arrays):
            p, *others = inputs[first : first + arrays]
            for t in others:
                if t.shape != p.shape or t.dtype != p.dtype or not t.has_order(p.order):
                    raise ValueError(f"{self.name}: expected the shape, dtype and order of {p!r}, got {t!r}")
        return ()

    def writes(self, node: Node) -> tuple[Tensor, ...]:
        arrays = node.attrs["arrays"]
        return tuple(t for i, t in enumerate(node.inputs) if i % arrays != 1 and t is not None)

    def flops(self, node: Node) -> int:
        return 4 * sum(t.size for t in node.inputs if t is not None)

    def lower(self, low: Lowering, node: Node) -> None:
        tensors = [t for t in node.inputs if t is not None]
        flags = {k: int(v) for k, v in node.attrs.items() if k != "arrays"}
        sizes = [t.size for t in tensors[:: node.attrs["arrays"]]]
        numbers = [node.cells[name] for name in self.numbers]
        low.call(
            self.name, [*numbers, *tensors], dtype=tensors[0].dtype, **flags, count=len(sizes), sizes=sizes
        )

    numbers: tuple[str, ...] = ()


class _Sgd(_Update):
    name = "sgd"
    numbers = ("lr", "momentum", "dampening", "weight_decay", "first")


class _Adam(_Update):
    name = "adam"
    numbers = ("lr", "beta1", "beta2", "eps", "weight_decay", "correction1", "correction2")


_sgd, _adam = _Sgd(), _Adam()


def sgd_update(
    params: Sequence[Variable],
    grads: Sequence[Tensor],
    velocities: Sequence[Variable] | None,
    *,
    nesterov: bool,
    **numbers: CellLike,
) -> None:
    """One step of SGD on each parameter; velocities=None is without momentum."""
    columns: list[Sequence[Any]] = [params, grads] + ([] if velocities is None else [velocities])
    flags = {"nesterov": nesterov, "buffers": velocities is not None}
    apply(_sgd, *(t for row in zip(*columns) for t in row), cells=numbers, arrays=len(columns), **flags)


def adam_update(
    params: Sequence[Variable],
    grads: Sequence[Tensor],
    first_moments: Sequence[Variable],
    second_moments: Sequence[Variable],
    highest: Sequence[Variable] | None,
    *,
    decoupled: bool,
    **numbers: CellLike,
) -> None:
    """One step of Adam (decoupled: AdamW) on each parameter; `highest` are AMSGrad's maxima."""
    columns: list[Sequence[Any]] = [params, grads, first_moments, second_moments]
    columns += [] if highest is None else [highest]
    flags = {"decoupled": decoupled, "amsgrad": highest is not None}
    apply(_adam, *(t for row in zip(*columns) for t in row), cells=numbers, arrays=len(columns), **flags)
