"""What happens beside training: callbacks, with the names of Keras, and the history of the numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .trainer import Trainer

Logs = dict[str, Any]

HOOKS = (
    "on_train_begin",
    "on_epoch_begin",
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_epoch_end",
    "on_train_end",
)


class Callback:
    """The base of callbacks; any object with some of these methods will do, so will the schedules of `optim.schedules`.

    Epochs and batches count from 0. `logs` holds the numbers so far: at the end of a batch its "loss", at the end of an
    epoch all that goes to the history.

    Attributes:
        trainer: the Trainer, set when `fit` starts. `self.trainer.stop_training = True` ends the training: after the
            epoch, or, from a hook of a step, after the step; the epoch is then closed as any other.
    """

    trainer: Trainer

    def set_trainer(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Before the first epoch."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Before each epoch."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before each step."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After each step."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """After each epoch and its validation."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """After the last epoch; not where an error or an interruption ended the training."""


class History(Callback):
    """The numbers of all epochs, as `Trainer.fit` returns them.

    Attributes:
        history: a dict from names ("loss", "accuracy", "val_loss", ...) to lists with one entry for each epoch.
        epoch: the numbers of the epochs.
    """

    def __init__(self) -> None:
        self.history: dict[str, list[Any]] = {}
        self.epoch: list[int] = []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)

    def __getstate__(self) -> dict[str, Any]:
        return {"history": self.history, "epoch": self.epoch}  # the numbers, not the trainer

    def __repr__(self) -> str:
        last = ", ".join(f"{name}={values[-1]:.4g}" for name, values in scalars(self.history))
        return f"History({len(self.epoch)} epochs{', ' if last else ''}{last})"


def scalars(history: dict[str, list[Any]]) -> list[tuple[str, list[Any]]]:
    return [(name, v) for name, v in history.items() if v and isinstance(v[-1], (int, float))]


class Callbacks:
    """Calls a hook of all callbacks that have it."""

    def __init__(self, callbacks: Iterable[Any], trainer: Trainer) -> None:
        self._hooks: dict[str, list[Any]] = {hook: [] for hook in HOOKS}
        for callback in callbacks:
            found = [hook for hook in HOOKS if callable(getattr(callback, hook, None))]
            if not found or isinstance(callback, type):
                raise TypeError(
                    f"fit: expected callbacks with methods such as on_epoch_end(epoch, logs), got {callback!r}"
                )
            if hasattr(callback, "set_trainer"):
                callback.set_trainer(trainer)
            for hook in found:
                method = getattr(callback, hook)
                if getattr(method, "__func__", None) is not getattr(Callback, hook):
                    self._hooks[hook].append(method)

    def __call__(self, hook: str, *args: Any) -> None:
        for method in self._hooks[hook]:
            method(*args)

    def wants(self, hook: str) -> bool:
        return bool(self._hooks[hook])
