"""The data sets of the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from .. import data
from ..data.cifar import cifar10_test
from ..data.transforms import taken
from ..planner.random import shuffled
from . import folders
from .runs import Preprocessing, Run

NAMES = ("digits", "mnist", "fashion-mnist", "cifar10")
AUGMENTATIONS = ("none", "auto", "crop", "flip", "crop-flip")


def known(text: str) -> str:
    """The type of an argument that names data: one of NAMES, or a folder of images, given as its whole path.

    Where there is no folder of that name, the case of a name does not matter, nor do hyphens.
    """
    if text in NAMES:
        return text
    path = Path(text).expanduser()
    if path.is_dir():
        return str(path.resolve())
    plain = {name.replace("-", ""): name for name in NAMES}
    name = plain.get(text.lower().replace("-", "").replace("_", ""))
    if name is not None:
        return name
    what = "is a file" if path.exists() else "no such folder"
    raise argparse.ArgumentTypeError(
        f"{text}: {what} (expected a folder of images, or {', '.join(NAMES[:-1])} or {NAMES[-1]})"
    )


def read(
    name: str, root: Path | None, channels: int | None = None, size: tuple[int, int] | None = None
) -> tuple[data.Images, data.Images, list[str]]:
    """(training part, test part, names of the classes), pixels of 0 to 1.

    Args:
        name: as `known` gives it.
        root: where the files of a data set are.
        channels, size: of the images of a folder; None as `folders.shape_of` decides.
    """
    if name in NAMES:
        train, test = _named(name, root)
        return train, test, train.target_names
    parts = folders.parts(Path(name))
    if len(parts[0].classes) == 1:
        raise ValueError(
            f"{parts[0].root}: expected a folder for each of at least two classes, got one, {parts[0].classes[0]}"
        )
    shape = folders.shape_of(parts[0], channels, size)
    train, test = (folders.images(part, shape) for part in parts)
    return train, test, parts[0].classes


def test_part(run: Run, root: Path | None) -> data.Images:
    """The test part of the data that a run was trained with; `root` says where the data are now."""
    if run.data == "cifar10":
        return cifar10_test(root)
    if run.data in NAMES:
        return _named(run.data, root)[1]
    how = run.preprocessing
    return folders.test_part(root or Path(run.data), (how.channels, how.height, how.width), run.classes)


def _named(name: str, root: Path | None) -> tuple[data.Images, data.Images]:
    if name == "digits":
        return data.load_digits().split()
    readers = {"mnist": data.mnist, "fashion-mnist": data.fashion_mnist, "cifar10": data.cifar10}
    return readers[name](root)


def held_out(train: data.Images, part: float) -> tuple[data.Images, data.Images]:
    """(what is left to train on, a random part kept for validation: the same one whatever the seed of the run)."""
    count = round(part * len(train.images))
    if not 0 < count < len(train.images):
        raise ValueError(f"--validation {part:g} of {len(train.images)} images leaves one part empty")
    order = shuffled(len(train.images), 0, 0)
    kept, held = np.sort(order[count:]), np.sort(order[:count])
    left, validation = (data.Images(taken(train.images, rows), train.target[rows]) for rows in (kept, held))
    return left, validation


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


def augmentation(name: str, kind: str) -> str:
    """What `--augment` without a word means for these data.

    The mirror image of a digit is none. The clothes of Fashion-MNIST all stand in the middle: shifts cost a small
    network more than they teach it.
    """
    if kind != "auto":
        return kind
    return {"digits": "crop", "mnist": "crop", "fashion-mnist": "flip"}.get(name, "crop-flip")


def transform(kind: str, how: Preprocessing) -> data.Transform | None:
    """Of normalised images: shifts by up to an eighth of the sides, with a black border; mirror images."""
    steps: list[data.Transform] = []
    if "crop" in kind:
        black = [-mean / std for mean, std in zip(how.mean, how.std)]
        padding = (max(how.width // 8, 1), max(how.height // 8, 1))
        steps.append(data.RandomCrop((how.height, how.width), padding, fill=black))
    if "flip" in kind:
        steps.append(data.RandomHorizontalFlip())
    return data.Compose(steps) if steps else None
