"""Convolution in two dimensions."""

from __future__ import annotations

from math import prod
from typing import Any

from ..graph.ir import LARGEST, Shape, Tensor, apply, as_tensor, current_graph
from ..planner.eager import function
from ._checks import floating
from ._conv_ops import IMAGES, WEIGHTS, Geometry, Pair, conv2d_op
from ._moves import in_order, reshape_op


class _Algorithm:
    """What `set_conv_algorithm` has set; plans depend on it."""

    direct = False

    def plan_key(self) -> bool:
        return self.direct


_algorithm = _Algorithm()


def set_conv_algorithm(algorithm: str) -> None:
    """Sets how convolutions, transposed ones too, and their gradients are summed from now on.

    Args:
        algorithm: "auto" takes Winograd's minimal filtering F(4x4, 3x3) where it is faster: float32, 3 x 3 kernels of
            stride and dilation 1 without groups, from 16 channels on. The shape of a layer decides, not the batch.
            Its largest error is 1e-5 to 3e-5 of the outputs' standard deviation, two to six times that of the plain
            sum, and beside a number far larger than the others in proportion to that one. "direct" takes the plain
            sum everywhere.

    Raises:
        ValueError: another algorithm.
    """
    if algorithm not in ("auto", "direct"):
        raise ValueError(f'set_conv_algorithm: expected "auto" or "direct", got {algorithm!r}')
    _algorithm.direct = algorithm == "direct"


@function
def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """Two-dimensional convolution, as the field calls the cross-correlation of images with kernels.

        y[b, o, i, j] = bias[o] + Σ_c Σ_m Σ_n x[b, c, i·stride + m·dilation, j·stride + n·dilation] weight[o, c, m, n]

    where x is the input with a border of zeros, and the channels o of one group see the channels c of that group only.

    Args:
        input: float32 or float64, shape (N, C, H, W), or (C, H, W) for one image.
        weight: shape (O, C / groups, KH, KW).
        bias: shape (O,), or None.
        stride: step of the kernel, an int or (vertical, horizontal).
        padding: width of the border: an int, (vertical, horizontal), (left, right, top, bottom), "valid" (none)
            or "same" (as much as keeps H and W; stride 1 only; an odd pixel goes to the right and the bottom).
        dilation: distance of the kernel's taps, an int or (vertical, horizontal).
        groups: number of groups; C and O are multiples of it.

    Returns:
        y, shape (N, O, H', W') or (O, H', W'), with H' = (H + top + bottom - dilation·(KH - 1) - 1) // stride + 1.

    Raises:
        ValueError: shapes or values do not fit. TypeError: dtypes differ or are not floating.

    The worked example, an image whose rows are 4 3 2 1 0 under a kernel whose rows are 1 0 -1:

    >>> import numpy as np, cnnmath
    >>> image = np.tile([4.0, 3.0, 2.0, 1.0, 0.0], (1, 1, 5, 1))
    >>> kernel = np.tile([1.0, 0.0, -1.0], (1, 1, 3, 1))
    >>> cnnmath.functional.conv2d(image, kernel)[0, 0].tolist()
    [[6.0, 6.0, 6.0], [6.0, 6.0, 6.0], [6.0, 6.0, 6.0]]
    """
    x, w = as_tensor(input), as_tensor(weight)
    b = None if bias is None else as_tensor(bias)
    floating("conv2d", input=x, weight=w, bias=b)
    if x.ndim not in (3, 4):
        raise ValueError(f"conv2d: input expects shape (N, C, H, W) or (C, H, W), got {x.shape}")
    if w.ndim != 4:
        raise ValueError(f"conv2d: weight expects shape (O, C / groups, KH, KW), got {w.shape}")
    kernel = (w.shape[2], w.shape[3])
    geometry = _geometry(stride, padding, dilation, groups, kernel)
    _check(x.shape, w.shape, None if b is None else b.shape, geometry)
    geometry = _bounded(x, kernel, geometry)
    images = x if x.ndim == 4 else apply(reshape_op, x, shape=(1, *x.shape))
    y = apply(conv2d_op, in_order(images, IMAGES), in_order(w, WEIGHTS), b, geometry=geometry)
    return y if x.ndim == 4 else apply(reshape_op, y, shape=y.shape[1:])


def _geometry(stride: Any, padding: Any, dilation: Any, groups: Any, kernel: Pair) -> Geometry:
    steps = pair("conv2d", "stride", stride, 1)
    apart = pair("conv2d", "dilation", dilation, 1)
    number = group_count("conv2d", groups)
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise ValueError(f'conv2d: padding expects numbers, "same" or "valid", got {padding!r}')
        if padding == "same" and steps != (1, 1):
            raise ValueError(f'conv2d: padding "same" expects stride 1, got {steps}')
        total = [d * (k - 1) if padding == "same" else 0 for d, k in zip(apart, kernel)]
        top, left = total[0] // 2, total[1] // 2
        border = (left, total[1] - left, top, total[0] - top)
    elif isinstance(padding, (tuple, list)) and len(padding) == 4:
        first, second = (pair("conv2d", "padding", part, 0) for part in (padding[:2], padding[2:]))
        border = (*first, *second)
    else:
        vertical, horizontal = pair("conv2d", "padding", padding, 0, " or (left, right, top, bottom)")
        border = (horizontal, horizontal, vertical, vertical)
    return Geometry(steps, border, apart, number, plain_sums())


def plain_sums() -> bool:
    """Whether `set_conv_algorithm` has asked for them; the plan being traced depends on it."""
    graph = current_graph()
    assert graph is not None
    graph.depend(_algorithm)
    return _algorithm.direct


def group_count(op: str, groups: Any) -> int:
    """The number of groups as an int, at least 1."""
    if isinstance(groups, bool) or not hasattr(groups, "__index__"):
        raise TypeError(f"{op}: groups expects an int, got {groups!r}")
    if groups < 1:
        raise ValueError(f"{op}: groups expects a positive number, got {groups}")
    return int(groups.__index__())


def _bounded(x: Tensor, kernel: Pair, g: Geometry) -> Geometry:
    """The same convolution in numbers of the size of the padded image, which must be one that memory could hold.

    A stride beyond the last step, or a dilation of a single tap, may be any number.
    """
    left, right, top, bottom = g.padding
    padded = (x.shape[-2] + top + bottom, x.shape[-1] + left + right)
    if prod(padded) * prod(max(n, 1) for n in x.shape[:-2]) * x.dtype.itemsize > LARGEST:
        raise ValueError(
            f"conv2d: with padding {g.padding} the input {x.shape} would have more bytes than a process can address"
        )
    apart = tuple(d if k > 1 else 1 for d, k in zip(g.dilation, kernel))
    spans = [n - d * (k - 1) for n, d, k in zip(padded, apart, kernel)]
    steps = tuple(min(s, span) for s, span in zip(g.stride, spans))
    return Geometry((steps[0], steps[1]), g.padding, (apart[0], apart[1]), g.groups, g.direct)


def pair(op: str, name: str, value: Any, least: int, also: str = "") -> Pair:
    """(vertical, horizontal) from an int, or one or two of them."""
    values = list(value) if isinstance(value, (tuple, list)) else [value]
    if any(isinstance(v, bool) or not hasattr(v, "__index__") for v in values):
        raise TypeError(f"{op}: {name} expects ints, got {value!r}")
    if len(values) not in (1, 2):
        raise ValueError(f"{op}: {name} expects an int or (vertical, horizontal){also}, got {value!r}")
    first, last = values[0].__index__(), values[-1].__index__()
    if min(first, last) < least:
        raise ValueError(f"{op}: {name} expects numbers >= {least}, got {value!r}")
    return first, last


def _hint(x: Shape, channels: int) -> str:
    """What to do with images whose channels are elsewhere, or not there."""
    if x[-1] == channels:
        form, axes = ("(N, H, W, C)", "0, 3, 1, 2") if len(x) == 4 else ("(H, W, C)", "2, 0, 1")
        return f"; this looks like {form}: x.transpose({axes})"
    if len(x) == 3 and channels == 1:
        return "; for grey images (N, H, W) add the channels: x[:, None]"
    return ""


def _check(x: Shape, weight: Shape, bias: Shape | None, g: Geometry) -> None:
    shapes = f"(input: {x}, weight: {weight}" + (f", groups: {g.groups})" if g.groups > 1 else ")")
    channels = x[-3]
    if weight[0] % g.groups:
        raise ValueError(f"conv2d: groups expects a divisor of the {weight[0]} output channels {shapes}")
    if weight[1] * g.groups != channels:
        raise ValueError(
            f"conv2d: weight expects {weight[1] * g.groups} input channels, input has {channels} {shapes}"
            + _hint(x, weight[1] * g.groups)
        )
    if bias is not None and bias != (weight[0],):
        raise ValueError(f"conv2d: bias expects shape ({weight[0]},), got {bias} {shapes}")
    if 0 in weight or 0 in x[-3:]:
        raise ValueError(f"conv2d: expected at least one channel, one output and one pixel {shapes}")
    if min(g.output((x[-2], x[-1]), (weight[2], weight[3]))) < 1:
        left, right, top, bottom = g.padding
        size = (x[-2] + top + bottom, x[-1] + left + right)
        reach = tuple(d * (k - 1) + 1 for d, k in zip(g.dilation, weight[2:]))
        raise ValueError(f"conv2d: the kernel reaches over {reach}, the padded input has {size} {shapes}")
