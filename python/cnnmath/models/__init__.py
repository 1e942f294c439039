"""Networks, ready to train: constructors that give a Module with random first values.

Where torchvision has the model (`resnet18`, `resnet34`), the names in the state dict are torchvision's, so that its
weights load. The residual networks for CIFAR-10 have the names and shortcuts of the checkpoints that are in use for
them.

    constructor                        input       parameters (10 classes; 1,000 for resnet18 and 34)
    lenet5                             1 x 28 x 28              61,706
    small_cnn                          1 x 8 x 8                 8,538
    vgg_small                          3 x 32 x 32           1,188,170
    resnet20, 32, 44, 56               3 x 32 x 32           0.27, 0.46, 0.66, 0.85 million
    resnet18, 34                       3 x 224 x 224         11.69, 21.80 million
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..nn import Module
from .plain import lenet5, small_cnn, vgg_small
from .resnet import ResNet, resnet18, resnet34
from .resnet_cifar import CifarResNet, resnet20, resnet32, resnet44, resnet56

__all__ = [
    "CifarResNet",
    "ResNet",
    "create",
    "lenet5",
    "names",
    "options",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet44",
    "resnet56",
    "small_cnn",
    "vgg_small",
]

_SIZED: tuple[Callable[..., Module], ...] = (lenet5, small_cnn, vgg_small)
_ANY_SIZE: tuple[Callable[..., Module], ...] = (resnet18, resnet20, resnet32, resnet34, resnet44, resnet56)
_CONSTRUCTORS = {fn.__name__: fn for fn in (*_SIZED, *_ANY_SIZE)}


def names() -> list[str]:
    """The names that `create` knows."""
    return list(_CONSTRUCTORS)


def options(name: str) -> list[str]:
    """The names of the further options of a model, such as "dropout"; ValueError where there is no such model."""
    parameters = inspect.signature(_constructor("options", name)).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]


def create(
    name: str,
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int | tuple[int, int] = 32,
    **more: Any,
) -> Module:
    """The model of that name for images of `image_size`, which the models that end in a global mean ignore.

    `more` are options that this model has (see `options`), such as dropout=0.5. Raises ValueError that lists the
    names where there is none of that name, TypeError where the model has no such option.

    >>> from cnnmath import models
    >>> model = models.create("lenet5", num_classes=10, in_channels=1, image_size=28)
    >>> sum(p.size for p in model.parameters())
    61706
    """
    constructor = _constructor("create", name)
    for option in more:
        if option not in options(name):
            having = [other for other in names() if option in options(other)]
            raise TypeError(
                f"create: {name} has no option {option!r}, which is for {', '.join(having) or 'no model'}"
            )
    if constructor in _SIZED:
        more["image_size"] = image_size
    return constructor(num_classes=num_classes, in_channels=in_channels, **more)


def _constructor(op: str, name: str) -> Callable[..., Module]:
    if name not in _CONSTRUCTORS:
        raise ValueError(f"{op}: expected one of {', '.join(names())}, got {name!r}")
    return _CONSTRUCTORS[name]
