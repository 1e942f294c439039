"""Where the time of a plan goes, by ops and by single nodes of its graph."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..graph.ir import Graph, Node, Tensor
from .plan import Plan


@dataclass(frozen=True)
class Line:
    """What one node, or all nodes of one op in one pass, cost in a run.

    Attributes:
        op: its name.
        direction: "forward" for what the first output (of a training step, the loss) depends on, "update" for what
            writes to variables otherwise, "backward" for the rest.
        shapes: of one node, those of its main input and output; else empty.
        calls: of kernels.
        seconds: the median over runs.
        flops: floating point operations as the equations have them, a multiplication and an addition counted as two
            (Winograd's filtering does fewer).
        nbytes: of the arrays that are read and written, each counted once for a node.
    """

    op: str
    direction: str
    shapes: str
    calls: int
    seconds: float
    flops: int
    nbytes: int

    @property
    def gflops(self) -> float:
        """GFLOP/s."""
        return self.flops / self.seconds / 1e9 if self.seconds else 0.0

    @property
    def bandwidth(self) -> float:
        """GB/s."""
        return self.nbytes / self.seconds / 1e9 if self.seconds else 0.0


class Profile:
    """The cost of a run of a plan; `print` shows it as a table.

    Attributes:
        seconds: of a run, the median.
        outside: seconds of a run, the median, that no kernel had: on binding arrays, on fresh outputs.
        ops: a Line for each op and pass, the most expensive first.
        nodes: a Line for each node, in the order in which they run.
    """

    def __init__(self, seconds: float, outside: float, nodes: Sequence[Line]) -> None:
        self.seconds = seconds
        self.outside = outside
        self.nodes = list(nodes)
        self.ops = sorted(_grouped(nodes), key=lambda line: -line.seconds)

    def table(self, lines: Iterable[Line] | None = None) -> str:
        """The lines (by default those of `ops`) as text."""
        chosen = self.ops if lines is None else list(lines)
        head = ["op", "pass", *["shapes"] * any(line.shapes for line in chosen), "calls", "ms", "share"]
        rows = [[*head, "GFLOP/s", "GB/s"]]
        for line in chosen:
            row = [line.op, line.direction, *[line.shapes] * ("shapes" in head), str(line.calls)]
            row += [f"{1e3 * line.seconds:.3f}", f"{line.seconds / self.seconds:.1%}"]
            row.append(f"{line.gflops:.1f}" if line.flops else "")
            rows.append([*row, f"{line.bandwidth:.1f}"])
        blank = [""] * (len(head) - 4)  # the columns between the name and the calls
        share = f"{self.outside / self.seconds:.1%}"
        rows.append(["(Python)", *blank, "", f"{1e3 * self.outside:.3f}", share, "", ""])
        rows.append(["a run", *blank, "", f"{1e3 * self.seconds:.3f}", "", "", ""])
        widths = [max(map(len, column)) for column in zip(*rows)]
        text = len(head) - 3  # columns of words; the others are numbers
        return "\n".join(
            "  ".join(
                cell.ljust(width) if i < text else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths))
            ).rstrip()
            for row in rows
        )

    __repr__ = table


def measured(plan: Plan, arrays: Sequence[np.ndarray], runs: int) -> Profile:
    """The profile of `runs` runs, after one that warms up."""
    plan(*arrays)
    walls, samples = [], []
    for _ in range(runs):
        seconds: list[float] = []
        start = time.perf_counter()
        plan(*arrays, seconds=seconds)
        walls.append(time.perf_counter() - start)
        samples.append(seconds)
    calls: dict[Node, list[int]] = {}
    for i, node in enumerate(plan.nodes_of_calls):
        if node is not None:
            calls.setdefault(node, []).append(i)
    forward = _ancestors(plan.graph)
    lines = []
    for node, own in calls.items():
        seconds_of_node = statistics.median(sum(sample[i] for i in own) for sample in samples)
        direction = "forward" if node in forward else "update" if node.op.effect else "backward"
        cost = (node.op.flops(node), _bytes(plan.graph, node))
        lines.append(Line(node.op.name, direction, _shapes(node), len(own), seconds_of_node, *cost))
    outside = statistics.median(wall - sum(sample) for wall, sample in zip(walls, samples))
    return Profile(statistics.median(walls), outside, lines)


def _ancestors(graph: Graph) -> set[Node]:
    """The nodes that the first output depends on."""
    wanted = set(graph.outputs[:1])
    found = set()
    for node in reversed(graph.nodes):
        if wanted.intersection(node.outputs):
            found.add(node)
            wanted.update(t for t in node.inputs if t is not None)
    return found


def _bytes(graph: Graph, node: Node) -> int:
    read = {t for other in graph.nodes for t in other.inputs if t is not None} | set(graph.outputs)
    touched = {t for t in node.inputs if t is not None} | {t for t in node.outputs if t in read}
    return sum(t.nbytes for t in touched) + sum(t.nbytes for t in node.op.writes(node))


def _shapes(node: Node) -> str:
    def text(t: Tensor | None) -> str:
        return "x".join(map(str, t.shape)) if t is not None and t.shape else "1"

    return " -> ".join(text(t) for t in (*node.inputs[:1], *node.outputs[:1]))


def _grouped(nodes: Sequence[Line]) -> list[Line]:
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in nodes:
        groups.setdefault((line.op, line.direction), []).append(line)
    return [
        Line(
            op,
            direction,
            "",
            sum(line.calls for line in lines),
            sum(line.seconds for line in lines),
            sum(line.flops for line in lines),
            sum(line.nbytes for line in lines),
        )
        for (op, direction), lines in groups.items()
    ]
