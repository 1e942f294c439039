"""Trainer.fit, evaluate and predict: batches, modes, callbacks, progress, interruptions."""

from __future__ import annotations

import copy
import io
import os
import pickle
import re
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import cnnmath
from cnnmath import Trainer, nn, optim
from cnnmath.losses import CrossEntropyLoss, MSELoss
from cnnmath.metrics import ConfusionMatrix
from cnnmath.regularizers import L2
from cnnmath.training import Callback, History
from cnnmath.training.batches import ArrayBatches, shuffled

from .trainers import classifier, digits, linear, trainer_of


def test_fit_learns() -> None:
    (x, y), (x_test, y_test) = cnnmath.data.load_digits().split()
    trainer = trainer_of(classifier())
    history = trainer.fit(x, y, epochs=4, verbose=0, validation_data=(x_test, y_test))
    assert isinstance(history, History)
    assert list(history.history) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert history.epoch == [0, 1, 2, 3] and all(len(v) == 4 for v in history.history.values())
    assert history.history["val_accuracy"][-1] > 0.95
    found = trainer.evaluate(x_test, y_test)
    assert found == {"loss": history.history["val_loss"][-1], "accuracy": history.history["val_accuracy"][-1]}
    predicted = trainer.predict(x_test)
    assert predicted.shape == (360, 10)
    assert np.mean(predicted.argmax(1) == y_test) == pytest.approx(found["accuracy"])
    assert "accuracy=" in repr(history)
    assert pickle.loads(pickle.dumps(history)).history == history.history


def test_epoch_loss_is_the_mean_over_samples(rng: np.random.Generator) -> None:
    """10 samples in steps of 4, 4 and 2, with lr 0: the mean over samples, not over steps."""
    model, x, y = linear(rng)
    trainer = Trainer(model, optim.SGD(model, lr=0.0), MSELoss(), metrics=["mse"])
    history = trainer.fit(x, y, batch_size=4, verbose=0)
    want = np.mean((model(x) - y) ** 2)
    assert history.history["loss"][0] == pytest.approx(want)
    assert history.history["mse"][0] == pytest.approx(want)
    assert trainer.evaluate(x, y, batch_size=3)["loss"] == pytest.approx(want)
    assert len(trainer._plans) == 4  # steps of 4 and of 2, evaluation of 3 and of 1


def test_validation_split_takes_the_end(rng: np.random.Generator) -> None:
    model, x, y = linear(rng)
    trainer = Trainer(model, optim.SGD(model, lr=0.0), MSELoss())
    history = trainer.fit(x, y, verbose=0, validation_split=0.3)
    assert history.history["loss"][0] == pytest.approx(np.mean((model(x[:7]) - y[:7]) ** 2))
    assert history.history["val_loss"][0] == pytest.approx(np.mean((model(x[7:]) - y[7:]) ** 2))


def test_penalties_are_part_of_all_losses(rng: np.random.Generator) -> None:
    model, x, y = linear(rng)
    trainer = Trainer(model, optim.SGD(model, lr=0.0), MSELoss(), [L2(0.5)])
    history = trainer.fit(x, y, batch_size=3, verbose=0, validation_data=(x, y))
    want = np.mean((model(x) - y) ** 2) + 0.5 * np.sum(model.weight.numpy() ** 2)
    assert history.history["loss"][0] == pytest.approx(want)
    assert history.history["val_loss"][0] == pytest.approx(want)


def test_every_sample_once_in_each_epoch(rng: np.random.Generator) -> None:
    for n, size in ((10, 3), (7, 7), (5, 100)):
        x = np.arange(n, dtype=np.float64)[:, None]
        batches = ArrayBatches(x, np.arange(n), size)
        for order in (None, shuffled(n, 5, 0)):
            seen = list(batches.ordered(order))
            assert len(seen) == len(batches)
            for part, target in seen:
                np.testing.assert_array_equal(part[:, 0], target)
            want = np.arange(n) if order is None else order
            np.testing.assert_array_equal(np.concatenate([t for _, t in seen]), want)
    orders = {tuple(shuffled(50, seed, epoch)) for seed in (0, 1, 2**64 - 1) for epoch in range(3)}
    assert len(orders) == 9
    assert tuple(shuffled(50, 1, 2)) in orders


def test_batches_are_channels_last(rng: np.random.Generator) -> None:
    x = rng.standard_normal((9, 3, 4, 5))
    for order in (None, shuffled(9, 0, 0)):
        for part, target in ArrayBatches(x, np.arange(9), 4).ordered(order):
            assert part.transpose(0, 2, 3, 1).flags.c_contiguous
            np.testing.assert_array_equal(part, x[target])
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert np.shares_memory(ArrayBatches(last, np.arange(9), 4).x.physical, last)  # no copy


class Loader:
    """Batches of its own making."""

    def __init__(self, x: np.ndarray, y: np.ndarray, size: int, sized: bool = True) -> None:
        self.x, self.y, self.size = x, y, size
        if sized:
            self.__class__ = SizedLoader

    def __iter__(self) -> Iterator[Any]:
        for i in range(0, len(self.x), self.size):
            yield self.x[i : i + self.size], self.y[i : i + self.size]


class SizedLoader(Loader):
    def __len__(self) -> int:
        return -(-len(self.x) // self.size)


@pytest.mark.parametrize("sized", [True, False])
def test_iterables_of_batches(sized: bool) -> None:
    x, y = digits(100)
    runs = []
    for data in ((Loader(x, y, 32, sized), None), (x, y)):
        trainer = trainer_of(classifier())
        history = trainer.fit(*data, epochs=2, shuffle=False, verbose=0, validation_data=Loader(x, y, 50))
        runs.append((history.history, trainer.evaluate(*data, batch_size=32)))
    assert runs[0] == runs[1]


def test_an_iterator_runs_dry() -> None:
    x, y = digits(64)
    with pytest.raises(ValueError, match="an iterable must start anew for each epoch"):
        trainer_of(classifier()).fit(iter(Loader(x, y, 32)), epochs=2, verbose=0)


def test_modes_are_restored() -> None:
    model = classifier()
    model.eval()
    model[1].train()
    trainer = trainer_of(model)
    x, y = digits(32)
    modes = []

    class Look(Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            modes.append({m.training for m in model.modules()})

    trainer.fit(x, y, verbose=0, callbacks=[Look()], validation_split=0.5)
    trainer.evaluate(x, y)
    trainer.predict(x)
    assert modes == [{True}]
    assert [m.training for m in model.modules()] == [m is model[1] for m in model.modules()]


def test_two_fits_are_one_longer_one() -> None:
    x, y = digits()
    results = []
    for parts in ((4,), (1, 3)):
        trainer = trainer_of(classifier(drop=0.5))
        for epochs in parts:
            trainer.fit(x, y, epochs=epochs, verbose=0)
        results.append({n: a.tobytes() for n, a in trainer.model.state_dict().items()})
        assert trainer.epochs_done == 4
    assert results[0] == results[1]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_a_copy_goes_on_alike(copied: Any) -> None:
    x, y = digits(64)
    trainer = trainer_of(classifier(drop=0.5))
    trainer.fit(x, y, verbose=0)
    other = copied(trainer)
    assert other.optimizer.param_groups[0]["params"][0] is other.model[0].weight
    histories = [t.fit(x, y, epochs=2, verbose=0).history for t in (trainer, other)]
    assert histories[0] == histories[1]
    for name, array in trainer.model.state_dict().items():
        np.testing.assert_array_equal(other.model.state_dict()[name], array)


def test_segmentation_and_regression_targets(rng: np.random.Generator) -> None:
    """Targets of rank 3 (classes of pixels) and of rank 4."""
    x = rng.standard_normal((10, 2, 6, 6)).astype(np.float32)
    model = nn.Conv2d(2, 3, 3, padding=1)
    trainer = Trainer(model, optim.SGD(model, lr=0.1), CrossEntropyLoss(), metrics="accuracy")
    history = trainer.fit(x, rng.integers(0, 3, (10, 6, 6)), batch_size=4, epochs=3, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    trainer = Trainer(model, optim.SGD(model, lr=0.1), MSELoss(), metrics="mae")
    target = rng.standard_normal((10, 3, 6, 6)).astype(np.float32)
    history = trainer.fit(x, target, batch_size=4, epochs=3, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert trainer.predict(x, batch_size=3).shape == (10, 3, 6, 6)


def test_predict_in_any_batches() -> None:
    trainer = trainer_of(classifier(drop=0.5))
    x, y = digits(70)
    trainer.fit(x, y, verbose=0)
    whole = trainer.predict(x)
    for size in (1, 7, 32, 70):
        np.testing.assert_allclose(trainer.predict(x, batch_size=size), whole, rtol=1e-5, atol=1e-6)
    assert trainer.predict(x[:0]).shape == (0, 10)


# Callbacks and progress.


def test_hooks_and_their_order() -> None:
    seen: list[Any] = []

    class Recorder(Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            seen.append("begin")

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            seen.append(("epoch", epoch))

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            seen.append(("batch", batch))

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            seen.append(("batch end", batch, sorted(logs)))

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            seen.append(("epoch end", epoch, sorted(logs)))
            self.trainer.stop_training = epoch == 1

        def on_train_end(self, logs: Any = None) -> None:
            seen.append("end")

    x, y = digits(50)
    history = trainer_of(classifier()).fit(x, y, epochs=5, verbose=0, callbacks=[Recorder()])
    epoch = [("batch", 0), ("batch end", 0, ["loss"]), ("batch", 1), ("batch end", 1, ["loss"])]
    want: list[Any] = ["begin"]
    for e in range(2):
        want += [("epoch", e), *epoch, ("epoch end", e, ["accuracy", "loss"])]
    assert seen == [*want, "end"]
    assert history.epoch == [0, 1]


def test_schedules_as_callbacks() -> None:
    x, y = digits(64)
    trainer = trainer_of(classifier())
    schedule = optim.schedules.StepLR(trainer.optimizer, 1, 0.5)
    trainer.fit(x, y, epochs=3, verbose=0, callbacks=[schedule])
    assert trainer.optimizer.param_groups[0]["lr"] == 0.01 * 0.5**3


@pytest.mark.parametrize("verbose", [0, 1, 2, "auto", True, False])
def test_progress(verbose: Any, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = digits(64)
    trainer_of(classifier()).fit(x, y, epochs=2, verbose=verbose, validation_split=0.5)
    captured = capsys.readouterr()
    if verbose == 0:
        assert captured.out == captured.err == ""
        return
    if verbose == 1:  # the bar too, on the standard error
        assert all(part in captured.err for part in ("Epoch 1/2", "Epoch 2/2", "0/1"))
        assert captured.err.endswith("\r")  # cleared
    else:  # no terminal here: "auto" is lines
        assert captured.err == ""
    lines = captured.out.splitlines()
    assert len(lines) == 2
    for number, line in enumerate(lines, 1):
        parts = [f"Epoch {number}/2", r"\d+\.\ds"]
        parts += [rf"{name}: \d\.\d{{4}}" for name in ("loss", "accuracy", "val_loss", "val_accuracy")]
        assert re.fullmatch(" - ".join(parts), line)


def test_auto_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    x, y = digits(64)
    trainer_of(classifier()).fit(x, y)
    assert "Epoch 1/1" in terminal.getvalue()


def test_metric_objects() -> None:
    x, y = digits(64)
    trainer = trainer_of(classifier(), metrics=[ConfusionMatrix(10), "top3"])
    history = trainer.fit(x, y, epochs=2, verbose=2).history
    assert [m.sum() for m in history["confusion_matrix"]] == [64, 64]
    assert 0 <= history["top3"][-1] <= 1
    assert trainer.evaluate(x, y)["confusion_matrix"].sum() == 64


# What ends a training.


def test_nan_goes_on() -> None:
    x, y = digits(64)
    x = x.copy()
    x[3] = np.nan
    model = classifier()
    with pytest.warns(UserWarning, match=r"the loss is NaN in step \d of epoch 1") as told:
        history = trainer_of(model).fit(x, y, epochs=3, verbose=0, validation_split=0.25)
    assert len(told) == 1 and told[0].filename == __file__
    assert np.isnan(history.history["loss"]).all() and len(history.epoch) == 3


def test_an_error_in_a_callback_leaves_the_model_whole() -> None:
    class Fails(Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            raise RuntimeError("enough")

    model = classifier().eval()
    trainer = trainer_of(model)
    x, y = digits(64)
    with pytest.raises(RuntimeError, match="enough"):
        trainer.fit(x, y, verbose=0, callbacks=[Fails()])
    assert not model.training
    assert trainer.optimizer.state_dict()["state"][0]["step"] == 1
    assert np.isfinite(trainer.evaluate(x, y)["loss"])


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.usefixtures("python_handles_interrupts")
def test_interruption_between_steps() -> None:
    """Ctrl-C while a step runs: the step is finished, weights and step count fit together, training can go on."""
    model = classifier()
    trainer = trainer_of(model)
    x, y = digits(640)
    steps = 0

    class Count(Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            nonlocal steps
            steps += 1

    def press() -> None:
        while steps < 3:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(x, y, batch_size=16, epochs=1000, verbose=0, callbacks=[Count()])
    thread.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert trainer.optimizer.state_dict()["state"][0]["step"] == steps
    assert int(model[1].num_batches_tracked.numpy()) == steps
    assert np.isfinite(trainer.fit(x, y, verbose=0).history["loss"][0])


def test_fit_in_another_thread() -> None:
    x, y = digits(64)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(trainer_of(classifier()).fit(x, y, verbose=0)))
    thread.start()
    thread.join()
    assert found[0].history["loss"] == trainer_of(classifier()).fit(x, y, verbose=0).history["loss"]
