"""Turns a PyTorch checkpoint of a residual network for CIFAR-10 into a run folder of cnnmath.

The checkpoints of https://github.com/akamaster/pytorch_resnet_cifar10 (ResNet-20 to -56 with shortcuts without
parameters) have the names of cnnmath.models under a prefix, "module.". PyTorch is needed to read them, and never again:

    python examples/convert_resnet_cifar.py resnet20-12fca82f.th --out runs/resnet20
    cnnmath evaluate runs/resnet20        # on CIFAR-10's test part, whose files are where CNNMATH_DATA says
    cnnmath predict runs/resnet20 cat.jpg
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from cnnmath import models
from cnnmath.cli import runs

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
# The authors' normalisation, x = (pixels / 255 - mean) / std: that of ImageNet.
PREPROCESSING = runs.Preprocessing(3, 32, 32, 1 / 255, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="the run folder, new or empty")
    options = parser.parse_args()
    weights = read(options.checkpoint)
    name = f"resnet{depth(weights)}"
    settings: dict[str, Any] = {
        "name": name,
        "num_classes": len(CLASSES),
        "in_channels": 3,
        "image_size": [32, 32],
    }
    model = models.create(**settings)
    model.load_state_dict(weights)  # names and shapes must fit, all of them
    folder = runs.new_folder(options.out, name)
    numbers = {"data": "cifar10", "settings": {"model": name, "checkpoint": options.checkpoint.name}}
    runs.write(folder, model, settings, PREPROCESSING, CLASSES, numbers)
    print(f"{name}, {sum(p.size for p in model.parameters()):,} parameters, written to {folder}")


def read(path: Path) -> dict[str, Any]:
    """The arrays of a checkpoint by their names in cnnmath."""
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    return {name.removeprefix("module."): tensor.numpy() for name, tensor in state.items()}


def depth(weights: dict[str, Any]) -> int:
    """6n + 2 for n blocks in each of the three stages."""
    return 6 * sum(re.fullmatch(r"layer1\.\d+\.conv1\.weight", name) is not None for name in weights) + 2


if __name__ == "__main__":
    main()
