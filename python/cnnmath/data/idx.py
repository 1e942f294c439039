"""MNIST and Fashion-MNIST in their original files, the IDX format."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from .images import Images, scaled
from .originals import FASHION_MNIST, MNIST, Source
from .packed import opened, read

_DTYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """An array in IDX format, the format of MNIST's files, packed (.gz, .xz) or not.

    The header is two zero bytes, the type (8: unsigned byte, 9: signed byte, 11 and 12: int16 and int32, 13 and 14:
    float32 and float64), the number of dims, then each dim in four bytes, the most significant byte first, as in the
    numbers that follow: http://yann.lecun.com/exdb/mnist/. Raises FileNotFoundError, ValueError where header and length
    disagree.
    """
    return _array(Path(path))[0]


def _array(path: Path) -> tuple[np.ndarray, bytearray]:
    """The array of an IDX file, over the contents of the file, which are the second."""
    with opened(path) as file:
        content = read(file, 4)
        if len(content) < 4 or content[:2] != b"\0\0":
            raise ValueError(f"{path}: not an IDX file")
        if content[2] not in _DTYPES:
            raise ValueError(
                f"{path}: expected an IDX type of {', '.join(map(str, _DTYPES))}, got {content[2]}"
            )
        dtype, rank = np.dtype(_DTYPES[content[2]]), content[3]
        content += read(file, 4 * rank)
        start = 4 + 4 * rank
        if rank == 0 or len(content) < start:
            raise ValueError(f"{path}: the IDX header is cut short")
        shape = [int(n) for n in np.frombuffer(content, ">u4", rank, 4)]
        promised = math.prod(shape) * dtype.itemsize
        content += read(file, promised + 1)
    if len(content) - start != promised:
        got = "more" if len(content) - start > promised else str(len(content) - start)
        raise ValueError(f"{path}: the header promises {promised} bytes ({shape}), the file has {got}")
    try:
        array = np.frombuffer(content, dtype, offset=start).reshape(shape)
    except ValueError as error:  # more dims than NumPy has, or huge ones beside one of 0
        raise ValueError(f"{path}: no array has the shape of the header ({error})") from error
    return array.astype(dtype.newbyteorder("="), copy=False), content


class _FashionMnist(Images):
    __slots__ = ()

    @property
    def target_names(self) -> list[str]:
        names = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
        return names.split(",")


def _read(
    kind: type[Images], source: Source, root: str | os.PathLike[str] | None, dtype: Any
) -> tuple[Images, Images]:
    scaled(np.empty(0, np.uint8), 255, dtype)  # a wrong dtype is found before the work
    paths = source.find(root)
    arrays = []
    for stem, path in paths.items():
        array, content = _array(path)
        if array.dtype != np.uint8:
            raise ValueError(f"{path}: expected unsigned bytes (IDX type 8), got {array.dtype}")
        source.check(stem, path, content)
        arrays.append((path, array))
    parts = []
    for (image_file, images), (label_file, labels) in (arrays[:2], arrays[2:]):
        if images.ndim != 3 or images.size == 0:
            raise ValueError(f"{image_file}: expected (n, height, width) images, got {images.shape}")
        if labels.shape != images.shape[:1]:
            raise ValueError(f"{label_file}: expected {len(images)} labels, got shape {labels.shape}")
        if labels.max() > 9:
            raise ValueError(f"{label_file}: expected labels of 0 to 9, got {labels.max()}")
        parts.append(kind(scaled(images[:, None], 255, dtype), labels.astype(np.int64)))
    return parts[0], parts[1]


def mnist(root: str | os.PathLike[str] | None = None, *, dtype: Any = np.float32) -> tuple[Images, Images]:
    """MNIST: handwritten digits, 28 x 28, 60,000 for training and 10,000 for the test.

    Args:
        root: the folder that holds `train-images-idx3-ubyte` and the three other files, packed with gzip or xz or
            not, or the one above it (then they lie in `mnist/` or `MNIST/raw/`); CNNMATH_DATA if None. Nothing is
            downloaded.
        dtype: float32 or float64 for pixels of 0 to 1, uint8 for 0 to 255.

    Returns:
        `(train, test)`, each of which unpacks into images (n, 1, 28, 28) and targets int64 (n,). Raises
        FileNotFoundError where a file is missing, ValueError where it is damaged: files with the size of the originals
        must have their checksum. Images of one's own in the same files may have other numbers and sizes; `read_idx`
        reads any array.
    """
    return _read(Images, MNIST, root, dtype)


def fashion_mnist(
    root: str | os.PathLike[str] | None = None, *, dtype: Any = np.float32
) -> tuple[Images, Images]:
    """Fashion-MNIST (Xiao et al., 2017): ten kinds of clothes in the format of MNIST; see `mnist`.

    `root` is the folder of the files, or the one above it (then they lie in `fashion-mnist/` or
    `FashionMNIST/raw/`).
    """
    return _read(_FashionMnist, FASHION_MNIST, root, dtype)
