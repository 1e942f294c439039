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
        for c in range(channels):
            mean[c] = _mean(images[:, c], 1, 0.0)
            std[c] = _mean(images[:, c], 2, mean[c]) ** 0.5 or 1.0
    return Preprocessing(channels, height, width, 1 / 16 if name == "digits" else 1 / 255, mean, std)


def _mean(x: np.ndarray, power: int, middle: float) -> float:
    """Mean of (x - middle)^power; in float64, as sums in float32 are coarse, and in parts: a copy of all is large."""
    parts = (x[i : i + 1000].astype(np.float64) - middle for i in range(0, len(x), 1000))
    return sum(float((part**power).sum()) for part in parts) / x.size
