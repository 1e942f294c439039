"""What all optimizers share: parameter groups, state, and the update as nodes of a graph.

An optimizer does not compute. It adds its update to a graph, one fused node for each group of parameters, and the
numbers that may change from step to step (lr, momentum, the step count) are cells, read at each run. The same nodes
serve `Optimizer.step(grads)`, a graph of nothing else, and the training step of a Trainer, where they end the graph
that computes the gradients: so both give the same bits.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from .._hints import STEP, told
from ..graph.ir import Graph, Spec, Tensor, tracing
from ..graph.variable import Variable
from ..planner.eager import Entry, PlanCache
from ..planner.plan import Plan

_HINTS = {
    **dict.fromkeys(("zero_grad", "minimize", "apply_gradients"), STEP),
    **dict.fromkeys(
        ("lr", "learning_rate"), "it is an option of each group: optimizer.param_groups[0]['lr']"
    ),
}


class Clock:
    """The number of updates done. Parameters that are always updated together share one."""

    __slots__ = ("count",)

    def __init__(self, count: int = 0) -> None:
        self.count = count

    def tick(self) -> None:
        self.count += 1


class _State:
    """Of one parameter: its clock, and arrays of its shape by name."""

    __slots__ = ("clock", "arrays")

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.arrays: dict[str, Variable] = {}


class Optimizer:
    """Base of the optimizers.

    Args:
        params: what to optimize: a model, its `parameters()` or `named_parameters()`, or a list of dicts, each with
            "params" and options of its own, which override the optimizer's for this group.
        defaults: the options of groups that do not give them.

    Attributes:
        param_groups: a list of dicts with "params" and the options; change an option (`group["lr"] = 0.01`) and the
            next step has it, without a new plan.
        defaults: see above.

    A subclass gives `_check(group)`, `_flags(group)` and `_emit(group, clock, params, grads)`.
    """

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self._state: dict[Variable, _State] = {}
        self._names: dict[Variable, str] = {}
        self._version = 0  # moves when clocks are dealt anew: plans hold cells that read them
        self._plans = PlanCache(most=16)
        if not hasattr(params, "named_parameters"):
            if isinstance(params, (Variable, dict, np.ndarray)) or not isinstance(params, Iterable):
                raise TypeError(
                    f"{type(self).__name__}: expected a model, its parameters or a list of groups, "
                    f"got {type(params).__name__}"
                )
            params = list(params)
            if params and isinstance(params[0], dict):
                for group in params:
                    self.add_param_group(group)
                return
        self.add_param_group({"params": params})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group: a dict with "params" (as for the constructor) and options."""
        if not isinstance(param_group, dict) or "params" not in param_group:
            raise TypeError(f"{type(self).__name__}: expected a dict with 'params', got {param_group!r}")
        group = {**self.defaults, **param_group}
        params, names = _parameters(type(self).__name__, param_group["params"])
        group["params"] = params
        if len(set(params)) != len(params) or any(p in self._state for p in params):
            raise ValueError(f"{type(self).__name__}: a parameter appears more than once in the groups")
        self._check(group)
        self._names.update(names)
        self.param_groups.append(group)
        clock = Clock()
        for p in params:
            self._state[p] = _State(clock)
        self._version += 1

    if not TYPE_CHECKING:

        def __getattr__(self, name):
            # Called where ordinary lookup found nothing.
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}{told(_HINTS, name)}"
            )

    # Of each optimizer.

    def _check(self, group: dict[str, Any]) -> None:
        """Raises ValueError for options out of range."""

    def _flags(self, group: dict[str, Any]) -> Hashable:
        """The options that a plan depends on; all others are cells."""
        raise NotImplementedError

    def _emit(self, group: dict[str, Any], clock: Clock, params: list[Variable], grads: list[Tensor]) -> bool:
        """Adds the node that updates `params` to the graph being traced; gives whether the clock goes on."""
        raise NotImplementedError

    def _arrays(self, name: str, params: Iterable[Variable]) -> list[Variable]:
        """The state `name` of each parameter: zeros at first, in the order and dtype of the parameter."""
        found = []
        for p in params:
            arrays = self._state[p].arrays
            if name not in arrays:
                zeros = np.broadcast_to(np.zeros((), p.dtype), p.shape)  # takes no memory
                arrays[name] = Variable(zeros, p.order, f"{p.name}.{name}")
            arrays[name].cast(p.dtype)  # the model may have been cast since
            found.append(arrays[name])
        return found

    # The update.

    def plan_key(self) -> Hashable:
        """What a plan with this optimizer's update depends on."""
        return (self._version, tuple(map(self._flags, self.param_groups)))

    def update(self, graph: Graph, grads: Mapping[Any, Tensor]) -> None:
        """Adds the update of each parameter that has a gradient to `graph`.

        Args:
            graph: a graph that computes the gradients, or has them as inputs.
            grads: the gradient of each parameter; those without one are left as they are, and parameters that the
                optimizer does not have are ignored.
        """
        with tracing(graph):
            for group in self.param_groups:
                cohorts: dict[Clock, list[Variable]] = {}
                for p in group["params"]:
                    if p in grads:
                        cohorts.setdefault(self._state[p].clock, []).append(p)
                for shared, params in cohorts.items():
                    clock = self._own_clock(shared, params)
                    if self._emit(group, clock, params, [grads[p] for p in params]):
                        graph.after_run.append(clock.tick)
        graph.depend(self)

    def _own_clock(self, clock: Clock, params: list[Variable]) -> Clock:
        """A clock of these parameters alone: some of those that shared it are not updated with them any more."""
        if len(params) == sum(state.clock is clock for state in self._state.values()):
            return clock
        own = Clock(clock.count)
        for p in params:
            self._state[p].clock = own
        self._version += 1
        return own

    def step(self, grads: Mapping[Any, Any]) -> None:
        """Updates the parameters.

        Args:
            grads: gradients by name of the parameter, as `cnnmath.value_and_grad(fn, model)` gives them (those know
                their parameters), or a dict that you made. Its names are then looked up among the names that the
                optimizer was given (`named_parameters()`), else among those that the parameters had in the last
                walk over a model (`model.parameters()`, `value_and_grad(fn, model)`). Keys may be
                Parameters too. A parameter without a gradient is left as it is; gradients of parameters that the
                optimizer does not have are ignored.
        """
        found = self._resolve(grads).items()
        arrays = {p: np.asarray(g) if isinstance(g, np.generic) else g for p, g in found if g is not None}
        for p, g in arrays.items():
            if np.shape(g) != p.shape:
                raise ValueError(
                    f"step: expected a gradient of shape {p.shape} for {p.name}, got {np.shape(g)}"
                )
            if not isinstance(g, np.ndarray) or g.dtype != p.dtype:
                got = g.dtype if isinstance(g, np.ndarray) else type(g).__name__
                raise TypeError(
                    f"step: expected an array of {p.dtype} for the gradient of {p.name}, got {got}"
                )
        if not arrays:
            return

        def make() -> Entry:
            graph = Graph()
            self.update(graph, {p: graph.input(Spec(p.shape, p.dtype, p.order), "grad") for p in arrays})
            return Entry(Plan(graph), lambda _: None, tuple(graph.dependencies.items()))

        key = tuple((id(p), p.dtype.char) for p in arrays)
        self._plans.get(key, make).plan(*arrays.values())

    def _resolve(self, grads: Mapping[Any, Any]) -> dict[Variable, Any]:
        """Gradients by parameter, those of the optimizer only, in its order."""
        if not isinstance(grads, Mapping):
            raise TypeError(
                f"step: expected a dict of gradients by parameter name, got {type(grads).__name__}"
            )
        known: Mapping[str, Variable] | None = getattr(grads, "parameters", None)
        if known is None:
            given = {name: p for p, name in self._names.items()}
            known = dict(given)
            for p in self._state:
                if p.name in grads and known.setdefault(p.name, p) is not p and p.name not in given:
                    raise ValueError(
                        f"step: two parameters are named {p.name!r}; "
                        f"construct {type(self).__name__} with named_parameters() of distinct names"
                    )
        by_key = {key if isinstance(key, Variable) else known.get(key): g for key, g in grads.items()}
        found = {p: by_key[p] for p in self._state if p in by_key}
        if grads and not found:
            raise KeyError(
                f"step: none of the gradients ({', '.join(map(str, list(grads)[:3]))}, ...) is of a parameter "
                f"of this optimizer ({', '.join([p.name for p in self._state][:3])}, ...); "
                "construct it with named_parameters() of the model"
            )
        return found

    # State.

    def state_dict(self) -> dict[str, Any]:
        """State and options, parameters numbered in the order of the groups, as PyTorch does it.

        `{"state": {number: {"step": int, name: array, ...}}, "param_groups": [{"params": [numbers], "lr": ..., ...}]}`;
        the arrays are contiguous copies.
        """
        numbers = {p: i for i, p in enumerate(self._state)}
        state = {
            numbers[p]: {"step": s.clock.count, **{name: v.numpy() for name, v in s.arrays.items()}}
            for p, s in self._state.items()
            if s.clock.count or s.arrays
        }
        groups = [{**group, "params": [numbers[p] for p in group["params"]]} for group in self.param_groups]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over what `state_dict()` gave, of an optimizer with the same groups."""
        groups, state = state_dict["param_groups"], state_dict["state"]
        sizes = [len(group["params"]) for group in groups]
        own = [len(group["params"]) for group in self.param_groups]
        if sizes != own:
            raise ValueError(f"load_state_dict: expected groups of {own} parameters, got {sizes}")
        params = [p for group in self.param_groups for p in group["params"]]
        numbers = [number for group in groups for number in group["params"]]
        loaded: dict[Variable, _State] = {}
        clocks: dict[tuple[int, int], Clock] = {}
        place = {p: i for i, group in enumerate(self.param_groups) for p in group["params"]}
        for p, number in zip(params, numbers):
            entries = dict(state.get(number, state.get(str(number), {})))
            # PyTorch's SGD counts no steps; a velocity tells that there was one.
            count = int(entries.pop("step", any(v is not None for v in entries.values())))
            loaded[p] = _State(clocks.setdefault((place[p], count), Clock(count)))
            for name, value in entries.items():
                if value is None:
                    continue
                array = np.asarray(value)
                if array.shape != p.shape:
                    raise ValueError(
                        f"load_state_dict: expected {name} of shape {p.shape}, got {array.shape}"
                    )
                loaded[p].arrays[name] = Variable(array.astype(p.dtype), p.order, f"{p.name}.{name}")
        merged = [
            {**mine, **given, "params": mine["params"]} for mine, given in zip(self.param_groups, groups)
        ]
        for group in merged:
            self._check(group)
        for mine, group in zip(self.param_groups, merged):
            mine.update(group)
        # In the order of before: it numbers the parameters.
        self._state = {p: loaded[p] for p in self._state}
        self._version += 1

    def __repr__(self) -> str:
        lines = []
        for i, group in enumerate(self.param_groups):
            options = ", ".join(f"{key}={value}" for key, value in group.items() if key != "params")
            lines.append(f"  group {i}: {len(group['params'])} parameters, {options}")
        return "\n".join([f"{type(self).__name__}(", *lines, ")"])


def _parameters(owner: str, given: Any) -> tuple[list[Variable], dict[Variable, str]]:
    """Parameters, and the names of those that came with one."""
    if hasattr(given, "named_parameters"):
        given = given.parameters()
    elif isinstance(given, Variable):
        given = [given]
    params: list[Variable] = []
    names: dict[Variable, str] = {}
    for entry in given:
        p = entry
        if isinstance(entry, tuple) and len(entry) == 2:
            name, p = entry
            names[p] = str(name)
        if not isinstance(p, Variable):
            raise TypeError(f"{owner}: expected Parameters, got {type(p).__name__}")
        if p.dtype.kind != "f":
            raise TypeError(f"{owner}: expected parameters of float32 or float64, got {p.dtype}")
        params.append(p)
    if not params:
        raise ValueError(f"{owner}: expected at least one parameter")
    return params, names


def at_least_zero(owner: str, group: dict[str, Any], *keys: str) -> None:
    """Raises TypeError where one of these options is no number, ValueError where it is negative or NaN."""
    for key in keys:
        if not isinstance(group[key], (Real, np.ndarray)):
            raise TypeError(f"{owner}: expected {key} to be a number, got {group[key]!r}")
        if not group[key] >= 0:
            raise ValueError(f"{owner}: expected {key} >= 0, got {group[key]}")
