"""The ops of convolution in two dimensions: conv2d, its gradients, and what fusion makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from .. import _core
from ..graph.ir import Node, Op, Shape, Spec, Tensor, apply
from ..planner.lowering import Lowering
from ._moves import in_order
from .linear import column_sums_op
from .normalization import channel_affine

Grads = Sequence["Tensor | None"]
Pair = tuple[int, int]

IMAGES = (0, 2, 3, 1)  # NHWC
WEIGHTS = (2, 3, 1, 0)  # [kh][kw][in][out]


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


def _fields(x: Shape, weight: Shape, y: Shape, g: Geometry, relu: bool = False) -> dict[str, int]:
    """The parameters that the kernels share."""
    (sh, sw), (left, _, top, _), (dh, dw), groups, direct = g
    return {
        "n": x[0], "h": x[2], "w": x[3], "c": x[1], "oc": y[1], "oh": y[2], "ow": y[3], "kh": weight[2],
        "kw": weight[3], "sh": sh, "sw": sw, "dh": dh, "dw": dw, "pt": top, "pl": left, "groups": groups, "relu": relu,
        "direct": direct,
    }  # fmt: skip


def _output(x: Shape, weight: Shape, g: Geometry) -> Shape:
    return (x[0], weight[0], *g.output((x[2], x[3]), (weight[2], weight[3])))


def _gradient_fields(x: Shape, weight: Shape, node: Node) -> dict[str, int]:
    """Those of a gradient with respect to x or weight (which may know no more of y than its maxima)."""
    g = node.attrs["geometry"]
    return _fields(x, weight, _output(x, weight, g), g)


def _gradient_flops(x: Shape, weight: Shape, node: Node) -> int:
    return _flops(weight, _output(x, weight, node.attrs["geometry"]))


def _takes_codes(op: _Fused, node: Node, pool: Any) -> bool:
    """Whether a gradient is done from that of the maxima and their codes, for such a pool."""
    fields = op._fields(node)
    return _pools(node.attrs["geometry"], (fields["oh"], fields["ow"]), pool) and op.takes_more(node)


def _flops(weight: Shape, y: Shape) -> int:
    return 2 * prod(weight[1:]) * prod(y)


def _takes(name: str, dtype: Any, fields: dict[str, int]) -> bool:
    """Whether a kernel does a convolution of that shape."""
    if dtype != np.float32 and "winograd" in name:
        return False
    kernel = _core.find_kernel(name, "f32" if dtype == np.float32 else "f64")
    return kernel.takes([{**fields, "lasting": 0}[field] for field in kernel.fields.split()])


class _Fused(Op):
    """A convolution that Winograd's kernels do together with what stands before and behind it."""

    kernel: str

    def _fields(self, node: Node) -> dict[str, int]:
        raise NotImplementedError

    def takes_more(self, node: Node) -> bool:
        return self._takes(node, self.kernel)

    def _takes(self, node: Node, name: str) -> bool:
        return _takes(name, node.output.dtype, self._fields(node))


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
        takes = any(self._takes(node, name) for name in ("conv2d_winograd_max_pool", "conv2d_max_pool"))
        return conv2d_max_pool_op if takes else None

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
            mean, m2 = moments if moments and low.wanted(moments[0]) else (None, None)
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
        if _takes("conv2d_winograd_max_pool", y.dtype, fields):
            args = [x, affine, weight, bias, y, kept]
            low.call("conv2d_winograd_max_pool", args, weights=weight, **fields)
        else:
            low.call("conv2d_max_pool", [x, weight, bias, y, kept], weights=weight, **fields)

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

    Under a name of its own it is the transposed convolution of dy. Inputs: dy, weight, y?, codes?; outputs: dx, and
    where it is wanted its sum. With y dx is 0 where y <= 0; with codes dy is that of a max-pool behind.
    """

    kernel = "conv2d_winograd_grad_input"
    gradient_input = 0
    relu_input = 2
    codes_input = 3

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
        weight = node.inputs[1]
        assert weight is not None
        return _gradient_fields(node.output.shape, weight.shape, node)

    def takes_codes(self, node: Node, geometry: Any) -> bool:
        return _takes_codes(self, node, geometry)

    def lower(self, low: Lowering, node: Node) -> None:
        (dy, weight), y, codes = node.inputs[:2], node.input(2), node.input(3)
        dx, *sums = node.outputs
        total = sums[0] if sums and low.wanted(sums[0]) else None
        if y is None and codes is None:
            low.call("conv2d_grad_input", [dy, weight, dx], weights=weight, **self._fields(node))
        else:
            low.call(self.kernel, [dy, codes, weight, y, dx, total], **self._fields(node))

    def flops(self, node: Node) -> int:
        weight = node.inputs[1]
        assert weight is not None
        return _gradient_flops(node.output.shape, weight.shape, node)


class _Conv2dGradWeight(_Fused):
    """dL/dweight[o, c, m, n]: the sum of dy[b, o, i, j] x[b, c, i·s + m·d, j·s + n·d] over b, i, j.

    Inputs: x, dy, affine?, codes?; with affine x is normalised, with codes dy is that of a max-pool behind.
    """

    name = "conv2d_grad_weight"
    kernel = "conv2d_winograd_grad_weight"
    gradient_input = 1
    affine_input = 2
    codes_input = 3

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
        x = node.inputs[0]
        assert x is not None
        return _gradient_fields(x.shape, node.output.shape, node)

    def takes_codes(self, node: Node, geometry: Any) -> bool:
        return _takes_codes(self, node, geometry)

    def lower(self, low: Lowering, node: Node) -> None:
        (x, dy), affine, codes = node.inputs[:2], node.input(2), node.input(3)
        if affine is None and codes is None:
            low.call("conv2d_grad_weight", [x, dy, node.output], **self._fields(node))
        else:
            low.call(self.kernel, [x, affine, dy, codes, node.output], **self._fields(node))

    def flops(self, node: Node) -> int:
        x = node.inputs[0]
        assert x is not None
        return _gradient_flops(x.shape, node.output.shape, node)


conv2d_op = _Conv2d()
conv2d_max_pool_op = _Conv2dMaxPool()
conv2d_max_pool_grad_weight_op = _MaxPoolGradWeight()
conv2d_grad_input_op = _Transposed("conv2d_grad_input")
conv2d_grad_weight_op = _Conv2dGradWeight()
conv_transpose2d_op = _Transposed("conv_transpose2d")
