"""Parameters and buffers: the variables that a Module owns."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from ..graph.variable import Variable


class _Epoch:
    """Moves on with everything that a plan may depend on, anywhere: while it stands, no module has changed."""

    def __init__(self) -> None:
        self.value = 0
        self._count = itertools.count(1)

    def move(self) -> None:
        self.value = next(self._count)


epoch = _Epoch()


def _float32_unless_array(value: Any) -> Any:
    """Python numbers and lists as float32; arrays as they are."""
    if isinstance(value, (np.ndarray, np.generic, Variable)):
        return value
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype.kind == "f" else array


class _Owned(Variable):
    """A variable of a module."""

    def _store(self, array: np.ndarray) -> None:
        super()._store(array)
        epoch.move()


class Parameter(_Owned):
    """An array that is trained.

    Assigned to an attribute of a `Module` it becomes one of the module's parameters. `p.data` is a read-only view;
    `p.assign(a)` and `p[...] = a` change the values.

    Args:
        value: the first values, float32 or float64 (copied); Python numbers become float32.
        trainable: whether training changes it.
        order: physical order of the dims, (2, 3, 1, 0) for the weights of convolutions; None: its rank's default.
    """

    def __init__(
        self, value: Any, trainable: bool = True, order: tuple[int, ...] | None = None, name: str = ""
    ) -> None:
        array = np.asarray(_float32_unless_array(value))
        if array.dtype.name not in ("float32", "float64"):
            raise TypeError(
                f"Parameter: expected float32 or float64, got {array.dtype}; cast it with .astype"
            )
        super().__init__(array, order, name)
        self.trainable = trainable

    @property
    def trainable(self) -> bool:
        """Whether training changes it."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        epoch.move()

    @property
    def requires_grad(self) -> bool:
        """PyTorch's name for `trainable`."""
        return self.trainable

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.trainable = value


class Buffer(_Owned):
    """An array that belongs to a module's state but is not trained: running statistics, class weights."""

    def __init__(self, value: Any, order: tuple[int, ...] | None = None, name: str = "") -> None:
        super().__init__(_float32_unless_array(value), order, name)
