"""States, such as those of optimizers, as arrays by name and a text that tells where they stand.

A state is made of dicts, lists, tuples, numbers, text, None and arrays. In the text (JSON) lists, None, text and
Python's numbers stand for themselves; all else is an object with one entry, which tells what it is:

    {"dict": {key: value}}      a dict whose keys are text
    {"items": [[key, value]]}   any other dict
    {"tuple": [value]}
    {"array": name}
    {"number": [dtype, value]}  a number of NumPy's
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np


def is_numeric(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "biuf" and dtype.itemsize <= 8


def divided(state: Any) -> tuple[dict[str, np.ndarray], str]:
    """(arrays by name, text) of a state. Raises TypeError that tells where something else stands."""
    arrays: dict[str, np.ndarray] = {}

    def name_of(path: tuple[str, ...]) -> str:
        name = wanted = ".".join(path)
        number = 2
        while name in arrays or name == "__metadata__":
            name, number = f"{wanted}#{number}", number + 1
        return name

    def plain(value: Any, path: tuple[str, ...]) -> Any:
        if isinstance(value, np.generic) and is_numeric(value.dtype):
            return {"number": [value.dtype.name, value.item()]}
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, list):
            return [plain(v, (*path, str(i))) for i, v in enumerate(value)]
        if isinstance(value, tuple):
            return {"tuple": plain(list(value), path)}
        if isinstance(value, Mapping):
            if all(isinstance(key, str) for key in value):
                return {"dict": {key: plain(v, (*path, key)) for key, v in value.items()}}
            return {"items": [[plain(k, path), plain(v, (*path, str(k)))] for k, v in value.items()]}
        array = np.asarray(value) if hasattr(value, "__array__") else None
        if array is None or not is_numeric(array.dtype):
            got = type(value).__name__ if array is None else f"an array of {array.dtype}"
            raise TypeError(
                f"save: expected numeric arrays, numbers, text, None, and dicts, lists and tuples of them, "
                f"got {got} at {'.'.join(path) or 'the top'}"
            )
        name = name_of(path)
        arrays[name] = array
        return {"array": name}

    return arrays, json.dumps(plain(state, ()))


def joined(arrays: Mapping[str, np.ndarray], text: str) -> dict[Any, Any]:
    """The state again. Raises ValueError where the text is none of `divided`."""

    def whole(value: Any) -> Any:
        if isinstance(value, list):
            return [whole(v) for v in value]
        if not isinstance(value, dict):
            return value
        try:
            ((kind, content),) = value.items()
            if kind == "dict":
                return {key: whole(v) for key, v in content.items()}
            if kind == "items":
                return {whole(key): whole(v) for key, v in content}
            if kind == "tuple":
                return tuple([whole(v) for v in content])
            if kind == "array":
                return arrays[content]
            if kind == "number" and is_numeric(np.dtype(content[0])):
                return np.dtype(content[0]).type(content[1])
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
            raise ValueError(f"not a state: {str(value)[:80]} ({error})") from error
        raise ValueError(f"not a state: {str(value)[:80]}")

    try:
        state = whole(json.loads(text))
    except RecursionError:
        raise ValueError("not a state: too deep") from None
    if not isinstance(state, dict):
        raise ValueError(f"not a state: {type(state).__name__}")
    return state
