"""CIFAR-10 in its binary version."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from .._core import get_num_threads
from .images import Images, scaled
from .originals import CIFAR10
from .packed import opened, read

_RECORD = 1 + 3 * 32 * 32


class _Cifar10(Images):
    __slots__ = ()

    @property
    def target_names(self) -> list[str]:
        return ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def cifar10(root: str | os.PathLike[str] | None = None, *, dtype: Any = np.float32) -> tuple[Images, Images]:
    """CIFAR-10 (Krizhevsky, 2009): 32 x 32 colour images of ten classes, 50,000 for training, 10,000 for the test.

    The files are unpacked on as many threads as `set_num_threads` says.

    Args:
        root: the folder that holds `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`, packed with xz or
            gzip or not, or the one above it (then they lie in `cifar-10/` or `cifar-10-batches-bin/`); CNNMATH_DATA
            if None. Nothing is downloaded.
        dtype: float32 or float64 for pixels of 0 to 1, uint8 for 0 to 255. All images in float32 take 737 MB.

    Returns:
        `(train, test)`, each of which unpacks into images (n, 3, 32, 32) and targets int64 (n,). Raises
        FileNotFoundError where a file is missing, ValueError where it is damaged: files with the size or the first
        image of the originals must have their checksum.
    """
    scaled(np.empty(0, np.uint8), 255, dtype)  # a wrong dtype is found before the work
    paths = CIFAR10.find(root)
    with ThreadPoolExecutor(min(len(paths), get_num_threads())) as team:
        files = list(team.map(_records, paths.values(), paths))
        test = [files.pop()]
        return _images(files, dtype, team), _images(test, dtype, team)


def cifar10_test(root: str | os.PathLike[str] | None = None, *, dtype: Any = np.float32) -> Images:
    """The test part of `cifar10` alone, in a fifth of the time; its file is enough."""
    ((stem, path),) = CIFAR10.find(root, ["test_batch.bin"]).items()
    return _images([_records(path, stem)], dtype)


def read_cifar(path: str | os.PathLike[str], *, dtype: Any = np.float32) -> Images:
    """Any file in the format of CIFAR-10's binary version, packed (.gz, .xz) or not.

    Records of 3,073 bytes: the class, 0 to 9, then the red, green and blue plane of an image of 32 x 32. Returns images
    and targets as `cifar10` does; raises ValueError where the file is damaged.
    """
    return _images([_records(Path(path), None)], dtype)


def _records(path: Path, stem: str | None) -> np.ndarray:
    """The records of a file, uint8 (n, 3073); checked against the original of that name if one is given."""
    with opened(path) as file:
        content = read(file)
    if len(content) == 0 or len(content) % _RECORD:
        raise ValueError(f"{path}: expected records of {_RECORD} bytes, got {len(content)} bytes")
    if stem is not None:
        CIFAR10.check(stem, path, content)
    records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
    if records[:, 0].max() > 9:
        raise ValueError(f"{path}: expected labels of 0 to 9, got {records[:, 0].max()}")
    return records


def _images(files: list[np.ndarray], dtype: Any, team: ThreadPoolExecutor | None = None) -> Images:
    """The images of several files, whose records are given back as they are used."""
    counts = [len(records) for records in files]
    target = np.concatenate([records[:, 0] for records in files]).astype(np.int64)
    images = np.empty((sum(counts), 32, 32, 3), dtype)  # channels-last in memory

    def fill(i: int) -> None:
        start = sum(counts[:i])
        planes = files[i][:, 1:].reshape(-1, 3, 32, 32)
        for c in range(3):
            scaled(planes[:, c], 255, dtype, out=images[start : start + counts[i], :, :, c])
        files[i] = np.empty(0, np.uint8)

    list((map if team is None else team.map)(fill, range(len(files))))
    return _Cifar10(images.transpose(0, 3, 1, 2), target)
