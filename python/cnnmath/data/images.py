"""Labelled images, as the readers of this package give them, and where their files are found."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Images(NamedTuple):
    """Labelled images; unpacks as `x, y = images`.

    Attributes:
        images: float32, (n, channels, height, width), 0 to 1 (channels-last in memory, as the kernels want it).
        target: int64, (n,): the class of each image.
        target_names: the name of each class.
    """

    images: np.ndarray
    target: np.ndarray

    @property
    def data(self) -> np.ndarray:
        """The images as rows, (n, channels * height * width)."""
        return self.images.reshape(len(self.images), -1)

    @property
    def target_names(self) -> list[str]:
        return [str(c) for c in range(10)]

    def __repr__(self) -> str:
        images = f"{self.images.dtype}{list(self.images.shape)}"
        return f"{type(self).__name__}(images={images}, {len(self.target_names)} classes)"


def scaled(pixels: np.ndarray, most: float, dtype: Any) -> np.ndarray:
    """Pixels as they are for uint8, else divided by `most`."""
    if np.dtype(dtype) == np.uint8:
        return pixels
    if np.dtype(dtype).kind != "f":
        raise TypeError(f"dtype: expected float32, float64 or uint8, got {np.dtype(dtype).name}")
    # In place: a second copy of a data set may not fit.
    result = pixels.astype(dtype, order="K")
    result /= most
    return result


def folder(root: str | os.PathLike[str] | None, name: str) -> Path:
    """The folder of a data set: `root` itself or its subfolder `name`; CNNMATH_DATA stands in for a root not given."""
    if root is None:
        root = os.environ.get("CNNMATH_DATA")
        if not root:
            raise FileNotFoundError(
                f"{name}: no data folder. Give root=..., or set CNNMATH_DATA to the folder that holds {name}/"
            )
    base = Path(root).expanduser()
    inner = base / name
    found = inner if inner.is_dir() else base
    if not found.is_dir():
        raise FileNotFoundError(f"{name}: the folder {base} does not exist")
    return found


def find(where: Path, names: list[str]) -> Path:
    """The first of several names of a file that exists."""
    for name in names:
        if (where / name).is_file():
            return where / name
    raise FileNotFoundError(f"{where}: expected the file {' or '.join(names)}")


def unpacked(path: Path) -> bytes:
    """The contents of a file, unpacked by its suffix: .gz, .xz or none."""
    import gzip
    import lzma
    import zlib

    try:
        if path.suffix == ".gz":
            return gzip.decompress(path.read_bytes())
        if path.suffix == ".xz":
            return lzma.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"{path}: cannot be unpacked ({error})") from error
    return path.read_bytes()
