"""Augmentation while training: DataLoader and Trainer.fit, the same draws in both; evaluation is left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cnnmath
from cnnmath import data, losses, nn, optim
from cnnmath.data import Compose, Normalize, RandomCrop, RandomHorizontalFlip, ToDtype
from cnnmath.planner.random import shuffled

BOTH = Compose([RandomCrop(8, padding=2), RandomHorizontalFlip()])


def arrays(n: int = 23) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(n, 3, 8, 8)).astype(np.float32)
    return x, np.arange(n) % 4


def trainer(seed: int | None = 3) -> cnnmath.Trainer:
    cnnmath.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(144, 4))
    return cnnmath.Trainer(
        model, optim.SGD(model, lr=0.1), losses.CrossEntropyLoss(), metrics=["accuracy"], seed=seed
    )


def weights(made: cnnmath.Trainer) -> bytes:
    return b"".join(np.ascontiguousarray(a).tobytes() for a in made.model.state_dict().values())


def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[np.ndarray, ...]]:
    """The batches that training steps get from now on."""
    batches: list[tuple[np.ndarray, ...]] = []
    step = cnnmath.Trainer._train_step

    def noted(self: cnnmath.Trainer, *batch: np.ndarray) -> Any:
        batches.append(batch)
        return step(self, *batch)

    monkeypatch.setattr(cnnmath.Trainer, "_train_step", noted)
    return batches


@pytest.mark.parametrize("shuffle", [True, False])
def test_fit_trains_on_augmented_batches(shuffle: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = arrays()
    batches = seen(monkeypatch)
    weight = np.arange(23.0)
    trainer().fit(x, y, 10, 2, augment=BOTH, shuffle=shuffle, sample_weight=weight, verbose=0)
    for epoch in range(2):
        order = shuffled(23, 3, epoch) if shuffle else np.arange(23)
        for part, rows in zip(batches[3 * epoch :], (order[:10], order[10:20], order[20:])):
            np.testing.assert_array_equal(part[0], BOTH.gather(x, rows, (3, epoch)))
            np.testing.assert_array_equal(part[1], y[rows])
            np.testing.assert_array_equal(part[2], weight[rows])
    assert (batches[0][0] != batches[3][0]).any()


def test_loader_and_fit_draw_the_same() -> None:
    x, y = arrays()
    first, second, third = trainer(), trainer(), trainer()
    first.fit(x, y, 5, 3, augment=BOTH, verbose=0)
    second.fit(data.DataLoader((x, y), 5, shuffle=True, seed=3, transform=BOTH), epochs=3, verbose=0)
    third.fit(x, y, 5, 3, verbose=0)
    assert weights(first) == weights(second) != weights(third)


def test_loader_of_items() -> None:
    """Items are numbered by their index, not by when they come."""
    x, y = arrays()
    items = [(x[i], int(y[i])) for i in range(23)]
    loaders = [data.DataLoader(of, 5, shuffle=True, seed=7, transform=BOTH) for of in (items, (x, y), (x, y))]
    loaders[2].epoch = 1
    for epoch in range(2):
        pairs = list(zip(loaders[0], loaders[1]))
        for (x0, y0), (x1, y1) in pairs:
            np.testing.assert_array_equal(x0, x1)
            np.testing.assert_array_equal(y0, y1)
        if epoch == 1:  # what the epoch draws does not depend on those before
            for (x0, _), (x2, _) in zip([first for first, _ in pairs], loaders[2]):
                np.testing.assert_array_equal(x0, x2)


def test_batches_of_an_iterable_are_numbered_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = arrays()
    batches = seen(monkeypatch)
    trainer().fit([(x[:10], y[:10]), (x[10:], y[10:])], epochs=2, augment=BOTH, verbose=0)
    for epoch in range(2):
        both = np.concatenate([b[0] for b in batches[2 * epoch :][:2]])
        np.testing.assert_array_equal(both, BOTH.gather(x, None, (3, epoch)))


def test_evaluation_is_never_augmented() -> None:
    x, y = arrays()
    made = trainer()
    history = made.fit(x, y, 8, 2, validation_data=(x, y), augment=BOTH, verbose=0).history
    plain = made.evaluate(x, y)
    assert plain["loss"] == history["val_loss"][-1] and plain["accuracy"] == history["val_accuracy"][-1]
    wrong = made.evaluate(BOTH.gather(x, None, (3, 1)), y)
    assert wrong["loss"] != plain["loss"]


def test_any_threads_and_repetition(threads: Callable[[int], None]) -> None:
    x, y = arrays(200)
    found = set()
    for count in (1, 2, 3, 5, 2):
        threads(count)
        made = trainer()
        made.fit(x, y, 64, 2, augment=BOTH, verbose=0)
        found.add(weights(made))
    assert len(found) == 1


def test_the_seed_of_the_process_or_of_the_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = arrays()
    batches = seen(monkeypatch)
    made = trainer(seed=None)
    cnnmath.manual_seed(11)
    made.fit(x, y, 23, 1, augment=BOTH, verbose=0)
    np.testing.assert_array_equal(batches[0][0], BOTH.gather(x, shuffled(23, 11, 0), (11, 0)))


def test_epochs_go_on_where_training_stopped() -> None:
    """Two calls of fit draw what one does: the state is the seed and the number of epochs."""
    x, y = arrays()
    whole, parts = trainer(), trainer()
    whole.fit(x, y, 8, 4, augment=BOTH, verbose=0)
    for _ in range(2):
        parts.fit(x, y, 8, 2, augment=BOTH, verbose=0)
    assert weights(whole) == weights(parts)


def test_bytes_are_normalized_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(1).integers(0, 256, (20, 3, 8, 8), dtype=np.uint8)
    y = np.arange(20) % 4
    plain = Compose([ToDtype(np.float32, scale=True), Normalize([0.5, 0.4, 0.3], 0.2)])
    batches = seen(monkeypatch)
    made = trainer()
    made.fit(x, y, 20, 1, augment=Compose([BOTH, plain]), verbose=0)
    np.testing.assert_array_equal(batches[0][0], plain(BOTH.gather(x, shuffled(20, 3, 0), (3, 0))))
    assert 0 <= made.evaluate(plain(x), y)["accuracy"] <= 1


def test_functions_of_other_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function of a batch augments samples of any rank."""
    x, y = np.arange(24, dtype=np.float32).reshape(12, 2), np.arange(12) % 2
    batches = seen(monkeypatch)
    cnnmath.manual_seed(0)
    model = nn.Linear(2, 2)
    made = cnnmath.Trainer(model, optim.SGD(model, lr=1e-4), losses.CrossEntropyLoss(), seed=5)
    made.fit(x, y, 12, 1, augment=lambda batch: batch + 100, verbose=0)
    np.testing.assert_array_equal(batches[0][0], x[shuffled(12, 5, 0)] + 100)


def test_refused() -> None:
    x, y = arrays()
    with pytest.raises(
        TypeError, match="fit: augment: expected a transform, a function of images, got 'crop'"
    ):
        trainer().fit(x, y, augment="crop", verbose=0)
    with pytest.raises(ValueError, match=r"RandomCrop: expected images \(n, channels, height, width\)"):
        trainer().fit(x[:, 0], y, augment=BOTH, verbose=0)
