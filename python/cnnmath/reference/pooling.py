"""Pooling: a window slides over each channel and keeps its maximum or its mean.

All functions take x (N, C, H, W) or one image (C, H, W). An index is the flat position i·W + j in the input
plane H x W, without padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ._windows import Array, Four, IntOrPair, Padding, Pair, cropped, four, output_length, padded, pair, taps

OutputSize = int | None | Sequence[int | None]


def _geometry(
    x: Array,
    kernel_size: IntOrPair,
    stride: IntOrPair | None,
    padding: Padding,
    dilation: IntOrPair,
    ceil_mode: bool,
) -> tuple[Pair, Pair, Pair, Four, Four, Pair]:
    """kernel, stride, dilation, padding, reach, output size.

    In ceil mode the last windows may reach past the padding: `reach` is the padding with that excess added.
    """
    kernel, dilation = pair(kernel_size), pair(dilation)
    stride = kernel if stride is None or stride == () else pair(stride)
    border = four(padding, kernel, dilation)
    left, right, top, bottom = border
    out, excess = [], []
    for axis, before, after in ((0, top, bottom), (1, left, right)):
        n = x.shape[axis - 2]
        count = output_length(n, before, after, kernel[axis], stride[axis], dilation[axis], ceil_mode)
        end = (count - 1) * stride[axis] + (kernel[axis] - 1) * dilation[axis] + 1
        out.append(count)
        excess.append(max(0, end - (before + n + after)))
    reach = left, right + excess[1], top, bottom + excess[0]
    return kernel, stride, dilation, border, reach, (out[0], out[1])


def max_pool2d(
    x: Array,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    ceil_mode: bool = False,
) -> tuple[Array, Array]:
    """(y, indices): y[b, c, i, j] = max over the taps (m, n) of x[b, c, i·s + m·d − top, j·s + n·d − left]

    Taps outside x do not count. Of equal maxima the first in reading order wins; a NaN wins over everything,
    the last one over the others. stride defaults to kernel_size.
    """
    kernel, stride, dilation, _, reach, out = _geometry(x, kernel_size, stride, padding, dilation, ceil_mode)
    height, width = x.shape[-2:]
    values = padded(x, reach)
    positions = padded(np.arange(height * width).reshape(height, width), reach, fill=-1)

    y = np.full((*x.shape[:-2], *out), -np.inf, x.dtype)
    indices = np.full(y.shape, -1, np.int64)
    seen = taps(values, kernel, stride, dilation, out), taps(positions, kernel, stride, dilation, out)
    for (_, _, value), (_, _, position) in zip(*seen, strict=True):
        first = indices < 0
        wins = (position >= 0) & (first | (value > y) | np.isnan(value))
        y, indices = np.where(wins, value, y), np.where(wins, position, indices)
    return y, indices


def max_pool2d_backward(grad: Array, indices: Array, x_shape: Sequence[int]) -> Array:
    """dL/dx[b, c, p] = Σ of grad[b, c, i, j] over the outputs (i, j) whose maximum stood at position p."""
    *planes, height, width = x_shape
    count = int(np.prod(planes))
    grad_x = np.zeros((count, height * width), grad.dtype)
    at = indices.reshape(count, -1)
    np.add.at(grad_x, (np.arange(count)[:, None], at), grad.reshape(at.shape))
    return grad_x.reshape(x_shape)


def avg_pool2d(
    x: Array,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """y[b, c, i, j] = 1/D Σ_m Σ_n x[b, c, i·s + m − top, j·s + n − left], elements outside x being 0

    D counts the taps that fall on x, and on its padding too if count_include_pad, unless divisor_override
    gives it.
    """
    kernel, stride, dilation, _, reach, out = _geometry(x, kernel_size, stride, padding, 1, ceil_mode)
    divisor = _divisor(x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    y = np.zeros((*x.shape[:-2], *out), x.dtype)
    for _, _, seen in taps(padded(x, reach), kernel, stride, dilation, out):
        y += seen
    return y / divisor


def avg_pool2d_backward(
    grad: Array,
    x: Array,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """dL/dx[b, c, i·s + m − top, j·s + n − left] += grad[b, c, i, j] / D     for every tap (m, n)

    Only the shape of x matters.
    """
    kernel, stride, dilation, _, reach, out = _geometry(x, kernel_size, stride, padding, 1, ceil_mode)
    divisor = _divisor(x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    grad_padded = np.zeros_like(padded(x, reach))
    for _, _, seen in taps(grad_padded, kernel, stride, dilation, out):
        seen += grad / divisor
    return cropped(grad_padded, reach, *x.shape[-2:])


def _divisor(
    x: Array,
    kernel_size: IntOrPair,
    stride: IntOrPair | None,
    padding: Padding,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Array:
    """D of each output position (i, j)."""
    kernel, stride, dilation, border, reach, out = _geometry(x, kernel_size, stride, padding, 1, ceil_mode)
    if divisor_override is not None:
        return np.full(out, divisor_override, x.dtype)
    counts = padded(np.ones(x.shape[-2:], x.dtype), border, fill=1.0 if count_include_pad else 0.0)
    excess = 0, reach[1] - border[1], 0, reach[3] - border[3]
    total = np.zeros(out, x.dtype)
    for _, _, seen in taps(padded(counts, excess), kernel, stride, dilation, out):
        total += seen
    return total


def _adaptive_windows(
    x: Array, output_size: OutputSize
) -> tuple[Pair, Iterator[tuple[int, int, slice, slice]]]:
    """The output size, and for each output (i, j) the rows and columns it covers.

    Along an axis of n elements, output i of o covers the elements from floor(i n / o) to ceil((i + 1) n / o)
    − 1.
    """
    wanted = list(output_size) if isinstance(output_size, Sequence) else [output_size, output_size]
    rows, columns = (n if o is None else o for o, n in zip(wanted, x.shape[-2:], strict=True))

    def part(i: int, o: int, n: int) -> slice:
        return slice(i * n // o, -(-(i + 1) * n // o))

    height, width = x.shape[-2:]
    windows = (
        (i, j, part(i, rows, height), part(j, columns, width)) for i in range(rows) for j in range(columns)
    )
    return (rows, columns), windows


def adaptive_avg_pool2d(x: Array, output_size: OutputSize) -> Array:
    """y[b, c, i, j] = the mean of x[b, c] over rows floor(iH/H') .. ceil((i+1)H/H')−1 and columns likewise

    output_size (H', W') may hold None: as large as the input. adaptive_avg_pool2d(x, 1) is global average
    pooling.
    """
    out, windows = _adaptive_windows(x, output_size)
    y = np.zeros((*x.shape[:-2], *out), x.dtype)
    for i, j, rows, columns in windows:
        y[..., i, j] = x[..., rows, columns].mean((-2, -1))
    return y


def adaptive_avg_pool2d_backward(grad: Array, x: Array, output_size: OutputSize) -> Array:
    """dL/dx[b, c, p] = Σ of grad[b, c, i, j] / (size of window (i, j)) over the windows that hold p."""
    grad_x = np.zeros_like(x)
    for i, j, rows, columns in _adaptive_windows(x, output_size)[1]:
        window = grad_x[..., rows, columns]
        window += grad[..., i, j, None, None] / (window.shape[-2] * window.shape[-1])
    return grad_x


def adaptive_max_pool2d(x: Array, output_size: OutputSize) -> tuple[Array, Array]:
    """(y, indices): the maximum over the same windows as adaptive_avg_pool2d, ties and NaN as in max_pool2d.

    Its gradient is max_pool2d_backward(grad, indices, x.shape).
    """
    out, windows = _adaptive_windows(x, output_size)
    y = np.zeros((*x.shape[:-2], *out), x.dtype)
    indices = np.zeros(y.shape, np.int64)
    for i, j, rows, columns in windows:
        value, position = max_pool2d(
            x[..., rows, columns], (rows.stop - rows.start, columns.stop - columns.start)
        )
        m, n = np.divmod(position[..., 0, 0], columns.stop - columns.start)
        y[..., i, j] = value[..., 0, 0]
        indices[..., i, j] = (rows.start + m) * x.shape[-1] + columns.start + n
    return y, indices


def adaptive_max_pool2d_backward(grad: Array, indices: Array, x_shape: Sequence[int]) -> Array:
    """As max_pool2d_backward."""
    return max_pool2d_backward(grad, indices, x_shape)
