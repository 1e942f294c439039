"""Callbacks that write what is trained."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..io import save
from ..training import Callback
from .monitor import Logs, Monitor, Stateful


def _checked_freq(owner: str, save_freq: Any) -> int | None:
    """A number of steps; None for "epoch"."""
    whole = isinstance(save_freq, (int, np.integer)) and not isinstance(save_freq, bool)
    if save_freq != "epoch" and not (whole and int(save_freq) > 0):
        raise ValueError(f"{owner}: expected save_freq 'epoch' or a number of steps, got {save_freq!r}")
    return None if save_freq == "epoch" else int(save_freq)


class ModelCheckpoint(Stateful):
    """Saves the model as it is trained: after each epoch, or only where it is the best so far.

    A file is written beside its place and renamed when it is complete (`cnnmath.save`), so that an interruption leaves
    the one before as it was. Weights are read with `model.load_state_dict(cnnmath.load(path))`; from a checkpoint,
    `fit(..., resume=path)` goes on with the training.

    Args:
        filepath: where to; the name ends in ".safetensors". Fields such as "{epoch:02d}" (from 1), "{val_loss:.2f}", or
            "{batch}" where `save_freq` is a number, are filled from the logs. Folders are made.
        monitor: the name of the quantity that tells which model is the best.
        verbose: 1 to print what is done.
        save_best_only: save only where the monitored quantity is better than at any time before, also in former
            calls of `fit`.
        save_weights_only: True for the weights and statistics, the model's `state_dict()`; False, which is Keras's
            default, for a checkpoint of the whole training, see `Trainer.save_checkpoint`.
        mode: "min", "max", or "auto": lower losses are better, and a metric knows by `higher_is_better`.
        save_freq: "epoch", or a number of steps; the logs of a step have "loss" alone.
        initial_value_threshold: with save_best_only, the first value to be beaten.

    Attributes:
        best: the best value so far.
    """

    _kept = ("best", "_steps")

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = True,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        self._monitor = Monitor("ModelCheckpoint", monitor, mode)
        self.filepath = os.fspath(filepath)
        if not self.filepath.endswith(".safetensors"):
            raise ValueError(
                f"ModelCheckpoint: expected a filepath that ends in .safetensors, got {self.filepath}"
            )
        self._every = _checked_freq("ModelCheckpoint", save_freq)
        self.monitor = monitor
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.save_freq = save_freq
        self.best = initial_value_threshold
        self._epoch = 0
        self._steps = 0
        self._due: Path | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        if self.save_best_only:
            self._monitor.prepare(self.trainer)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        if self._every is None:
            return
        self._steps += 1
        if self._steps % self._every == 0:
            self._save({"batch": batch + 1, **(logs or {})})

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._epoch = epoch
        if self._every is None:
            self._save(logs or {})

    def _save(self, logs: Logs) -> None:
        if self.save_best_only and not self._is_best(logs):
            return
        try:
            path = Path(self.filepath.format(**{**logs, "epoch": self._epoch + 1}))
        except KeyError as error:
            raise KeyError(
                f"ModelCheckpoint: no {error} for {self.filepath}; there is epoch, {', '.join(logs)}"
            ) from None
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.save_weights_only:
            self._written(path, lambda: save(self.trainer.model, path))
        else:
            self._due = path  # when the others have seen the step, too

    def on_checkpoint(self) -> None:
        path, self._due = self._due, None
        if path is not None:
            self._written(path, lambda: self.trainer.save_checkpoint(path))

    def _written(self, path: Path, write: Callable[[], None]) -> None:
        write()
        if self.verbose:
            print(f"Epoch {self._epoch + 1}: saved {path}", flush=True)

    def _is_best(self, logs: Logs) -> bool:
        value = logs.get(self.monitor)
        if value is None:
            warnings.warn(
                f"ModelCheckpoint: no {self.monitor!r} to tell the best model by, so it is saved; "
                f"there is {', '.join(logs)}",
                stacklevel=2,
            )
            return True
        before = self._monitor.worst if self.best is None else self.best
        if not self._monitor.better(value, before):
            if self.verbose:
                print(f"Epoch {self._epoch + 1}: {self.monitor} is not better than {before:.5g}", flush=True)
            return False
        self.best = value
        return True


class BackupAndRestore(Callback):
    """Keeps a checkpoint of the training, from which the same `fit`, called again after an interruption, goes on.

    Run a program again that was interrupted, whatever ended it: `fit` continues after the last epoch (or step) that was
    saved, and ends with the same bits as without the interruption. See `Trainer.save_checkpoint` for what is saved.

    Args:
        backup_dir: the folder of the checkpoint, "checkpoint.safetensors"; it is made.
        save_freq: "epoch", or a number of steps.
        delete_checkpoint: whether the checkpoint is removed when the training has come to its end. If it stays, `fit`
            goes on from it with the next larger number of epochs. One of more epochs than `fit` is to train stays.

    >>> import tempfile, numpy as np, cnnmath
    >>> from cnnmath.callbacks import BackupAndRestore
    >>> def train(folder, epochs):
    ...     cnnmath.manual_seed(0)
    ...     model = cnnmath.nn.Linear(1, 1)
    ...     trainer = cnnmath.Trainer(model, cnnmath.optim.Adam(model), cnnmath.losses.MSELoss())
    ...     x = np.ones((8, 1), np.float32)
    ...     backup = BackupAndRestore(folder, delete_checkpoint=False)
    ...     history = trainer.fit(x, x, epochs=epochs, verbose=0, callbacks=[backup])
    ...     return trainer.initial_epoch, len(history.epoch), model.weight.numpy().item()
    >>> with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
    ...     runs = [train(first, 2), train(first, 5), train(second, 5)]
    >>> [run[:2] for run in runs], runs[1][2] == runs[2][2]
    ([(0, 2), (2, 5), (0, 5)], True)
    """

    def __init__(
        self,
        backup_dir: str | os.PathLike[str],
        save_freq: str | int = "epoch",
        *,
        delete_checkpoint: bool = True,
    ) -> None:
        self.path = Path(backup_dir) / "checkpoint.safetensors"
        self.save_freq = save_freq
        self.delete_checkpoint = delete_checkpoint
        self._every = _checked_freq("BackupAndRestore", save_freq)
        self._steps = 0
        self._due = False

    def checkpoint(self) -> Path | None:
        """What `fit` is to go on from."""
        return self.path if self.path.exists() else None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._steps += 1
        self._due = self._every is not None and self._steps % self._every == 0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._due = self._every is None

    def on_checkpoint(self) -> None:
        if self._due:
            self._due = False
            self.trainer.save_checkpoint(self.path)

    def on_train_end(self, logs: Logs | None = None) -> None:
        fit = self.trainer._fit
        if self.delete_checkpoint and not (fit is not None and fit.beyond):
            self.path.unlink(missing_ok=True)
