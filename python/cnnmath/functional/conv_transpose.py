"""Transposed convolution in two dimensions: conv2d's gradient with respect to its input, as an op of its own.

Its kernels are those of conv2d, with the roles of input and output exchanged.
"""

from __future__ import annotations

from math import prod
from typing import Any

from ..graph.ir import LARGEST, Shape, apply, as_tensor
from ..planner.eager import function
from ._checks import floating
from ._conv_ops import IMAGES, WEIGHTS, Geometry, Pair, conv_transpose2d_op
from ._moves import in_order, reshape_op
from .arithmetic import add_op
from .conv import group_count, pair, plain_sums

NAME = "conv_transpose2d"


@function
def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """Two-dimensional transposed convolution: every pixel puts its own multiple of the kernel into a larger image.

        y[b, o, i·stride + m·dilation - padding, j·stride + n·dilation - padding] += x[b, c, i, j] weight[c, o, m, n]

    for all c, i, j, m, n, from y = bias[o] on; what falls outside of y is dropped. The channels o of one group see the
    channels c of that group only. It is the transpose of conv2d with the same weight, stride, padding, dilation and
    groups: <conv2d(y), x> = <y, conv_transpose2d(x)>. Dumoulin and Visin, A guide to convolution arithmetic for deep
    learning, 2016.

    Args:
        input: x, float32 or float64, shape (N, C, H, W), or (C, H, W) for one image.
        weight: shape (C, O / groups, KH, KW).
        bias: shape (O,), or None.
        stride: distance in y of neighbouring pixels of x, an int or (vertical, horizontal).
        padding: how many rows and columns of y are cut off on each side, an int or (vertical, horizontal).
        output_padding: how many rows and columns y has in addition, at the bottom and on the right, an int or
            (vertical, horizontal); smaller than the stride or the dilation.
        groups: number of groups; C and O are multiples of it.
        dilation: distance of the kernel's taps, an int or (vertical, horizontal).

    Returns:
        y, shape (N, O, H', W') or (O, H', W'), with
        H' = (H - 1)·stride - 2·padding + dilation·(KH - 1) + output_padding + 1.

    Raises:
        ValueError: shapes or values do not fit. TypeError: dtypes differ or are not floating.

    >>> import numpy as np, cnnmath
    >>> image, kernel = np.array([[[1.0, 2.0], [3.0, 4.0]]]), np.array([[[[1.0, 10.0], [100.0, 1000.0]]]])
    >>> cnnmath.functional.conv_transpose2d(image, kernel, stride=2)[0].astype(int).tolist()
    [[1, 10, 2, 20], [100, 1000, 200, 2000], [3, 30, 4, 40], [300, 3000, 400, 4000]]
    """
    x, w = as_tensor(input), as_tensor(weight)
    b = None if bias is None else as_tensor(bias)
    floating(NAME, input=x, weight=w, bias=b)
    if x.ndim not in (3, 4):
        raise ValueError(f"{NAME}: input expects shape (N, C, H, W) or (C, H, W), got {x.shape}")
    if w.ndim != 4:
        raise ValueError(f"{NAME}: weight expects shape (C, O / groups, KH, KW), got {w.shape}")
    steps, apart = pair(NAME, "stride", stride, 1), pair(NAME, "dilation", dilation, 1)
    border, more = pair(NAME, "padding", padding, 0), pair(NAME, "output_padding", output_padding, 0)
    if any(e >= max(s, d) for e, s, d in zip(more, steps, apart)):
        raise ValueError(
            f"{NAME}: output_padding expects numbers below stride or dilation, got {more} "
            f"(stride: {steps}, dilation: {apart})"
        )
    number = group_count(NAME, groups)
    _check_channels(x.shape, w.shape, None if b is None else b.shape, number)
    # A single pixel takes no step, and a single tap has no distance to others: these may be any number.
    steps = _unless_single(x.shape[-2:], steps)
    apart = _unless_single(w.shape[2:], apart)
    size, padded = _sizes(x.shape, w.shape, steps, border, more, apart)
    shape = (1 if x.ndim == 3 else x.shape[0], w.shape[1] * number, *size)
    if prod(padded) * max(shape[0], 1) * shape[1] * x.dtype.itemsize > LARGEST:
        raise ValueError(
            f"{NAME}: before padding is cut off the result has size {padded}, more bytes than a process can address"
        )
    (top, left), (bottom, right) = border, (p - e for p, e in zip(border, more))
    geometry = Geometry(steps, (left, right, top, bottom), apart, number, plain_sums())
    images = x if x.ndim == 4 else apply(reshape_op, x, shape=(1, *x.shape))
    y = apply(
        conv_transpose2d_op, in_order(images, IMAGES), in_order(w, WEIGHTS), geometry=geometry, shape=shape
    )
    if b is not None:
        y = apply(add_op, y, apply(reshape_op, b, shape=(*b.shape, 1, 1)))
    return y if x.ndim == 4 else apply(reshape_op, y, shape=y.shape[1:])


def _unless_single(sizes: Shape, numbers: Pair) -> Pair:
    """The numbers of the axes with more than one element, and 1 for the others."""
    vertical, horizontal = (v if n > 1 else 1 for n, v in zip(sizes, numbers))
    return vertical, horizontal


def _check_channels(x: Shape, weight: Shape, bias: Shape | None, groups: int) -> None:
    shapes = f"(input: {x}, weight: {weight}" + (f", groups: {groups})" if groups > 1 else ")")
    if weight[0] % groups:
        raise ValueError(f"{NAME}: groups expects a divisor of the {weight[0]} input channels {shapes}")
    if weight[0] != x[-3]:
        raise ValueError(f"{NAME}: weight expects {weight[0]} input channels, input has {x[-3]} {shapes}")
    if bias is not None and bias != (weight[1] * groups,):
        raise ValueError(f"{NAME}: bias expects shape ({weight[1] * groups},), got {bias} {shapes}")
    if 0 in weight or 0 in x[-3:]:
        raise ValueError(f"{NAME}: expected at least one channel, one output and one pixel {shapes}")


def _sizes(
    x: Shape, weight: Shape, stride: Pair, padding: Pair, more: Pair, dilation: Pair
) -> tuple[Pair, Pair]:
    """Height and width of the result, and of the image that the kernels reach over before padding is cut off."""
    height, width = (
        (n - 1) * s + d * (k - 1) + 1 for n, k, s, d in zip(x[-2:], weight[2:], stride, dilation)
    )
    (top, left), (below, behind) = padding, more
    size = (height - 2 * top + below, width - 2 * left + behind)
    if min(size) < 1:
        raise ValueError(
            f"{NAME}: padding {padding} leaves nothing of the result of size {(height, width)} "
            f"(input: {x}, weight: {weight})"
        )
    return size, (height, width)
