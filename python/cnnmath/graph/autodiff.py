"""Reverse mode: the chain rule, applied to a graph from its outputs back to its inputs.

For y = f(x) and a cotangent v of y, each op's rule gives v^T (dy/dx). The nodes that compute the gradients are added
to the same graph; where a tensor is used more than once, its gradients are summed in graph order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .ir import Graph, Node, Tensor, tracing


def ancestors(graph: Graph, wrt: Sequence[Tensor]) -> set[Tensor]:
    """The tensors that depend on one of `wrt`, these included, as far as floating point values go."""
    reached = {t for t in wrt if t.dtype.kind == "f"}
    for node in graph.nodes:
        if any(t in reached for t in node.inputs if t is not None):
            reached.update(t for t in node.outputs if t.dtype.kind == "f")
    return reached


def differentiate(
    graph: Graph, outputs: Sequence[Tensor], cotangents: Sequence[Tensor | None], wrt: Sequence[Tensor]
) -> list[Tensor | None]:
    """Gradients of sum_i <cotangents[i], outputs[i]> with respect to each tensor of `wrt`; None where none flows."""
    graph.differentiated = True
    depends = ancestors(graph, wrt)
    grads: dict[Tensor, Tensor] = {}

    def accumulate(t: Tensor, g: Tensor) -> None:
        grads[t] = grads[t] + g if t in grads else g

    with tracing(graph):
        for out, v in zip(outputs, cotangents):
            if v is not None:
                accumulate(out, v)
        for node in reversed(list(graph.nodes)):
            _pull_back(node, depends, grads, accumulate)
    return [grads.get(t) for t in wrt]


def _pull_back(
    node: Node,
    depends: set[Tensor],
    grads: dict[Tensor, Tensor],
    accumulate: Callable[[Tensor, Tensor], None],
) -> None:
    needs = [t is not None and t in depends for t in node.inputs]
    flowing = [grads.get(t) if t in depends else None for t in node.outputs]
    if not any(needs) or all(g is None for g in flowing):
        return
    for t, g, need in zip(node.inputs, node.op.gradient(node, flowing, needs), needs):
        if need and g is not None and t is not None:
            if g.shape != t.shape:
                raise ValueError(
                    f"{node.op.name}: its gradient rule gave shape {g.shape} for an input of shape {t.shape}"
                )
            accumulate(t, g)
