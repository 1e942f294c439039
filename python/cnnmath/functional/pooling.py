"""Pooling: the maximum or the mean over windows of an image.

With kernel size K, stride s, padding p and dilation d, output i of an axis sees the inputs i*s - p + k*d, 0 <= k < K,
that lie inside the image. In adaptive pooling output i of O sees the inputs floor(i*H/O) ... ceil((i+1)*H/O) - 1.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..graph.ir import Node, Op, Shape, Spec, Tensor, apply, as_tensor
from ..planner.eager import default_layout, function
from ..planner.lowering import Lowering
from ._checks import floating

Pair = tuple[int, int]
IntOrPair = int | Sequence[int]

# Codes are read by whole vectors: their buffer is so many elements longer (see cpp/kernels/pool/pool.h).
_CODE_PADDING = 64


class Geometry(NamedTuple):
    """What the kernels need to know beside the shape of x; see cpp/kernels/pool/pool.h."""

    out: Pair
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair = (1, 1)
    adaptive: bool = False
    include_pad: bool = False
    divisor: int = 0

    @property
    def wide(self) -> bool:
        """Whether a place in the window takes more than a byte."""
        return self.kernel[0] * self.kernel[1] > 255


def _fields(shape: Shape, g: Geometry) -> dict[str, int]:
    n, c, h, w = shape
    pairs = {"": g.out, "k": g.kernel, "s": g.stride, "p": g.padding, "d": g.dilation}
    fields = {name + axis: v[i] for name, v in pairs.items() if name for i, axis in enumerate("hw")}
    return {
        **fields,
        **{"n": n, "h": h, "w": w, "c": c, "oh": g.out[0], "ow": g.out[1]},
        **{"adaptive": g.adaptive, "wide": g.wide, "include_pad": g.include_pad, "divisor": g.divisor},
    }


def _output(x: Tensor, g: Geometry) -> Spec:
    return Spec((*x.shape[:2], *g.out), x.dtype)


def _taps(g: Geometry) -> int:
    return g.kernel[0] * g.kernel[1]


class _MaxPool(Op):
    """y[i] = max over window i of x; and the place of the maximum in its window, for the gradient and the indices."""

    name = "max_pool2d"

    def infer(self, x: Tensor, geometry: Geometry) -> tuple[Spec, Spec]:
        y = _output(x, geometry)
        codes = int(np.prod(y.shape)) + _CODE_PADDING
        return y, Spec((codes,), np.dtype(np.int32 if geometry.wide else np.uint8))

    def gradient(
        self, node: Node, grads: Sequence[Tensor | None], needs: Sequence[bool]
    ) -> Sequence[Tensor | None]:
        (x,) = node.inputs
        assert x is not None and grads[0] is not None
        dy = default_layout(grads[0])
        return (apply(max_pool_grad, dy, node.outputs[1], shape=x.shape, geometry=node.attrs["geometry"]),)

    def lower(self, low: Lowering, node: Node) -> None:
        (x,) = node.inputs
        y, codes = node.outputs
        assert x is not None
        kept = codes if low.wanted(codes) else None
        low.call("max_pool2d", [x, y, kept], **_fields(x.shape, node.attrs["geometry"]))

    def flops(self, node: Node) -> int:
        return node.output.size * _taps(node.attrs["geometry"])


class _MaxPoolGrad(Op):
    """dx[i] = sum of dy over the windows whose maximum is x[i]."""

    name = "max_pool2d_grad"

    def infer(self, dy: Tensor, codes: Tensor, shape: Shape, geometry: Geometry) -> Spec:
        return Spec(shape, dy.dtype)

    def lower(self, low: Lowering, node: Node) -> None:
        dy, codes = node.inputs
        assert dy is not None
        low.call(
            "max_pool2d_backward",
            [dy, codes, node.output],
            **_fields(node.output.shape, node.attrs["geometry"]),
        )

    def flops(self, node: Node) -> int:
        return node.output.size


class _MaxPoolIndices(Op):
    """The flat position h*W + w of each maximum in its plane."""

    name = "max_pool2d_indices"

    def infer(self, codes: Tensor, shape: Shape, geometry: Geometry) -> Spec:
        return Spec((*shape[:2], *geometry.out), np.dtype(np.int64))

    def lower(self, low: Lowering, node: Node) -> None:
        fields = _fields(node.attrs["shape"], node.attrs["geometry"])
        low.call("max_pool2d_indices", [node.inputs[0], node.output], dtype="", **fields)


class _AvgPool(Op):
    """y[i] = sum over window i of x / divisor[i]."""

    name = "avg_pool2d"

    def infer(self, x: Tensor, geometry: Geometry) -> Spec:
        return _output(x, geometry)

    def gradient(
        self, node: Node, grads: Sequence[Tensor | None], needs: Sequence[bool]
    ) -> Sequence[Tensor | None]:
        (x,) = node.inputs
        assert x is not None and grads[0] is not None
        return (
            apply(avg_pool_grad, default_layout(grads[0]), shape=x.shape, geometry=node.attrs["geometry"]),
        )

    def lower(self, low: Lowering, node: Node) -> None:
        (x,) = node.inputs
        assert x is not None
        low.call("avg_pool2d", [x, node.output], **_fields(x.shape, node.attrs["geometry"]))

    def flops(self, node: Node) -> int:
        return node.output.size * _taps(node.attrs["geometry"])


class _AvgPoolGrad(Op):
    """dx[i] = sum of dy[o] / divisor[o] over the windows o that hold x[i]."""

    name = "avg_pool2d_grad"

    def infer(self, dy: Tensor, shape: Shape, geometry: Geometry) -> Spec:
        return Spec(shape, dy.dtype)

    def lower(self, low: Lowering, node: Node) -> None:
        fields = _fields(node.output.shape, node.attrs["geometry"])
        low.call("avg_pool2d_backward", [node.inputs[0], node.output], **fields)

    def flops(self, node: Node) -> int:
        dy = node.inputs[0]
        assert dy is not None
        return dy.size * _taps(node.attrs["geometry"])


max_pool_op = _MaxPool()
max_pool_grad = _MaxPoolGrad()
max_pool_indices = _MaxPoolIndices()
avg_pool_op = _AvgPool()
avg_pool_grad = _AvgPoolGrad()


# ---------------------------------------------------------------- arguments


def _int(op: str, name: str, value: Any) -> int:
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{op}: {name} expects an int, got {value!r}")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{op}: {name} expects an int or two of them, got {value!r}") from None


def _pair(op: str, name: str, value: Any) -> Pair:
    """One int for both axes, or (height, width)."""
    if not isinstance(value, (list, tuple)):
        n = _int(op, name, value)
        return n, n
    if len(value) not in (1, 2):
        raise ValueError(f"{op}: {name} expects an int or two of them, got {value!r}")
    return _int(op, name, value[0]), _int(op, name, value[-1])


def _windows(
    op: str, kernel_size: IntOrPair, stride: IntOrPair | None, padding: IntOrPair, dilation: IntOrPair
) -> tuple[Pair, Pair, Pair, Pair]:
    """kernel, stride, padding and dilation as pairs, checked."""
    kernel = _pair(op, "kernel_size", kernel_size)
    missing = stride is None or (isinstance(stride, (list, tuple)) and not stride)
    steps = kernel if missing else _pair(op, "stride", stride)
    pad, dil = _pair(op, "padding", padding), _pair(op, "dilation", dilation)
    for name, values in (("kernel_size", kernel), ("stride", steps), ("dilation", dil)):
        if min(values) < 1:
            raise ValueError(f"{op}: {name} expects positive numbers, got {values}")
    for p, k in zip(pad, kernel):
        if p < 0:
            raise ValueError(f"{op}: padding expects no negative number, got {pad}")
        if p > k // 2:  # PyTorch's rule: it takes no account of the dilation
            raise ValueError(f"{op}: padding may be at most half of kernel_size {kernel}, got {pad}")
    return kernel, steps, pad, dil


def _length(ceil_mode: bool, n: int, k: int, s: int, p: int, d: int) -> int:
    """Number of windows along an axis; rounded up, the last one still begins inside the image or left of it."""
    room = n + 2 * p - d * (k - 1) - 1
    count = (room + (s - 1 if ceil_mode else 0)) // s + 1
    return count - 1 if ceil_mode and (count - 1) * s >= n + p else count


def _strided(op: str, x: Tensor, windows: tuple[Pair, Pair, Pair, Pair], ceil_mode: bool) -> Geometry:
    if x.ndim not in (3, 4) or 0 in x.shape[-3:]:
        raise ValueError(f"{op}: x expects shape (C, H, W) or (N, C, H, W) with C, H, W > 0, got {x.shape}")
    kernel, stride, padding, dilation = windows
    h, w = (_length(ceil_mode, *axis) for axis in zip(x.shape[-2:], kernel, stride, padding, dilation))
    if h < 1 or w < 1:
        window = f"kernel_size {kernel}, dilation {dilation}"
        raise ValueError(f"{op}: the window ({window}) is larger than the padded x {x.shape}")
    return Geometry((h, w), kernel, stride, padding, dilation)


def _output_size(op: str, output_size: Any) -> tuple[int | None, int | None]:
    parts = output_size if isinstance(output_size, (list, tuple)) else (output_size, output_size)
    if len(parts) != 2:
        raise ValueError(
            f"{op}: output_size expects an int, or two (each an int or None), got {output_size!r}"
        )
    height, width = (None if n is None else _int(op, "output_size", n) for n in parts)
    for n in (height, width):
        if n is not None and n < 0:
            raise ValueError(f"{op}: output_size expects no negative number, got {output_size!r}")
    return height, width


def _adaptive(op: str, x: Tensor, size: tuple[int | None, int | None], empty_channels: bool) -> Geometry:
    if x.ndim not in (3, 4) or 0 in x.shape[-2:] or (not empty_channels and x.shape[-3] == 0):
        raise ValueError(f"{op}: x expects shape (C, H, W) or (N, C, H, W) with C, H, W > 0, got {x.shape}")
    (h, w), (oh, ow) = x.shape[-2:], (n if o is None else o for o, n in zip(size, x.shape[-2:]))
    if oh and ow and h % oh == 0 and w % ow == 0:
        step = h // oh, w // ow
        return Geometry((oh, ow), step, step, (0, 0))
    kernel = _longest(h, oh), _longest(w, ow)
    return Geometry((oh, ow), kernel, (1, 1), (0, 0), adaptive=True)


def _longest(n: int, out: int) -> int:
    """The longest window: max over i < out of ceil((i + 1) n / out) - floor(i n / out).

    i n mod out takes all multiples of gcd(n, out), so the remainder r of n / out adds one pixel where it is not 0,
    and another where it reaches over two boundaries.
    """
    if out == 0:
        return 1
    q, r = divmod(n, out)
    return q + (r > 0) + (r > math.gcd(n, out))


def _max_pool(x: Tensor, geometry: Geometry, return_indices: bool) -> Any:
    images = x if x.ndim == 4 else Tensor.operators["reshape"](x, (1, *x.shape))
    y, codes = apply(max_pool_op, images, geometry=geometry)
    if not return_indices:
        return _as_given(y, x)
    indices = apply(max_pool_indices, codes, shape=images.shape, geometry=geometry)
    return _as_given(y, x), _as_given(indices, x)


def _avg_pool(x: Tensor, geometry: Geometry) -> Tensor:
    images = x if x.ndim == 4 else Tensor.operators["reshape"](x, (1, *x.shape))
    return _as_given(apply(avg_pool_op, images, geometry=geometry), x)


def _as_given(y: Tensor, x: Tensor) -> Tensor:
    """Without the batch dim that x did not have."""
    return y if x.ndim == 4 else Tensor.operators["reshape"](y, y.shape[1:])


def _image(op: str, x: Any) -> Tensor:
    return default_layout(floating(op, x=as_tensor(x)))


# ---------------------------------------------------------------- public


def max_pool2d(
    input: Any,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
    dilation: IntOrPair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Maximum over windows: y[n, c, i, j] = max over k, l of x[n, c, i*s - p + k*d, j*s - p + l*d].

    Places outside of the image do not take part. Of equal maxima the first counts; a NaN beats every number.

    Args:
        input: x, float32 or float64, (N, C, H, W) or (C, H, W).
        kernel_size, stride, padding, dilation: an int, or (height, width). The stride is the kernel size by default;
            the padding is at most half of the kernel size.
        ceil_mode: the number of windows is rounded up instead of down.
        return_indices: gives `(y, indices)`, where indices (int64) are the positions h*W + w of the maxima.

    Returns:
        (N, C, OH, OW) with OH = floor((H + 2p - d*(K - 1) - 1) / s) + 1; no N where x has none. Raises ValueError for
        shapes and numbers that do not fit, TypeError for other dtypes.

    >>> import numpy as np, cnnmath
    >>> cnnmath.functional.max_pool2d(np.arange(16.0).reshape(1, 4, 4), 2).tolist()
    [[[5.0, 7.0], [13.0, 15.0]]]
    """
    windows = _windows("max_pool2d", kernel_size, stride, padding, dilation)
    return _max_pool2d(input, windows, bool(ceil_mode), bool(return_indices))


@function
def _max_pool2d(x: Any, windows: tuple[Pair, Pair, Pair, Pair], ceil_mode: bool, return_indices: bool) -> Any:
    x = _image("max_pool2d", x)
    return _max_pool(x, _strided("max_pool2d", x, windows, ceil_mode), return_indices)


def avg_pool2d(
    input: Any,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """Mean over windows: y[n, c, i, j] = sum over k, l of x[n, c, i*s - p + k, j*s - p + l] / D.

    Args:
        input: x, float32 or float64, (N, C, H, W) or (C, H, W).
        kernel_size, stride, padding, ceil_mode: as for max_pool2d; the padding counts as zeros.
        count_include_pad: D is the number of places in the window, those in the padding included; otherwise only
            those in the image.
        divisor_override: D itself.

    Returns:
        (N, C, OH, OW), no N where x has none. Raises ValueError for shapes and numbers that do not fit, TypeError for
        other dtypes.

    >>> import numpy as np, cnnmath
    >>> cnnmath.functional.avg_pool2d(np.arange(16.0).reshape(1, 4, 4), 2).tolist()
    [[[2.5, 4.5], [10.5, 12.5]]]
    """
    windows = _windows("avg_pool2d", kernel_size, stride, padding, 1)
    divisor = 0
    if divisor_override is not None:
        divisor = _int("avg_pool2d", "divisor_override", divisor_override)
        if divisor == 0:
            raise ValueError("avg_pool2d: divisor_override must not be zero")
    return _avg_pool2d(input, windows, bool(ceil_mode), bool(count_include_pad), divisor)


@function
def _avg_pool2d(
    x: Any, windows: tuple[Pair, Pair, Pair, Pair], ceil_mode: bool, include_pad: bool, divisor: int
) -> Any:
    x = _image("avg_pool2d", x)
    geometry = _strided("avg_pool2d", x, windows, ceil_mode)
    return _avg_pool(x, geometry._replace(include_pad=include_pad, divisor=divisor))


def adaptive_avg_pool2d(input: Any, output_size: int | Sequence[int | None] | None) -> Any:
    """Mean over windows that cut the image into a given number of parts; `output_size=1` is global average pooling.

    Args:
        input: x, float32 or float64, (N, C, H, W) or (C, H, W).
        output_size: (OH, OW), or an int for both; None stands for the size of x.

    Returns:
        (N, C, OH, OW), no N where x has none. Raises ValueError for shapes and numbers that do not fit, TypeError for
        other dtypes.

    >>> import numpy as np, cnnmath
    >>> cnnmath.functional.adaptive_avg_pool2d(np.arange(6.0).reshape(1, 2, 3), (1, 2)).tolist()
    [[[2.0, 3.0]]]
    """
    return _adaptive_avg_pool2d(input, _output_size("adaptive_avg_pool2d", output_size))


@function
def _adaptive_avg_pool2d(x: Any, size: tuple[int | None, int | None]) -> Any:
    x = _image("adaptive_avg_pool2d", x)
    return _avg_pool(x, _adaptive("adaptive_avg_pool2d", x, size, empty_channels=True))


def adaptive_max_pool2d(
    input: Any, output_size: int | Sequence[int | None] | None, return_indices: bool = False
) -> Any:
    """Maximum over windows that cut the image into a given number of parts.

    Args:
        input: x, float32 or float64, (N, C, H, W) or (C, H, W).
        output_size: (OH, OW), or an int for both; None stands for the size of x.
        return_indices: gives `(y, indices)`, where indices (int64) are the positions h*W + w of the maxima.

    Returns:
        (N, C, OH, OW), no N where x has none. Raises ValueError for shapes and numbers that do not fit, TypeError for
        other dtypes.

    >>> import numpy as np, cnnmath
    >>> cnnmath.functional.adaptive_max_pool2d(np.arange(6.0).reshape(1, 2, 3), (1, 2)).tolist()
    [[[4.0, 5.0]]]
    """
    return _adaptive_max_pool2d(input, _output_size("adaptive_max_pool2d", output_size), bool(return_indices))


@function
def _adaptive_max_pool2d(x: Any, size: tuple[int | None, int | None], return_indices: bool) -> Any:
    x = _image("adaptive_max_pool2d", x)
    return _max_pool(x, _adaptive("adaptive_max_pool2d", x, size, empty_channels=False), return_indices)
