"""What callbacks that watch a quantity share, and those that end a training by it."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from ..training import Callback, Trainer

Logs = dict[str, Any]


class Stateful(Callback):
    """A callback that checkpoints hold; `_kept` are the names of the attributes that make its state."""

    _kept: tuple[str, ...] = ()

    def state_dict(self) -> dict[str, Any]:
        """What it has seen so far, for checkpoints."""
        return {name: getattr(self, name) for name in self._kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes it over."""
        for name in self._kept:
            setattr(self, name, state_dict[name])


class Monitor:
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


class EarlyStopping(Stateful):
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
        self._monitor = Monitor("EarlyStopping", monitor, mode, min_delta)
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
