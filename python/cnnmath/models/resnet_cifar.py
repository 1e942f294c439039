"""Residual networks for images of about 32 x 32, as the paper has them for CIFAR-10."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from .. import initializers, nn
from ..nn.weighted import whole


class SubsampledShortcut(nn.Module):
    """Option A of the paper, without parameters: every second pixel, and `channels` in all by planes of zeros.

    As in the checkpoints in use, the zeros stand on both sides of the channels of x.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        more = channels - in_channels
        self.stride = stride
        self.padding = (more // 2, more - more // 2)

    def forward(self, x: Any) -> Any:
        picked = F.avg_pool2d(x, 1, self.stride)  # windows of one pixel: x[..., ::stride, ::stride]
        return F.pad(picked, (0, 0, 0, 0, *self.padding))

    def extra_repr(self) -> str:
        return f"stride={self.stride}, padding={self.padding}"


class CifarBlock(nn.Module):
    """y = relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x)), two 3 x 3 convolutions.

    Where the shapes differ the shortcut is of option "A" (see SubsampledShortcut) or "B": a strided 1 x 1 convolution
    with BatchNorm.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, option: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module
        if stride == 1 and in_channels == out_channels:
            self.shortcut = nn.Sequential()
        elif option == "A":
            self.shortcut = SubsampledShortcut(in_channels, out_channels, stride)
        else:
            projection = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(out_channels))

    def forward(self, x: Any) -> Any:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """A residual network of depth 6n + 2 for images of about 32 x 32 pixels (section 4.2 of the paper).

    A 3 x 3 convolution; three stages of n blocks with 16, 32 and 64 channels, of which the last two halve the sides; a
    mean over the pixels; a linear layer.

    The names in the state dict (`conv1`, `bn1`, `layer1.0.conv1`, ..., `linear`) are those of the PyTorch checkpoints
    of github.com/akamaster/pytorch_resnet_cifar10 without their prefix "module.".

    He, Zhang, Ren and Sun, Deep residual learning for image recognition, 2015.

    Args:
        depth: 20, 32, 44, 56, 110, ...: the number of layers with weights on the longest way.
        num_classes: length of the output, the logits.
        in_channels: channels of the image.
        option: the shortcut where shapes differ: "A", zeros, as in the paper's experiments on CIFAR-10 and in the
            checkpoints, or "B", a 1 x 1 convolution.
    """

    def __init__(self, depth: int, num_classes: int = 10, in_channels: int = 3, *, option: str = "A") -> None:
        super().__init__()
        whole("CifarResNet", 1, num_classes=num_classes)
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"CifarResNet: expected a depth of 6n + 2, such as 20 or 56, got {depth}")
        if option not in ("A", "B"):
            raise ValueError(f"CifarResNet: expected option 'A' or 'B', got {option!r}")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, 1, option)
        self.layer2 = _stage(16, 32, blocks, 2, option)
        self.layer3 = _stage(32, 64, blocks, 2, option)
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.weight.assign(initializers.kaiming_normal(module.weight.shape, nonlinearity="relu"))

    def forward(self, x: Any) -> Any:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(F.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def _stage(in_channels: int, out_channels: int, blocks: int, stride: int, option: str) -> nn.Sequential:
    rest = [CifarBlock(out_channels, out_channels, 1, option) for _ in range(blocks - 1)]
    return nn.Sequential(CifarBlock(in_channels, out_channels, stride, option), *rest)


def resnet20(num_classes: int = 10, in_channels: int = 3, *, option: str = "A") -> CifarResNet:
    """ResNet-20 for small images: 269,722 parameters, 272,474 with shortcuts of option B; see `CifarResNet`.

    >>> import numpy as np
    >>> from cnnmath import models
    >>> models.resnet20()(np.zeros((1, 3, 32, 32), np.float32)).shape
    (1, 10)
    """
    return CifarResNet(20, num_classes, in_channels, option=option)


def resnet32(num_classes: int = 10, in_channels: int = 3, *, option: str = "A") -> CifarResNet:
    """ResNet-32 for small images: 464,154 parameters; see `CifarResNet`."""
    return CifarResNet(32, num_classes, in_channels, option=option)


def resnet44(num_classes: int = 10, in_channels: int = 3, *, option: str = "A") -> CifarResNet:
    """ResNet-44 for small images: 658,586 parameters; see `CifarResNet`."""
    return CifarResNet(44, num_classes, in_channels, option=option)


def resnet56(num_classes: int = 10, in_channels: int = 3, *, option: str = "A") -> CifarResNet:
    """ResNet-56 for small images: 853,018 parameters; see `CifarResNet`."""
    return CifarResNet(56, num_classes, in_channels, option=option)
