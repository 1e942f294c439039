"""Convolution in two dimensions and its gradients."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from .. import _core
from ..graph.ir import LARGEST, Node, Op, Shape, Spec, Tensor, apply, as_tensor, current_graph
from ..planner.eager import function
from ..planner.lowering import Lowering
from ._checks import floating
from ._moves import in_order, reshape_op
from .linear import column_sums_op
from .normalization import channel_affine

Grads = Sequence["Tensor | None"]
Pair = tuple[int, int]

IMAGES = (0, 2, 3, 1)  # NHWC
WEIGHTS = (2, 3, 1, 0)  # [kh][kw][in][out]
FEW = 8  # outputs that go into the lanes of pixels, with a max-pool behind them at once


class Geometry(NamedTuple):
    """How the kernel moves over the image; pairs are (vertical, horizontal)."""

    stride: Pair
    padding: tuple[int, int, int, int]  # left, right, top, bottom; below 0 what no kernel reaches
    dilation: Pair
    groups: int
    direct: bool = False  # not by Winograd's filtering

    def output(self, size: Pair, kernel: Pair) -> Pair:
        """Height and width of the feature map."""
        left, right, top, bottom = self.padding
        h, w = (
            (n + border - d * (k - 1) - 1) // s + 1
            for n, border, d, k, s in zip(
                size, (top + bottom, left + right), self.dilation, kernel, self.stride
            )
        )
        return h, w


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


def _fields(x: Shape, weight: Shape, y: Shape, g: Geometry, relu: bool = False) -> dict[str, int]:
    """The parameters that the kernels share."""
    (sh, sw), (left, _, top, _), (dh, dw), groups, direct = g
    return {
        "n": x[0], "h": x[2], "w": x[3], "c": x[1], "oc": y[1], "oh": y[2], "ow": y[3], "kh": weight[2],
        "kw": weight[3], "sh": sh, "sw": sw, "dh": dh, "dw": dw, "pt": top, "pl": left, "groups": groups, "relu": relu,
        "direct": direct,
    }  # fmt: skip


def _flops(weight: Shape, y: Shape) -> int:
    return 2 * prod(weight[1:]) * prod(y)


class _Fused(Op):
    """A convolution that Winograd's kernels do together with what stands before and behind it."""

    kernel: str

    def _fields(self, node: Node) -> dict[str, int]:
        raise NotImplementedError

    def takes_more(self, node: Node) -> bool:
        return self._takes(node, self.kernel)

    def _takes(self, node: Node, name: str) -> bool:
        if node.output.dtype != np.float32:
            return False
        kernel, fields = _core.find_kernel(name, "f32"), {**self._fields(node), "lasting": 0}
        return kernel.takes([fields[field] for field in kernel.fields.split()])


class _Conv2d(_Fused):
    """y = act(x * weight + bias); act is relu where `relu` is set.

    Inputs: x, weight, bias?, affine?; outputs: y, and where they are wanted its moments. With affine x is normalised.
    """

    name = "conv2d"
    kernel = "conv2d_winograd"
    fuses_relu = True
    affine_input = 3
    gives_moments = True

    def infer(self, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Spec:
        size = geometry.output((x.shape[2], x.shape[3]), (weight.shape[2], weight.shape[3]))
        return Spec((x.shape[0], weight.shape[0], *size), x.dtype, IMAGES)

    def gradient(self, node: Node, grads: Grads, needs: Sequence[bool]) -> Grads:
        x, weight, _ = node.inputs
        assert x is not None and weight is not None and grads[0] is not None
        g = node.attrs["geometry"]
        dy = in_order(grads[0], IMAGES)
        return (
            apply(conv2d_grad_input_op, dy, weight, geometry=g, shape=x.shape) if needs[0] else None,
            apply(conv2d_grad_weight_op, x, dy, geometry=g, shape=weight.shape) if needs[1] else None,
            apply(column_sums_op, dy) if needs[2] else None,
        )

    def with_batch_norm(self, node: Node, norm: Node) -> tuple[Tensor | None, ...] | None:
        x, weight, bias = node.inputs
        assert weight is not None
        scale, shift = channel_affine(norm, bias)
        scaled = in_order(Tensor.operators["mul"](weight, scale.reshape(-1, 1, 1, 1)), WEIGHTS)
        return x, scaled, shift

    def with_max_pool(self, node: Node, geometry: Any) -> Op | None:
        if not _pools(node.attrs["geometry"], node.output.shape[2:], geometry):
            return None
        by_winograd = self._takes(node, "conv2d_winograd_max_pool")
        return conv2d_max_pool_op if by_winograd or node.output.shape[1] <= FEW else None

    def _fields(self, node: Node) -> dict[str, int]:
        x, weight = node.inputs[:2]
        assert x is not None and weight is not None
        g, relu = node.attrs["geometry"], bool(node.attrs.get("relu"))
        return _fields(x.shape, weight.shape, node.output.shape, g, relu)

    def lower(self, low: Lowering, node: Node) -> None:
        (x, weight, bias), affine = node.inputs[:3], node.input(3)
        y, *moments = node.outputs
        if affine is None and not moments:
            low.call("conv2d", [x, weight, bias, y], weights=weight, **self._fields(node))
        else:
            mean, m2 = moments or (None, None)
            low.call(self.kernel, [x, affine, weight, bias, y, mean, m2], **self._fields(node))

    def flops(self, node: Node) -> int:
        weight, bias = node.inputs[1:3]
        assert weight is not None
        return _flops(weight.shape, node.output.shape) + (bias is not None) * node.output.size


def _pools(geometry: Geometry, size: Sequence[int], pool: Any) -> bool:
    """Whether the kernels with a max-pool take a convolution with outputs of that size, and that pool."""
    apart = not pool.adaptive and pool.kernel == pool.stride == (2, 2) and pool.padding == (0, 0)
    plain = geometry.groups == 1 and geometry.stride == geometry.dilation == (1, 1)
    return apart and plain and pool.dilation == (1, 1) and pool.out == (size[0] // 2, size[1] // 2)


class _Conv2dMaxPool(Op):
    """y[b, o, i, j] = max over k, l < 2 of conv2d(x, weight, bias)[b, o, 2i + k, 2j + l], codes 2k + l of the maxima.

    Fusion makes it of conv2d (with its inputs and relu) and a max-pool behind it, whose outputs these are, to the bit.
    """

    name = "conv2d_max_pool"

    def lower(self, low: Lowering, node: Node) -> None:
        (x, weight, bias), affine = node.inputs[:3], node.input(3)
        y, codes = node.outputs
        assert x is not None and weight is not None
        kept = codes if low.wanted(codes) else None
        fields = _fields(
            x.shape, weight.shape, self._conv(node), node.attrs["geometry"], bool(node.attrs.get("relu"))
        )
        if y.shape[1] <= FEW:
            low.call("conv2d_max_pool", [x, weight, bias, y, kept], weights=weight, **fields)
        else:
            args = [x, affine, weight, bias, y, kept]
            low.call("conv2d_winograd_max_pool", args, weights=weight, **fields)

    def _conv(self, node: Node) -> Shape:
        x, weight = node.inputs[:2]
        assert x is not None and weight is not None
        return conv2d_op.infer(x, weight, None, node.attrs["geometry"]).shape

    def flops(self, node: Node) -> int:
        weight, bias = node.inputs[1:3]
        assert weight is not None
        conv = self._conv(node)
        return _flops(weight.shape, conv) + (bias is not None) * prod(conv) + 4 * node.output.size


class _MaxPoolGradWeight(Op):
    """dL/dweight[o, c, m, n]: the sum of dy[b, o, i, j] x[b, c, 2i + k + m, 2j + l + n] over b, i, j (codes: 2k + l).

    Fusion makes it of conv2d_grad_weight and the gradient of the max-pool before it, dy being that of the maxima.
    """

    name = "conv2d_max_pool_grad_weight"

    def lower(self, low: Lowering, node: Node) -> None:
        x, dy, codes = node.inputs
        assert x is not None and dy is not None
        dw, g = node.output, node.attrs["geometry"]
        size = g.output((x.shape[2], x.shape[3]), (dw.shape[2], dw.shape[3]))
        fields = _fields(x.shape, dw.shape, (*dy.shape[:2], *size), g)
        low.call(self.name, [x, dy, codes, dw], **fields)

    def flops(self, node: Node) -> int:
        dy = node.inputs[1]
        assert dy is not None
        return _flops(node.output.shape, dy.shape)


class _Transposed(_Fused):
    """dL/dx from dy = dL/dy: every dy[n, o, i, j] goes back along the weights that it came by.

    Under a name of its own it is the transposed convolution of dy. Inputs: dy, weight, y?; outputs: dx, and where it is
    wanted its sum. With y dx is 0 where not y > 0.
    """

    kernel = "conv2d_winograd_grad_input"
    relu_input = 2

    def __init__(self, name: str) -> None:
        self.name = name

    def infer(self, dy: Tensor, weight: Tensor, geometry: Geometry, shape: Shape) -> Spec:
        return Spec(shape, dy.dtype, IMAGES)

    def gradient(self, node: Node, grads: Grads, needs: Sequence[bool]) -> Grads:
        dy, weight = node.inputs
        assert dy is not None and weight is not None and grads[0] is not None
        v, g = in_order(grads[0], IMAGES), node.attrs["geometry"]
        return (
            apply(conv2d_op, v, weight, None, geometry=g) if needs[0] else None,
            apply(conv2d_grad_weight_op, v, dy, geometry=g, shape=weight.shape) if needs[1] else None,
        )

    def _fields(self, node: Node) -> dict[str, int]:
        dy, weight = node.inputs[:2]
        assert dy is not None and weight is not None
        return _fields(node.output.shape, weight.shape, dy.shape, node.attrs["geometry"])

    def lower(self, low: Lowering, node: Node) -> None:
        (dy, weight), y = node.inputs[:2], node.input(2)
        dx, *sums = node.outputs
        total = sums[0] if sums else None
        if y is None:
            low.call("conv2d_grad_input", [dy, weight, dx], weights=weight, **self._fields(node))
        else:
            low.call(self.kernel, [dy, weight, y, dx, total], **self._fields(node))

    def flops(self, node: Node) -> int:
        dy, weight = node.inputs[:2]
        assert dy is not None and weight is not None
        return _flops(weight.shape, dy.shape)


class _Conv2dGradWeight(_Fused):
    """dL/dweight[o, c, m, n]: the sum of dy[b, o, i, j] x[b, c, i·s + m·d, j·s + n·d] over b, i, j.

    Inputs: x, dy, affine?; with affine x is normalised.
    """

    name = "conv2d_grad_weight"
    kernel = "conv2d_winograd_grad_weight"
    affine_input = 2

    def infer(self, x: Tensor, dy: Tensor, geometry: Geometry, shape: Shape) -> Spec:
        return Spec(shape, x.dtype, WEIGHTS)

    def gradient(self, node: Node, grads: Grads, needs: Sequence[bool]) -> Grads:
        x, dy = node.inputs
        assert x is not None and dy is not None and grads[0] is not None
        v, g = in_order(grads[0], WEIGHTS), node.attrs["geometry"]
        return (
            apply(conv2d_grad_input_op, dy, v, geometry=g, shape=x.shape) if needs[0] else None,
            apply(conv2d_op, x, v, None, geometry=g) if needs[1] else None,
        )

    def with_max_pool(self, node: Node, geometry: Any) -> Op | None:
        x, dy = node.inputs[:2]
        assert x is not None and dy is not None
        few = x.shape[1] * node.output.shape[3] <= 16  # numbers in a row of the kernel
        fits = few and _pools(node.attrs["geometry"], dy.shape[2:], geometry)
        return conv2d_max_pool_grad_weight_op if fits else None

    def _fields(self, node: Node) -> dict[str, int]:
        x, dy = node.inputs[:2]
        assert x is not None and dy is not None
        return _fields(x.shape, node.output.shape, dy.shape, node.attrs["geometry"])

    def lower(self, low: Lowering, node: Node) -> None:
        (x, dy), affine = node.inputs[:2], node.input(2)
        if affine is None:
            low.call("conv2d_grad_weight", [x, dy, node.output], **self._fields(node))
        else:
            low.call(self.kernel, [x, affine, dy, node.output], **self._fields(node))

    def flops(self, node: Node) -> int:
        dy = node.inputs[1]
        assert dy is not None
        return _flops(node.output.shape, dy.shape)


conv2d_op = _Conv2d()
conv2d_max_pool_op = _Conv2dMaxPool()
conv2d_max_pool_grad_weight_op = _MaxPoolGradWeight()
conv2d_grad_input_op = _Transposed("conv2d_grad_input")
conv2d_grad_weight_op = _Conv2dGradWeight()
conv_transpose2d_op = _Transposed("conv_transpose2d")


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
