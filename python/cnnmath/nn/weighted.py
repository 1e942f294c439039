"""Layers with a weight and a bias: Linear, Conv2d and ConvTranspose2d."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import functional as F
from .. import initializers
from ..graph.variable import HWIO
from .module import Module
from .parameter import Parameter


def whole(layer: str, least: int, **values: Any) -> None:
    """Checks that values are whole numbers, not below `least`."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise TypeError(f"{layer}: {name} expects an int, got {type(value).__name__}")
        if value < least:
            raise ValueError(f"{layer}: {name} expects at least {least}, got {value}")


def pair(layer: str, name: str, value: Any, least: int) -> tuple[int, int]:
    """(height, width) of an int or a pair of ints."""
    both = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(both) == 1:
        both *= 2
    if len(both) != 2:
        raise ValueError(f"{layer}: {name} expects an int or 2 ints, got {value!r}")
    for v in both:
        whole(layer, least, **{name: v})
    return int(both[0]), int(both[1])


class _Weighted(Module):
    """Weight and bias with PyTorch's first values: both uniform within ±1/sqrt(fan_in)."""

    weight: Parameter
    bias: Parameter | None

    def _make(
        self,
        shape: tuple[int, ...],
        outputs: int,
        bias: bool,
        dtype: Any,
        order: tuple[int, ...] | None = None,
    ) -> None:
        self.weight = Parameter(np.zeros(shape, dtype or np.float32), order=order)
        self.register_parameter("bias", Parameter(np.zeros(outputs, dtype or np.float32)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws new first values."""
        shape, dtype = self.weight.shape, self.weight.dtype
        self.weight.assign(initializers.kaiming_uniform(shape, a=math.sqrt(5), dtype=dtype))
        if self.bias is not None:
            fan_in, _ = initializers.fans(shape)
            bound = 1 / math.sqrt(fan_in) if fan_in > 0 else 0.0
            self.bias.assign(initializers.uniform(self.bias.shape, -bound, bound, dtype=dtype))


class Linear(_Weighted):
    """y = x Wᵀ + b, over the last dim of x.

    Args:
        in_features: length of the last dim of the input.
        out_features: length of the last dim of the output.
        bias: whether b is there.
        dtype: float32 (the default) or float64.

    Attributes:
        weight: W, (out_features, in_features).
        bias: b, (out_features,).

    >>> import numpy as np
    >>> from cnnmath import nn
    >>> nn.Linear(4, 3)(np.ones((2, 4), np.float32)).shape
    (2, 3)
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, dtype: Any = None) -> None:
        super().__init__()
        whole("Linear", 0, in_features=in_features, out_features=out_features)
        self.in_features = in_features
        self.out_features = out_features
        self._make((out_features, in_features), out_features, bias, dtype)

    def forward(self, x: Any) -> Any:
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        )


class _Conv(_Weighted):
    """What both directions of convolution have in common."""

    padding: Any
    output_padding: tuple[int, int] = (0, 0)
    padding_mode: str

    def _set(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any, dilation: Any, groups: int
    ) -> None:
        layer = type(self).__name__
        whole(layer, 1, in_channels=in_channels, out_channels=out_channels, groups=groups)
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{layer}: in_channels ({in_channels}) and out_channels ({out_channels}) must be multiples of "
                f"groups ({groups})"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = pair(layer, "kernel_size", kernel_size, 1)
        self.stride = pair(layer, "stride", stride, 1)
        self.dilation = pair(layer, "dilation", dilation, 1)
        self.groups = groups

    def extra_repr(self) -> str:
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        )
        if self.padding != (0, 0):
            text += f", padding={self.padding}"
        if self.dilation != (1, 1):
            text += f", dilation={self.dilation}"
        if self.output_padding != (0, 0):
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text


_PAD_MODES = ("zeros", "reflect", "replicate", "circular")


class Conv2d(_Conv):
    """Cross-correlation of an image with learned kernels, as in `cnnmath.functional.conv2d`.

    Args:
        in_channels, out_channels: channels of the input and of the output.
        kernel_size, stride, dilation: an int, or (height, width).
        padding: an int, (height, width), (left, right, top, bottom), "same" or "valid".
        groups: input and output channels are cut into so many groups that do not see each other.
        bias: whether a number is added to each output channel.
        padding_mode: "zeros", "reflect", "replicate" or "circular".
        dtype: float32 (the default) or float64.

    Attributes:
        weight: (out_channels, in_channels / groups, kernel height, kernel width).
        bias: (out_channels,).

    Shapes: (N, in_channels, H, W) to (N, out_channels, H', W'); also without N.

    >>> import numpy as np
    >>> from cnnmath import nn
    >>> nn.Conv2d(3, 8, 3, padding=1)(np.ones((2, 3, 5, 5), np.float32)).shape
    (2, 8, 5, 5)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self._set(in_channels, out_channels, kernel_size, stride, dilation, groups)
        if padding_mode not in _PAD_MODES:
            raise ValueError(f"Conv2d: padding_mode expects one of {_PAD_MODES}, got {padding_mode!r}")
        self.padding_mode = padding_mode
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f'Conv2d: padding expects numbers, "same" or "valid", got {padding!r}')
            if padding == "same" and self.stride != (1, 1):
                raise ValueError(f'Conv2d: padding "same" needs a stride of 1, got {self.stride}')
            self.padding = padding
        elif isinstance(padding, (tuple, list)) and len(padding) == 4:
            for p in padding:
                whole("Conv2d", 0, padding=p)
            self.padding = tuple(int(p) for p in padding)
        else:
            self.padding = pair("Conv2d", "padding", padding, 0)
        self._make((out_channels, in_channels // groups, *self.kernel_size), out_channels, bias, dtype, HWIO)

    def _sides(self) -> tuple[int, int, int, int]:
        """(left, right, top, bottom), for paddings that are not zeros."""
        if self.padding == "valid":
            return 0, 0, 0, 0
        if self.padding == "same":
            height, width = (d * (k - 1) for d, k in zip(self.dilation, self.kernel_size))
            return width // 2, width - width // 2, height // 2, height - height // 2
        if len(self.padding) == 4:
            left, right, top, bottom = self.padding
            return left, right, top, bottom
        height, width = self.padding
        return width, width, height, height

    def forward(self, x: Any) -> Any:
        padding = self.padding
        if self.padding_mode != "zeros":
            x, padding = F.pad(x, self._sides(), mode=self.padding_mode), 0
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class ConvTranspose2d(_Conv):
    """Transposed convolution, as in `cnnmath.functional.conv_transpose2d`: the way back through a Conv2d's shapes.

    With stride s it makes an image about s times as high and wide, with learned kernels.

    Args:
        in_channels, out_channels: channels of the input and of the output.
        kernel_size, stride, dilation: an int, or (height, width).
        padding: rows and columns of the output that are cut off on each side, an int or (height, width).
        output_padding: rows and columns that the output has in addition at the bottom and on the right, an int or
            (height, width), smaller than the stride or the dilation.
        groups: input and output channels are cut into so many groups that do not see each other.
        bias: whether a number is added to each output channel.
        padding_mode: "zeros", the only one.
        dtype: float32 (the default) or float64.

    Attributes:
        weight: (in_channels, out_channels / groups, kernel height, kernel width).
        bias: (out_channels,).

    Shapes: (N, in_channels, H, W) to (N, out_channels, H', W'), with
    H' = (H - 1) stride - 2 padding + dilation (kernel height - 1) + output_padding + 1; also without N.

    >>> import numpy as np
    >>> from cnnmath import nn
    >>> nn.ConvTranspose2d(8, 3, 2, stride=2)(np.ones((2, 8, 5, 5), np.float32)).shape
    (2, 3, 10, 10)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        *,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self._set(in_channels, out_channels, kernel_size, stride, dilation, groups)
        if padding_mode != "zeros":
            raise ValueError(f'ConvTranspose2d: padding_mode expects "zeros", got {padding_mode!r}')
        self.padding_mode = padding_mode
        self.padding = pair("ConvTranspose2d", "padding", padding, 0)
        self.output_padding = pair("ConvTranspose2d", "output_padding", output_padding, 0)
        self._make((in_channels, out_channels // groups, *self.kernel_size), out_channels, bias, dtype, HWIO)

    def forward(self, x: Any, output_size: Any = None) -> Any:
        """`output_size`, (H', W') or the whole shape, chooses among the sizes that a Conv2d of this stride would bring
        to that of x: it stands in for `output_padding`."""
        more = self.output_padding
        if output_size is not None and len(x.shape) in (3, 4):
            more = self._padding_for(x.shape, output_size)
        return F.conv_transpose2d(
            x, self.weight, self.bias, self.stride, self.padding, more, self.groups, self.dilation
        )

    def _padding_for(self, shape: tuple[int, ...], output_size: Any) -> tuple[int, int]:
        """The output padding that leads from an input of this shape to that size."""
        if not isinstance(output_size, (tuple, list)):
            raise TypeError(f"ConvTranspose2d: output_size expects ints, got {output_size!r}")
        if len(output_size) not in (2, len(shape)):
            raise ValueError(
                f"ConvTranspose2d: output_size expects 2 or {len(shape)} numbers for an input of shape {shape}, "
                f"got {tuple(output_size)}"
            )
        size = pair("ConvTranspose2d", "output_size", output_size[-2:], 0)
        least = [
            (n - 1) * s - 2 * p + d * (k - 1) + 1
            for n, s, p, d, k in zip(shape[-2:], self.stride, self.padding, self.dilation, self.kernel_size)
        ]
        most = [n + s - 1 for n, s in zip(least, self.stride)]
        if not all(a <= n <= b for a, n, b in zip(least, size, most)):
            raise ValueError(
                f"ConvTranspose2d: output_size expects {tuple(least)} to {tuple(most)} for an input of shape {shape}, "
                f"got {size}"
            )
        return size[0] - least[0], size[1] - least[1]
