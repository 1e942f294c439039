"""The data sets of the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .. import data
from .runs import Preprocessing

NAMES = ("digits", "mnist", "fashion-mnist", "cifar10")


def read(name: str, root: Path | None) -> tuple[data.Images, data.Images, list[str]]:
    """(training part, test part, names of the classes), pixels of 0 to 1."""
    if name == "digits":
        digits = data.load_digits()
        return (*digits.split(), digits.target_names)
    readers = {"mnist": data.mnist, "fashion-mnist": data.fashion_mnist, "cifar10": data.cifar10}
    if name not in readers:
        raise ValueError(f"expected the data to be one of {', '.join(NAMES)}, got {name!r}")
    train, test = readers[name](root)
    return train, test, train.target_names


def preprocessing(name: str, images: np.ndarray) -> Preprocessing:
    """By mean and standard deviation of each channel over the training images; the digits stay as they are."""
    _, channels, height, width = images.shape
    mean, std = [0.0] * channels, [1.0] * channels
    if name != "digits":
        # A channel at a time and in float64, in parts: sums in float32 of so many pixels are coarse.
        for c in range(channels):
            parts = [images[i : i + 1000, c].astype(np.float64) for i in range(0, len(images), 1000)]
            mean[c] = sum(float(p.sum()) for p in parts) / (len(images) * height * width)
            squares = sum(float(np.square(p - mean[c]).sum()) for p in parts)
            std[c] = (squares / (len(images) * height * width)) ** 0.5 or 1.0
    return Preprocessing(channels, height, width, 1 / 16 if name == "digits" else 1 / 255, mean, std)
