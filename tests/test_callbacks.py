"""The callbacks with Keras's names: when they act, what they write."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnmath
from cnnmath import Trainer, nn, optim
from cnnmath.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    ModelCheckpoint,
    TerminateOnNaN,
)
from cnnmath.losses import MSELoss
from cnnmath.metrics import ConfusionMatrix

NAN = float("nan")
X = np.linspace(-1, 1, 24, dtype=np.float32).reshape(8, 3)
Y = X[:, :2].copy()


def trainer_of(lr: float = 0.1, **options: Any) -> Trainer:
    cnnmath.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    return Trainer(model, optim.SGD(model, lr=lr), MSELoss(), **options)


def say(name: str, values: Sequence[float]) -> LambdaCallback:
    """Puts these values into the logs of the epochs."""
    return LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update({name: values[epoch]}))


def run(trainer: Trainer, values: Sequence[float], *callbacks: Any, name: str = "val_loss") -> int:
    """The number of epochs trained, where the epochs end with these values."""
    told = [say(name, values), *callbacks]
    return len(trainer.fit(X, Y, batch_size=4, epochs=len(values), verbose=0, callbacks=told).epoch)


# EarlyStopping.


@pytest.mark.parametrize(
    ("options", "values", "epochs", "best_epoch"),
    [
        ({}, [5, 4, 4, 3], 3, 1),
        ({}, [5, 4, 3], 3, 2),
        ({"patience": 2}, [5, 6, 4, 4, 4, 1], 5, 2),
        ({"patience": 3}, [5, 4.0, 4, 4, 4, 1], 5, 1),
        ({"min_delta": 0.5, "patience": 1}, [5, 4.6, 4.0], 2, 0),
        ({"min_delta": -0.5, "patience": 2}, [5, 4.6, 4.2, 4.0, 3.9, 0], 5, 2),
        ({"mode": "max", "patience": 1}, [1, 2, 3, 3, 4], 4, 2),
        ({"mode": "max", "min_delta": 1, "patience": 1}, [1, 2, 3.5], 2, 0),
        ({"baseline": 3.0, "patience": 2}, [5, 4, 3, 2], 4, 3),  # improvements alone do not end it
        ({"baseline": 3.0, "patience": 2}, [5, 4, 4, 2], 3, 1),
        ({"baseline": 3.0, "patience": 2}, [2, 4, 4, 1], 3, 0),
        ({"start_from_epoch": 3}, [1, 2, 3, 9, 8, 8, 7], 6, 4),
        ({"patience": 1}, [NAN, NAN, 1], 2, 0),
        ({}, [NAN, 1, 2], 3, 1),  # never after the first epoch
        ({"patience": 1}, [2, NAN, 1], 2, 0),
    ],
)
def test_early_stopping(options: dict[str, Any], values: list[float], epochs: int, best_epoch: int) -> None:
    trainer = trainer_of()
    weights = []
    note = LambdaCallback(on_epoch_end=lambda epoch, logs: weights.append(trainer.model.state_dict()))
    stop = EarlyStopping(restore_best_weights=True, **options)
    for _ in range(2):  # an instance may be used again
        weights.clear()
        assert run(trainer, values, note, stop) == epochs
        assert stop.best_epoch == best_epoch
        assert stop.stopped_epoch == (epochs - 1 if epochs < len(values) or stop.wait else 0)
        for name, array in trainer.model.state_dict().items():
            np.testing.assert_array_equal(array, weights[best_epoch][name])


def test_early_stopping_keeps_the_last_weights() -> None:
    trainer = trainer_of()
    weights = []
    note = LambdaCallback(on_epoch_end=lambda epoch, logs: weights.append(trainer.model.state_dict()))
    assert run(trainer, [1, 2, 3, 4], note, EarlyStopping(patience=2)) == 3
    for name, array in trainer.model.state_dict().items():
        np.testing.assert_array_equal(array, weights[2][name])


def test_early_stopping_tells(capsys: pytest.CaptureFixture[str]) -> None:
    run(trainer_of(), [1, 2, 3], EarlyStopping(verbose=1, restore_best_weights=True))
    assert capsys.readouterr().out == "Epoch 2: early stopping\nRestoring the weights of epoch 1\n"


def test_what_is_better_is_known_of_metrics() -> None:
    for metric, values, epochs in (("accuracy", [1, 2, 1], 3), ("mae", [1, 2, 1], 2), ("top2", [2, 1, 3], 2)):
        model = nn.Linear(3, 2)
        trainer = Trainer(model, optim.SGD(model), cnnmath.losses.CrossEntropyLoss(), metrics=[metric])
        trainer.metrics[0].update = lambda *_: None
        trainer.metrics[0].compute = lambda: 0.0
        y, told = np.zeros(8, np.int64), say(f"val_{metric}", values)
        stop = EarlyStopping(f"val_{metric}")
        assert len(trainer.fit(X, y, epochs=3, verbose=0, callbacks=[told, stop]).epoch) == epochs
    with pytest.raises(ValueError, match="one of mae, loss, val_mae, val_loss, got 'val_speed'"):
        run(trainer_of(metrics=["mae"]), [1], EarlyStopping("val_speed"))
    confusion = trainer_of(metrics=[ConfusionMatrix(2)])
    with pytest.raises(ValueError, match="does not know whether a high 'confusion_matrix' is good"):
        confusion.fit(X, Y, verbose=0, callbacks=[EarlyStopping("confusion_matrix")])


def test_nothing_to_monitor() -> None:
    with pytest.warns(UserWarning, match="EarlyStopping: no 'val_loss' to monitor; there is loss"):
        assert len(trainer_of().fit(X, Y, epochs=2, verbose=0, callbacks=[EarlyStopping()]).epoch) == 2


# ModelCheckpoint.


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_checkpoints_of_each_epoch(tmp_path: Path) -> None:
    trainer = trainer_of()
    weights = []
    note = LambdaCallback(on_epoch_end=lambda epoch, logs: weights.append(trainer.model.state_dict()))
    path = tmp_path / "run" / "{epoch:02d}-{val_loss:.2f}.safetensors"
    run(trainer, [1.5, 0.25, 2.125], note, ModelCheckpoint(path))
    want = ["01-1.50.safetensors", "02-0.25.safetensors", "03-2.12.safetensors"]
    assert names(tmp_path) == [str(Path("run", name)) for name in want]
    for name, state in zip(want, weights):
        other = trainer_of().model
        other.load_state_dict(cnnmath.load(tmp_path / "run" / name))
        for key, array in other.state_dict().items():
            np.testing.assert_array_equal(array, state[key])


@pytest.mark.parametrize(
    ("options", "values", "kept"),
    [
        ({}, [3, 1, 2, 1, 0.5], ["1", "2", "5"]),
        ({"mode": "max"}, [3, 1, 4, 4], ["1", "3"]),
        ({"initial_value_threshold": 2.0}, [3, 2, 1, NAN], ["3"]),
        ({}, [NAN, 1], ["2"]),
    ],
)
def test_checkpoints_of_the_best(
    options: dict[str, Any], values: list[float], kept: list[str], tmp_path: Path
) -> None:
    checkpoint = ModelCheckpoint(f"{tmp_path}/{{epoch}}.safetensors", save_best_only=True, **options)
    trainer = trainer_of()
    run(trainer, values, checkpoint)
    assert names(tmp_path) == [f"{name}.safetensors" for name in kept]
    assert checkpoint.best == {"max": max}.get(options.get("mode", ""), min)(v for v in values if v == v)
    for path in tmp_path.iterdir():
        path.unlink()
    run(trainer, [checkpoint.best], checkpoint)  # another call of fit goes on from the best value
    assert names(tmp_path) == []


def test_checkpoints_of_steps(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path / "{epoch}-{batch}.safetensors", save_freq=3)
    trainer_of().fit(X, Y, batch_size=2, epochs=3, verbose=0, callbacks=[checkpoint])
    assert names(tmp_path) == [f"{name}.safetensors" for name in ("1-3", "2-2", "3-1", "3-4")]


def test_a_checkpoint_that_fails_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, path = trainer_of(), tmp_path / "best.safetensors"
    run(trainer, [1.0], ModelCheckpoint(path))
    before = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("safetensors.numpy.save", full)
    with pytest.raises(OSError, match="no space left"):
        run(trainer, [1.0], ModelCheckpoint(path))
    assert path.read_bytes() == before and names(tmp_path) == ["best.safetensors"]


def test_checkpoints_tell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.safetensors"
    run(trainer_of(), [1.0, 2.0], ModelCheckpoint(path, verbose=1, save_best_only=True))
    assert capsys.readouterr().out == f"Epoch 1: saved {path}\nEpoch 2: val_loss is not better than 1\n"
    with pytest.warns(UserWarning, match="no 'val_loss' to tell the best model by, so it is saved"):
        trainer_of().fit(X, Y, verbose=0, callbacks=[ModelCheckpoint(path, save_best_only=True)])
    with pytest.raises(KeyError, match=r"no 'val_acc' for .*; there is epoch, loss"):
        checkpoint = ModelCheckpoint(tmp_path / "{val_acc}.safetensors")
        trainer_of().fit(X, Y, verbose=0, callbacks=[checkpoint])


# CSVLogger.


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "log.csv"
    log = CSVLogger(path)
    rows = []
    look = LambdaCallback(on_epoch_end=lambda *_: rows.append(len(path.read_text().splitlines())))
    history = trainer_of(metrics=["mae"]).fit(
        X, Y, epochs=3, verbose=0, validation_split=0.25, callbacks=[log, look]
    )
    assert rows == [2, 3, 4]  # on disk after each epoch
    with path.open(newline="") as file:
        header, *body = csv.reader(file)
    assert header == ["epoch", "loss", "mae", "val_loss", "val_mae"]
    assert [int(row[0]) for row in body] == [0, 1, 2]
    for i, name in enumerate(header[1:], 1):
        assert [float(row[i]) for row in body] == history.history[name]
    trainer_of().fit(X, Y, verbose=0, callbacks=[log])  # replaces the file
    assert path.read_text().splitlines()[0] == "epoch,loss"
    assert len(path.read_text().splitlines()) == 2


def test_csv_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    log = CSVLogger(str(path), separator=";", append=True)
    run(trainer_of(), [1.0, 2.0], log)
    run(trainer_of(), [3.0], log)
    trainer_of().fit(X, Y, verbose=0, callbacks=[log])  # without val_loss
    lines = [line.split(";") for line in path.read_text().splitlines()]
    assert [line[0] for line in lines] == ["epoch", "0", "1", "0", "0"]
    assert [line[2] for line in lines] == ["val_loss", "1.0", "2.0", "3.0", "NA"]


def test_csv_of_arrays(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    trainer = Trainer(
        model, optim.SGD(model, lr=0.0), cnnmath.losses.CrossEntropyLoss(), metrics=[ConfusionMatrix(2)]
    )
    trainer.fit(
        X, np.zeros(8, np.int64), epochs=2, verbose=0, callbacks=[CSVLogger(tmp_path / "a.csv", append=True)]
    )
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["epoch", "confusion_matrix", "loss"] and len(rows) == 3
    assert rows[1][1].startswith("[[") and rows[1][1].endswith("[0 0]]")


def test_csv_on_a_full_disk(tmp_path: Path, run_python: Any) -> None:
    """The error names the file; the rows before are whole."""
    path = tmp_path / "log.csv"
    code = f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (60, 60))
import types
from cnnmath.callbacks import CSVLogger
trainer = types.SimpleNamespace(initial_epoch=0)
log = CSVLogger({str(path)!r})
log.set_trainer(trainer)
log.on_train_begin()
for epoch in range(9):
    log.on_epoch_end(epoch, {{"loss": 0.123456789012}})
"""
    done = run_python(code, check=False)
    assert done.stderr.splitlines()[-1] == f"OSError: [Errno 27] File too large: '{path}'"
    assert path.read_bytes() == b"epoch,loss\r\n0,0.123456789012\r\n1,0.123456789012\r\n"


# The others.


@pytest.mark.parametrize("bad", [NAN, float("inf")])
def test_terminate_on_nan(bad: float, capsys: pytest.CaptureFixture[str]) -> None:
    x = X.copy()
    x[5] = bad
    seen: list[Any] = []
    look = LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(batch),
        on_train_end=lambda logs: seen.append("end"),
    )
    trainer = trainer_of()
    history = trainer.fit(x, Y, 2, epochs=3, verbose=0, shuffle=False, callbacks=[TerminateOnNaN(), look])
    assert seen == [0, 1, 2, "end"] and history.epoch == [0]
    assert "Batch 2: the loss is " in capsys.readouterr().out
    assert trainer.optimizer.state_dict()["state"] == {}
    with pytest.raises(RuntimeError, match="the loss of batch 0 is nan"):
        trainer.fit(x, Y, 2, verbose=0, callbacks=[TerminateOnNaN(raise_error=True)])
    assert len(trainer_of().fit(X, Y, epochs=2, verbose=0, callbacks=[TerminateOnNaN()]).epoch) == 2


def test_lambdas() -> None:
    seen: list[Any] = []
    hooks = {
        "on_train_begin": lambda logs: seen.append("begin"),
        "on_epoch_begin": lambda epoch, logs: seen.append(("epoch", epoch)),
        "on_train_batch_begin": lambda batch, logs: seen.append(("batch", batch)),
        "on_train_batch_end": lambda batch, logs: seen.append(("batch end", batch, sorted(logs))),
        "on_epoch_end": lambda epoch, logs: seen.append(("epoch end", epoch, sorted(logs))),
        "on_train_end": lambda logs: seen.append("end"),
    }
    trainer_of().fit(X, Y, verbose=0, callbacks=[LambdaCallback(**hooks), LambdaCallback()])  # type: ignore[arg-type]
    steps = [("batch", 0), ("batch end", 0, ["loss"])]
    assert seen == ["begin", ("epoch", 0), *steps, ("epoch end", 0, ["loss"]), "end"]
    with pytest.raises(TypeError, match="on_test_begin"):
        LambdaCallback(on_test_begin=print)  # type: ignore[call-arg]


def test_stopping_after_a_step() -> None:
    class Enough(Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            assert self.model is self.trainer.model
            self.trainer.stop_training = batch == 1

    history = trainer_of().fit(X, Y, 2, epochs=3, verbose=0, validation_split=0.25, callbacks=[Enough()])
    assert history.epoch == [0] and list(history.history) == ["loss", "val_loss"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: EarlyStopping(patience=-1), ValueError, "expected a patience of at least 0, got -1"),
        (lambda: EarlyStopping(mode="best"), ValueError, "expected mode 'auto', 'min' or 'max', got 'best'"),
        (lambda: ModelCheckpoint("a.h5"), ValueError, r"ends in \.safetensors, got a\.h5"),
        (lambda: ModelCheckpoint("a.safetensors", save_freq="step"), ValueError, "got 'step'"),
        (lambda: ModelCheckpoint("a.safetensors", save_freq=0), ValueError, "got 0"),
        (lambda: ModelCheckpoint("a.safetensors", mode="best"), ValueError, "got 'best'"),
    ],
)
def test_wrong_arguments(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call()
