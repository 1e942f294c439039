r"""Two-dimensional convolution, its transpose, and their gradients.

What the field calls convolution is the cross-correlation of an image I with a kernel K:

    (I*K)(i, j) = Σ_m Σ_n I(i+m, j+n) K(m, n)

The worked example: a 5x5 image whose rows are 4 3 2 1 0, under a 3x3 kernel whose rows are 1 0 −1. Each of
the three rows adds I(i, j) − I(i, j+2) = 2, so the feature map is 6 everywhere. The article prints 10 for
position (0, 0); its sum is wrong: 3·(4 + 0 − 2) = 6.

>>> import numpy as np
>>> from cnnmath.reference import conv2d
>>> I = np.tile([4.0, 3.0, 2.0, 1.0, 0.0], (5, 1))
>>> K = np.tile([1.0, 0.0, -1.0], (3, 1))
>>> conv2d(I[None], K[None, None])
array([[[6., 6., 6.],
        [6., 6., 6.],
        [6., 6., 6.]]])
"""

from __future__ import annotations

import numpy as np

from ._windows import Array, Four, IntOrPair, Padding, Pair, cropped, four, output_length, padded, pair, taps


def _geometry(
    x: Array, weight: Array, stride: IntOrPair, padding: Padding, dilation: IntOrPair
) -> tuple[Pair, Pair, Pair, Four, Pair]:
    """kernel, stride, dilation, padding, output size: (height, width), or (left, right, top, bottom)."""
    kernel, stride, dilation = (weight.shape[2], weight.shape[3]), pair(stride), pair(dilation)
    border = four(padding, kernel, dilation)
    left, right, top, bottom = border
    height = output_length(x.shape[-2], top, bottom, kernel[0], stride[0], dilation[0])
    width = output_length(x.shape[-1], left, right, kernel[1], stride[1], dilation[1])
    return kernel, stride, dilation, border, (height, width)


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: IntOrPair = 1,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> Array:
    """y[b, o, i, j] = bias[o] + Σ_c Σ_m Σ_n I[b, c, i·s + m·d, j·s + n·d] K[o, c, m, n]

    I is x (N, C, H, W) with a border of zeros, or one image (C, H, W); K is weight (O, C / groups, KH, KW); y
    is (N, O, H', W'). With groups, the channels o of the g-th part of the outputs see the g-th part of the
    inputs only.
    """
    if x.ndim == 3:
        y = conv2d(x[None], weight, bias, stride, padding, dilation, groups)
        return y.reshape(y.shape[1:])
    kernel, stride, dilation, border, out = _geometry(x, weight, stride, padding, dilation)
    images, channels = x.shape[:2]
    outputs = weight.shape[0]
    image = padded(x, border).reshape(images, groups, channels // groups, *_padded_size(x, border))
    k = weight.reshape(groups, outputs // groups, *weight.shape[1:])

    y = np.zeros((images, groups, outputs // groups, *out), np.result_type(x, weight))
    for m, n, seen in taps(image, kernel, stride, dilation, out):
        y += np.einsum("bgchw,goc->bgohw", seen, k[..., m, n])
    y = y.reshape(images, outputs, *out)
    return y if bias is None else y + bias[:, None, None]


def conv2d_backward(
    grad: Array,
    x: Array,
    weight: Array,
    stride: IntOrPair = 1,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> tuple[Array, Array, Array]:
    """(grad_x, grad_weight, grad_bias) from grad = dL/dy, each of the shape of what it belongs to.

        dL/dI[b, c, i·s + m·d, j·s + n·d] += Σ_o K[o, c, m, n] grad[b, o, i, j]     for every tap (m, n)
        dL/dK[o, c, m, n] = Σ_b Σ_i Σ_j grad[b, o, i, j] I[b, c, i·s + m·d, j·s + n·d]
        dL/dbias[o] = Σ_b Σ_i Σ_j grad[b, o, i, j]

    The part of dL/dI that falls on the border is dropped.
    """
    if x.ndim == 3:
        grad_x, *others = conv2d_backward(grad[None], x[None], weight, stride, padding, dilation, groups)
        return grad_x[0], others[0], others[1]
    kernel, stride, dilation, border, out = _geometry(x, weight, stride, padding, dilation)
    images, channels, height, width = x.shape
    outputs = weight.shape[0]
    size = _padded_size(x, border)
    image = padded(x, border).reshape(images, groups, channels // groups, *size)
    k = weight.reshape(groups, outputs // groups, *weight.shape[1:])
    g = grad.reshape(images, groups, outputs // groups, *out)

    grad_image, grad_k = np.zeros_like(image), np.zeros_like(k)
    views = taps(image, kernel, stride, dilation, out), taps(grad_image, kernel, stride, dilation, out)
    for (m, n, seen), (_, _, grad_seen) in zip(*views, strict=True):
        grad_seen += np.einsum("bgohw,goc->bgchw", g, k[..., m, n])
        grad_k[..., m, n] = np.einsum("bgohw,bgchw->goc", g, seen)
    grad_x = cropped(grad_image.reshape(images, channels, *size), border, height, width)
    return grad_x, grad_k.reshape(weight.shape), grad.sum((0, 2, 3))


def conv_transpose2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: IntOrPair = 1,
    padding: IntOrPair = 0,
    output_padding: IntOrPair = 0,
    groups: int = 1,
    dilation: IntOrPair = 1,
) -> Array:
    """y[b, o, i·s + m·d - p, j·s + n·d - p] += Σ_c x[b, c, i, j] K[c, o, m, n]     for every i, j and tap (m, n)

    x is (N, C, H, W) or one image (C, H, W), K is weight (C, O / groups, KH, KW), and y, which begins as bias[o], is
    (N, O, H', W') with H' = (H - 1) s - 2 p + d (KH - 1) + output_padding + 1. What would fall outside of y is dropped.
    With groups, the channels o of the g-th part of the outputs see the g-th part of the inputs only.

    >>> import numpy as np
    >>> from cnnmath.reference import conv_transpose2d
    >>> conv_transpose2d(np.array([[[1.0, 2.0]]]), np.array([[[[1.0, 10.0, 100.0]]]]), stride=2)
    array([[[  1.,  10., 102.,  20., 200.]]])
    """
    if x.ndim == 3:
        y = conv_transpose2d(x[None], weight, bias, stride, padding, output_padding, groups, dilation)
        return y.reshape(y.shape[1:])
    images, channels, height, width = x.shape
    outputs = weight.shape[1] * groups
    parts = x.reshape(images, groups, channels // groups, height, width)
    k = weight.reshape(groups, channels // groups, *weight.shape[1:])
    border, size = _transposed_size(x, weight, stride, padding, output_padding, dilation)

    canvas = np.zeros((images, groups, outputs // groups, *_grown(size, border)), np.result_type(x, weight))
    for m, n, met in taps(canvas, weight.shape[2:], pair(stride), pair(dilation), (height, width)):
        met += np.einsum("bgchw,gco->bgohw", parts, k[..., m, n])
    y = cropped(canvas, border, *size).reshape(images, outputs, *size)
    return y if bias is None else y + bias[:, None, None]


def conv_transpose2d_backward(
    grad: Array,
    x: Array,
    weight: Array,
    stride: IntOrPair = 1,
    padding: IntOrPair = 0,
    output_padding: IntOrPair = 0,
    groups: int = 1,
    dilation: IntOrPair = 1,
) -> tuple[Array, Array, Array]:
    """(grad_x, grad_weight, grad_bias) from grad = dL/dy, each of the shape of what it belongs to.

        dL/dx[b, c, i, j] = Σ_o Σ_m Σ_n grad[b, o, i·s + m·d - p, j·s + n·d - p] K[c, o, m, n]
        dL/dK[c, o, m, n] = Σ_b Σ_i Σ_j grad[b, o, i·s + m·d - p, j·s + n·d - p] x[b, c, i, j]
        dL/dbias[o] = Σ_b Σ_i Σ_j grad[b, o, i, j]

    where grad counts as 0 outside of y: the first is the convolution of grad with K.
    """
    if x.ndim == 3:
        arguments = (stride, padding, output_padding, groups, dilation)
        grad_x, *others = conv_transpose2d_backward(grad[None], x[None], weight, *arguments)
        return grad_x[0], others[0], others[1]
    images, channels, height, width = x.shape
    outputs = weight.shape[1] * groups
    parts = x.reshape(images, groups, channels // groups, height, width)
    k = weight.reshape(groups, channels // groups, *weight.shape[1:])
    border, size = _transposed_size(x, weight, stride, padding, output_padding, dilation)
    canvas = padded(grad, border).reshape(images, groups, outputs // groups, *_grown(size, border))

    grad_parts, grad_k = np.zeros_like(parts), np.zeros_like(k)
    for m, n, met in taps(canvas, weight.shape[2:], pair(stride), pair(dilation), (height, width)):
        grad_parts += np.einsum("bgohw,gco->bgchw", met, k[..., m, n])
        grad_k[..., m, n] = np.einsum("bgohw,bgchw->gco", met, parts)
    return grad_parts.reshape(x.shape), grad_k.reshape(weight.shape), grad.sum((0, 2, 3))


def _transposed_size(
    x: Array, weight: Array, stride: IntOrPair, padding: IntOrPair, more: IntOrPair, dilation: IntOrPair
) -> tuple[Four, Pair]:
    """The border that is cut off a transposed convolution's result, and the (height, width) that is left."""
    (top, left), (below, behind) = pair(padding), pair(more)
    (sh, sw), (dh, dw) = pair(stride), pair(dilation)
    height = (x.shape[-2] - 1) * sh - 2 * top + dh * (weight.shape[2] - 1) + below + 1
    width = (x.shape[-1] - 1) * sw - 2 * left + dw * (weight.shape[3] - 1) + behind + 1
    return (left, left, top, top), (height, width)


def _grown(size: Pair, border: Four) -> Pair:
    left, right, top, bottom = border
    return size[0] + top + bottom, size[1] + left + right


def _padded_size(x: Array, border: Four) -> Pair:
    return _grown((x.shape[-2], x.shape[-1]), border)
