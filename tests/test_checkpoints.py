"""Checkpoints: callbacks that save them, callbacks that go on, files that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnmath
from cnnmath import Trainer, nn, optim
from cnnmath.callbacks import (
    BackupAndRestore,
    CSVLogger,
    LambdaCallback,
    ModelCheckpoint,
)
from cnnmath.losses import CrossEntropyLoss
from cnnmath.optim import schedules

from .interrupted import (
    EPOCHS,
    Crash,
    CrashAfter,
    arrays,
    bits,
    digits,
    made,
)

# Callbacks that save.


@pytest.mark.parametrize("freq", ["epoch", 3])
def test_backup_and_restore(freq: Any, tmp_path: Path) -> None:
    """One program, started again after a crash."""

    def program(crash_after: int | None) -> Trainer:
        trainer, callbacks = made("adam", "step", 0)
        steps = 0

        def crash(batch: int, logs: Any) -> None:
            nonlocal steps
            steps += 1
            if steps == crash_after:
                raise Crash

        backup = BackupAndRestore(tmp_path / "backup", freq)
        calls = [backup, CSVLogger(tmp_path / "log.csv"), LambdaCallback(on_train_batch_end=crash)]
        trainer.fit(**arrays(), epochs=EPOCHS, verbose=0, callbacks=[*calls, *callbacks])
        return trainer

    want = bits(program(None))
    log = (tmp_path / "log.csv").read_bytes()
    assert not list((tmp_path / "backup").iterdir())
    for _ in range(2):  # it must get on
        with pytest.raises(Crash):
            program(8)
    again = program(None)
    assert bits(again) == want and again.initial_epoch == 2
    assert (tmp_path / "log.csv").read_bytes() == log
    assert not list((tmp_path / "backup").iterdir())


def test_a_backup_of_more_epochs_stays(tmp_path: Path) -> None:
    def program(epochs: int) -> Trainer:
        trainer, callbacks = made("adam", "epoch", 0)
        backup = BackupAndRestore(tmp_path, delete_checkpoint=epochs < 3)
        trainer.fit(**arrays(), epochs=epochs, verbose=0, callbacks=[backup, *callbacks])
        return trainer

    path = tmp_path / "checkpoint.safetensors"
    want, before = bits(program(3)), path.read_bytes()
    with pytest.warns(UserWarning, match=r"checkpoint\.safetensors is at epoch 3 already, .* with epochs=2"):
        assert bits(program(2)) == want
    assert path.read_bytes() == before


def test_model_checkpoint_of_the_whole_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the order of the callbacks: it is written when all have seen the epoch."""
    trainer, callbacks = made("adam", "epoch", 0)
    save = ModelCheckpoint(tmp_path / "{epoch}.safetensors", save_weights_only=False, verbose=1)
    trainer.fit(**arrays(), epochs=EPOCHS, verbose=0, callbacks=[save, *callbacks])
    assert capsys.readouterr().out.splitlines()[1] == f"Epoch 2: saved {tmp_path / '2.safetensors'}"
    for epoch in (1, 3):
        again, callbacks = made("adam", "epoch", 1)
        save = ModelCheckpoint(tmp_path / "other.safetensors", save_weights_only=False)
        again.fit(
            **arrays(),
            epochs=EPOCHS,
            verbose=0,
            callbacks=[save, *callbacks],
            resume=tmp_path / f"{epoch}.safetensors",
        )
        assert bits(again) == bits(trainer)


def test_csv_goes_on(tmp_path: Path) -> None:
    """Rows after the checkpoint, and one that was cut off, are written again; those of trainings before stay."""
    log, path = tmp_path / "log.csv", tmp_path / "a"
    rows = "epoch,accuracy,loss\r\n0,0.5,1.5\r\n1,0.5,1.5\r\n"  # of another training
    log.write_text(rows, newline="")
    trainer, _ = made("sgd", "none", 0)
    data = {key: value for key, value in arrays().items() if key != "validation_split"}
    with pytest.raises(Crash):
        trainer.fit(
            **data, epochs=2, verbose=0, callbacks=[CSVLogger(log, append=True), CrashAfter(path, 1, 0)]
        )
    whole = log.read_text().splitlines()
    with log.open("a") as file:
        file.write("1,0.3,0.2\r\n0")
    again, _ = made("sgd", "none", 0)
    again.fit(**data, epochs=3, verbose=0, callbacks=[CSVLogger(log, append=True)], resume=path)
    lines = log.read_text().splitlines()
    assert lines[:4] == whole and [line.split(",")[0] for line in lines] == ["epoch", *"01012"]
    assert [float(line.split(",")[2]) for line in lines[3:]] == again.history.history["loss"]


def test_a_callback_that_saves_too_early(tmp_path: Path) -> None:
    trainer, callbacks = made("sgd", "epoch", 0)
    early = LambdaCallback(on_epoch_end=lambda epoch, logs: trainer.save_checkpoint(tmp_path / "a"))
    with pytest.raises(RuntimeError, match=r"StepLR, History is to see .* call it from on_checkpoint"):
        trainer.fit(**arrays(), verbose=0, callbacks=[early, *callbacks])
    assert not list(tmp_path.iterdir())


def test_full_disk(tmp_path: Path, run_python: Any) -> None:
    """The error names the checkpoint; the one before holds."""
    code = f"""
import resource, numpy as np, cnnmath
from cnnmath.callbacks import BackupAndRestore, LambdaCallback
x = np.ones((8, 100), np.float32)
model = cnnmath.nn.Linear(100, 100)
trainer = cnnmath.Trainer(model, cnnmath.optim.Adam(model), cnnmath.losses.MSELoss())
def fill(epoch, logs):
    if epoch == 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
callbacks = [BackupAndRestore({str(tmp_path)!r}), LambdaCallback(on_epoch_end=fill)]
trainer.fit(x, x, epochs=5, verbose=0, callbacks=callbacks)
"""
    done = run_python(code, check=False)
    path = tmp_path / "checkpoint.safetensors"
    assert done.stderr.splitlines()[-1] == f"OSError: [Errno 27] File too large: '{path}'"
    assert list(tmp_path.iterdir()) == [path]
    model = nn.Linear(100, 100)
    trainer = Trainer(model, optim.Adam(model), cnnmath.losses.MSELoss())
    trainer.load_checkpoint(path)
    assert trainer.epochs_done == 2


# What does not fit.


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "a.safetensors"
    trainer, callbacks = made("adam", "epoch", 0)
    with pytest.raises(Crash):
        trainer.fit(**arrays(), epochs=2, verbose=0, callbacks=[CrashAfter(path, 1, 2), *callbacks])
    return path


@pytest.mark.parametrize(
    ("kind", "schedule", "options", "message"),
    [
        ("adam", "none", {}, r"take over the states of StepLR.*got none for a StepLR"),
        ("adam", "step", {}, "got none for a StepLR"),
        ("sgd", "epoch", {}, "does not fit this trainer: expected the state of a SGD, got that of a Adam"),
        ("adam", "epoch", {"batch_size": 32}, "saved within an epoch of 5 batches: expected as many, got 4"),
    ],
)  # fmt: skip
def test_another_training(kind: str, schedule: str, options: Any, message: str, saved: Path) -> None:
    trainer, callbacks = made(kind, schedule, 1)
    before = bits(trainer)
    with pytest.raises(ValueError, match=message):
        trainer.fit(**{**arrays(), **options}, epochs=2, verbose=0, callbacks=callbacks, resume=saved)
    assert bits(trainer) == before


def test_another_model(saved: Path) -> None:
    model = nn.Linear(64, 10)
    trainer = Trainer(model, optim.Adam(model), CrossEntropyLoss())
    schedule = schedules.StepLR(trainer.optimizer, 2)

    def resumed(path: Path) -> None:
        trainer.fit(*digits(), batch_size=30, resume=path, verbose=0, callbacks=[schedule])

    for call in (trainer.load_checkpoint, resumed):
        with pytest.raises(
            ValueError, match=r"(?s)a\.safetensors does not fit this trainer: .*missing: weight"
        ):
            call(saved)
    model = made("adam", "none", 0)[0].model
    half = optim.Adam(list(model.parameters())[:2])
    before = model.state_dict()
    with pytest.raises(
        ValueError, match=r"does not fit this trainer: .*groups of \[2\] parameters, got \[6\]"
    ):
        Trainer(model, half, CrossEntropyLoss()).load_checkpoint(saved)
    for name, array in model.state_dict().items():  # nothing was changed
        np.testing.assert_array_equal(array, before[name])


def test_other_files(tmp_path: Path, saved: Path) -> None:
    trainer, _ = made("adam", "none", 0)
    with pytest.raises(FileNotFoundError):
        trainer.load_checkpoint(tmp_path / "none")
    cnnmath.save(trainer.model, tmp_path / "weights")
    with pytest.raises(
        ValueError, match=r"weights: expected a checkpoint .*, got other arrays; weights alone are"
    ):
        trainer.fit(*digits(), resume=tmp_path / "weights", verbose=0)
    (tmp_path / "cut").write_bytes(saved.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"load: .*cut is no safetensors file, or it is damaged"):
        trainer.load_checkpoint(tmp_path / "cut")
    cnnmath.save({"checkpoint": 99}, tmp_path / "newer")
    with pytest.raises(ValueError, match="got one of version 99"):
        trainer.load_checkpoint(tmp_path / "newer")
