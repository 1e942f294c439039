"""`save` and `load`."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from . import tree
from .files import write_bytes

# Of the metadata of a state: its text, and a checksum of text and arrays, as a training that goes on from a damaged one
# would only end with other weights.
_KEY, _CHECKSUM = "cnnmath", "crc32"
_DTYPES = {"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "F16", "F32", "F64", "C64"}


def save(model_or_state: Any, path: str | os.PathLike[str]) -> None:
    """Writes the weights of a model, a dict of names and arrays, or any state as a safetensors file.

    A state is a dict of arrays, numbers, text, None, and of dicts, lists and tuples of them, such as
    `{"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}`; its arrays have dotted names in
    the file, and the rest is in its metadata, with a checksum. What else a Trainer needs to go on is in
    `Trainer.save_checkpoint`.

    Arrays keep their dtype (int64 counters too) and are written row-major. The file is written beside its place,
    brought to the disk and then renamed, so that an interruption or a full disk leaves an older file as it was.

    Args:
        model_or_state: a Module, or a dict such as `model.state_dict()`.
        path: the file; its folder must exist.

    Raises OSError that names the file where it cannot be written.

    >>> import os, tempfile, cnnmath
    >>> model = cnnmath.nn.Linear(2, 1)
    >>> optimizer = cnnmath.optim.Adam(model)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "state.safetensors")
    ...     cnnmath.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}, path)
    ...     state = cnnmath.load(path)
    >>> optimizer.load_state_dict(state["optimizer"])
    >>> state["epoch"]
    3
    """
    from safetensors.numpy import save as serialize

    state = model_or_state.state_dict() if hasattr(model_or_state, "state_dict") else model_or_state
    if not isinstance(state, Mapping):
        raise TypeError(f"save: expected a Module or a dict of arrays, got {type(state).__name__}")
    text = None
    if all(isinstance(name, str) and hasattr(value, "__array__") for name, value in state.items()):
        arrays = {name: np.asarray(value) for name, value in state.items()}
        for name, array in arrays.items():
            if not tree.is_numeric(array.dtype) or name == "__metadata__":
                raise TypeError(f"save: expected names and numeric arrays, got {name!r}: {array.dtype}")
    else:
        arrays, text = tree.divided(state)
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"save: the folder {path.parent} does not exist")
    # The format is little-endian and row-major.
    flat = {
        name: np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(array.shape)
        for name, array in arrays.items()
    }
    metadata = None if text is None else {_KEY: text, _CHECKSUM: _checksum(text, flat)}
    write_bytes(path, serialize(flat, metadata))


def _checksum(text: str, arrays: Mapping[str, np.ndarray]) -> str:
    value = zlib.crc32(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        value = zlib.crc32(f"{name} {array.dtype.str} {array.shape}".encode(), value)
        value = zlib.crc32(array.data, value)
    return f"{value:08x}"


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `save` has written: arrays by name, for `model.load_state_dict`, or a state. Any safetensors file will do.

    bfloat16, which NumPy does not have, becomes float32, with the same values.

    Raises OSError, or ValueError that names the file where it is damaged or of another kind.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if _is_pytorch(path):
        raise ValueError(
            f"load: {path} is a PyTorch file, expected safetensors; examples/convert_resnet_cifar.py shows how PyTorch "
            "reads it and cnnmath.save writes it"
        )
    try:
        # Mapped, so that there is no second copy of the file in memory.
        with path.open("rb") as raw, safe_open(path, framework="numpy") as mapped:
            size = int.from_bytes(raw.read(8), "little")
            entries = json.loads(raw.read(size))
            metadata = entries.pop("__metadata__", None) or {}
            arrays = {}
            for name, entry in entries.items():
                if entry["dtype"] == "BF16":
                    arrays[name] = _bfloat16(raw, 8 + size, entry)
                elif entry["dtype"] in _DTYPES:
                    arrays[name] = mapped.get_tensor(name)
                else:
                    raise _Unknown(
                        f"load: {path} holds {name!r} as {entry['dtype']}, which NumPy does not have"
                    )
        if not {_KEY, _CHECKSUM} & metadata.keys():
            return arrays
        if metadata[_CHECKSUM] != _checksum(metadata[_KEY], arrays):
            raise ValueError("its checksum is another")
        return tree.joined(arrays, metadata[_KEY])
    except _Unknown:
        raise
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"load: {path} is no safetensors file, or it is damaged ({error})") from error


def _is_pytorch(path: Path) -> bool:
    """Whether torch.save wrote the file: a zip file with data.pkl, or in former versions a pickle of this number."""
    with path.open("rb") as file:
        start = file.read(16)
        if not start.startswith(b"PK"):
            return start[2:14] == b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
        try:
            with zipfile.ZipFile(file) as archive:
                return any(name.endswith("data.pkl") for name in archive.namelist())
        except zipfile.BadZipFile:
            return False


class _Unknown(ValueError):
    pass


def _bfloat16(file: BinaryIO, start: int, entry: dict[str, Any]) -> np.ndarray:
    """An array of bfloat16 as float32, of whose bits it is the upper half."""
    begin, end = entry["data_offsets"]
    file.seek(start + begin)
    bits = np.frombuffer(file.read(end - begin), "<u2").astype(np.uint32) << np.uint32(16)
    return bits.view(np.float32).reshape(entry["shape"])
