"""The networks of the benchmarks, built from any module namespace with PyTorch's names.

`network("lenet5").build(torch.nn)`, `.build(cnnmath.nn)` and `.build(numpy_cnn)` give the same network with the same
parameter names, so that weights go from one to the other as a dictionary of arrays.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from . import numpy_cnn

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Network:
    build: Callable[[Any], Any]
    input: tuple[int, int, int]
    classes: int
    batch: int
    dense: bool = False  # a class for each pixel


def residual(nn: Any, main: Any, shortcut: Any) -> Any:
    """relu(main(x) + shortcut(x)), a Module of that namespace."""
    if nn is numpy_cnn:
        return numpy_cnn.Residual(main, shortcut)
    return _residual_class(nn)(main, shortcut)


def _residual_class(nn: Any) -> Any:
    """One class a namespace."""
    if nn not in _classes:

        class Residual(nn.Module):  # type: ignore[misc]
            def __init__(self, main: Any, shortcut: Any) -> None:
                super().__init__()
                self.main, self.shortcut, self.relu = main, shortcut, nn.ReLU()

            def forward(self, x: Any) -> Any:
                return self.relu(self.main(x) + self.shortcut(x))

        _classes[nn] = Residual
    return _classes[nn]


def _skip_class(nn: Any) -> Any:
    """x and inner(x), one after the other in their channels."""

    class Skip(nn.Module):  # type: ignore[misc]
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Any) -> Any:
            if nn.__name__ == "torch.nn":
                from torch import cat
            else:
                from ..functional import cat
            return cat([x, self.inner(x)], 1)

    return Skip


_classes: dict[Any, Any] = {}


def lenet5(nn: Any) -> Any:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )


def mnist_cnn(nn: Any) -> Any:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(9216, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def vgg_small(nn: Any) -> Any:
    layers: list[Any] = []
    channels = 3
    for width in (64, 128, 256):
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4096, 10))


def _basic_block(nn: Any, inputs: int, outputs: int, stride: int) -> Any:
    main = nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
    )
    if stride == 1 and inputs == outputs:
        return residual(nn, main, nn.Identity())
    projection = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
    return residual(nn, main, nn.Sequential(projection, nn.BatchNorm2d(outputs)))


def _stages(nn: Any, inputs: int, widths: tuple[int, ...], blocks: int) -> list[Any]:
    layers = []
    for stage, width in enumerate(widths):
        for block in range(blocks):
            layers.append(_basic_block(nn, inputs, width, 2 if stage > 0 and block == 0 else 1))
            inputs = width
    return layers


def resnet20(nn: Any) -> Any:
    stem = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(*stem, *_stages(nn, 16, (16, 32, 64), 3), *head)


def resnet18(nn: Any) -> Any:
    stem = [nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000)]
    pool = nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Sequential(*stem, pool, *_stages(nn, 64, (64, 128, 256, 512), 2), *head)


def plain(channels: int, nn: Any) -> Any:
    """Four convolutions, of `channels` and twice as many."""
    layers: list[Any] = []
    inputs = 3
    for width in (channels, 2 * channels):
        for _ in range(2):
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
            inputs = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))


def separable(nn: Any) -> Any:
    """Depthwise and pointwise convolutions in turn, as in MobileNet."""
    layers = [nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
    inputs = 32
    for width, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)):
        depthwise = nn.Conv2d(inputs, inputs, 3, stride=stride, padding=1, groups=inputs, bias=False)
        layers += [depthwise, nn.BatchNorm2d(inputs), nn.ReLU()]
        layers += [nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10))


def mlp(nn: Any) -> Any:
    hidden = [nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(512, 10))


def unet(nn: Any) -> Any:
    """Two levels down and up again: transposed convolutions, and skips that are concatenated."""

    def block(inputs: int, outputs: int) -> list[Any]:
        layers: list[Any] = []
        for channels in (inputs, outputs):
            layers += [
                nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
            ]
        return layers

    def level(width: int, below: list[Any]) -> list[Any]:
        down = [nn.MaxPool2d(2), *block(width, 2 * width), *below]
        up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        return [_skip_class(nn)(nn.Sequential(*down, up)), *block(2 * width, width)]

    return nn.Sequential(*block(3, 16), *level(16, level(32, [])), nn.Conv2d(16, 3, 1))


def odd(nn: Any) -> Any:
    """Sizes and channels that divide by nothing, large kernels, dilation."""
    return nn.Sequential(
        nn.Conv2d(3, 13, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(13, 29, 7, padding=3),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(29, 31, 3, padding=1, dilation=2),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(496, 7),
    )


NETWORKS = {
    "lenet5": Network(lenet5, (1, 28, 28), 10, 64),
    "mnist_cnn": Network(mnist_cnn, (1, 28, 28), 10, 64),
    "vgg_small": Network(vgg_small, (3, 32, 32), 10, 64),
    "resnet20": Network(resnet20, (3, 32, 32), 10, 128),
    "resnet18": Network(resnet18, (3, 224, 224), 1000, 16),
}


# What no kernel was made for.
UNTUNED = {
    "separable": Network(separable, (3, 96, 96), 10, 16),
    "mlp": Network(mlp, (1, 28, 28), 10, 128),
    "odd": Network(odd, (3, 45, 51), 7, 17),
    "unet": Network(unet, (3, 64, 64), 3, 8, dense=True),
    "lenet5@1": replace(NETWORKS["lenet5"], batch=1),
    "vgg_small@1": replace(NETWORKS["vgg_small"], batch=1),
    "resnet20@1": replace(NETWORKS["resnet20"], batch=1),
}


def network(name: str) -> Network:
    """A network by its name; "plain-64-32" is the plain one with 64 channels on images of 32x32."""
    if name.startswith("plain-"):
        channels, size = map(int, name.split("-")[1:])
        return Network(partial(plain, channels), (3, size, size), 10, 32)
    return NETWORKS[name] if name in NETWORKS else UNTUNED[name]


def initial_state(state: Mapping[str, Array], seed: int = 0) -> dict[str, Array]:
    """Weights for a network with this state, the same in every library: normal with variance 2 / fan-in, biases small.

    What is neither weight nor bias stays as it is.
    """
    new = {}
    for key, value in state.items():
        rng = np.random.default_rng([seed, zlib.crc32(key.encode())])
        new[key] = value
        if value.ndim > 1:
            fan_in = value[0].size
            new[key] = (rng.normal(size=value.shape) * np.sqrt(2 / fan_in)).astype(np.float32)
        elif key.endswith("bias"):
            new[key] = (rng.normal(size=value.shape) * 0.01).astype(np.float32)
    return new


def data(name: str, batch: int, seed: int = 1) -> tuple[Array, Array]:
    """A batch of images (N, C, H, W) and class indices, (N,) or (N, H, W)."""
    rng, net = np.random.default_rng(seed), network(name)
    x = rng.normal(size=(batch, *net.input)).astype(np.float32)
    return x, rng.integers(0, net.classes, (batch, *net.input[1:]) if net.dense else batch)


def flops(name: str) -> tuple[int, int]:
    """Of one image: (inference, training step), counting convolutions and matrix products.

    Training is thrice inference less the first layer's gradient with respect to the images.
    """
    from .. import nn
    from ..planner import eager

    net = network(name)
    model = net.build(nn)
    model.eval()
    graph, _ = eager.trace(model.__call__, (np.zeros((1, *net.input), np.float32),), {})
    products = [node for node in graph.nodes if node.op.name in PRODUCTS]
    costs = [node.op.flops(node) for node in products]
    return sum(costs), 3 * sum(costs) - costs[0]


PRODUCTS = ("conv2d", "conv_transpose2d", "matmul")
