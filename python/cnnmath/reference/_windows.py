"""Geometry of sliding windows, shared by convolution and pooling.

Along one axis an input of n elements is padded to n' = before + n + after. Output position i looks, through
tap m of the window, at the padded position  i * stride + m * dilation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Pair = tuple[int, int]
Four = tuple[int, int, int, int]  # left, right, top, bottom
IntOrPair = int | Sequence[int]
Padding = int | str | Sequence[int]


def pair(value: IntOrPair) -> Pair:
    """(height, width) from one number, a list of one, or two."""
    if isinstance(value, int | np.integer):
        return int(value), int(value)
    if len(value) == 1:
        return int(value[0]), int(value[0])
    height, width = value
    return int(height), int(width)


def four(padding: Padding, kernel: Pair = (1, 1), dilation: Pair = (1, 1)) -> Four:
    """(left, right, top, bottom) from any way of writing a padding.

    An odd total of "same" puts the extra column on the right and the extra row at the bottom.
    """
    if padding == "valid":
        return 0, 0, 0, 0
    if padding == "same":
        height, width = (d * (k - 1) for k, d in zip(kernel, dilation, strict=True))
        return width // 2, width - width // 2, height // 2, height - height // 2
    if isinstance(padding, str):
        raise ValueError(f"padding must be numbers, 'same' or 'valid', got {padding!r}")
    if isinstance(padding, Sequence) and len(padding) == 4:
        return int(padding[0]), int(padding[1]), int(padding[2]), int(padding[3])
    height, width = pair(padding)
    return width, width, height, height


def output_length(
    n: int, before: int, after: int, k: int, stride: int, dilation: int, ceil: bool = False
) -> int:
    """How many windows fit: floor((before + n + after - dilation (k - 1) - 1) / stride) + 1.

    With `ceil` the division rounds up, but no window may start beyond the input and the padding before it.
    """
    room = before + n + after - dilation * (k - 1) - 1
    if not ceil:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= n + before else count


def padded(x: Array, padding: Four, fill: float = 0.0) -> Array:
    """x (..., H, W) with a border of `fill`."""
    left, right, top, bottom = padding
    border = [(0, 0)] * (x.ndim - 2) + [(top, bottom), (left, right)]
    return np.pad(x, border, constant_values=fill)


def cropped(x: Array, padding: Four, height: int, width: int) -> Array:
    """The inside of a padded array: the inverse of `padded`."""
    left, _, top, _ = padding
    return x[..., top : top + height, left : left + width]


def taps(x: Array, kernel: Pair, stride: Pair, dilation: Pair, out: Pair) -> Iterator[tuple[int, int, Array]]:
    """For each tap (m, n) the view of x (..., H, W) whose element (i, j) is what output (i, j) sees there."""
    (sh, sw), (dh, dw) = stride, dilation
    rows, columns = ((o - 1) * s + 1 if o > 0 else 0 for o, s in zip(out, stride, strict=True))
    for m in range(kernel[0]):
        for n in range(kernel[1]):
            top, left = m * dh, n * dw
            yield m, n, x[..., top : top + rows : sh, left : left + columns : sw]
