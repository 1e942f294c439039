"""Passes over a graph before it is lowered: rewriting it into one that gives the same results faster."""

from __future__ import annotations

from collections.abc import Callable

from ..graph.ir import Graph

PASSES: list[Callable[[Graph], None]] = []


def register(rewrite: Callable[[Graph], None]) -> Callable[[Graph], None]:
    """Adds a pass; ops register theirs beside their own code."""
    PASSES.append(rewrite)
    return rewrite


def optimize(graph: Graph) -> None:
    """Applies all passes, in the order in which they were registered."""
    for rewrite in PASSES:
        rewrite(graph)
