"""Counters: whole numbers that every run of a program moves on."""

from __future__ import annotations

from ..graph.ir import Node, Op, Spec, Tensor, apply, current_graph
from ..graph.variable import Variable
from ..planner.lowering import Lowering


class _Increment(Op):
    """n += 1, for each of its inputs."""

    name = "increment"
    effect = True

    def infer(self, *counters: Tensor) -> tuple[Spec, ...]:
        for n in counters:
            if n.dtype != "int64" or n.shape != ():
                raise TypeError(f"increment: expected an int64 of shape (), got {n!r}")
        return ()

    def writes(self, node: Node) -> tuple[Tensor, ...]:
        return tuple(t for t in node.inputs if t is not None)

    def lower(self, low: Lowering, node: Node) -> None:
        low.call("increment", list(node.inputs), count=len(node.inputs))


increment_op = _Increment()


def increment(counter: Variable) -> int:
    """Adds one to an int64 variable of shape () in each run of the graph being traced; gives how often it did so before
    in this graph. One kernel call serves all counters of a graph."""
    graph = current_graph()
    assert graph is not None
    t = graph.variable(counter)
    node = next((node for node in graph.nodes if node.op is increment_op), None)
    if node is None:
        apply(increment_op, t)
        return 0
    before = sum(other is t for other in node.inputs)
    node.inputs = (*node.inputs, t)
    return before
