"""Trainings that crash and go on, and all that they leave."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnmath
from cnnmath import Trainer, nn, optim
from cnnmath.callbacks import (
    Callback,
)
from cnnmath.losses import CrossEntropyLoss
from cnnmath.optim import schedules

EPOCHS, BATCHES, SIZE = 4, 5, 24


def digits() -> tuple[np.ndarray, np.ndarray]:
    x, y = cnnmath.data.load_digits()
    return x[:150], y[:150]


class Crash(Exception):
    """What ends a training."""


class CrashAfter(Callback):
    """Saves a checkpoint after so many steps and epochs, and ends the training a little later."""

    def __init__(self, path: Path, epochs: int, steps: int) -> None:
        self.path, self.place = path, (epochs, steps)
        self.epochs = self.steps = 0
        self.saved = False

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.saved:
            raise Crash
        self.steps = batch + 1

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.saved:
            raise Crash
        self.epochs, self.steps = epoch + 1, 0

    def on_checkpoint(self) -> None:
        if (self.epochs, self.steps) == self.place:
            self.trainer.save_checkpoint(self.path)
            self.saved = True

    def on_train_end(self, logs: Any = None) -> None:
        if self.saved:
            raise Crash


OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "sgd": lambda model: optim.SGD(model, lr=0.02, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": lambda model: optim.Adam(model, lr=0.01, amsgrad=True),
    "adamw": lambda model: optim.AdamW(
        [
            {"params": [model[0].weight], "lr": 0.003},
            {"params": [model[1].weight, model[6].weight, model[6].bias]},
        ],
        lr=0.01,
    ),
}


def by_step(schedule: Any) -> Any:
    schedule.interval = "step"
    return schedule


SCHEDULES: dict[str, Callable[[optim.Optimizer], list[Any]]] = {
    "none": lambda o: [],
    "epoch": lambda o: [schedules.StepLR(o, 2, 0.5)],
    "milestones": lambda o: [schedules.MultiStepLR(o, [1, 3], 0.5)],
    "step": lambda o: [schedules.OneCycleLR(o, 0.02, epochs=EPOCHS, steps_per_epoch=BATCHES)],
    "cosine": lambda o: [by_step(schedules.CosineAnnealingLR(o, EPOCHS * BATCHES))],
    "sequence": lambda o: [
        schedules.SequentialLR(
            o, [schedules.LinearLR(o, 0.1, total_iters=2), schedules.ExponentialLR(o, 0.7)], [2]
        )
    ],
    "plateau": lambda o: [
        # val_loss never falls by 3: the lr is reduced by and by
        schedules.ReduceLROnPlateau(o, factor=0.5, patience=0, threshold=3, threshold_mode="abs", cooldown=1)
    ],
}


def made(kind: str, schedule: str, noise: int, **options: Any) -> tuple[Trainer, list[Any]]:
    """A trainer and its callbacks as a program makes them; `noise` is what differs in a new process."""
    seed = options.pop("seed", None)
    cnnmath.manual_seed(7 if seed is None else noise)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.4),
        nn.Linear(64, 10),
    )  # fmt: skip
    if seed is not None:  # the weights come from elsewhere
        rng = np.random.default_rng(0)
        model.load_state_dict(
            {n: (rng.normal(0, 0.1, a.shape) ** 2).astype(a.dtype) for n, a in model.state_dict().items()}
        )
    optimizer = OPTIMIZERS[kind](model)
    trainer = Trainer(model, optimizer, CrossEntropyLoss(), metrics=["accuracy"], seed=seed, **options)
    return trainer, SCHEDULES[schedule](optimizer)


def bits(trainer: Trainer) -> dict[str, bytes]:
    """All that a training leaves."""
    found = {name: a.tobytes() for name, a in trainer.model.state_dict().items()}
    state = trainer.optimizer.state_dict()
    for number, entries in state["state"].items():
        found.update({f"{number}.{name}": np.asarray(a).tobytes() for name, a in entries.items()})
    found["groups"] = repr(state["param_groups"]).encode()
    found["history"] = repr(trainer.history.history).encode() + repr(trainer.history.epoch).encode()
    found["epochs"] = str(trainer.epochs_done).encode()
    return found


Make = Callable[[int], tuple[Trainer, list[Any]]]


def check(
    make: Make,
    tmp_path: Path,
    place: tuple[int, int],
    data: Callable[[], dict[str, Any]],
    epochs: int = EPOCHS,
) -> Trainer:
    """The same bits with a crash after `place`, (epochs, steps), as without."""
    trainer, callbacks = make(0)
    trainer.fit(**data(), epochs=epochs, verbose=0, callbacks=callbacks)
    want = bits(trainer)

    path = tmp_path / "checkpoint.safetensors"
    broken, callbacks = make(1)
    with pytest.raises(Crash):
        broken.fit(**data(), epochs=epochs, verbose=0, callbacks=[CrashAfter(path, *place), *callbacks])

    again, callbacks = make(2)
    cnnmath.manual_seed(12345)  # a new process has drawn other random numbers
    history = again.fit(**data(), epochs=epochs, verbose=0, callbacks=callbacks, resume=path)
    assert again.initial_epoch == place[0] and history is again.history
    assert bits(again) == want
    return again


def arrays() -> dict[str, Any]:
    x, y = digits()
    return {"x": x, "y": y, "batch_size": SIZE, "validation_split": 0.2}
