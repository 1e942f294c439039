"""Weights are saved and loaded as safetensors, a plain format that other programs read too and that runs no code."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def save(model_or_state: Any, path: str | os.PathLike[str]) -> None:
    """Writes the weights of a model, or any dict of names and arrays, as a safetensors file.

    Arrays keep their dtype (int64 counters too) and are written row-major. The file is written beside its place and
    then renamed, so that an interruption leaves an older file as it was.

    Args:
        model_or_state: a Module, or a dict such as `model.state_dict()`.
        path: the file; its folder must exist.
    """
    from safetensors.numpy import save as serialize

    state = model_or_state.state_dict() if hasattr(model_or_state, "state_dict") else model_or_state
    if not isinstance(state, Mapping):
        raise TypeError(f"save: expected a Module or a dict of arrays, got {type(state).__name__}")
    arrays = {}
    for name, value in state.items():
        array = np.asarray(value)
        if not isinstance(name, str) or array.dtype.kind not in "biuf":
            raise TypeError(f"save: expected names and numeric arrays, got {name!r}: {array.dtype}")
        # The format is little-endian and row-major.
        arrays[name] = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(array.shape)
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"save: the folder {path.parent} does not exist")
    write_bytes(path, serialize(arrays))  # save_file makes files that their owner alone can read


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file beside its place and then renames it, so that no half of it is ever there."""
    import secrets

    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()


def load(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name; give them to `model.load_state_dict`.

    Raises FileNotFoundError, or ValueError where the file is damaged or of another kind.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as parse

    path = Path(path)
    raw = path.read_bytes()
    try:
        arrays = parse(raw)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"load: {path} is no safetensors file, or it is damaged ({error})") from error
    # Arrays of one's own, not views of the file's bytes.
    return {name: np.array(array) for name, array in arrays.items()}
