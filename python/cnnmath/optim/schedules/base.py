"""What all schedules share."""

from __future__ import annotations

from typing import Any

from ..optimizer import Optimizer


class Schedule:
    """Base of the schedules. A subclass gives `get_lr()`.

    Args:
        optimizer: whose groups' lr is set. Each group remembers its first one as `initial_lr`.
        last_epoch: the number of steps taken before; -1 to start.

    Attributes:
        last_epoch: steps taken.
        base_lrs: the lr that each group started with.
        interval: when `Trainer.fit` steps it: "epoch" or "step".
    """

    interval = "epoch"

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__}: expected an Optimizer, got {type(optimizer).__name__}")
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(f"{type(self).__name__}: group {i} has no initial_lr to resume from")
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._begin()

    def get_lr(self) -> list[float]:
        """The lr of each group for `last_epoch`, given those in the groups (of the step before)."""
        raise NotImplementedError

    def step(self) -> None:
        """One epoch (or one step, as the schedule is meant) is over: sets the next lr."""
        self._fresh = False
        self._advance()

    def _begin(self) -> None:
        """Sets the first lr."""
        self._fresh = True  # no step since
        self._advance()

    def _restart(self) -> None:
        """Sets the first lr, whatever the groups have now: what came before was another schedule."""
        for group, lr in zip(self.optimizer.param_groups, self.base_lrs):
            group["lr"] = lr
        self.last_epoch = -1
        self._begin()

    def _undo(self) -> None:
        """Takes the first step back."""
        self.last_epoch -= 1

    def _advance(self) -> None:
        self.last_epoch += 1
        self._last_lr = self.get_lr()
        for group, lr in zip(self.optimizer.param_groups, self._last_lr):
            group["lr"] = lr

    def get_last_lr(self) -> list[float]:
        """The lr of each group as last set."""
        return list(self._last_lr)

    def state_dict(self) -> dict[str, Any]:
        """All but the optimizer."""
        return {key: value for key, value in self.__dict__.items() if key != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over a state; load the optimizer's too, whose groups hold the lr."""
        self.__dict__.update(state_dict)

    def _lrs(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    # As a callback of Trainer.fit.

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if self.interval == "step":
            self.step()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if self.interval == "epoch":
            self.step()
