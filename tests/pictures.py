"""What tests of pictures share: what a figure shows, and that nothing of it is cut off."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image


def written(figure: Any) -> np.ndarray:
    """The pixels of the figure's PNG, which has the size of the figure; nothing in it is cut off."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    with Image.open(file) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    width, height = (round(inches * 100) for inches in figure.get_size_inches())
    assert pixels.shape == (height, width, 3)
    box = figure.get_tightbbox()
    if figure.axes:
        assert min(box.x0, box.y0) > -0.02 and 100 * box.x1 < width + 2 and 100 * box.y1 < height + 2
    assert pixels.min() < 100 and pixels.max() == 255
    return pixels


def shown(axes: Any) -> np.ndarray:
    (image,) = axes.images
    return np.asarray(np.ma.filled(image.get_array(), np.nan))


def labels(axis: Any) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]
