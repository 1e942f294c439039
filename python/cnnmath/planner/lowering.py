"""From a graph to kernel calls: each node's op emits the calls that compute it; storage is decided here.

Tensors are computed into buffers. Inputs, variables, constants, cells and outputs are slots of their own, bound at
each run; everything else lies in the arena, at an offset that `memory.assign` chooses when all calls are known, or,
where it outlives the run, in the memory that the plan keeps.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import _core
from ..graph.ir import Cell, Graph, Node, Tensor, random_key

KERNEL_DTYPES = {
    "float32": "f32",
    "float64": "f64",
    "int64": "i64",
    "int32": "i32",
    "uint8": "u8",
    "bool": "u8",
}

ARENA, CELLS, KEPT = 0, 1, 2
MOST_KEPT = 64 << 20  # bytes of weights that are packed for good: each plan has a copy of its own


class Buffer:
    """A stretch of memory: in the arena or what is kept (offset assigned later), or the whole of a slot."""

    __slots__ = ("nbytes", "slot", "offset", "first", "last")

    def __init__(self, nbytes: int, slot: int = ARENA) -> None:
        self.nbytes = nbytes
        self.slot = slot
        self.offset = 0
        self.first = -1  # index of the first and the last call that touch it
        self.last = -1


class Place:
    """A byte offset into a buffer."""

    __slots__ = ("buffer", "offset")

    def __init__(self, buffer: Buffer, offset: int = 0) -> None:
        self.buffer = buffer
        self.offset = offset


Arg = Tensor | Buffer | Cell | Place | None


class Call:
    """A kernel call, or (kernel None) a call back into Python.

    Its first `kept` phases run when a variable was changed, the others in every run.
    """

    __slots__ = ("kernel", "params", "args", "workspace", "kept", "python", "node")

    def __init__(
        self,
        kernel: Any,
        params: list[int],
        args: list[Place | None],
        workspace: Buffer | None,
        kept: int = 0,
    ) -> None:
        self.kernel = kernel
        self.kept = kept
        self.params = params
        self.args = args
        self.workspace = workspace
        self.python: Callable[[list[np.ndarray]], None] | None = None
        self.node: Node | None = None  # that it is a part of


def float_bits(value: float) -> int:
    """A double as the int64 with the same bits: how a kernel's parameter carries it."""
    return int(struct.unpack("<q", struct.pack("<d", value))[0])


class Lowering:
    """What an op's `lower` works with. `calls` grows; tensors get their storage."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.calls: list[Call] = []
        self.cells: list[tuple[int, int, Cell]] = []  # (first cell, number of cells, cell)
        self.slots: list[Any] = ["arena", "cells", "kept"]
        self.lasting = lasting(graph)
        self._cell_places: dict[int, Place] = {}
        self._num_cells = 0
        self._storage: dict[Tensor, Place] = {}
        self._last_use: dict[Buffer, int] = {}
        self._uses: dict[Tensor, int] = {}
        self._at = 0
        for t in graph.inputs:
            self._new_slot(t)
        for t in graph.variables.values():
            self._new_slot(t)
        for t in graph.constants:
            self._new_slot(t)
        for i, node in enumerate(graph.nodes):
            self._uses.update({t: i for t in node.inputs if t is not None})
        for t in graph.outputs:
            self._uses[t] = len(graph.nodes)

    def _new_slot(self, t: Tensor) -> None:
        self.slots.append(t)
        self._bind(t, Place(Buffer(t.nbytes, len(self.slots) - 1)))

    def _bind(self, t: Tensor, place: Place) -> None:
        self._storage[t] = place
        self._last_use[place.buffer] = max(self._last_use.get(place.buffer, -1), self._uses.get(t, -1))

    def run(self) -> None:
        """Lowers every node; outputs of the graph that own their storage get slots."""
        outputs = set(self.graph.outputs)
        for i, node in enumerate(self.graph.nodes):
            self._at = i
            for t in node.outputs:
                if t in outputs:
                    self._new_slot(t)
            for read in node.inputs:
                if read is not None and read not in self._storage:
                    raise RuntimeError(f"{node.op.name}: it reads {read!r}, which nothing before it computes")
            first = len(self.calls)
            node.op.lower(self, node)
            for call in self.calls[first:]:
                call.node = node
            for t in node.outputs:
                if t not in self._storage and t in self._uses:
                    raise RuntimeError(f"{node.op.name}: its lowering left {t!r} without storage")

    # For ops.

    def wanted(self, t: Tensor) -> bool:
        """Whether anything reads `t`, or the graph gives it out; kernels may leave out what nothing does."""
        return t in self._uses

    def place(self, t: Tensor) -> Place:
        """Where a tensor lies; an output of the node being lowered gets its buffer here."""
        if t not in self._storage:
            self._bind(t, Place(Buffer(t.nbytes, KEPT if t in self.lasting else ARENA)))
        return self._storage[t]

    def alias(self, out: Tensor, of: Tensor) -> None:
        """`out` has the memory of `of`: a reshape that moves nothing. Copies where `out` is an output of the graph."""
        if out in self._storage:
            self.copy(out, of)
        else:
            self._bind(out, self.place(of))

    def share(self, out: Tensor, of: Tensor) -> bool:
        """Lets `out` take over the buffer of an input that nothing reads later; for kernels that work in place."""
        place = self.place(of)
        free = place.buffer.slot == ARENA and self._last_use[place.buffer] <= self._at
        if out in self._storage or not free or of.nbytes != out.nbytes or place.offset:
            return False
        self._bind(out, place)
        return True

    def temp(self, nbytes: int) -> Buffer:
        """A buffer of the arena, alive from the first to the last call that gets it."""
        return Buffer(nbytes, KEPT if self._keeps() else ARENA)

    def _keeps(self) -> bool:
        """Whether the node being lowered gives what lasts."""
        node = self.graph.nodes[self._at]
        return bool(node.outputs) and node.output in self.lasting

    def _packs_once(self, weights: Tensor | None) -> bool:
        return weights in self.lasting and weights.nbytes <= MOST_KEPT

    def copy(self, out: Tensor, of: Tensor) -> None:
        """Copies bytes."""
        self.call("copy_bytes", [of, out], dtype="", nbytes=out.nbytes)

    def call(
        self,
        name: str,
        args: Sequence[Arg],
        *,
        dtype: Any = None,
        weights: Any = None,
        **fields: Any,
    ) -> None:
        """Emits a call of kernel `name`. `fields` are its parameters by name; dtype that of the first tensor.

        Of a kernel whose first phases pack its `weights` (a tensor), these phases run once for weights that last; it
        is told so where it has the field `lasting`.
        """
        if dtype is None:
            dtype = next(a.dtype for a in args if isinstance(a, Tensor))
        suffix = dtype if isinstance(dtype, str) else KERNEL_DTYPES[np.dtype(dtype).name]
        kernel = _core.find_kernel(name, suffix)
        params: list[int] = []
        names = kernel.fields.split()
        if "lasting" in names:
            fields["lasting"] = self._packs_once(weights) and not self._keeps()
        for field in names:
            if field.endswith("*"):
                params += [int(v) for v in fields.pop(field[:-1])]
            else:
                value = fields.pop(field)
                params.append(float_bits(value) if isinstance(value, float) else int(value))
        if fields:
            raise TypeError(f"kernel {name}: unknown fields {sorted(fields)}, it has {names}")
        places = [self._resolve(a) for a in args]
        if not all(-(2**63) <= value < 2**63 for value in params):
            wrong = next(value for value in params if not -(2**63) <= value < 2**63)
            raise ValueError(f"{self.graph.nodes[self._at].op.name}: no number may be as large as {wrong}")
        kept = 0
        if self._keeps():
            kept = kernel.phases(params)
        elif self._packs_once(weights):
            kept = kernel.packing(params)
        nbytes = kernel.workspace(params)
        workspace = Buffer(nbytes, KEPT if kept else ARENA) if nbytes else None
        self.calls.append(Call(kernel, params, places, workspace, kept))

    def python(self, run: Callable[[list[np.ndarray]], None], tensors: Sequence[Tensor]) -> None:
        """Emits a call back into Python with physical arrays of `tensors`."""
        call = Call(None, [], [self.place(t) for t in tensors], None)
        call.python = run
        self.calls.append(call)

    def _resolve(self, arg: Arg) -> Place | None:
        if arg is None or isinstance(arg, Place):
            return arg
        if isinstance(arg, Tensor):
            return self.place(arg)
        if isinstance(arg, Buffer):
            return Place(arg)
        return self.cell(arg)

    def cell(self, cell: Cell) -> Place:
        """The place of a run-time scalar: a double, or consecutive uint64 for a key."""
        if id(cell) not in self._cell_places:
            count = 2 if cell.read is random_key else 1
            self.cells.append((self._num_cells, count, cell))
            self._cell_places[id(cell)] = Place(Buffer(8 * count, CELLS), 8 * self._num_cells)
            self._num_cells += count
        return self._cell_places[id(cell)]

    @property
    def num_cells(self) -> int:
        return self._num_cells


def lower(graph: Graph) -> Lowering:
    """All kernel calls of a graph, in program order."""
    low = Lowering(graph)
    low.run()
    return low


def lasting(graph: Graph) -> set[Tensor]:
    """What stays as it is from run to run, until somebody changes a variable or a cell: what depends on these alone.

    Where gradients are wanted, weights change from run to run, and nothing lasts.
    """
    if graph.differentiated:
        return set()
    written = {t for node in graph.nodes for t in node.op.writes(node)}
    found = {t for t in (*graph.variables.values(), *graph.constants) if t not in written}
    outputs = set(graph.outputs)
    for node in graph.nodes:
        op = node.op
        if (
            node.inputs
            and all(t is None or t in found for t in node.inputs)
            and not (op.effect or op.random or op.python or outputs.intersection(node.outputs))
        ):
            found.update(node.outputs)
    return found


def live_nodes(graph: Graph) -> list[Node]:
    """The nodes that an output or an effect needs, in program order."""
    needed = set(graph.outputs)
    kept = []
    for node in reversed(graph.nodes):
        if node.op.effect or any(t in needed for t in node.outputs):
            kept.append(node)
            needed.update(t for t in node.inputs if t is not None)
    return kept[::-1]
