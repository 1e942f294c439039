"""The same bits: on any number of threads, in every run, in the planned step and in the manual loop."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cnnmath
from cnnmath import nn, optim
from cnnmath.losses import CrossEntropyLoss
from cnnmath.regularizers import L1, L2

THREADS = (1, 2, 3, 5)


class Residual(nn.Module):
    """A block with a shortcut, dropout inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.drop = nn.Dropout(0.2)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=2)
        self.relu = nn.ReLU()

    def forward(self, x: Any) -> Any:
        return self.relu(self.conv2(self.drop(self.relu(self.bn1(self.conv1(x))))) + x)


def network(pool: type[nn.Module] = nn.MaxPool2d) -> nn.Module:
    cnnmath.manual_seed(7)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=1, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        Residual(16),
        pool(2),
        nn.Conv2d(16, 24, 3, padding=1),
        nn.BatchNorm2d(24),
        nn.Tanh(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(96, 10),
    )


def samples(rng: np.random.Generator, dtype: Any, n: int = 83) -> tuple[np.ndarray, np.ndarray]:
    """So many that the last batch of 32 is a partial one."""
    return rng.standard_normal((n, 3, 12, 12)).astype(dtype), rng.integers(0, 10, n)


OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "sgd": lambda params: optim.SGD(params, lr=0.05),
    "momentum": lambda params: optim.SGD(params, lr=0.05, momentum=0.9, weight_decay=1e-3, nesterov=True),
    "adam": lambda params: optim.Adam(params, lr=1e-2, amsgrad=True),
    "adamw": lambda params: optim.AdamW(params, lr=1e-2),
}


def bits(model: nn.Module) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in model.state_dict().items()}


def trained(name: str, x: np.ndarray, y: np.ndarray, seed: int | None = 5, **options: Any) -> Any:
    model = network()
    if x.dtype == np.float64:
        model.double()
    cnnmath.manual_seed(123)
    trainer = cnnmath.Trainer(
        model, OPTIMIZERS[name](model.parameters()), CrossEntropyLoss(), L2(1e-4), ["accuracy"], seed=seed
    )
    history = trainer.fit(x, y, epochs=2, verbose=0, validation_split=0.1, **options)
    return bits(model), history.history, trainer.predict(x).tobytes(), trainer.evaluate(x, y)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_any_number_of_threads(name: str, dtype: Any, rng: np.random.Generator, threads: Any) -> None:
    x, y = samples(rng, dtype)
    runs = []
    for n in (*THREADS, 2):  # and once more
        threads(n)
        runs.append(trained(name, x, y))
    for run in runs[1:]:
        assert run == runs[0]


def test_layout_of_the_data_does_not_matter(rng: np.random.Generator) -> None:
    x, y = samples(rng, np.float32)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    wide = np.repeat(x, 2, axis=0)[::2]
    runs = [trained("sgd", data, y) for data in (x, last, wide)]
    assert runs[0] == runs[1] == runs[2]


def test_seeds(rng: np.random.Generator) -> None:
    """A seed of the Trainer's stands in for manual_seed; another one gives other weights."""
    x, y = samples(rng, np.float32)
    own, general, other = (trained("sgd", x, y, seed) for seed in (123, None, 124))
    assert own == general
    assert own[0] != other[0]
    unshuffled = trained("sgd", x, y, 123, shuffle=False)
    assert unshuffled[0] != own[0]


@pytest.mark.parametrize("penalties", [(), (L1(1e-4), L2(1e-3))], ids=["plain", "penalties"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_the_manual_loop(name: str, dtype: Any, penalties: Any, rng: np.random.Generator) -> None:
    x, y = samples(rng, dtype)
    model = network()
    if dtype is np.float64:
        model.double()
    manual = copy.deepcopy(model)
    seeded = copy.deepcopy(model)
    loss = CrossEntropyLoss(label_smoothing=0.1)
    batches = [(x[i : i + 32], y[i : i + 32]) for i in range(0, len(x), 32)] * 2

    cnnmath.manual_seed(11)
    trainer = cnnmath.Trainer(model, OPTIMIZERS[name](model), loss, penalties)
    losses = [trainer.train_step(*batch) for batch in batches]

    def objective(x: Any, y: Any) -> Any:
        value = loss(manual(x), y)
        for penalty in penalties:
            value = value + penalty(manual)
        return value

    cnnmath.manual_seed(11)
    optimizer = OPTIMIZERS[name](manual.parameters())
    step = cnnmath.value_and_grad(objective, manual)
    by_hand = []
    for batch in batches:
        value, grads = step(*batch)
        optimizer.step(grads)
        by_hand.append(float(value))
    assert losses == by_hand
    assert bits(model) == bits(manual)

    own = cnnmath.Trainer(seeded, OPTIMIZERS[name](seeded), loss, penalties, seed=11)
    assert [own.train_step(*batch) for batch in batches] == losses
    assert bits(seeded) == bits(model)


def test_a_frozen_part(rng: np.random.Generator) -> None:
    """Frozen parameters and statistics rest, in both ways of training, and go on after unfreeze."""
    x, y = samples(rng, np.float32, 32)
    model = network()
    manual = copy.deepcopy(model)
    loss = CrossEntropyLoss()
    trainer = cnnmath.Trainer(model, optim.Adam(model), loss, seed=1)
    optimizer = optim.Adam(manual)
    cnnmath.manual_seed(1)
    step = cnnmath.value_and_grad(lambda x, y: loss(manual(x), y), manual)
    for phase in range(3):
        for m in (model, manual):
            (m[:4].freeze if phase == 1 else m.unfreeze)()
        before = model.state_dict()
        for _ in range(2):
            trainer.train_step(x, y)
            optimizer.step(step(x, y)[1])
        assert bits(model) == bits(manual)
        rested = {name for name, array in model.state_dict().items() if np.array_equal(array, before[name])}
        front = {name for name in before if name.split(".")[0] in "0123"}
        assert rested == (front if phase == 1 else set())


def test_learning_rates_of_groups_and_schedules(rng: np.random.Generator) -> None:
    """A schedule in fit is the schedule stepped by hand; its lr reaches the planned step without a new plan."""
    x, y = samples(rng, np.float32, 64)

    def parts(model: Any) -> optim.Optimizer:
        return optim.SGD(
            [{"params": model[0].parameters(), "lr": 0.01}, {"params": model[3:].parameters()}], lr=0.1
        )

    model = network()
    manual = copy.deepcopy(model)
    optimizer = parts(model)
    trainer = cnnmath.Trainer(model, optimizer, CrossEntropyLoss(), seed=4)
    schedule = optim.schedules.OneCycleLR(optimizer, [0.02, 0.2], 6, cycle_momentum=False)
    trainer.fit(x, y, epochs=3, verbose=0, shuffle=False, callbacks=[schedule])
    assert len(trainer._plans) == 1

    cnnmath.manual_seed(4)
    loss, optimizer = CrossEntropyLoss(), parts(manual)
    schedule = optim.schedules.OneCycleLR(optimizer, [0.02, 0.2], 6, cycle_momentum=False)
    step = cnnmath.value_and_grad(lambda x, y: loss(manual(x), y), manual)
    for i in (0, 32) * 3:
        optimizer.step(step(x[i : i + 32], y[i : i + 32])[1])
        schedule.step()
    assert bits(model) == bits(manual)
