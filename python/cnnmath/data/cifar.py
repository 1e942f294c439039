"""CIFAR-10 in its binary version."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from .images import Images, find, folder, scaled, unpacked

_RECORD = 1 + 3 * 32 * 32


class _Cifar10(Images):
    __slots__ = ()

    @property
    def target_names(self) -> list[str]:
        return ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def cifar10(root: str | os.PathLike[str] | None = None, *, dtype: Any = np.float32) -> tuple[Images, Images]:
    """CIFAR-10 (Krizhevsky, 2009): 32 x 32 colour images of ten classes, 50,000 for training, 10,000 for the test.

    Args:
        root: the folder that holds `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`, packed with xz or
            gzip or not, or the one above it (then they lie in `cifar-10/` or `cifar-10-batches-bin/`); CNNMATH_DATA
            if None. Nothing is downloaded.
        dtype: float32 or float64 for pixels of 0 to 1, uint8 for 0 to 255. All images in float32 take 737 MB.

    Returns:
        `(train, test)`, each of which unpacks into images (n, 3, 32, 32) and targets int64 (n,). Raises
        FileNotFoundError where a file is missing, ValueError where it is damaged.
    """
    where = folder(root, "cifar-10")
    if (where / "cifar-10-batches-bin").is_dir():
        where = where / "cifar-10-batches-bin"
    train = _read([find(where, _names(f"data_batch_{i}")) for i in range(1, 6)], dtype)
    return train, _read([find(where, _names("test_batch"))], dtype)


def _names(stem: str) -> list[str]:
    return [f"{stem}.bin", f"{stem}.bin.xz", f"{stem}.bin.gz"]


def _read(paths: list[Any], dtype: Any) -> Images:
    images, labels = [], []
    for path in paths:
        raw = np.frombuffer(unpacked(path), np.uint8)
        if len(raw) == 0 or len(raw) % _RECORD:
            raise ValueError(f"{path}: expected records of {_RECORD} bytes, got {len(raw)} bytes")
        records = raw.reshape(-1, _RECORD)
        labels.append(records[:, 0].astype(np.int64))
        if labels[-1].max() > 9:
            raise ValueError(f"{path}: expected labels of 0 to 9, got {labels[-1].max()}")
        # Planes of colours in the file; channels-last in memory.
        images.append(np.ascontiguousarray(records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)))
    return _Cifar10(scaled(np.concatenate(images), 255, dtype).transpose(0, 3, 1, 2), np.concatenate(labels))
