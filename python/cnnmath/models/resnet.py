"""Residual networks for images of about 224 x 224, with the parameter names of torchvision."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from .. import initializers, nn
from ..nn.weighted import whole


class BasicBlock(nn.Module):
    """y = relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x)), two 3 x 3 convolutions.

    The shortcut is x itself, or a strided 1 x 1 convolution with BatchNorm where the shapes differ (`downsample`).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            projection = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(out_channels))

    def forward(self, x: Any) -> Any:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + shortcut)


class ResNet(nn.Module):
    """A residual network of basic blocks, for images of about 224 x 224 pixels.

    A 7 x 7 convolution and a max pooling, each of stride 2; four stages of blocks with 64, 128, 256 and 512 channels,
    of which the last three halve the sides; a mean over the pixels; a linear layer.

    He, Zhang, Ren and Sun, Deep residual learning for image recognition, 2015.

    Args:
        blocks: the number of blocks of each of the four stages.
        num_classes: length of the output, the logits.
        in_channels: channels of the image.
    """

    def __init__(
        self, blocks: tuple[int, int, int, int], num_classes: int = 1000, in_channels: int = 3
    ) -> None:
        super().__init__()
        whole("ResNet", 1, num_classes=num_classes)
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(64, 64, blocks[0], 1)
        self.layer2 = _stage(64, 128, blocks[1], 2)
        self.layer3 = _stage(128, 256, blocks[2], 2)
        self.layer4 = _stage(256, 512, blocks[3], 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                weight = module.weight
                weight.assign(initializers.kaiming_normal(weight.shape, mode="fan_out", nonlinearity="relu"))

    def forward(self, x: Any) -> Any:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(F.flatten(self.avgpool(x), 1))


def _stage(in_channels: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
    rest = [BasicBlock(out_channels, out_channels) for _ in range(blocks - 1)]
    return nn.Sequential(BasicBlock(in_channels, out_channels, stride), *rest)


def resnet18(num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """ResNet-18: 11,689,512 parameters for 1,000 classes; see `ResNet`. The weights of torchvision's load into it.

    Args:
        num_classes: length of the output, the logits.
        in_channels: channels of the image.

    >>> import numpy as np
    >>> from cnnmath import models
    >>> models.resnet18(num_classes=5)(np.zeros((1, 3, 64, 64), np.float32)).shape
    (1, 5)
    """
    return ResNet((2, 2, 2, 2), num_classes, in_channels)


def resnet34(num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """ResNet-34: 21,797,672 parameters for 1,000 classes; see `resnet18`."""
    return ResNet((3, 4, 6, 3), num_classes, in_channels)
