"""Networks without shortcuts: layers one after the other."""

from __future__ import annotations

from .. import nn
from ..nn.weighted import pair, whole

Size = int | tuple[int, int]


def lenet5(
    num_classes: int = 10, in_channels: int = 1, image_size: Size = 28, *, dropout: float = 0.0
) -> nn.Sequential:
    """LeNet-5 in its present form, with ReLU and max pooling: 61,706 parameters.

    Two convolutions and three linear layers. The network sees 32 x 32 pixels: a smaller image gets a border of zeros,
    as MNIST's 28 x 28 did in the paper.

    LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition, 1998.

    Args:
        num_classes: length of the output, the logits.
        in_channels: channels of the image.
        image_size: its side, or (height, width).
        dropout: p of a Dropout after each of the first two linear layers.

    >>> import numpy as np
    >>> from cnnmath import models
    >>> models.lenet5()(np.zeros((2, 1, 28, 28), np.float32)).shape
    (2, 10)
    """
    whole("lenet5", 1, num_classes=num_classes)
    height, width = pair("lenet5", "image_size", image_size, 1)
    down, across = max(32 - height, 0), max(32 - width, 0)
    border = (across // 2, across - across // 2, down // 2, down - down // 2)
    left = [((max(side, 32) - 4) // 2 - 4) // 2 for side in (height, width)]
    return nn.Sequential(
        nn.Conv2d(in_channels, 6, 5, padding=border),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * left[0] * left[1], 120),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(84, num_classes),
    )


def small_cnn(
    num_classes: int = 10,
    in_channels: int = 1,
    image_size: Size = 8,
    *,
    width: int = 16,
    dropout: float = 0.25,
) -> nn.Sequential:
    """Three convolutions with BatchNorm, dropout and one linear layer: 8,538 parameters for 8 x 8 grey images.

    The network of `cnnmath train`: it learns the handwritten digits in seconds. Fashion-MNIST and its like gain by a
    width of 32: 59,690 parameters for 28 x 28 grey images.

    Args:
        num_classes: length of the output, the logits.
        in_channels: channels of the image.
        image_size: its side, or (height, width); at least 4.
        width: channels of the first two convolutions; the third has twice as many.
        dropout: p of the Dropout before the linear layer.

    >>> import numpy as np
    >>> from cnnmath import models
    >>> models.small_cnn()(np.zeros((2, 1, 8, 8), np.float32)).shape
    (2, 10)
    """
    whole("small_cnn", 1, num_classes=num_classes)
    sides = pair("small_cnn", "image_size", image_size, 4)
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(2 * width * (sides[0] // 4) * (sides[1] // 4), num_classes),
    )


def vgg_small(
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: Size = 32,
    *,
    batch_norm: bool = True,
    dropout: float = 0.0,
) -> nn.Sequential:
    """A small VGG: three pairs of 3 x 3 convolutions of 64, 128 and 256 channels, a max pooling after each pair.

    1,188,170 parameters for 32 x 32 colour images, 1,186,378 of them without BatchNorm.

    Simonyan and Zisserman, Very deep convolutional networks for large-scale image recognition, 2014.

    Args:
        num_classes: length of the output, the logits.
        in_channels: channels of the image.
        image_size: its side, or (height, width); at least 8.
        batch_norm: whether each convolution is followed by BatchNorm, as in torchvision's vgg11_bn.
        dropout: p of a Dropout before the linear layer.
    """
    whole("vgg_small", 1, num_classes=num_classes)
    height, width = pair("vgg_small", "image_size", image_size, 8)
    layers: list[nn.Module] = []
    channels = in_channels
    for out in (64, 128, 256):
        for _ in range(2):
            layers.append(nn.Conv2d(channels, out, 3, padding=1))
            if batch_norm:
                layers.append(nn.BatchNorm2d(out))
            layers.append(nn.ReLU())
            channels = out
        layers.append(nn.MaxPool2d(2))
    features = channels * (height // 8) * (width // 8)
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(dropout), nn.Linear(features, num_classes))
