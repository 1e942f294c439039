"""The table of a model's layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..graph.ir import Graph, Spec, Tensor, tracing
from .module import Module
from .visits import visits


def _shapes(value: Any) -> str:
    if isinstance(value, Tensor):
        return str(value.shape)
    if isinstance(value, (tuple, list)):
        return ", ".join(map(_shapes, value))
    return "-"


def _flops(graph: Graph, first: int) -> int:
    return sum(node.op.flops(node) for node in graph.nodes[first:])


def summarize(model: Module, input_shape: tuple[int, ...]) -> str:
    """See Module.summary."""
    if not isinstance(input_shape, Iterable):
        raise TypeError(
            f"summary: input_shape expects a tuple such as (channels, height, width), got {input_shape!r}"
        )
    shape = tuple(int(n) for n in input_shape)
    if len(shape) in (1, 3):
        shape = (1, *shape)
    dtype = next((p.dtype for p in model.parameters()), np.dtype(np.float32))
    names = {module: name for name, module in model.named_modules()}
    graph = Graph()
    rows: list[list[str]] = []
    counted: set[Any] = set()

    def observe(module: Module, forward: Callable[[], Any]) -> Any:
        depth = len(visits.stack) - 1
        label = (
            f"{names.get(module, '?')} ({type(module).__name__})"
            if module is not model
            else type(module).__name__
        )
        leaf = not any(True for _ in module.children())
        fresh = [p for p in module.parameters(recurse=leaf) if p not in counted]
        counted.update(fresh)
        first = len(graph.nodes)
        row = ["  " * depth + label, "", f"{sum(p.size for p in fresh):,}" if fresh else "", ""]
        rows.append(row)
        result = forward()
        row[1] = _shapes(result)
        if leaf:
            row[3] = f"{_flops(graph, first):,}"
        return result

    modes = [(module, module.training) for module in model.modules()]
    visits.observer = observe
    try:
        model.eval()
        with tracing(graph):
            model(graph.input(Spec(shape, dtype)))
    finally:
        visits.observer = None
        for module, mode in modes:
            module.training = mode

    head = ["Layer", "Output shape", "Parameters", "FLOPs"]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(4)]

    def line(row: list[str]) -> str:
        left = [text.ljust(width) for text, width in zip(row[:2], widths)]
        right = [text.rjust(width) for text, width in zip(row[2:], widths[2:])]
        return "  ".join([*left, *right]).rstrip()

    rule = "-" * (sum(widths) + 6)
    total = sum(p.size for p in model.parameters())
    trained = sum(p.size for p in model.parameters() if p.trainable)
    nbytes = sum(v.nbytes for v in (*model.parameters(), *model.buffers()))
    return "\n".join(
        [
            line(head),
            rule,
            *map(line, rows),
            rule,
            f"Input {shape}, {dtype}",
            f"Parameters: {total:,} ({trained:,} trainable, {total - trained:,} frozen), {nbytes:,} bytes with buffers",
            f"FLOPs of a forward pass: {_flops(graph, 0):,}",
        ]
    )
