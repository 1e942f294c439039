"""Small models, data and trainers that several tests use."""

from __future__ import annotations

from typing import Any

import numpy as np

import cnnmath
from cnnmath import Trainer, nn, optim
from cnnmath.losses import CrossEntropyLoss


def classifier(seed: int = 0, drop: float = 0.0) -> nn.Module:
    cnnmath.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Dropout(drop), nn.Linear(128, 10),
    )  # fmt: skip


def digits(n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    x, y = cnnmath.data.load_digits()
    return x[:n], y[:n]


def trainer_of(model: nn.Module, **options: Any) -> Trainer:
    options = {"metrics": ["accuracy"], "seed": 3, **options}
    return Trainer(model, optim.Adam(model, lr=0.01), CrossEntropyLoss(), **options)


def linear(rng: np.random.Generator) -> tuple[nn.Module, np.ndarray, np.ndarray]:
    model = nn.Linear(3, 2).double()
    return model, rng.standard_normal((10, 3)), rng.standard_normal((10, 2))
