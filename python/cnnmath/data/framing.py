"""Handwritten digits brought into the frame of MNIST's images."""

from __future__ import annotations

import numpy as np

from .files import pillow

_SIDE, _BOX, _CENTRE = 28, 20, 14.5


def framed_as_mnist(pixels: np.ndarray) -> np.ndarray:
    """A grey image of a digit as MNIST has its digits: (h, w) of 0 to 1 becomes (28, 28), bright on black.

    MNIST's digits fill a box of 20 x 20 pixels and have their centre of mass at pixel 14 of 28, in both directions
    (LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition, 1998). A square image
    that is framed like that is resized and no more; in any other one the digit is cut out, scaled and centred. Dark
    digits on bright paper are inverted. An image without a digit is resized. It needs Pillow.
    """
    border = np.median(np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]))
    if border > 0.5:
        pixels, border = 1 - pixels, 1 - border
    if pixels.shape == (_SIDE, _SIDE):
        return pixels
    # Below a fifth of the highest contrast there is noise, such as JPEG's.
    ink = np.maximum(pixels - border, 0)
    ink[ink < 0.2 * ink.max()] = 0
    rows, columns = (np.flatnonzero(ink.any(axis)) for axis in (1, 0))
    if len(rows) == 0:
        return _resized(pixels, _SIDE, _SIDE)
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    scale = _SIDE / len(pixels)
    framed = abs(max(height, width) * scale - _BOX) <= 2 and np.abs(_mass(ink) * scale - _CENTRE).max() <= 1
    if framed and pixels.shape[0] == pixels.shape[1]:
        return _resized(pixels, _SIDE, _SIDE)
    scale = _BOX / max(height, width)
    digit = np.maximum(pixels - border, 0)[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    digit = _resized(digit, max(1, round(height * scale)), max(1, round(width * scale)))
    # On a canvas large enough for any place of the digit, of which the middle is the image.
    canvas = np.zeros((3 * _SIDE, 3 * _SIDE), np.float32)
    y, x = np.rint(_SIDE + _CENTRE - _mass(digit)).astype(int)
    canvas[y : y + digit.shape[0], x : x + digit.shape[1]] = digit
    return canvas[_SIDE : 2 * _SIDE, _SIDE : 2 * _SIDE]


def _mass(ink: np.ndarray) -> np.ndarray:
    """(y, x) of the centre of mass; the first pixel's middle is at 0.5."""
    y, x = (np.arange(n) + 0.5 for n in ink.shape)
    mass: np.ndarray = np.array([ink.sum(1) @ y, ink.sum(0) @ x]) / ink.sum()
    return mass


def _resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    image = pillow("Image")
    resized: np.ndarray = np.array(image.fromarray(pixels).resize((width, height), image.Resampling.BILINEAR))
    return resized
