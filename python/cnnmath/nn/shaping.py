"""Layers that move elements: Flatten and paddings."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from .module import Module
from .weighted import whole


class Flatten(Module):
    """Makes one dim of the dims from `start_dim` to `end_dim`, in logical (row-major) order."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, x: Any) -> Any:
        return F.flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class _Pad2d(Module):
    """Padding of the last two dims: an int for all sides, or (left, right, top, bottom)."""

    mode = "constant"

    def __init__(self, padding: Any) -> None:
        super().__init__()
        sides = tuple(padding) if isinstance(padding, (tuple, list)) else (padding,) * 4
        if len(sides) != 4:
            raise ValueError(
                f"{type(self).__name__}: padding expects an int or (left, right, top, bottom), got {padding!r}"
            )
        for side in sides:
            whole(type(self).__name__, -(1 << 62), padding=side)
        self.padding = sides

    def forward(self, x: Any) -> Any:
        return F.pad(x, self.padding, mode=self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ConstantPad2d(_Pad2d):
    """Pads with `value`."""

    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, x: Any) -> Any:
        return F.pad(x, self.padding, mode="constant", value=self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ZeroPad2d(_Pad2d):
    """Pads with zeros."""


class ReflectionPad2d(_Pad2d):
    """Pads with the elements mirrored at the border, which is not repeated."""

    mode = "reflect"


class ReplicationPad2d(_Pad2d):
    """Pads with the elements of the border."""

    mode = "replicate"


class CircularPad2d(_Pad2d):
    """Pads with the elements from the other side."""

    mode = "circular"
