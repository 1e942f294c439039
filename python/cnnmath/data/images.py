"""Labelled images, as the readers of this package give them."""

from __future__ import annotations

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


def scaled(pixels: np.ndarray, most: float, dtype: Any, out: np.ndarray | None = None) -> np.ndarray:
    """Pixels as they are for uint8, else divided by `most`; in `out` if given."""
    kind = np.dtype(dtype)
    if kind not in (np.float32, np.float64, np.uint8):
        raise TypeError(f"dtype: expected float32, float64 or uint8, got {kind.name}")
    if kind != np.uint8:
        # One pass, without a copy of the pixels in the other dtype.
        divided: np.ndarray = np.divide(pixels, kind.type(most), out=out, dtype=kind)
        return divided
    if out is None:
        return pixels
    out[...] = pixels
    return out
