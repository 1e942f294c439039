"""The graph: what a traced function computes, as a list of nodes in the order in which they run.

A `Tensor` is a symbol for an array: shape, dtype and physical order are known, values are not. A `Node` applies an
`Op` to tensors. An op is one object that knows all about itself: its shape rule (`infer`), its gradient rule
(`gradient`), its kernels (`lower`) and its cost (`flops`).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np

from .hints import of_tensor
from .operators import Arithmetic
from .variable import Variable, default_order, physical, same_order

if TYPE_CHECKING:
    from ..planner.lowering import Lowering

Shape = tuple[int, ...]
Order = tuple[int, ...]

LARGEST = 1 << 47  # bytes: beyond what a process can address, and far from where sums of int64 overflow


class Spec(NamedTuple):
    """Shape, dtype and physical order of a tensor; `order=None` stands for the default of its rank."""

    shape: Shape
    dtype: np.dtype[Any]
    order: Order | None = None


class Cell:
    """A number that is read when the program runs, so that it may change between runs: lr, p, momentum, a strength.

    `read()` gives a float, or a tuple of unsigned integers for the key of a random number generator.
    """

    __slots__ = ("read", "constant")

    def __init__(self, read: Callable[[], Any], constant: bool = False) -> None:
        self.read = read
        self.constant = constant

    @staticmethod
    def of(value: CellLike) -> Cell:
        """A cell for `value`: itself, a fixed number, or a function that is called at each run."""
        if isinstance(value, Cell):
            return value
        if callable(value):
            return Cell(value)
        number = float(value)
        return Cell(lambda: number, constant=True)


CellLike = Cell | float | Callable[[], float]


def attribute(owner: object, name: str) -> Cell:
    """The cell that reads `owner.name` at each run."""
    return Cell(lambda: getattr(owner, name))


def item(mapping: dict[str, Any], key: str) -> Cell:
    """The cell that reads `mapping[key]` at each run."""
    return Cell(lambda: mapping[key])


class Op:
    """One operation. Subclasses are stateless; there is one instance of each.

    Attributes:
        name: how the op shows in a printed graph.
        effect: the op writes to a variable or an input (its first inputs, see `writes`); it is kept without consumers.
        random: the op draws random numbers: its node gets a number of its own and the generator's key as cell "key".
        python: the op calls back into Python, which may give something else each time.
        fuses_relu: with attribute relu=True the op gives max(y, 0) in the place of its first output y.
        residual_input: the place of an optional input that is added to the first output before that.
        affine_input: the place of an optional input (3, C), a `batch_norm`'s mean, scale and shift: with it the first
            input x counts as max(0, (x - mean) * scale + shift).
        gives_moments: with two more outputs the op gives mean and sum of squared differences from it of each channel.
        gradient_input: of an op of a gradient, the place of the one it is given, which may come through a max-pool.
        codes_input: the place of an optional input, codes of a max-pool: with it that gradient is the one of the maxima
            (see `takes_codes`).
        relu_input: the place of an optional input y: with it the first output, a gradient, is 0 where y <= 0; one more
            output is the sum of this over each channel.
    """

    name: str = ""
    effect: bool = False
    random: bool = False
    python: bool = False
    fuses_relu: bool = False
    residual_input: int | None = None
    affine_input: int | None = None
    gives_moments: bool = False
    gradient_input: int | None = None
    codes_input: int | None = None
    relu_input: int | None = None

    def infer(self, *inputs: Any, **attrs: Any) -> Spec | tuple[Spec, ...]:
        """Specs of the outputs. Inputs are Tensors (or None); raises ValueError or TypeError with the reason."""
        raise NotImplementedError

    def writes(self, node: Node) -> tuple[Tensor, ...]:
        """Of an op with effect: the inputs that it writes to."""
        return ()

    def gradient(
        self, node: Node, grads: Sequence[Tensor | None], needs: Sequence[bool]
    ) -> Sequence[Tensor | None]:
        """One gradient for each input (None where `needs` is false or nothing flows), given those of the outputs."""
        raise ValueError(f"{self.name} has no gradient")

    def with_max_pool(self, node: Node, geometry: Any) -> Op | None:
        """The op that also does a max-pool, or None where there is no such op or it does not pay.

        Behind `node` the maxima and their codes take the place of its output. Before a gradient (with a
        `gradient_input`), that of the maxima and their codes take the place of the one that came out of the pool.
        """
        return None

    def takes_codes(self, node: Node, geometry: Any) -> bool:
        """Whether `node`, a gradient, takes codes of such a max-pool."""
        return False

    def with_batch_norm(self, node: Node, norm: Node) -> tuple[Tensor | None, ...] | None:
        """The inputs with which `node` gives what `norm`, a batch_norm_eval behind it, would; None where none do."""
        return None

    def takes_more(self, node: Node) -> bool:
        """Whether `node` takes the optional inputs and outputs named above: kernels may do so for some shapes only."""
        return True

    def with_relu_mask(self, node: Node, y: Tensor) -> tuple[Tensor | None, ...] | None:
        """The inputs with which `node`, a gradient, does for relu=True as if its first one were 0 where y <= 0.

        It gives the masked one as one more, last output then. None where the op cannot do that.
        """
        return None

    def lower(self, low: Lowering, node: Node) -> None:
        """Emits the kernel calls that compute the node's outputs."""
        raise NotImplementedError

    def flops(self, node: Node) -> int:
        """Floating point operations, a multiplication and an addition counted as two."""
        return 0


class Tensor(Arithmetic):
    """A symbol for an array in a graph."""

    __slots__ = ("graph", "node", "index", "shape", "dtype", "order", "name")
    __array_ufunc__ = None  # ndarray + Tensor goes to Tensor.__radd__

    def __init__(self, graph: Graph, spec: Spec, node: Node | None, index: int, name: str) -> None:
        self.graph = graph
        self.node = node
        self.index = index
        self.shape: Shape = tuple(int(n) for n in spec.shape)
        self.dtype = np.dtype(spec.dtype)
        self.order: Order = default_order(len(self.shape)) if spec.order is None else tuple(spec.order)
        self.name = name

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the logical dims, in elements."""
        strides = [0] * self.ndim
        step = 1
        for dim in reversed(self.order):
            strides[dim] = step
            step *= max(self.shape[dim], 1)
        return tuple(strides)

    def has_order(self, order: Order) -> bool:
        """Whether the memory is as if in that order (dims of size 1 do not matter)."""
        return same_order(self.shape, self.order, order)

    def __repr__(self) -> str:
        return f"{self.name}: {np.dtype(self.dtype).name}{list(self.shape)}"

    def __bool__(self) -> bool:
        raise TypeError(
            "the truth of a traced value is not known while the graph is built: branch on shapes or on Python values, "
            "or put the computation into a cnnmath.Function"
        )

    def _compare(self, other: Any) -> bool:
        return bool(self)

    def __float__(self) -> float:
        raise TypeError("a traced value has no number yet: return it from the function and read it there")

    __int__ = __float__
    __index__ = __float__

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            "a traced value cannot go to NumPy while the graph is built: use the ops of cnnmath.functional, "
            "or a cnnmath.Function for an op of your own in NumPy"
        )

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        raise TypeError(
            "a traced value cannot be indexed: there is no op for that; use the ops of cnnmath.functional, "
            "or a cnnmath.Function for an op of your own in NumPy"
        )

    def __getattr__(self, name: str) -> NoReturn:
        # Called where ordinary lookup found nothing.
        raise AttributeError(of_tensor(name))

    def __matmul__(self, other: Any) -> NoReturn:
        raise TypeError("a @ b of traced values: use cnnmath.functional.linear(a, w), which is a @ w.T")

    __rmatmul__ = __matmul__
    __lt__ = __le__ = __gt__ = __ge__ = _compare

    def reshape(self, *shape: Any) -> Tensor:
        sizes = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        return Tensor.operators["reshape"](self, sizes)  # type: ignore[no-any-return]

    view = reshape  # PyTorch's name

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        return Tensor.operators["flatten"](self, start_dim, end_dim)  # type: ignore[no-any-return]

    def mean(self, dim: Any = None, keepdim: bool = False, **named: Any) -> Tensor:
        return self._reduced("mean", dim, keepdim, **named)

    def sum(self, dim: Any = None, keepdim: bool = False, **named: Any) -> Tensor:
        return self._reduced("sum", dim, keepdim, **named)

    def _reduced(
        self,
        op: str,
        dim: Any,
        keepdim: bool,
        *,
        axis: Any = None,
        keepdims: bool = False,
        dtype: Any = None,
        out: Any = None,
    ) -> Tensor:
        """With NumPy's names too: np.sum(t, axis=1) calls t.sum(axis=1, dtype=None, out=None)."""
        if out is not None:
            raise TypeError(f"{op}: a traced value has no array yet that could go to out")
        if dim is not None and axis is not None:
            raise TypeError(f"{op}: expected dim or axis, which are the same, not both")
        dims = axis if dim is None else dim
        return Tensor.operators[op](self, dims, keepdim or keepdims, dtype=dtype)  # type: ignore[no-any-return]


class Node:
    """An op applied to tensors."""

    __slots__ = ("op", "inputs", "attrs", "cells", "outputs", "number")

    def __init__(
        self, op: Op, inputs: tuple[Tensor | None, ...], attrs: dict[str, Any], cells: dict[str, Cell]
    ) -> None:
        self.op = op
        self.inputs = inputs
        self.attrs = attrs
        self.cells = cells
        self.outputs: tuple[Tensor, ...] = ()
        self.number = -1  # of a random op: which of the graph's random ops it is

    @property
    def output(self) -> Tensor:
        return self.outputs[0]

    def input(self, place: int) -> Tensor | None:
        """The input there, None where there are fewer."""
        return self.inputs[place] if place < len(self.inputs) else None

    def set_input(self, place: int, t: Tensor | None) -> None:
        inputs = [*self.inputs, *(place + 1 - len(self.inputs)) * [None]]
        inputs[place] = t
        self.inputs = tuple(inputs)

    def __repr__(self) -> str:
        outs = ", ".join(map(repr, self.outputs))
        args = [("-" if t is None else t.name) for t in self.inputs]
        args += [f"{k}={v}" for k, v in self.attrs.items() if not isinstance(v, np.ndarray)]
        return f"{outs or '()'} = {self.op.name}({', '.join(args)})"


class Graph:
    """Nodes in program order, and what they read and give."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.variables: dict[Variable, Tensor] = {}
        self.constants: dict[Tensor, np.ndarray] = {}
        self.checks: list[tuple[Tensor, Callable[[np.ndarray], None]]] = []
        self.dependencies: dict[Any, Any] = {}
        self.after_run: list[Callable[[], None]] = []  # called when a run has succeeded: step counts move on
        self.random_ops = 0
        self.differentiated = False
        self._names: dict[str, int] = {}

    def _name(self, stem: str) -> str:
        n = self._names.get(stem, 0)
        self._names[stem] = n + 1
        return f"{stem}{n}" if n else stem

    def input(self, spec: Spec, name: str = "x") -> Tensor:
        t = Tensor(self, spec, None, len(self.inputs), self._name(name))
        self.inputs.append(t)
        return t

    def variable(self, v: Variable) -> Tensor:
        """The tensor of a variable; the same one at each use, so that its gradients add up."""
        if v not in self.variables:
            spec = Spec(v.shape, v.dtype, v.order)
            self.variables[v] = Tensor(self, spec, None, len(self.variables), self._name(v.name or "w"))
        return self.variables[v]

    def constant(self, value: Any, dtype: Any = None) -> Tensor:
        array = np.array(value, dtype=dtype)
        t = Tensor(self, Spec(array.shape, array.dtype), None, len(self.constants), self._name("c"))
        self.constants[t] = physical(array, t.order)
        return t

    def check(self, tensor: Tensor, test: Callable[[np.ndarray], None]) -> None:
        """Runs `test` on the array bound to an input before each run; it raises where the values are wrong."""
        if tensor.node is None and tensor in self.inputs:
            self.checks.append((tensor, test))

    def depend(self, thing: Any) -> None:
        """Notes that the trace read `thing`: a plan of this graph holds while `thing.plan_key()` stays as it is now."""
        self.dependencies.setdefault(thing, thing.plan_key())

    def append(
        self, op: Op, inputs: tuple[Tensor | None, ...], attrs: dict[str, Any], cells: dict[str, Cell]
    ) -> Node:
        specs = op.infer(*inputs, **attrs)
        if isinstance(specs, Spec):
            specs = (specs,)
        node = Node(op, inputs, attrs, cells)
        if op.random:
            node.number = self.random_ops
            self.random_ops += 1
            node.cells = {**cells, "key": Cell(random_key)}
        node.outputs = tuple(Tensor(self, s, node, i, self._name(op.name)) for i, s in enumerate(specs))
        for t in node.outputs:
            if t.nbytes > LARGEST:
                raise ValueError(
                    f"{op.name}: the result would have shape {t.shape}, more bytes than a process can address"
                )
        self.nodes.append(node)
        return node

    def extend(self, node: Node, spec: Spec) -> Tensor:
        """One more output of a node."""
        t = Tensor(self, spec, node, len(node.outputs), self._name(node.op.name))
        node.outputs = (*node.outputs, t)
        return t

    def __repr__(self) -> str:
        lines = ["graph(" + ", ".join(map(repr, self.inputs)) + ")"]
        lines += [f"  {t!r} = variable" for t in self.variables.values()]
        lines += [f"  {t!r} = constant" for t in self.constants]
        lines += [f"  {node!r}" for node in self.nodes]
        lines.append("  return " + ", ".join(t.name for t in self.outputs))
        return "\n".join(lines)

    @property
    def flops(self) -> int:
        """Floating point operations of one run."""
        return sum(node.op.flops(node) for node in self.nodes)


class _Context(threading.local):
    def __init__(self) -> None:
        self.graphs: list[Graph] = []
        self.key: tuple[int, int] | None = None


_context = _Context()


def current_graph() -> Graph | None:
    """The graph being traced by this thread, if any."""
    return _context.graphs[-1] if _context.graphs else None


@contextmanager
def tracing(graph: Graph) -> Iterator[Graph]:
    _context.graphs.append(graph)
    try:
        yield graph
    finally:
        _context.graphs.pop()


def random_key() -> tuple[int, int]:
    """Seed and step counter of the run in progress; set by the one who runs a plan (see planner.random)."""
    if _context.key is None:
        raise RuntimeError("no random key outside a run")
    return _context.key


@contextmanager
def keyed(key: tuple[int, int]) -> Iterator[None]:
    """The runs inside draw their random numbers with this (seed, step counter)."""
    before, _context.key = _context.key, key
    try:
        yield
    finally:
        _context.key = before


TensorLike = Tensor | Variable | np.ndarray | float


def as_tensor(value: Any, like: Tensor | None = None) -> Tensor:
    """`value` in the graph being traced: a Tensor as it is, a Variable as such, anything else as a constant.

    A Python number takes the dtype of `like`.
    """
    if isinstance(value, Tensor):
        return value
    graph = current_graph()
    if graph is None:
        raise RuntimeError("no graph is being traced")
    if isinstance(value, Variable):
        return graph.variable(value)
    if like is not None and isinstance(value, (bool, int, float)):
        return graph.constant(value, like.dtype)
    return graph.constant(value)


def apply(op: Op, *inputs: Any, cells: dict[str, CellLike] | None = None, **attrs: Any) -> Any:
    """Adds `op` to the graph being traced; gives its output tensor, or a tuple where it has several."""
    graph = current_graph()
    if graph is None:
        raise RuntimeError(f"{op.name}: no graph is being traced")
    tensors = tuple(None if t is None else as_tensor(t) for t in inputs)
    cell_map = {name: Cell.of(value) for name, value in (cells or {}).items()}
    node = graph.append(op, tensors, attrs, cell_map)
    return node.outputs[0] if len(node.outputs) == 1 else node.outputs
