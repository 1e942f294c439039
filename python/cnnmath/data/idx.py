"""MNIST and Fashion-MNIST in their original files, the IDX format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from .images import Images, find, folder, scaled, unpacked


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """An array of bytes in IDX format, packed (.gz, .xz) or not: http://yann.lecun.com/exdb/mnist/.

    The header is two zero bytes, the type (8: unsigned byte), the number of dims, then each dim in four bytes, the
    most significant first. Raises ValueError where header and length disagree.
    """
    path = Path(path)
    raw = unpacked(path)
    if len(raw) < 4 or raw[:2] != b"\0\0":
        raise ValueError(f"{path}: not an IDX file")
    if raw[2] != 8:
        raise ValueError(f"{path}: expected unsigned bytes (type 8), got IDX type {raw[2]}")
    rank = raw[3]
    start = 4 + 4 * rank
    if rank == 0 or len(raw) < start:
        raise ValueError(f"{path}: the IDX header is cut short")
    shape = [int(n) for n in np.frombuffer(raw, ">u4", rank, 4)]
    count = int(np.prod(shape, dtype=np.float64))  # floating point: four large dims overflow an integer
    if len(raw) - start != count:
        raise ValueError(
            f"{path}: the header promises {count} bytes ({shape}), the file has {len(raw) - start}"
        )
    return np.frombuffer(raw, np.uint8, count, start).reshape(shape)


class _FashionMnist(Images):
    __slots__ = ()

    @property
    def target_names(self) -> list[str]:
        names = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
        return names.split(",")


def _read(kind: type[Images], where: Path, dtype: Any) -> tuple[Images, Images]:
    parts = []
    for part in ("train", "t10k"):
        stems = [f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"]
        image_file, label_file = (find(where, [stem + ".gz", stem, stem + ".xz"]) for stem in stems)
        images, labels = read_idx(image_file), read_idx(label_file)
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            raise ValueError(
                f"{image_file}: expected (n, height, width) images and n labels, got {images.shape} and {labels.shape}"
            )
        parts.append(kind(scaled(images[:, None], 255, dtype), labels.astype(np.int64)))
    return parts[0], parts[1]


def mnist(root: str | os.PathLike[str] | None = None, *, dtype: Any = np.float32) -> tuple[Images, Images]:
    """MNIST: handwritten digits, 28 x 28, 60,000 for training and 10,000 for the test.

    Args:
        root: the folder that holds `train-images-idx3-ubyte.gz` and the three other files, or the one above it (then
            they lie in `mnist/`); CNNMATH_DATA if None. Nothing is downloaded.
        dtype: float32 or float64 for pixels of 0 to 1, uint8 for 0 to 255.

    Returns:
        `(train, test)`, each of which unpacks into images (n, 1, 28, 28) and targets int64 (n,). Raises
        FileNotFoundError where a file is missing, ValueError where it is damaged.
    """
    return _read(Images, folder(root, "mnist"), dtype)


def fashion_mnist(
    root: str | os.PathLike[str] | None = None, *, dtype: Any = np.float32
) -> tuple[Images, Images]:
    """Fashion-MNIST (Xiao et al., 2017): ten kinds of clothes in the format of MNIST; see `mnist`.

    `root` is the folder of the files, or the one above it (then they lie in `fashion-mnist/`).
    """
    return _read(_FashionMnist, folder(root, "fashion-mnist"), dtype)
