"""What happens beside training: callbacks, with the names of Keras, and the history of the numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..nn import Module
    from .trainer import Trainer

Logs = dict[str, Any]

HOOKS = (
    "on_train_begin",
    "on_epoch_begin",
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_epoch_end",
    "on_checkpoint",
    "on_train_end",
)


class Callback:
    """The base of callbacks; any object with some of these methods will do, so will the schedules of `optim.schedules`.

    Epochs and batches count from 0. `logs` holds the numbers so far: at the end of a batch its "loss", at the end of an
    epoch all that goes to the history.

    A callback whose future depends on what it has seen gives `state_dict()`, made of dicts, lists, numbers, text and
    arrays, and `load_state_dict(state)`: then checkpoints hold it, and `fit(resume=...)` loads it after
    `on_train_begin` (in the middle of an epoch: after `on_epoch_begin`).

    Attributes:
        trainer: the Trainer, set when `fit` starts. `self.trainer.stop_training = True` ends the training: after the
            epoch, or, from a hook of a step, after the step; the epoch is then closed as any other.
        model: the trainer's model, as in Keras.
    """

    trainer: Trainer

    def set_trainer(self, trainer: Trainer) -> None:
        self.trainer = trainer

    @property
    def model(self) -> Module:
        return self.trainer.model

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

    def on_checkpoint(self) -> None:
        """After all callbacks have seen the end of a step or of an epoch: when `trainer.save_checkpoint` is right."""

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

    def state_dict(self) -> dict[str, Any]:
        """The numbers; not the trainer."""
        return {"history": self.history, "epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them over."""
        self.history = {name: list(values) for name, values in state_dict["history"].items()}
        self.epoch = list(state_dict["epoch"])

    __getstate__ = state_dict

    def __repr__(self) -> str:
        last = ", ".join(f"{name}={values[-1]:.4g}" for name, values in scalars(self.history))
        return f"History({len(self.epoch)} epochs{', ' if last else ''}{last})"


def scalars(history: dict[str, list[Any]]) -> list[tuple[str, list[Any]]]:
    return [(name, v) for name, v in history.items() if v and isinstance(v[-1], (int, float))]


class Callbacks:
    """Calls a hook of all callbacks that have it, and of a history after them.

    Attributes:
        history: the numbers of the epochs.
        waiting: the names of those callbacks with a state whose turn in the present hook has not come.
    """

    def __init__(self, callbacks: Iterable[Any], trainer: Trainer) -> None:
        self.history = History()
        self.waiting: tuple[str, ...] = ()
        self._all = [*callbacks, self.history]
        self._hooks: dict[str, list[tuple[Any, tuple[str, ...]]]] = {hook: [] for hook in HOOKS}
        for callback in self._all:
            found = [hook for hook in HOOKS if callable(getattr(callback, hook, None))]
            if not found or isinstance(callback, type):
                raise TypeError(
                    f"fit: expected callbacks with methods such as on_epoch_end(epoch, logs), got {callback!r}"
                )
            if hasattr(callback, "set_trainer"):
                callback.set_trainer(trainer)
        for hook in HOOKS:
            waiting: tuple[str, ...] = ()
            for callback in reversed(self._all):
                method = getattr(callback, hook, None)
                if callable(method) and getattr(method, "__func__", None) is not getattr(Callback, hook):
                    self._hooks[hook].insert(0, (method, waiting))
                    if _has_state(callback) and hook != "on_checkpoint":  # which changes none
                        waiting = (type(callback).__name__, *waiting)

    def __call__(self, hook: str, *args: Any) -> None:
        for method, waiting in self._hooks[hook]:
            self.waiting = waiting
            method(*args)

    def wants(self, hook: str) -> bool:
        return bool(self._hooks[hook])

    def checkpoint(self) -> Any:
        """The checkpoint that one of them wants the training to go on from, or None."""
        found = (c.checkpoint() for c in self._all if callable(getattr(c, "checkpoint", None)))
        return next((path for path in found if path is not None), None)

    def states(self) -> list[dict[str, Any]]:
        """Of each with a state the name of its class and the state."""
        return [{"type": type(c).__name__, "state": c.state_dict()} for c in self._all if _has_state(c)]

    def owners(self, states: list[dict[str, Any]]) -> list[Any]:
        """Whose these states are: of several callbacks of a class, in their order. ValueError where one is missing."""
        free = [c for c in self._all if _has_state(c)]
        found = []
        for entry in states:
            match = next((c for c in free if type(c).__name__ == entry["type"]), None)
            if match is None:
                raise ValueError(
                    f"fit: expected callbacks that take over the states of {', '.join(s['type'] for s in states[:-1])} "
                    f"in the checkpoint, got none for a {entry['type']}; without callbacks, load_checkpoint takes "
                    f"over the model and the optimizer alone"
                )
            free.remove(match)
            found.append(match)
        return found


def _has_state(callback: Any) -> bool:
    return all(callable(getattr(callback, name, None)) for name in ("state_dict", "load_state_dict"))
