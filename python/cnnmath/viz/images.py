"""Images with what a network makes of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .canvas import class_indices, class_names, drawable, new_figure, settled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def mistakes(
    images: Any,
    target: Any,
    probabilities: Any,
    names: Sequence[Any] | None = None,
    most: int = 20,
    mean: Any = 0.0,
    std: Any = 1.0,
    files: Sequence[Any] | None = None,
) -> Figure:
    """The worst mistakes: of the images that are predicted wrongly those of the highest loss, -log p(true class).

    Above each image stand the predicted and the true class with their probabilities, below it its number, or its
    file's name, and its loss.

    Args:
        images: (n, channels, height, width), uint8, or real numbers from 0 to 1. Three channels are colours; of any
            other number the mean is drawn in grey.
        target: the true classes, integers (n,).
        probabilities: (n, C), such as `cnnmath.functional.softmax(trainer.predict(images), 1)`.
        names: of the classes; their numbers if None.
        most: how many images are drawn at the most.
        mean, std: with which the images were normalized, x = (pixels - mean) / std; numbers, or one for each channel.
            An image that goes beyond 0 to 1 all the same is stretched: its least value is black, its largest white.
        files: the names of the images' files, n of them.

    Returns:
        A Figure with one image in each of its axes, the worst first, five in a row; without mistakes, one that says so.

    >>> import numpy as np
    >>> from cnnmath import viz
    >>> figure = viz.mistakes(np.zeros((2, 1, 8, 8)), [0, 1], np.array([[0.3, 0.7], [0.2, 0.8]]), ["cat", "dog"])
    >>> print(figure.axes[0].get_title())
    predicted: dog (70.0 %)
    true: cat (30.0 %)
    """
    pixels, p = np.asarray(images), np.asarray(probabilities)
    if pixels.ndim != 4 or not (pixels.dtype == np.uint8 or pixels.dtype.kind == "f"):
        raise ValueError(
            "mistakes: expected images (n, channels, height, width), real or uint8, "
            f"got {pixels.dtype}{list(pixels.shape)}"
        )
    if p.ndim != 2 or not p.shape[1] or p.dtype.kind != "f":
        raise ValueError(f"mistakes: expected probabilities (n, C), got {p.dtype}{list(p.shape)}")
    truth = class_indices("mistakes", target, p.shape[1])
    if not len(pixels) == len(truth) == len(p):
        raise ValueError(
            "mistakes: expected as many images, targets and probabilities, "
            f"got {len(pixels)}, {len(truth)} and {len(p)}"
        )
    sums = p.sum(axis=1, dtype=np.float64)
    if (p < 0).any() or (np.abs(sums - 1) > 1e-2).any():  # NaN, of a training that diverged, is let through
        raise ValueError(
            "mistakes: expected probabilities, of sum 1 for each image; softmax makes them of logits"
        )
    if isinstance(most, bool) or most < 1:
        raise ValueError(f"mistakes: expected most of at least 1, got {most!r}")
    try:
        mean, std = (np.broadcast_to(np.asarray(v, float), pixels.shape[1]) for v in (mean, std))
    except ValueError:
        raise ValueError(
            f"mistakes: expected mean and std as numbers or one for each of {pixels.shape[1]} channels, "
            f"got {mean!r} and {std!r}"
        ) from None

    if files is not None and (isinstance(files, str) or len(files) != len(p)):
        raise ValueError(f"mistakes: expected the names of {len(p)} files, got {files!r}")

    predicted = p.argmax(axis=1)
    wrong = np.flatnonzero(predicted != truth)
    own = p[wrong, truth[wrong]]
    worst = wrong[np.argsort(np.where(np.isnan(own), -1, own), kind="stable")][:most]
    columns = min(5, max(len(worst), 3))
    rows = -(-len(worst) // columns)
    figure = new_figure(2.4 * columns + 0.4, 2.8 * rows + 0.6, gap=0.12)
    labels = class_names("mistakes", names, p.shape[1], 16)
    captions = [f"image {i}" for i in worst]
    if files is not None:
        captions = drawable([files[i] for i in worst], 24, captions)
    if len(worst):
        title = f"Worst mistakes: {len(wrong):,} wrong of {len(p):,} images"
        if len(worst) < len(wrong):
            title += f", the {len(worst)} of the highest loss"
    else:
        title = f"No mistakes: all {len(p):,} images right" if len(p) else "No images"
    figure.suptitle(title)
    for place, i in enumerate(worst):
        axes = figure.add_subplot(rows, columns, place + 1)
        axes.imshow(_drawable(pixels[i], mean, std), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(
            f"predicted: {labels[predicted[i]]} ({_percent(p[i, predicted[i]])})\n"
            f"true: {labels[truth[i]]} ({_percent(p[i, truth[i]])})",
            fontsize=8,
        )
        axes.set_xlabel(f"{captions[place]}, loss {_loss(p[i, truth[i]]):.3g}", fontsize=8)
        axes.set_xticks([])
        axes.set_yticks([])
    return settled(figure)


def _drawable(image: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """(channels, height, width) as (height, width, 3) or (height, width), from 0 to 1."""
    real = image.astype(np.float64)
    if image.dtype == np.uint8:
        real /= 255
    real = np.nan_to_num(real * std[:, None, None] + mean[:, None, None], posinf=1, neginf=0)
    least, largest = real.min(initial=0), real.max(initial=1)
    real = (real - least) / (largest - least)
    return real.transpose(1, 2, 0) if len(real) == 3 else np.asarray(real.mean(axis=0))


def _percent(p: float) -> str:
    return f"{100 * p:.1f} %" if p >= 0.001 else "< 0.1 %" if p >= 0 else "nan"


def _loss(p: float) -> float:
    return -math.log(p) if p > 0 else math.inf if p == 0 else math.nan
