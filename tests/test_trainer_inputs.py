"""What a Trainer takes: labels of any integer dtype, one callback, two arrays in a list."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnmath
from cnnmath import Trainer, nn, optim
from cnnmath.losses import CrossEntropyLoss


def trainer_of() -> Trainer:
    cnnmath.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    return Trainer(model, optim.Adam(model, lr=0.01), CrossEntropyLoss(), metrics=["accuracy"], seed=3)


def digits() -> tuple[np.ndarray, np.ndarray]:
    x, y = cnnmath.data.load_digits()
    return x[:40], y[:40]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "uint64", ">i4"])
def test_labels_of_any_integer_dtype(dtype: str) -> None:
    x, y = digits()
    expected, trainer = trainer_of(), trainer_of()
    options: dict[str, Any] = {"epochs": 1, "batch_size": 16, "verbose": 0}
    labels = y.astype(dtype)
    a = expected.fit(x, y, validation_data=(x, y), **options)
    b = trainer.fit(x, labels, validation_data=(x, labels), **options)
    assert a.history == b.history
    assert expected.train_step(x, y) == trainer.train_step(x, labels)
    assert expected.evaluate(x, y) == trainer.evaluate([(x, labels)])
    assert trainer.plan(x, labels) is trainer.plan(x, y)
    with pytest.raises(ValueError, match=r"class indices in \[0, 9\]"):
        trainer.train_step(x, labels + 10)


def test_one_callback_and_a_list_of_two_arrays() -> None:
    x, y = digits()
    trainer = trainer_of()
    schedule = optim.schedules.StepLR(trainer.optimizer, 1)
    history = trainer.fit(x, y, verbose=0, callbacks=schedule, validation_data=[x, y])
    assert schedule.last_epoch == 1 and "val_loss" in history.history
    batches = [(x[:20], y[:20]), (x[20:], y[20:])]
    assert "val_loss" in trainer.fit(x, y, verbose=0, validation_data=batches).history
    trainer.fit(x, y, verbose=0, callbacks=None)
    with pytest.raises(TypeError, match="fit: expected shuffle to be True or False, got 'batch'"):
        trainer.fit(x, y, verbose=0, shuffle="batch")  # type: ignore[arg-type]


class Foreign:
    """A tensor of another library, as NumPy sees it."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.values if dtype is None else self.values.astype(dtype)


def test_tensors_of_other_libraries_are_read_at_each_call() -> None:
    x, _ = digits()
    trainer, given = trainer_of(), Foreign(x.copy())
    for _ in range(2):
        np.testing.assert_array_equal(trainer.model(given), trainer.model(given.values))
        given.values[...] += 1  # an object that is the same, with other values


@pytest.mark.parametrize("size", [0, "a", 1.5])
def test_wrong_batch_sizes(size: Any) -> None:
    x, _ = digits()
    with pytest.raises(ValueError, match="batch_size: expected an int of at least 1"):
        trainer_of().predict(x, batch_size=size)
