"""A training that was interrupted goes on with the same bits."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnmath
from cnnmath import Trainer
from cnnmath.callbacks import (
    Callback,
    EarlyStopping,
    LambdaCallback,
    ModelCheckpoint,
)
from cnnmath.data import DataLoader, RandomCrop
from cnnmath.metrics import ConfusionMatrix

from .interrupted import (
    BATCHES,
    EPOCHS,
    OPTIMIZERS,
    SCHEDULES,
    SIZE,
    arrays,
    bits,
    check,
    digits,
    made,
)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("place", [(2, 0), (1, 3)], ids=["epoch", "step"])
def test_same_bits(kind: str, schedule: str, place: tuple[int, int], tmp_path: Path) -> None:
    check(lambda noise: made(kind, schedule, noise), tmp_path, place, arrays)


@pytest.mark.parametrize("place", [(0, 1), (0, 5), (1, 0), (3, 5), (4, 0)])
def test_any_place(place: tuple[int, int], tmp_path: Path) -> None:
    """After the first step, the last step of an epoch, the last epoch."""
    check(lambda noise: made("adam", "step", noise, seed=5), tmp_path, place, arrays)


@pytest.mark.parametrize("place", [(2, 0), (1, 3)])
def test_clipped_and_accumulated(place: tuple[int, int], tmp_path: Path) -> None:
    """After step 3 of an epoch one batch of gradients waits for the second one."""
    check(lambda noise: made("sgd", "none", noise, clip_norm=0.5, accumulate=2), tmp_path, place, arrays)


@pytest.mark.parametrize("place", [(2, 0), (1, 3)])
def test_weighted_classes_and_other_metrics(place: tuple[int, int], tmp_path: Path) -> None:
    class Mine:
        """A metric with a state that is no attribute of plain values."""

        name = "mine"

        def reset(self) -> None:
            self.seen = {1j: 0.0}

        def update(self, logits: np.ndarray, targets: np.ndarray) -> None:
            self.seen[1j] += float(logits.mean())

        def compute(self) -> float:
            return self.seen[1j]

        def state_dict(self) -> dict[str, Any]:
            return {"seen": self.seen[1j]}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.seen = {1j: state["seen"]}

    def make(noise: int) -> tuple[Trainer, list[Any]]:
        trainer, callbacks = made("adam", "none", noise)
        trainer.metrics += [ConfusionMatrix(10), Mine(), cnnmath.metrics.TopKAccuracy(3)]
        return trainer, callbacks

    check(make, tmp_path, place, lambda: {**arrays(), "class_weight": {3: 2.0}})


@pytest.mark.parametrize("place", [(2, 0), (1, 3)])
def test_loaders(place: tuple[int, int], tmp_path: Path) -> None:
    """A DataLoader goes on with its own epochs."""
    x, y = digits()
    check(
        lambda noise: made("adam", "epoch", noise),
        tmp_path,
        place,
        lambda: {
            "x": DataLoader((x[:120], y[:120]), SIZE, shuffle=True),
            "validation_data": DataLoader((x[120:], y[120:]), 7, shuffle=True, seed=3),
        },
    )


@pytest.mark.parametrize("place", [(2, 0), (1, 3)])
@pytest.mark.parametrize("loader", [False, True])
def test_augmentation(place: tuple[int, int], loader: bool, tmp_path: Path) -> None:
    x, y = digits()
    crop = RandomCrop(8, padding=1)

    def data() -> dict[str, Any]:
        if loader:
            return {"x": DataLoader((x[:120], y[:120]), SIZE, shuffle=True), "augment": crop}
        return {**arrays(), "augment": crop}

    check(lambda noise: made("adam", "epoch", noise), tmp_path, place, data)


@pytest.mark.parametrize("place", [(2, 0), (1, 3)])
@pytest.mark.parametrize("seed", [None, 5])
def test_batches_that_draw_random_numbers(place: tuple[int, int], seed: int | None, tmp_path: Path) -> None:
    """Those drawn again on the way to the place of the checkpoint do not count."""
    x, y = digits()

    class Noisy:
        def __iter__(self) -> Iterator[Any]:
            for i in range(BATCHES):
                yield cnnmath.functional.dropout(x[SIZE * i :][:SIZE], 0.1), y[SIZE * i :][:SIZE]

    def make(noise: int) -> tuple[Trainer, list[Any]]:
        made_here = made("adam", "step", noise, seed=seed)
        cnnmath.manual_seed(7)
        return made_here

    check(make, tmp_path, place, lambda: {"x": Noisy()})


@pytest.mark.parametrize("place", [(2, 0), (3, 0), (1, 3), (2, 4)])
def test_early_stopping(place: tuple[int, int], tmp_path: Path) -> None:
    """The best epoch was the second one; the fourth is the last of seven."""

    class Told(Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            logs["val_loss"] = [3.0, 1.0, 2.0, 2.0, 0.0, 0.0, 0.0][epoch]

    def make(noise: int) -> tuple[Trainer, list[Any]]:
        trainer, callbacks = made("adam", "none", noise)
        stop = EarlyStopping(patience=2, restore_best_weights=True)
        return trainer, [Told(), *callbacks, stop]

    trainer = check(make, tmp_path, place, arrays, epochs=7)
    assert trainer.history.epoch == [0, 1, 2, 3]


def test_a_training_that_was_stopped_is_over(tmp_path: Path) -> None:
    """A checkpoint of the epoch after which EarlyStopping ended it: only the best weights are still to be restored."""

    def make(noise: int) -> tuple[Trainer, list[Any]]:
        trainer, callbacks = made("adam", "none", noise)
        return trainer, [*callbacks, EarlyStopping("loss", mode="max", restore_best_weights=True)]

    assert check(make, tmp_path, (2, 0), arrays).history.epoch == [0, 1]


def test_checkpoints_of_best_models_go_on_with_the_best(tmp_path: Path) -> None:
    """A checkpoint of a worse model after the crash must not replace the best one before it."""
    values = [3.0, 1.0, 2.0, 2.0]
    best = tmp_path / "best.safetensors"

    def make(noise: int) -> tuple[Trainer, list[Any]]:
        trainer, callbacks = made("sgd", "none", noise)
        told = LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(val_loss=values[epoch]))
        return trainer, [told, *callbacks, ModelCheckpoint(best, save_best_only=True)]

    trainer, callbacks = make(0)
    trainer.fit(**arrays(), epochs=2, verbose=0, callbacks=callbacks)
    want = {n: a.tobytes() for n, a in trainer.model.state_dict().items()}
    check(make, tmp_path, (2, 0), arrays)
    assert {n: a.tobytes() for n, a in cnnmath.load(best).items()} == want


def test_steps_by_hand(tmp_path: Path) -> None:
    """train_step in a loop of one's own, with gradients that wait for another batch."""
    x, y = digits()
    results = []
    for interrupted in (False, True):
        trainer, (schedule,) = made("adam", "epoch", 0, accumulate=2)
        for i in range(9):
            if interrupted and i == 5:
                trainer.save_checkpoint(tmp_path / "a")
                cnnmath.save({"schedule": schedule.state_dict()}, tmp_path / "b")
                trainer, (schedule,) = made("adam", "epoch", 9, accumulate=2)
                trainer.load_checkpoint(tmp_path / "a")
                schedule.load_state_dict(cnnmath.load(tmp_path / "b")["schedule"])
            trainer.train_step(x[10 * i :][:10], y[10 * i :][:10])
            schedule.step()
        results.append(bits(trainer))
    assert results[0] == results[1]


def test_load_checkpoint_starts_a_new_fit(tmp_path: Path) -> None:
    """Without callbacks two fits are one longer one, also across a checkpoint."""
    trainer, _ = made("adamw", "none", 0)
    trainer.fit(**arrays(), epochs=3, verbose=0)
    want = bits(trainer)
    first, _ = made("adamw", "none", 0)
    first.fit(**arrays(), epochs=2, verbose=0)
    first.save_checkpoint(tmp_path / "a")
    second, _ = made("adamw", "none", 1)
    second.load_checkpoint(tmp_path / "a")
    assert second.history.history == first.history.history and second.epochs_done == 2
    assert second.fit(**arrays(), epochs=1, verbose=0).epoch == [0]
    assert {k: v for k, v in bits(second).items() if k != "history"} == {
        k: v for k, v in want.items() if k != "history"
    }
    other = made("adamw", "none", 1)[0].model
    other.load_state_dict(cnnmath.load(tmp_path / "a")["model"])  # torch's way
    np.testing.assert_array_equal(other[0].weight.numpy(), first.model[0].weight.numpy())


def test_a_larger_number_of_epochs(tmp_path: Path) -> None:
    """A training that came to its end goes on; one of fewer epochs is over."""
    path = tmp_path / "a"
    trainer, callbacks = made("adam", "epoch", 0)
    trainer.fit(**arrays(), epochs=4, verbose=0, callbacks=callbacks)
    first, callbacks = made("adam", "epoch", 0)
    first.fit(**arrays(), epochs=2, verbose=0, callbacks=callbacks)
    first.save_checkpoint(path)
    again, callbacks = made("adam", "epoch", 3)
    again.fit(**arrays(), epochs=4, verbose=0, callbacks=callbacks, resume=path)
    assert bits(again) == bits(trainer)
    again, callbacks = made("adam", "epoch", 3)
    with pytest.warns(UserWarning, match="is at epoch 2 already, so that nothing is trained with epochs=1"):
        again.fit(**arrays(), epochs=1, verbose=0, callbacks=callbacks, resume=path)
    assert bits(again) == bits(first)


# Interruptions.


@pytest.mark.parametrize("where", ["step", "epoch", "validation"])
@pytest.mark.usefixtures("python_handles_interrupts")
def test_ctrl_c(where: str, tmp_path: Path) -> None:
    """After Ctrl-C the trainer still knows where it stood: saved then, the training goes on from there."""
    x, y = digits()
    validation: list[Any] = []

    class Press(Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if where == "step" and batch == 2 and self.trainer.epochs_done == 1:
                os.kill(os.getpid(), signal.SIGINT)

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if where == "epoch" and epoch == 1:
                os.kill(os.getpid(), signal.SIGINT)

    def data(press: bool) -> dict[str, Any]:
        class Batches:
            def __iter__(self) -> Iterator[Any]:
                for i in range(3):
                    if press and where == "validation" and i == 1 and len(validation) == 4:
                        os.kill(os.getpid(), signal.SIGINT)
                    validation.append(i)
                    yield x[120 + 10 * i :][:10], y[120 + 10 * i :][:10]

        return {"x": x[:120], "y": y[:120], "batch_size": SIZE, "validation_data": Batches()}

    trainer, callbacks = made("adam", "step", 0)
    trainer.fit(**data(False), epochs=EPOCHS, verbose=0, callbacks=callbacks)
    validation.clear()
    broken, callbacks = made("adam", "step", 0)
    with pytest.raises(KeyboardInterrupt):
        broken.fit(**data(True), epochs=EPOCHS, verbose=0, callbacks=[Press(), *callbacks])
    done = 2 if where == "epoch" else 1
    assert broken.history.epoch == list(range(done)) and broken.epochs_done == done
    assert broken.history.history["val_loss"] == trainer.history.history["val_loss"][:done]
    broken.save_checkpoint(tmp_path / "a")
    again, callbacks = made("adam", "step", 1)
    again.fit(**data(False), epochs=EPOCHS, verbose=0, callbacks=callbacks, resume=tmp_path / "a")
    assert bits(again) == bits(trainer)


def test_a_step_that_failed_is_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, _ = made("sgd", "none", 0)
    steps = 0
    train_step = trainer._train_step

    def fails(*batch: np.ndarray) -> Any:
        nonlocal steps
        steps += 1
        done = train_step(*batch)
        if steps == 3:
            raise MemoryError
        return done

    monkeypatch.setattr(trainer, "_train_step", fails)
    with pytest.raises(MemoryError):
        trainer.fit(**arrays(), verbose=0)
    with pytest.raises(RuntimeError, match="the last step was begun, but not ended"):
        trainer.save_checkpoint(tmp_path / "a")


def test_the_trainer_keeps_no_data() -> None:
    """What a fit leaves for `save_checkpoint` must not hold the training images."""
    import gc
    import weakref

    x, y = digits()
    trainer, _ = made("sgd", "none", 0)
    copy = x.copy()
    gone = weakref.ref(copy)
    trainer.fit(copy, y, verbose=0)
    del copy
    gc.collect()
    assert gone() is None
