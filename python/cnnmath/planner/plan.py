"""A Plan: a graph made ready to run. Fusion, lowering and memory once; then `plan(arrays)` as often as wanted.

What depends on variables alone (weights packed for a kernel, a BatchNorm folded into a convolution) is computed when
one of them was changed, and kept.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import _core
from ..graph.ir import Cell, Graph, Tensor, keyed
from ..graph.variable import Variable, logical, physical
from . import memory
from .fusion import fuse
from .lowering import ARENA, CELLS, KEPT, Call, Lowering, Place, live_nodes, lower
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
_preparing = threading.Lock()


class Plan:
    """A graph with its kernel calls and its memory laid out.

    Attributes:
        graph: the graph, after fusion.
        memory: bytes that a run needs beyond inputs, outputs and variables: the arena, the threads' scratch and what
            is kept.
        arena_bytes: the arena alone.
        kept_bytes: what is kept from run to run, until a variable is changed.
        nodes_of_calls: the node of the graph that each kernel call of a run is a part of.
    """

    def __init__(self, graph: Graph) -> None:
        fuse(graph)
        graph.nodes = live_nodes(graph)
        self.graph = graph
        low = lower(graph)
        self.arena_bytes, self.kept_bytes = memory.assign(low.calls), memory.keep(low.calls)
        self._zones: list[tuple[int, int]] = []
        self._kept_zones: list[tuple[int, int]] = []
        if _core.sanitized:
            self._zones, self._kept_zones = memory.separate(low.calls), memory.separate(low.calls, KEPT)
            self.arena_bytes, self.kept_bytes = memory.extent(self._zones), memory.extent(self._kept_zones)
        self._cells = low.cells
        self._cell_template = np.zeros(max(low.num_cells, 1))
        for first, _, cell in low.cells:
            if cell.constant:
                self._cell_template[first] = cell.read()
        self._varying = [entry for entry in low.cells if not entry[2].constant]
        self.random = any(node.op.random for node in graph.nodes)
        calls = [
            call for call in low.calls if call.kernel is None or call.kept < call.kernel.phases(call.params)
        ]
        self._segments = _segments(low, calls)
        self.nodes_of_calls = [call.node for call in calls]
        kept_calls = [call for call in low.calls if call.kept]
        self._preparation = _preparation(low, kept_calls) if kept_calls else None
        self._kept_from = [v for v, t in graph.variables.items() if t in low.lasting]
        self._kept_cells = _varying_cells(kept_calls)
        self._kept: tuple[list[Any], Any] | None = None  # the state that it was made from, and its memory
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
        """Bytes that the plan holds between runs: constants, what is kept, and roughly its own objects."""
        constants = sum(array.nbytes for array in self.graph.constants.values())
        return constants + self.kept_bytes + 1024 * len(self.graph.nodes)

    @property
    def memory(self) -> int:
        programs = [s for s in (*self._segments, self._preparation) if s is not None and not callable(s)]
        scratch = max((program.scratch_bytes for program in programs), default=0)
        return int(self.arena_bytes + self.kept_bytes + scratch * _core.get_num_threads())

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
        if self._preparation is not None:
            slots[KEPT] = self._prepared(slots)

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

    def _prepared(self, slots: list[Any]) -> Any:
        """The memory with what is kept, made anew where a variable has changed since."""
        state = [variable.version for variable in self._kept_from] + [
            cell.read() for cell in self._kept_cells
        ]
        kept = self._kept
        if kept is not None and kept[0] == state:
            return kept[1]
        with _preparing:
            kept = self._kept
            if kept is None or kept[0] != state:
                # Not into the former one, which a run in another thread may be reading; it goes first, if none is.
                self._kept = kept = None
                arena = slots[KEPT] = _core.Arena(self.kept_bytes)
                if _core.sanitized:
                    arena.fence(self._kept_zones)
                assert self._preparation is not None
                self._preparation.run(slots)
                self._kept = kept = state, arena
        return kept[1]

    def _read_cells(self, cells: np.ndarray) -> None:
        for first, count, cell in self._varying:
            if count == 1:
                cells[first] = cell.read()
            else:
                cells[first : first + count].view(np.uint64)[:] = cell.read()

    def __repr__(self) -> str:
        return f"Plan({len(self.graph.nodes)} nodes, {self.memory:,} bytes)\n{self.graph!r}"


def _segments(low: Lowering, calls: Sequence[Call]) -> list[Any]:
    """Programs, and between them the calls back into Python."""
    segments: list[Any] = []
    program = None
    for call in calls:
        if call.kernel is None:
            segments.append(_python_segment(call.python, call.args))
            program = None
            continue
        if program is None:
            program = _core.Program(len(low.slots))
            segments.append(program)
        program.add(call.kernel, call.params, *_places(call), begin=call.kept)
    return segments


def _preparation(low: Lowering, calls: Sequence[Call]) -> Any:
    """The program of the phases whose results are kept."""
    program = _core.Program(len(low.slots))
    for call in calls:
        program.add(call.kernel, call.params, *_places(call), end=call.kept)
    return program


def _varying_cells(calls: Sequence[Call]) -> list[Cell]:
    nodes = [call.node for call in calls if call.node is not None]
    return list({cell for node in nodes for cell in node.cells.values() if not cell.constant})


def _places(call: Call) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Where a call's arguments and its workspace lie."""
    args = [(-1, 0) if p is None else (p.buffer.slot, p.buffer.offset + p.offset) for p in call.args]
    space = call.workspace
    return args, (-1, 0) if space is None else (space.slot, space.offset)


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
