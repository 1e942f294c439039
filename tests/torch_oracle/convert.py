"""From PyTorch's values to NumPy's and back, and the comparison of results.

A "tree" is what stands in a call's arguments: tensors, numbers, None, and lists, tuples and dicts of them.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

torch.set_num_threads(1)  # its threads only wait for one another on arrays this small


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """PyTorch may warn; cnnmath, whose calls stand outside of this, may not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def map_tree(fn: Callable[[Any], Any], tree: Any) -> Any:
    """The same tree with `fn` applied to its leaves."""
    if isinstance(tree, dict):
        return {key: map_tree(fn, value) for key, value in tree.items()}
    if isinstance(tree, list | tuple) and not isinstance(tree, torch.Size):
        return type(tree)(map_tree(fn, value) for value in tree)
    return fn(tree)


def leaves(tree: Any) -> Iterator[Any]:
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, list | tuple):
        for value in tree:
            yield from leaves(value)
    else:
        yield tree


def to_numpy(value: Any) -> Any:
    """A tensor as an array over the same memory with the same strides; a dtype as NumPy's; else the value."""
    if isinstance(value, torch.Tensor):
        return value.detach().numpy()
    if isinstance(value, torch.dtype):
        return np.dtype(str(value).removeprefix("torch.")).type
    if isinstance(value, torch.Size):
        return tuple(value)
    return value


def describe(value: Any) -> str:
    """A short text for a failure message: shapes, dtypes and strides instead of contents."""
    if isinstance(value, torch.Tensor):
        strides = "" if value.is_contiguous() else f" strides {tuple(value.stride())}"
        return f"{str(value.dtype).removeprefix('torch.')}{tuple(value.shape)}{strides}"
    if isinstance(value, dict):
        return ", ".join(f"{key}={describe(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        inner = ", ".join(map(describe, value))
        return f"[{inner}]" if isinstance(value, list) else f"({inner},)"
    return repr(value)


@dataclass(frozen=True)
class Tolerance:
    rtol: float
    atol: float


def difference(actual: Any, expected: Any, tolerance: Tolerance) -> str | None:
    """What is wrong with `actual`, or None. Shapes, dtypes and integers are exact; NaN equals NaN."""
    if not isinstance(actual, np.ndarray | np.generic):
        return f"expected an array, got {type(actual).__name__}"
    if actual.shape != expected.shape:
        return f"expected shape {expected.shape}, got {actual.shape}"
    if actual.dtype != expected.dtype:
        return f"expected dtype {expected.dtype}, got {actual.dtype}"
    if expected.dtype.kind != "f":
        wrong = np.asarray(actual != expected)
    else:
        wrong = ~np.isclose(actual, expected, rtol=tolerance.rtol, atol=tolerance.atol, equal_nan=True)
    if not wrong.any():
        return None
    where = tuple(int(i) for i in np.argwhere(wrong)[0])
    return (
        f"{int(wrong.sum())} of {wrong.size} values differ, first at {where}: "
        f"expected {expected[where]!r}, got {actual[where]!r}"
    )
