"""What a Trainer takes: labels of any integer dtype, one callback, two arrays in a list."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnmath
from cnnmath import Trainer, nn, optim
from cnnmath.losses import CrossEntropyLoss, MSELoss

from .trainers import classifier
from .trainers import trainer_of as trainer_on


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


# What is looked at before the first step.


def images(n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    x, y = cnnmath.data.load_digits()
    return x[:n], y[:n]


@pytest.mark.parametrize("form", ["arrays", "loader", "list"])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x, y: (x.astype(np.float64), y), TypeError, "expected an input of float32"),
        (
            lambda x, y: (x.transpose(0, 2, 3, 1), y),
            ValueError,
            "weight expects 1 input channels, input has 8",
        ),
        (lambda x, y: (x, y.astype(np.float32)), TypeError, "expects int64 class indices, got float32"),
        (lambda x, y: (x, y + 1), ValueError, r"class indices in \[0, 9\].*got 10"),
    ],
)
def test_validation_data_is_looked_at_first(form: str, change: Any, error: Any, message: str) -> None:
    x, y = images()
    wrong = change(x, y)
    loader = cnnmath.data.DataLoader(wrong, batch_size=40)
    data = {"arrays": wrong, "loader": loader, "list": [wrong]}[form]
    trainer = trainer_on(classifier())
    before = trainer.model.state_dict()
    with pytest.raises(error, match=f"^validation_data: .*{message}"):
        trainer.fit(x, y, verbose=0, validation_data=data)
    assert all(np.array_equal(before[name], a) for name, a in trainer.model.state_dict().items())
    assert trainer.epochs_done == 0 and loader.epoch == 0


def test_validation_data_of_a_generator_is_named() -> None:
    class Anew:
        def __iter__(self) -> Any:
            yield x, y + 1

    x, y = images()
    with pytest.raises(ValueError, match=r"^validation_data: .*got 10"):
        trainer_on(classifier()).fit(x, y, verbose=0, validation_data=Anew())
    with pytest.raises(
        ValueError, match=r"^validation_data: expected one target for each sample, got 40 in x and 39"
    ):
        trainer_on(classifier()).fit(x, y, verbose=0, validation_data=(x, y[1:]))


def test_a_label_out_of_range_in_the_last_batch() -> None:
    x, y = images()
    y = y.copy()
    y[-1] = 10
    trainer = trainer_on(classifier())
    before = trainer.model.state_dict()
    with pytest.raises(ValueError, match=r"class indices in \[0, 9\] or ignore_index \(-100\), got 10"):
        trainer.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    assert all(np.array_equal(before[name], a) for name, a in trainer.model.state_dict().items())
    y[-1] = -100
    trainer.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    counts = Trainer(other, optim.SGD(other), lambda output, target: cnnmath.functional.mean(output * output))
    counts.fit(x, y + 1000, batch_size=8, verbose=0)  # a loss that asks for no range


def test_floating_targets_take_the_dtype_of_the_output() -> None:
    x, y = images()
    hot = np.eye(10)[y]
    options: dict[str, Any] = {"verbose": 0, "epochs": 2}
    runs = [
        trainer_on(classifier()).fit(x, t, validation_data=(x, t), **options) for t in (hot, hot.astype("f"))
    ]
    assert runs[0].history == runs[1].history
    values = np.random.default_rng(0).normal(size=(40, 10))
    losses = []
    for target in (values, values.astype(np.float32)):
        model = classifier()
        losses.append(Trainer(model, optim.SGD(model), MSELoss()).fit(x, target, **options).history)
    assert losses[0] == losses[1]


def test_class_weights_of_classes_that_are_not_there() -> None:
    x, y = images()
    with pytest.raises(ValueError, match=r"class_weight: expected class indices in \[0, 9\] as keys, got 11"):
        trainer_on(classifier()).fit(x, y, verbose=0, class_weight={11: 2})
    with pytest.raises(TypeError, match=r"got ndarray; of an array w that is dict\(enumerate\(w\)\)"):
        trainer_on(classifier()).fit(x, y, verbose=0, class_weight=np.ones(10))


def test_nothing_to_train() -> None:
    x, y = images()
    trainer = trainer_on(classifier().freeze())
    with pytest.raises(ValueError, match="expected parameters to train, but all of the model are frozen"):
        trainer.fit(x, y, verbose=0)


def test_images_without_channels() -> None:
    x, y = images()
    trainer = trainer_on(classifier())
    for call in (
        lambda: trainer.fit(x[:, 0], y, verbose=0),
        lambda: trainer.predict(x[:, 0]),
        lambda: trainer.evaluate(x[:, 0], y),
    ):
        with pytest.raises(ValueError, match=r"add the channels: x\[:, None\]"):
            call()
    with pytest.raises(ValueError, match=r"predict: x \(1, 8, 8\) was read as one image"):
        trainer_on(nn.Sequential(nn.Conv2d(1, 4, 3))).predict(x[0])
    assert trainer.predict(x[:1], verbose=0).shape == (1, 10)
    assert trainer.evaluate(x, y, verbose=0) == trainer.evaluate(x, y)
    with pytest.raises(ValueError, match="verbose: expected"):
        trainer.evaluate(x, y, verbose="loud")
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    assert trainer_on(flat).predict(x[:, 0]).shape == (40, 10)
