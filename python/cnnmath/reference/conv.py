r"""Two-dimensional convolution and its gradients.

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


def _padded_size(x: Array, border: Four) -> Pair:
    left, right, top, bottom = border
    return x.shape[-2] + top + bottom, x.shape[-1] + left + right
