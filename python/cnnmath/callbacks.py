"""Callbacks for `Trainer.fit`, with the names, arguments and defaults of Keras.

The schedules of `cnnmath.optim.schedules` are callbacks too, `ReduceLROnPlateau` among them. One of your own is a
`Callback`, or any object with some of its methods.
"""

from __future__ import annotations

import csv
import io
import math
import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _hints
from .io import append_bytes, save, write_bytes
from .training import Callback, History, Trainer

Logs = dict[str, Any]


class _Stateful(Callback):
    """A callback that checkpoints hold; `_kept` are the names of the attributes that make its state."""

    _kept: tuple[str, ...] = ()

    def state_dict(self) -> dict[str, Any]:
        """What it has seen so far, for checkpoints."""
        return {name: getattr(self, name) for name in self._kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes it over."""
        for name in self._kept:
            setattr(self, name, state_dict[name])


class _Monitor:
    """Which of two values of a monitored quantity is better.

    Args:
        owner: the callback's name, for messages.
        monitor: the name of the quantity in the logs.
        mode: "min", "max", or "auto": lower losses are better, and a metric knows by `higher_is_better`.
        min_delta: a change that is not larger is no improvement.
    """

    def __init__(self, owner: str, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"{owner}: expected mode 'auto', 'min' or 'max', got {mode!r}")
        self.owner, self.monitor, self.mode = owner, monitor, mode
        self.min_delta = abs(min_delta)
        self.highest = mode == "max"

    def prepare(self, trainer: Trainer) -> None:
        """Finds out what is better, for mode "auto"."""
        if self.mode != "auto":
            return
        name = self.monitor.removeprefix("val_")
        known = {m.name: getattr(m, "higher_is_better", None) for m in trainer.metrics}
        known["loss"] = False
        if name not in known:
            names = ", ".join([*known, *(f"val_{n}" for n in known)])
            raise ValueError(
                f"{self.owner}: expected to monitor one of {names}, got {self.monitor!r}; of your own tell by "
                "mode 'min' or 'max' which is better"
            )
        highest = known[name]
        if highest is None:
            raise ValueError(
                f"{self.owner}: mode 'auto' does not know whether a high {self.monitor!r} is good; "
                f"expected mode 'min' or 'max'"
            )
        self.highest = bool(highest)

    @property
    def worst(self) -> float:
        return -math.inf if self.highest else math.inf

    def better(self, value: float, than: float) -> bool:
        """Whether `value` is an improvement; NaN is none."""
        return value - self.min_delta > than if self.highest else value + self.min_delta < than


class EarlyStopping(_Stateful):
    """Ends the training when a monitored quantity has stopped improving.

    An epoch improves if its value m is below b - |min_delta| (for mode "max" above b + |min_delta|), where b is the
    best value so far. After `patience` epochs in a row without an improvement `fit` ends. With a `baseline` only an
    improvement that is also better than the baseline counts.

    Args:
        monitor: the name of a quantity in the logs, such as "val_loss" or "accuracy".
        min_delta: what a change must exceed to be an improvement.
        patience: epochs without improvement that are waited for.
        verbose: 1 to print what is done.
        mode: "min", "max", or "auto": lower losses are better, and a metric knows by `higher_is_better`.
        baseline: a value to be beaten.
        restore_best_weights: at the end give the model the weights and statistics (its whole `state_dict`) of the epoch
            with the best value, else it keeps the last ones.
        start_from_epoch: the first epoch that is looked at, from 0.

    Attributes:
        best, best_epoch: the best value and its epoch, from 0.
        stopped_epoch: the epoch after which the training was ended; 0 if it was not.

    >>> import numpy as np, cnnmath
    >>> from cnnmath.callbacks import EarlyStopping
    >>> model = cnnmath.nn.Linear(1, 1)
    >>> trainer = cnnmath.Trainer(model, cnnmath.optim.SGD(model, lr=0.0), cnnmath.losses.MSELoss())
    >>> x = np.ones((8, 1), np.float32)
    >>> history = trainer.fit(x, x, epochs=50, verbose=0, callbacks=[EarlyStopping("loss", patience=3)])
    >>> len(history.epoch)  # one epoch that improves on nothing, three that do not improve on it
    4
    """

    _kept = ("best", "best_epoch", "best_weights", "stopped_epoch", "wait")

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        self._monitor = _Monitor("EarlyStopping", monitor, mode, min_delta)
        if patience < 0:
            raise ValueError(f"EarlyStopping: expected a patience of at least 0, got {patience}")
        self.monitor = monitor
        self.patience = patience
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self._reset()

    def _reset(self) -> None:
        self.best = self._monitor.worst
        self.best_epoch = 0
        self.best_weights: dict[str, np.ndarray] | None = None
        self.stopped_epoch = 0
        self.wait = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._monitor.prepare(self.trainer)
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        value = (logs or {}).get(self.monitor)
        if value is None:
            warnings.warn(
                f"EarlyStopping: no {self.monitor!r} to monitor; there is {', '.join(logs or ())}",
                stacklevel=2,
            )
            return
        if epoch < self.start_from_epoch:
            return
        improved = self._monitor.better(value, self.best)
        if self.restore_best_weights and (improved or self.best_weights is None):
            self.best_weights = self.trainer.model.state_dict()
            self.best_epoch = epoch
        self.wait += 1
        if improved:
            self.best, self.best_epoch = value, epoch
            if self.baseline is None or self._monitor.better(value, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.trainer.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.stopped_epoch and self.verbose:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping", flush=True)
        if self.best_weights is not None:
            if self.verbose:
                print(f"Restoring the weights of epoch {self.best_epoch + 1}", flush=True)
            self.trainer.model.load_state_dict(self.best_weights)


def _checked_freq(owner: str, save_freq: Any) -> int | None:
    """A number of steps; None for "epoch"."""
    whole = isinstance(save_freq, (int, np.integer)) and not isinstance(save_freq, bool)
    if save_freq != "epoch" and not (whole and int(save_freq) > 0):
        raise ValueError(f"{owner}: expected save_freq 'epoch' or a number of steps, got {save_freq!r}")
    return None if save_freq == "epoch" else int(save_freq)


class ModelCheckpoint(_Stateful):
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
        self._monitor = _Monitor("ModelCheckpoint", monitor, mode)
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


class CSVLogger(Callback):
    """Writes the numbers of each epoch as a row of a CSV file: "epoch" (from 0) and then the logs by name.

    The first epoch decides on the columns. A row is complete on disk when its epoch ends; an array, such as a confusion
    matrix, is one field, "[...]".

    Args:
        filename: the file; its folder is made.
        separator: between fields.
        append: go on with the file, with the columns of its first row, instead of replacing it.

    A `fit` that goes on from a checkpoint goes on with the file, too; rows of epochs after the checkpoint are removed.
    """

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False) -> None:
        self.filename = os.fspath(filename)
        self.separator = separator
        self.append = append
        self.keys: list[str] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.keys = None
        path = Path(self.filename)
        path.parent.mkdir(parents=True, exist_ok=True)
        first = self.trainer.initial_epoch
        if not (self.append or first) or not path.exists():
            write_bytes(path, b"")
            return
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file, delimiter=self.separator))
        self.keys = rows[0] if rows else None
        if first:
            self._cut(path, rows, first)

    def _cut(self, path: Path, rows: list[list[str]], first: int) -> None:
        """Removes the rows of epochs from `first` on: those of the last training that the file tells of."""
        # The last one may have been cut off.
        whole = (len(row) == len(rows[0]) and row[0].isdigit() for row in rows)
        numbers = [int(row[0]) if good else -1 for row, good in zip(rows, whole)]
        begin = max((i for i, number in enumerate(numbers) if number == 0), default=1)
        kept = [row for i, row in enumerate(rows) if i < begin or 0 <= numbers[i] < first]
        if len(kept) != len(rows):
            write_bytes(path, self._text(kept))

    def _text(self, rows: Iterable[Iterable[Any]]) -> bytes:
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=self.separator).writerows(rows)
        return text.getvalue().encode()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        row = {"epoch": epoch, **(logs or {})}
        keys = ["epoch", *sorted(logs or {})] if self.keys is None else self.keys
        rows = [[_field(row.get(key, "NA")) for key in keys]]
        append_bytes(Path(self.filename), self._text([keys, *rows] if self.keys is None else rows))
        self.keys = keys


def _field(value: Any) -> Any:
    if isinstance(value, str) or not isinstance(value, Iterable) or np.ndim(value) == 0:  # type: ignore[arg-type]
        return value
    return f"[{', '.join(str(v).replace(chr(10), '') for v in value)}]"


class TerminateOnNaN(Callback):
    """Ends the training after a step whose loss is NaN or infinite.

    Args:
        raise_error: raise a RuntimeError instead, which leaves out all that callbacks do at the end.
    """

    def __init__(self, raise_error: bool = False) -> None:
        self.raise_error = raise_error

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        loss = (logs or {}).get("loss")
        if loss is None or math.isfinite(loss):
            return
        if self.raise_error:
            raise RuntimeError(f"TerminateOnNaN: the loss of batch {batch} is {loss}")
        print(f"Batch {batch}: the loss is {loss}, the training ends", flush=True)
        self.trainer.stop_training = True


class LambdaCallback(Callback):
    """A callback of single functions.

    Args:
        on_epoch_begin, on_epoch_end: functions of (epoch, logs).
        on_train_begin, on_train_end: functions of (logs).
        on_train_batch_begin, on_train_batch_end: functions of (batch, logs).

    >>> import numpy as np, cnnmath
    >>> from cnnmath.callbacks import LambdaCallback
    >>> model = cnnmath.nn.Linear(1, 1)
    >>> trainer = cnnmath.Trainer(model, cnnmath.optim.SGD(model, lr=0.0), cnnmath.losses.MSELoss())
    >>> x = np.ones((8, 1), np.float32)
    >>> shout = LambdaCallback(on_epoch_end=lambda epoch, logs: print("epoch", epoch, *logs))
    >>> history = trainer.fit(x, x, epochs=2, verbose=0, callbacks=[shout])
    epoch 0 loss
    epoch 1 loss
    """

    def __init__(
        self,
        on_epoch_begin: Callable[[int, Logs], Any] | None = None,
        on_epoch_end: Callable[[int, Logs], Any] | None = None,
        on_train_begin: Callable[[Logs], Any] | None = None,
        on_train_end: Callable[[Logs], Any] | None = None,
        on_train_batch_begin: Callable[[int, Logs], Any] | None = None,
        on_train_batch_end: Callable[[int, Logs], Any] | None = None,
    ) -> None:
        hooks = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
        }
        self.__dict__.update({name: hook for name, hook in hooks.items() if hook is not None})


__all__ = [
    "BackupAndRestore",
    "CSVLogger",
    "Callback",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "ModelCheckpoint",
    "TerminateOnNaN",
]

if not TYPE_CHECKING:
    _SCHEDULES = "schedules are in cnnmath.optim.schedules, and are callbacks"
    _HINTS = {
        **dict.fromkeys(("ReduceLROnPlateau", "LearningRateScheduler"), _SCHEDULES),
        "TensorBoard": "CSVLogger writes the numbers of the epochs, cnnmath.viz.curves draws them",
    }
    __getattr__ = _hints.missing(__name__, _HINTS)
