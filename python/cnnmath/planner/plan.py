"""A Plan: a graph made ready to run. Fusion, lowering and memory once; then `plan(arrays)` as often as wanted."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import _core
from ..graph.ir import Graph, Tensor, keyed
from ..graph.variable import Variable, logical, physical
from . import memory
from .fusion import fuse
from .lowering import ARENA, CELLS, Lowering, Place, live_nodes, lower
from .random import current_generator


class _ArenaPool:
    """Arenas that all plans share; concurrent runs take several. The largest ever needed is kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Any] = []

    def take(self, nbytes: int) -> Any:
        with self._lock:
            arena = self._idle.pop() if self._idle else None
        if arena is None or arena.nbytes < nbytes:
            arena = None  # let go of the smaller one before the larger one is made
            arena = _core.Arena(nbytes)
        return arena

    def give(self, arena: Any) -> None:
        with self._lock:
            self._idle.append(arena)
            if len(self._idle) > 1:
                self._idle.sort(key=lambda a: a.nbytes)
                del self._idle[:-4]


_arenas = _ArenaPool()


class Plan:
    """A graph with its kernel calls and its memory laid out.

    Attributes:
        graph: the graph, after fusion.
        memory: bytes that a run needs beyond inputs, outputs and variables: the arena and the threads' scratch.
        arena_bytes: the arena alone.
        nodes_of_calls: the node of the graph that each kernel call is a part of.
    """

    def __init__(self, graph: Graph) -> None:
        fuse(graph)
        graph.nodes = live_nodes(graph)
        self.graph = graph
        low = lower(graph)
        self.arena_bytes = memory.assign(low.calls)
        self._zones: list[tuple[int, int]] = []
        if _core.sanitized:
            self._zones = memory.separate(low.calls)
            self.arena_bytes = sum(self._zones[-1]) if self._zones else 0
        self._cells = low.cells
        self._cell_template = np.zeros(max(low.num_cells, 1))
        for first, _, cell in low.cells:
            if cell.constant:
                self._cell_template[first] = cell.read()
        self._varying = [entry for entry in low.cells if not entry[2].constant]
        self.random = any(node.op.random for node in graph.nodes)
        self._segments = _segments(low)
        self.nodes_of_calls = [call.node for call in low.calls]
        self._written = {t for node in graph.nodes for t in node.op.writes(node)}
        self._written_variables = [v for v, t in graph.variables.items() if t in self._written]
        self._bind_slots(low)

    def _bind_slots(self, low: Lowering) -> None:
        graph = self.graph
        self._fixed: list[Any] = [None] * len(low.slots)  # what is the same in every run
        self._variable_slots: list[tuple[int, Variable, Tensor]] = []
        slot_of = {t: i for i, t in enumerate(low.slots) if isinstance(t, Tensor)}
        for variable, t in graph.variables.items():
            self._variable_slots.append((slot_of[t], variable, t))
        for t, array in graph.constants.items():
            self._fixed[slot_of[t]] = array
        self._input_slots = [(slot_of[t], t) for t in graph.inputs]
        # An output that is an input, a variable, a constant or an earlier output under another name is a copy of it.
        # Where it is not, it lies in an array of its own, of this shape.
        self._output_slots: list[tuple[int, Tensor, list[int] | None]] = []
        made = {t for node in graph.nodes for t in node.outputs}
        for t in graph.outputs:
            first = all(t is not other for _, other, _ in self._output_slots)
            shape = [t.shape[d] for d in t.order] if t in made and first else None
            self._output_slots.append((slot_of[t], t, shape))

    @property
    def held_bytes(self) -> int:
        """Bytes that the plan itself keeps: its constants, and roughly its own objects."""
        return sum(array.nbytes for array in self.graph.constants.values()) + 1024 * len(self.graph.nodes)

    @property
    def memory(self) -> int:
        scratch = max((s.scratch_bytes for s in self._segments if not callable(s)), default=0)
        return int(self.arena_bytes + scratch * _core.get_num_threads())

    def __call__(self, *inputs: np.ndarray, seconds: list[float] | None = None) -> list[np.ndarray]:
        """Runs on physical-order-independent arrays; gives fresh arrays, one for each output of the graph.

        Arrays must have the shapes and dtypes of `graph.inputs`; any strides will do. Where a list `seconds` is given,
        it gets those that each kernel call took.
        """
        for tensor, test in self.graph.checks:
            test(inputs[tensor.index])
        slots = self._fixed.copy()
        written_back: list[tuple[np.ndarray, np.ndarray, Tensor]] = []
        for (slot, t), array in zip(self._input_slots, inputs):
            slots[slot] = bound = physical(array, t.order)
            if self._written and t in self._written:
                if not array.flags.writeable:
                    raise ValueError(f"{t.name}: expected a writeable array, got a read-only one")
                if not np.shares_memory(bound, array):
                    written_back.append((array, bound, t))
        for slot, variable, t in self._variable_slots:
            if variable.shape != t.shape or variable.dtype != t.dtype:
                raise RuntimeError(
                    f"{t!r} has become {variable.dtype}{list(variable.shape)} since this was traced: trace it again"
                )
            slots[slot] = variable.physical
        for slot, t, shape in self._output_slots:
            if shape is not None:
                slots[slot] = np.empty(shape, t.dtype)
        if self._varying:
            cells = self._cell_template.copy()
            if self.random:
                with keyed(current_generator().next_key()):
                    self._read_cells(cells)
            else:
                self._read_cells(cells)
            slots[CELLS] = cells
        else:
            slots[CELLS] = self._cell_template

        arena = _arenas.take(self.arena_bytes)
        slots[ARENA] = arena
        try:
            if _core.sanitized:
                arena.fence(self._zones)
            for segment in self._segments:
                if seconds is not None:
                    seconds += _timed(segment, slots)
                else:
                    segment(slots) if callable(segment) else segment.run(slots)
        finally:
            _arenas.give(arena)

        for array, bound, t in written_back:
            array[...] = logical(bound, t.order)
        for variable in self._written_variables:
            variable.version += 1
        for finish in self.graph.after_run:
            finish()
        return [
            logical(slots[slot] if shape is not None else slots[slot].copy(), t.order)
            for slot, t, shape in self._output_slots
        ]

    def _read_cells(self, cells: np.ndarray) -> None:
        for first, count, cell in self._varying:
            if count == 1:
                cells[first] = cell.read()
            else:
                cells[first : first + count].view(np.uint64)[:] = cell.read()

    def __repr__(self) -> str:
        return f"Plan({len(self.graph.nodes)} nodes, {self.memory:,} bytes)\n{self.graph!r}"


def _segments(low: Lowering) -> list[Any]:
    """Programs, and between them the calls back into Python."""
    segments: list[Any] = []
    program = None
    for call in low.calls:
        if call.kernel is None:
            segments.append(_python_segment(call.python, call.args))
            program = None
            continue
        if program is None:
            program = _core.Program(len(low.slots))
            segments.append(program)
        args = [(-1, 0) if p is None else (p.buffer.slot, p.buffer.offset + p.offset) for p in call.args]
        workspace = (-1, 0) if call.workspace is None else (ARENA, call.workspace.offset)
        program.add(call.kernel, call.params, args, workspace)
    return segments


def _timed(segment: Any, slots: list[Any]) -> list[float]:
    """Runs a segment; gives the seconds of its calls."""
    if not callable(segment):
        times: list[float] = segment.run_timed(slots)
        return times
    start = time.perf_counter()
    segment(slots)
    return [time.perf_counter() - start]


def _python_segment(run: Any, places: Sequence[Place | None]) -> Any:
    def segment(slots: list[Any]) -> None:
        arrays = []
        for place in places:
            assert place is not None
            slot, buffer = slots[place.buffer.slot], place.buffer
            if buffer.slot == ARENA:
                slot = slot.view(
                    buffer.offset + place.offset, [buffer.nbytes - place.offset], np.dtype(np.uint8)
                )
            arrays.append(slot)
        run(arrays)

    return segment
