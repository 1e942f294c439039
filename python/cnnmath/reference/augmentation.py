"""Augmentation: random crops and mirror images of a batch (n, c, h, w).

The draws are apart from what is done with them. They are a function of a key, the number of the image and that of the
transform, by the generator of `dropout.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .dropout import Words, philox4x32

Array = npt.NDArray[Any]


def augmentation_words(seed: int, epoch: int, numbers: Array, transform: int) -> Words:
    """Four random words for each image: (n, 4).

    Philox's key is the seed, its counter {number, number >> 32 ⊕ transform << 16 ⊕ 2³¹, epoch, epoch >> 32}.
    """
    numbers = np.asarray(numbers, np.uint64)
    low = np.uint64(0xFFFFFFFF)
    second = (numbers >> np.uint64(32)) ^ np.uint64(transform << 16 ^ 1 << 31)
    epochs = (np.full_like(numbers, word) for word in (epoch & 0xFFFFFFFF, epoch >> 32))
    counter = np.stack([numbers & low, second, *epochs], -1)
    return philox4x32(counter.astype(np.uint32), np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32))


def crop_offsets(words: Words, rows: int, columns: int) -> Array:
    """(top, left) of each image, uniform in 0 ... rows − 1 and 0 ... columns − 1: ⌊word · count / 2³²⌋."""
    counts = np.array([rows, columns], np.uint64)
    return ((words[:, :2].astype(np.uint64) * counts) >> np.uint64(32)).astype(np.int64)


def mirrored(words: Words, p: float) -> Array:
    """Whether each image is mirrored: word < p 2³²."""
    return np.asarray(words[:, 0] < p * 2**32)


def crop(
    x: Array,
    offsets: Array,
    size: tuple[int, int],
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    mode: str = "constant",
    fill: Any = 0,
) -> Array:
    """y[i] = (x[i] with its padding)[:, top_i : top_i + h, left_i : left_i + w]

    padding is (left, right, top, bottom), mode one of numpy.pad; fill, for "constant", a number or one of each channel.
    """
    left, right, top, bottom = padding
    borders = ((0, 0), (0, 0), (top, bottom), (left, right))
    padded = np.pad(x, borders, mode=mode)  # type: ignore[call-overload]
    if mode == "constant":
        inside = np.pad(np.ones(x.shape, bool), borders)
        values = np.broadcast_to(np.asarray(fill, x.dtype).reshape(1, -1, 1, 1), (1, x.shape[1], 1, 1))
        padded = np.where(inside, padded, values)
    h, w = size
    return np.stack([image[:, t : t + h, s : s + w] for image, (t, s) in zip(padded, offsets)])


def horizontal_flip(x: Array, mirrored: Array) -> Array:
    """y[i] = x[i] from right to left where mirrored[i], else x[i]"""
    return np.where(mirrored[:, None, None, None], x[..., ::-1], x)
