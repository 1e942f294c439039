"""Arrays that live across runs: parameters, running statistics, optimizer state; and physical orders.

The order of a tensor is the permutation of its dims from the slowest to the fastest in memory: (0, 2, 3, 1) is
channels-last, the default of rank 4; (2, 3, 1, 0) is [kh][kw][in][out], for the weights of convolutions.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from .. import _core
from .operators import Arithmetic

NHWC = (0, 2, 3, 1)
HWIO = (2, 3, 1, 0)


def default_order(rank: int) -> tuple[int, ...]:
    """Channels-last for rank 4, row-major for all others."""
    return NHWC if rank == 4 else tuple(range(rank))


def same_order(shape: tuple[int, ...], a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether two orders give the same memory: dims of size 1 do not matter."""
    return a == b or [d for d in a if shape[d] != 1] == [d for d in b if shape[d] != 1]


def physical(array: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    """The array's elements as a contiguous array in that order; shares memory where it already is."""
    if array.ndim > 1:
        array = array.transpose(order)
    flags = array.flags
    return array if flags.c_contiguous and flags.aligned else np.array(array, order="C")


@functools.cache
def inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    """The axes that bring a physical array back to its logical order."""
    return tuple(order.index(d) for d in range(len(order)))


def logical(array: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    """The logical view of a physical array."""
    return array.transpose(inverse(order)) if array.ndim > 1 else array


# What NumPy's own operators on (array, variable) stand for.
_UFUNCS = {np.add: "add", np.subtract: "sub", np.multiply: "mul", np.true_divide: "div", np.negative: "neg"}


class Variable(Arithmetic):
    """An array with an aligned buffer of its own and a version that moves with every change.

    Arithmetic with arrays, numbers and other variables gives arrays, and tensors inside a traced function; `p += a`
    changes the values in place.

    Args:
        value: its first value (copied).
        order: physical order of the dims; the default of its rank if None.
        name: how it shows in printed graphs.
    """

    def __init__(self, value: Any, order: tuple[int, ...] | None = None, name: str = "") -> None:
        array = np.asarray(value)
        self.order = default_order(array.ndim) if order is None else order
        self.name = name
        self.version = 0
        self.physical: np.ndarray
        self._store(array)

    def _store(self, array: np.ndarray) -> None:
        self.shape: tuple[int, ...] = array.shape
        self.physical = _core.aligned_zeros([array.shape[d] for d in self.order], array.dtype)
        logical(self.physical, self.order)[...] = array

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.physical.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(self.physical.size)

    @property
    def nbytes(self) -> int:
        return int(self.physical.nbytes)

    @property
    def data(self) -> np.ndarray:
        """A read-only view of the current values; change them with `assign` or `p[...] = a`."""
        view = logical(self.physical, self.order).view()
        view.flags.writeable = False
        return view

    def numpy(self) -> np.ndarray:
        """A contiguous copy of the current values."""
        return np.array(self.data, order="C")

    def assign(self, value: Any) -> None:
        """Takes the values of an array of the same shape and dtype (Python numbers and lists are converted)."""
        array = np.asarray(value)
        if array.shape != self.shape:
            raise ValueError(f"assign: expected shape {self.shape}, got {array.shape}")
        if isinstance(value, (np.ndarray, Variable)) and array.dtype != self.dtype:
            raise TypeError(f"assign: expected dtype {self.dtype}, got {array.dtype}; cast it with .astype")
        self[...] = array

    def __setitem__(self, index: Any, value: Any) -> None:
        logical(self.physical, self.order)[index] = np.asarray(value)
        self.version += 1

    def __getitem__(self, index: Any) -> Any:
        return self.data[index]

    def cast(self, dtype: Any) -> None:
        """Changes the dtype; the values are converted."""
        if np.dtype(dtype) != self.dtype:
            self._store(np.asarray(self.data, dtype=dtype))
            self.version += 1

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.data if dtype is None else self.data.astype(dtype)
        return array.copy() if copy else array

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        from .ir import current_graph  # which needs this module

        if ufunc in _UFUNCS and method == "__call__" and not kwargs:
            return self.operators[_UFUNCS[ufunc]](*inputs)
        if current_graph() is not None:
            raise TypeError(
                f"np.{ufunc.__name__} cannot be traced: use the ops of cnnmath.functional, "
                "or a cnnmath.Function for an op of your own in NumPy"
            )
        if any(isinstance(out, Variable) for out in kwargs.get("out", ())):
            return NotImplemented
        arrays = [value.data if isinstance(value, Variable) else value for value in inputs]
        return getattr(ufunc, method)(*arrays, **kwargs)

    def __iadd__(self, other: Any) -> Any:
        self.assign(self + other)
        return self

    def __isub__(self, other: Any) -> Any:
        self.assign(self - other)
        return self

    def __imul__(self, other: Any) -> Any:
        self.assign(self * other)
        return self

    def __itruediv__(self, other: Any) -> Any:
        self.assign(self / other)
        return self

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d variable")
        return self.shape[0]

    def __repr__(self) -> str:
        values = np.array2string(self.data, threshold=20)
        return f"{type(self).__name__}({values}, shape={self.shape}, dtype={self.dtype})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Variable:
        copy = type(self).__new__(type(self))
        memo[id(self)] = copy
        copy.__setstate__(self.__getstate__())
        return copy

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "physical": self.numpy()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        array = state.pop("physical")
        self.__dict__.update(state)
        self._store(array)
