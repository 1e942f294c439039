"""`cnnmath summary`: the layers of a model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import models
from .._arguments import whole
from . import runs

_USUAL = {"lenet5": (1, 28), "small_cnn": (1, 8), "resnet18": (3, 224), "resnet34": (3, 224)}


def add(commands: Any) -> None:
    command = commands.add_parser(
        "summary",
        help="print the layers of a model or a run",
        description="Prints a table of the layers: output shapes, parameters, floating point operations. Models: "
        + ", ".join(models.names())
        + ".",
    )
    hidden: Any = argparse.SUPPRESS
    command.add_argument("what", metavar="MODEL|RUN", help="the name of a model, or a run folder")
    command.add_argument("--classes", type=whole(1), default=hidden, metavar="N", help="of a model: classes")
    command.add_argument(
        "--channels", type=whole(1), default=hidden, metavar="N", help="of a model: channels of the images"
    )
    command.add_argument(
        "--size", type=whole(1), default=hidden, metavar="N", help="of a model: side of the images"
    )
    command.set_defaults(run=run, error=command.error)


def run(options: argparse.Namespace) -> None:
    name = options.what
    if name in models.names():
        channels, size = _USUAL.get(name, (3, 32))
        channels, size = getattr(options, "channels", channels), getattr(options, "size", size)
        classes = getattr(options, "classes", 1000 if name in ("resnet18", "resnet34") else 10)
        model = models.create(name, num_classes=classes, in_channels=channels, image_size=size)
        print(model.summary((channels, size, size)))
        return
    if not Path(name).is_dir():
        options.error(f"expected a run folder or one of {', '.join(models.names())}, got {name!r}")
    found = runs.read(Path(name))
    for key in ("classes", "channels", "size"):
        if hasattr(options, key):
            options.error(f"--{key} is of a model, not of a run")
    how = found.preprocessing
    print(found.model.summary((how.channels, how.height, how.width)))
