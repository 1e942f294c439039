"""Modules that hold modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from .module import Module

L = TypeVar("L", bound="_Numbered")


class Identity(Module):
    """y = x. Takes any arguments, and ignores them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, x: Any) -> Any:
        return x


class _Numbered(Module):
    """Sub-modules in a row, reached by their positions."""

    def _at(self, index: int) -> str:
        names = list(self._modules)
        if not isinstance(index, int):
            raise TypeError(
                f"{type(self).__name__}: expected an int or a slice as index, got {type(index).__name__}"
            )
        if not -len(names) <= index < len(names):
            raise IndexError(f"{type(self).__name__}: index {index} is out of range for {len(names)} modules")
        return str(names[index])

    def _read(self, module: Any) -> Any:
        self._noticed()
        if isinstance(module, Module):
            module._noticed()
        return module

    def _renumber(self, modules: Iterable[Any]) -> None:
        self.__dict__["_modules"] = {str(i): m for i, m in enumerate(modules)}
        self._edited()

    def __len__(self) -> int:
        self._noticed()
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        self._noticed()
        return (self._read(m) for m in self._modules.values())

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            self._noticed()
            return self._part(list(self._modules.items())[index])
        return self._read(self._modules[self._at(index)])

    def _part(self, items: list[tuple[str, Any]]) -> Any:
        return type(self)(*(m for _, m in items))

    def __setitem__(self, index: int, module: Module) -> None:
        self.add_module(self._at(index), module)

    def __delitem__(self, index: int | slice) -> None:
        modules = list(self._modules.values())
        if not isinstance(index, slice):
            self._at(index)
        del modules[index]
        self._renumber(modules)

    def append(self: L, module: Module) -> L:
        """Adds a module at the end."""
        self.add_module(str(len(self._modules)), module)
        return self

    def extend(self: L, modules: Iterable[Module]) -> L:
        """Adds modules at the end."""
        for module in list(modules):
            self.append(module)
        return self

    def insert(self: L, index: int, module: Module) -> L:
        """Adds a module before position `index`."""
        if not isinstance(module, Module):
            raise TypeError(f"insert: expected a Module, got {type(module).__name__}")
        modules = list(self._modules.values())
        modules.insert(index, module)
        self._renumber(modules)
        return self

    def pop(self, index: int = -1) -> Any:
        """Takes the module at position `index` out and gives it."""
        module = self._modules[self._at(index)]
        del self[index]
        return module


class Sequential(_Numbered):
    """Applies modules one after the other.

    >>> from cnnmath import nn
    >>> nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    Sequential(
      (0): Linear(in_features=4, out_features=3, bias=True)
      (1): ReLU()
    )

    Args:
        modules: the modules, or one mapping from names to modules.
    """

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        named = modules[0] if len(modules) == 1 and isinstance(modules[0], Mapping) else None
        for name, module in named.items() if named is not None else enumerate(modules):
            if not isinstance(module, Module):
                raise TypeError(f"Sequential: expected Modules, got {type(module).__name__}")
            self.add_module(str(name), module)

    def _part(self, items: list[tuple[str, Any]]) -> Any:
        return Sequential(dict(items))

    def forward(self, x: Any) -> Any:
        for module in self._modules.values():
            x = module(x)
        return x


class ModuleList(_Numbered):
    """A list of modules whose parameters are found; `forward` is the user's."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)

    def _part(self, items: list[tuple[str, Any]]) -> Any:
        return ModuleList(m for _, m in items)

    def __iadd__(self, modules: Iterable[Module]) -> ModuleList:
        return self.extend(modules)

    def _child_lines(self) -> list[tuple[str, str]]:
        """Equal neighbours on one line, "(0-2): 3 x ReLU()"."""
        groups: list[tuple[int, int, str]] = []
        for i, module in enumerate(self._modules.values()):
            text = repr(module)
            if groups and groups[-1][2] == text:
                groups[-1] = (groups[-1][0], i, text)
            else:
                groups.append((i, i, text))
        return [
            (f"({a})", text) if a == b else (f"({a}-{b})", f"{b - a + 1} x {text}") for a, b, text in groups
        ]
