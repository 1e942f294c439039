"""Module: layers and models, with the behaviour of torch.nn.Module where it makes sense without tensors."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from .._hints import OF_MODELS, told
from ..graph.ir import Tensor, current_graph
from ..graph.variable import Variable
from ..planner import eager
from ..planner.plan import Plan
from .parameter import Buffer, Parameter, epoch
from .state import LoadedKeys, load_into
from .visits import note_place, visits

M = TypeVar("M", bound="Module")

_PLAIN = (bool, int, float, str, tuple, type(None))


_UNSHARED = ("_plans", "_key")  # what a copy of a module does not take over


def _unshared() -> dict[str, Any]:
    """No plans yet, and no plan_key with the epoch that it was made in."""
    return {"_plans": eager.PlanCache(most=64), "_key": (-1, None)}


class Module:
    """The base of layers and models.

    A subclass makes its sub-modules and parameters in `__init__` (after `super().__init__()`) and computes with them in
    `forward`. Calling the module takes arrays and gives arrays:

    >>> import numpy as np, cnnmath
    >>> from cnnmath import nn
    >>> class Twice(nn.Module):
    ...     def forward(self, x):
    ...         return x + x
    >>> Twice()(np.array([1.0, 2.0], np.float32)).tolist()
    [2.0, 4.0]

    `forward` is run with symbols in the place of arrays, once for each set of shapes and dtypes; what it does is then
    planned, and the plan is kept. Ordinary Python (branches on shapes, loops over layers) is free to run there; a
    branch on values is an error. A plan is made anew when an attribute of a module that it visited was assigned
    to. Changes inside a plain list or dict go unseen: keep layers in a `ModuleList`, and assign other attributes anew.

    Attributes:
        training: True in training mode, see `train` and `eval`.
    """

    # Attributes that are read at each run: assigning a number to them needs no new plan.
    _run_time: tuple[str, ...] = ()
    # Entries that a state to load may lack (written by versions that did not have them yet).
    _optional_state: tuple[str, ...] = ()

    training: bool

    def __init__(self) -> None:
        self.__dict__.update(
            training=True,
            _parameters={},
            _buffers={},
            _modules={},
            _transient=set(),  # names of the buffers that state_dict leaves out
            _frozen=False,
            _edits=0,
            **_unshared(),
        )

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} needs a method forward(self, ...)")

    # Calls and plans.

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        graph = current_graph()
        if graph is None:
            entry, arrays = self._find(args, kwargs)
            return entry.form(entry.plan(*arrays))
        graph.depend(self)
        if not visits.stack:
            self._check_inputs((*args, *kwargs.values()))
        visits.stack.append(self)
        try:
            if visits.observer is not None:
                return visits.observer(self, lambda: self.forward(*args, **kwargs))
            return self.forward(*args, **kwargs)
        except Exception as error:
            note_place(error)
            raise
        finally:
            visits.stack.pop()

    def plan(self, *args: Any, **kwargs: Any) -> Plan:
        """The plan that a call with these arrays runs; its `memory` (bytes) and `graph` tell what the call does."""
        entry, _ = self._find(args, kwargs)
        return entry.plan

    def _find(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[eager.Entry, list[np.ndarray]]:
        try:
            return eager.find(self.__call__, args, kwargs, None, self._plans)
        except eager.WrongArray as error:
            raise TypeError(f"{type(self).__name__}: {error}") from None

    def plan_key(self) -> Hashable:
        """What a plan that visited this module depends on: equal keys, same plan."""
        at, key = self._key
        if at != epoch.value:
            at = epoch.value  # read first: what changes meanwhile makes this key old
            variables = [v for v in (*self._parameters.values(), *self._buffers.values()) if v is not None]
            state = tuple([(v.dtype.char, getattr(v, "trainable", None)) for v in variables])
            key = self._edits, self.training, self._frozen, state
            self.__dict__["_key"] = at, key
        return key  # type: ignore[no-any-return]

    def _check_inputs(self, values: tuple[Any, ...]) -> None:
        """A model of one dtype takes inputs of this dtype; nothing is cast silently."""
        wanted = {p.dtype for p in self.parameters()}
        if len(wanted) != 1:
            return
        (dtype,) = wanted
        for t in values:
            if isinstance(t, Tensor) and t.dtype != dtype and (t.dtype.kind == "f" or t.dtype == np.uint8):
                pixels = " / 255 for pixels of 0 to 1" if t.dtype == np.uint8 else ""
                raise TypeError(
                    f"{type(self).__name__}: expected an input of {dtype}, the dtype of its parameters, got {t.dtype}; "
                    f"cast it: x.astype(np.{dtype}){pixels}"
                )

    # Attributes.

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "training":  # part of plan_key by its value
            if self.__dict__.get(name) is not bool(value):
                self.__dict__[name] = bool(value)
                epoch.move()
            return
        if isinstance(value, Tensor):
            raise TypeError(
                f"{type(self).__name__}.{name}: a traced value has no meaning after the trace; return it from forward"
            )
        registered = "_parameters" in self.__dict__
        if isinstance(value, (Variable, Module)) and not registered:
            raise AttributeError(
                f"{type(self).__name__}.{name} is assigned before super().__init__() was called"
            )
        if isinstance(value, Parameter):
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            self.add_module(name, value)
        elif isinstance(value, Buffer):
            self.register_buffer(name, value, persistent=name not in self._transient)
        elif registered and name in self._parameters:
            if value is not None:
                raise TypeError(
                    f"{type(self).__name__}.{name} is a Parameter: expected a Parameter or None, got "
                    f"{type(value).__name__}; to change its values use .{name}.assign(values)"
                )
            self._parameters[name] = None
        elif registered and name in self._modules:
            if value is not None:
                raise TypeError(
                    f"{type(self).__name__}.{name} is a Module: expected a Module or None, got {type(value).__name__}"
                )
            self._modules[name] = None
        elif registered and name in self._buffers:
            self._buffers[name] = None if value is None else Buffer(value, name=name)
        else:
            before = self.__dict__.get(name, self)
            self.__dict__[name] = value
            if (
                name in self._run_time
                and isinstance(before, builtins.float)
                and isinstance(value, builtins.float)
            ):
                return
            if type(before) is type(value) and isinstance(value, _PLAIN) and before == value:
                return
        self._edited()

    def __getattr__(self, name: str) -> Any:
        # Called where ordinary lookup found nothing: registered things lie in dicts of their own.
        own = self.__dict__
        for kind in ("_parameters", "_buffers", "_modules"):
            if kind in own and name in own[kind]:
                value = own[kind][name]
                self._noticed()
                if isinstance(value, Module):
                    value._noticed()
                return value
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}{told(OF_MODELS, name)}"
        )

    def __delattr__(self, name: str) -> None:
        for kind in (self._parameters, self._buffers, self._modules):
            if name in kind:
                del kind[name]
                self._transient.discard(name)
                break
        else:
            object.__delattr__(self, name)
        self._edited()

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self._parameters, *self._buffers, *self._modules})

    def _edited(self) -> None:
        self.__dict__["_edits"] = self.__dict__.get("_edits", 0) + 1
        epoch.move()

    def _noticed(self) -> None:
        """Notes in the graph being traced, if any, that the trace read this module."""
        graph = current_graph()
        if graph is not None:
            graph.depend(self)

    def _new_name(self, kind: str, name: str) -> None:
        """Checks a name and takes it from whatever had it."""
        if "_parameters" not in self.__dict__:
            raise AttributeError(
                f"{type(self).__name__}.{name} is assigned before super().__init__() was called"
            )
        if not isinstance(name, str) or not name or "." in name:
            raise ValueError(f"expected a name without a dot for a {kind}, got {name!r}")
        self.__dict__.pop(name, None)
        for registry in (self._parameters, self._buffers, self._modules):
            if registry is not self.__dict__[kind]:
                registry.pop(name, None)

    def register_parameter(self, name: str, parameter: Parameter | None) -> None:
        """Adds a parameter under `name`; None keeps the name for one that is absent."""
        if parameter is not None and not isinstance(parameter, Parameter):
            raise TypeError(
                f"register_parameter: expected a Parameter or None, got {type(parameter).__name__}"
            )
        self._new_name("_parameters", name)
        if parameter is not None and not parameter.name:
            parameter.name = name
        self._parameters[name] = parameter
        self._edited()

    def register_buffer(self, name: str, value: Any, persistent: bool = True) -> None:
        """Adds a buffer under `name`: an array of the module's state that is not trained.

        Args:
            name: the attribute that gives the Buffer.
            value: an array (copied) or a Buffer; None keeps the name for one that is absent.
            persistent: whether `state_dict` contains it.
        """
        self._new_name("_buffers", name)
        buffer = value if value is None or isinstance(value, Buffer) else Buffer(value)
        if buffer is not None and not buffer.name:
            buffer.name = name
        self._buffers[name] = buffer
        (self._transient.discard if persistent else self._transient.add)(name)
        self._edited()

    def add_module(self, name: str, module: Module | None) -> None:
        """Adds a sub-module under `name`."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"add_module: expected a Module or None, got {type(module).__name__}")
        self._new_name("_modules", name)
        self._modules[name] = module
        self._edited()

    register_module = add_module

    # Walks.

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """(name, module) of this module and all below it, each module once."""
        yield from self._walk(prefix, set() if remove_duplicate else None)

    def _walk(self, prefix: str, seen: set[Module] | None) -> Iterator[tuple[str, Module]]:
        if seen is not None:
            if self in seen:
                return
            seen.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module._walk(f"{prefix}.{name}" if prefix else name, seen)

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of the direct sub-modules, each once."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        """The direct sub-modules, each once."""
        return (module for _, module in self.named_children())

    def _named(
        self, kind: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen: set[Any] = set()
        modules = self.named_modules(prefix, remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            for name, value in getattr(module, kind).items():
                if value is None or (remove_duplicate and value in seen):
                    continue
                seen.add(value)
                yield (f"{path}.{name}" if path else name), value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """(name, parameter) of this module and all below it; a shared parameter once, under its first name.

        A parameter remembers its name in the last walk as `p.name`: graphs show it, and an optimizer made from
        `model.parameters()` finds the gradients of `value_and_grad(fn, model)` by it.
        """
        for name, parameter in self._named("_parameters", prefix, recurse, remove_duplicate):
            if remove_duplicate:
                parameter.name = name
            yield name, parameter

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters of this module and all below it, each once."""
        return (p for _, p in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Buffer]]:
        """(name, buffer) of this module and all below it, each once."""
        return self._named("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Buffer]:
        """The buffers of this module and all below it, each once."""
        return (b for _, b in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """The module of that dotted name; "" is this module."""
        module = self
        for part in target.split(".") if target else ():
            found = module._modules.get(part)
            if found is None:
                raise AttributeError(
                    f"{type(self).__name__} has no sub-module {target!r} ({part!r} is not there)"
                )
            module = found
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter of that dotted name."""
        path, _, name = target.rpartition(".")
        found = self.get_submodule(path)._parameters.get(name)
        if found is None:
            raise AttributeError(f"{type(self).__name__} has no parameter {target!r}")
        return found  # type: ignore[no-any-return]

    def apply(self: M, fn: Callable[[Module], Any]) -> M:
        """Calls `fn` on every module below this one, then on this one; gives this module."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    # State.

    def _state(self) -> Iterator[tuple[str, Variable, bool]]:
        """(name, variable, whether a state may lack it) of all in state_dict, shared ones under every name."""
        for path, module in self.named_modules(remove_duplicate=False):
            own = {
                **module._parameters,
                **{k: b for k, b in module._buffers.items() if k not in module._transient},
            }
            for name, variable in own.items():
                if variable is not None:
                    yield (f"{path}.{name}" if path else name), variable, name in module._optional_state

    def state_dict(self, prefix: str = "") -> dict[str, np.ndarray]:
        """Copies of all parameters and persistent buffers by name; names and shapes are those of PyTorch."""
        return {prefix + name: variable.numpy() for name, variable, _ in self._state()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> LoadedKeys:
        """Takes over the values of `state`, as `state_dict` gives them.

        Args:
            state: arrays (or anything that NumPy makes an array of) by name.
            strict: whether the names must be exactly those of this module.

        Returns:
            The missing and the unexpected names; both empty if `strict`.

        Raises ValueError that lists all names that are missing or unexpected and all shapes that differ, TypeError
        where a dtype would lose digits. Nothing is changed then.
        """
        return load_into(f"load_state_dict of {type(self).__name__}", list(self._state()), state, strict)

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in self.__dict__.items() if name not in _UNSHARED}
        for registry in ("_parameters", "_buffers", "_modules", "_transient"):
            state[registry] = state[registry].copy()  # so that a shallow copy has its own
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, **_unshared())

    # Modes.

    def train(self: M, mode: bool = True) -> M:
        """Sets training mode (dropout drops, BatchNorm uses the statistics of the batch) here and below."""
        if not isinstance(mode, bool):
            raise TypeError(f"train: expected a bool, got {type(mode).__name__}")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: M) -> M:
        """Sets evaluation mode here and below."""
        return self.train(False)

    @property
    def frozen(self) -> bool:
        """Whether `freeze` was called last, not `unfreeze`."""
        return bool(self._frozen)

    def freeze(self: M) -> M:
        """Lets training change nothing here and below: neither parameters nor the statistics of BatchNorm.

        BatchNorm uses its running statistics, as in evaluation, even in training mode.
        """
        return self._freeze(True)

    def unfreeze(self: M) -> M:
        """Undoes `freeze` here and below."""
        return self._freeze(False)

    def _freeze(self: M, frozen: bool) -> M:
        for module in self.modules():
            module.__dict__["_frozen"] = frozen
        epoch.move()
        for parameter in self.parameters():
            parameter.trainable = not frozen
        return self

    def double(self: M) -> M:
        """Makes all floating point parameters and buffers float64."""
        return self._cast(np.float64)

    def float(self: M) -> M:
        """Makes all floating point parameters and buffers float32."""
        return self._cast(np.float32)

    def _cast(self: M, dtype: Any) -> M:
        for variable in (*self.parameters(), *self.buffers()):
            if variable.dtype.kind == "f":
                variable.cast(dtype)
        return self

    # Text.

    def extra_repr(self) -> str:
        """The arguments that `repr` shows."""
        return ""

    def _child_lines(self) -> list[tuple[str, str]]:
        return [(f"({name})", repr(module)) for name, module in self._modules.items()]

    def __repr__(self) -> str:
        extra = self.extra_repr()
        children = [f"{key}: {text}".replace("\n", "\n  ") for key, text in self._child_lines()]
        if not children:
            return f"{type(self).__name__}({extra})"
        lines = [*extra.split("\n"), *children] if extra else children
        return f"{type(self).__name__}(\n  " + "\n  ".join(lines) + "\n)"

    def summary(self, input_shape: tuple[int, ...]) -> str:
        """A table of the layers: output shapes, parameters, floating point operations.

        Args:
            input_shape: the shape of the input. (C, H, W) and (features,) stand for a batch of one.
        """
        from .summary import summarize

        return summarize(self, input_shape)
