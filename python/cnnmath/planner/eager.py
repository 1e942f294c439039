"""Eager calls: `F.relu(array)` traces the function once for these shapes, plans it, and runs the plan.

Plans are kept by shapes, dtypes, layouts and all other arguments, the least recently used given up first.
"""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..graph.ir import Graph, Spec, Tensor, as_tensor, current_graph, tracing
from ..graph.variable import Variable, default_order
from .plan import Plan

F = TypeVar("F", bound=Callable[..., Any])


class Entry(NamedTuple):
    """A plan, the form of the function's result, and what the trace depended on (see Graph.depend)."""

    plan: Plan
    form: Callable[[list[np.ndarray]], Any]
    depends: tuple[tuple[Any, Hashable], ...]

    def valid(self) -> bool:
        return not self.depends or all(thing.plan_key() == key for thing, key in self.depends)


class PlanCache:
    """Plans by key, bounded by their number and by the bytes that they hold.

    A key may have several plans: one for each state of the modules that the trace visited (training or evaluation,
    frozen or not). A plan is found again only while they are as they were.
    """

    def __init__(self, most: int = 512, most_bytes: int = 256 << 20) -> None:
        self.most = most
        self.most_bytes = most_bytes
        self._entries: OrderedDict[Hashable, list[Entry]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def find(self, key: Hashable) -> Entry | None:
        """The plan for this key, if there is one that holds. Raises TypeError where the key has no hash."""
        with self._lock:
            for entry in self._entries.get(key, ()):
                if entry.valid():
                    self._entries.move_to_end(key)
                    return entry
        return None

    def get(self, key: Hashable, make: Callable[[], Entry]) -> Entry:
        found = self.find(key)
        if found is not None:
            return found
        made = make()
        with self._lock:
            states = self._entries.setdefault(key, [])
            states.append(made)
            self._bytes += made.plan.held_bytes
            if len(states) > 4:
                self._bytes -= states.pop(0).plan.held_bytes
            while len(self._entries) > 1 and (
                len(self._entries) > self.most or self._bytes > self.most_bytes
            ):
                _, dropped = self._entries.popitem(last=False)
                self._bytes -= sum(entry.plan.held_bytes for entry in dropped)
        return made

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    def __len__(self) -> int:
        return sum(map(len, self._entries.values()))

    def __reduce__(self) -> tuple[Any, ...]:
        return PlanCache, (self.most, self.most_bytes)  # a copy of its owner begins with no plans


plans = PlanCache()

_TRACEABLE = {np.dtype(t) for t in (np.float32, np.float64, np.int64, np.int32, np.uint8, np.bool_)}


def layout_of(array: np.ndarray) -> tuple[int, ...]:
    """The order in which an array is bound: as it lies if that is row-major, else the default of its rank.

    A row-major rank-4 array is bound as it is and brought to channels-last by the program.
    """
    rank = array.ndim
    return (0, 1, 2, 3) if rank == 4 and array.flags.c_contiguous else default_order(rank)


class WrongArray(TypeError):
    """An array of a dtype that no op takes."""


def describe(value: Any) -> Hashable:
    """What a plan depends on of an argument. Raises TypeError where it cannot be told."""
    if isinstance(value, np.ndarray):
        dtype = value.dtype
        if dtype not in _TRACEABLE:
            pixels = " / 255 for pixels of 0 to 1" if dtype.kind in "iu" else ""
            raise WrongArray(
                f"expected an array of float32 or float64 (or int64 for indices), got dtype {value.dtype}; "
                f"cast it: .astype(np.float32){pixels}"
            )
        return ("array", value.shape, dtype.char, layout_of(value))
    if isinstance(value, Variable):
        return ("variable", id(value), value.shape, value.dtype.char)
    if isinstance(value, (list, tuple)):
        return (type(value).__name__, *(describe(v) for v in value))
    if isinstance(value, float) and value == 0:
        return ("float", str(value))  # 0.0 and -0.0 are equal, but differ
    return (type(value).__name__, value)


class Arguments:
    """The arguments of a call: arrays become inputs of the graph, all else stays as it is."""

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []

    def collect(self, value: Any) -> Any:
        """Notes the arrays in `value`; lists of them too. What gives an array (NumPy's floating scalars, tensors of
        other libraries) is one: as a constant of the plan it would go stale. NumPy's integers are sizes and dims."""
        if type(value) is np.ndarray:  # first, as most are
            self.arrays.append(value)
            return value
        if isinstance(value, np.integer):
            return int(value)
        if isinstance(value, (list, tuple)):
            parts = map(self.collect, value)
            return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
        if not isinstance(value, (np.ndarray, Variable, Tensor, type)) and hasattr(value, "__array__"):
            value = np.asarray(value)
        if isinstance(value, np.ndarray):
            self.arrays.append(value)
        return value


def with_symbols(graph: Graph, value: Any) -> Any:
    """`value` with each array replaced by an input of the graph, in the default order of its rank."""
    if isinstance(value, np.ndarray):
        return default_layout(graph.input(Spec(value.shape, value.dtype, layout_of(value))))
    if isinstance(value, (list, tuple)):
        parts = (with_symbols(graph, v) for v in value)
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def default_layout(t: Tensor) -> Tensor:
    """`t` in the default order of its rank."""
    order = default_order(t.ndim)
    return t if t.has_order(order) else Tensor.operators["relayout"](t, order)


def flatten_outputs(result: Any) -> tuple[list[Tensor], Callable[[list[np.ndarray]], Any]]:
    """The tensors of a traced result, and how to give arrays the result's form again."""
    if isinstance(result, (tuple, list)):
        parts = [flatten_outputs(r) for r in result]
        tensors = [t for ts, _ in parts for t in ts]

        def rebuild(arrays: list[np.ndarray]) -> Any:
            out, at = [], 0
            for ts, form in parts:
                out.append(form(arrays[at : at + len(ts)]))
                at += len(ts)
            return type(result)(out)

        return tensors, rebuild
    if isinstance(result, dict):
        tensors, rebuild_values = flatten_outputs(tuple(result.values()))
        return tensors, lambda arrays: dict(zip(result, rebuild_values(arrays)))
    if result is None:
        return [], lambda arrays: None
    return [as_tensor(result)], lambda arrays: arrays[0]


def trace(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Graph, Any]:
    """Calls `fn` once with symbols in the place of arrays; gives the graph and the form of its result."""
    graph = Graph()
    with tracing(graph):
        symbols = tuple(with_symbols(graph, a) for a in args)
        named = {k: with_symbols(graph, v) for k, v in kwargs.items()}
        graph.outputs, form = flatten_outputs(fn(*symbols, **named))
    return graph, form


def call(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    key: Hashable = None,
    cache: PlanCache = plans,
) -> Any:
    """Runs `fn` on arrays through a cached plan."""
    entry, arrays = find(fn, args, kwargs, key, cache)
    return entry.form(entry.plan(*arrays))


def find(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], key: Hashable, cache: PlanCache
) -> tuple[Entry, list[np.ndarray]]:
    """The plan of `fn` for these arguments, and the arrays to run it on."""
    arguments = Arguments()
    # Lists: this runs at each call, and generators are slower.
    args = tuple([arguments.collect(a) for a in args])
    kwargs = {k: arguments.collect(v) for k, v in kwargs.items()} if kwargs else kwargs
    described = tuple([(k, describe(v)) for k, v in kwargs.items()]) if kwargs else ()
    whole = (key, tuple([describe(a) for a in args]), described)

    def make() -> Entry:
        graph, form = trace(fn, args, kwargs)
        depends = tuple(graph.dependencies.items())
        return Entry(Plan(graph), form, depends)

    try:
        found = cache.find(whole)
    except TypeError:  # what has no hash is planned anew
        return make(), arguments.arrays
    return found if found is not None else cache.get(whole, make), arguments.arrays


def function(body: F) -> F:
    """Makes a function on tensors work on arrays too."""

    @functools.wraps(body)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if current_graph() is not None:
            return body(*args, **kwargs)
        try:
            return call(body, args, kwargs, key=body)
        except WrongArray as error:
            raise TypeError(f"{body.__name__}: {error}") from None

    return wrapper  # type: ignore[return-value]
