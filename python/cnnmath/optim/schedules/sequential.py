"""Schedules one after another."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from ..optimizer import Optimizer
from .base import Schedule
from .plateau import ReduceLROnPlateau


class SequentialLR(Schedule):
    """One schedule after another: the i-th one from epoch milestones[i - 1] on, starting from its own first lr.

    As a callback of `fit` it steps after each epoch, or after each step if that is the `interval` of one of its
    schedules (set theirs before, or its own afterwards).

    Args:
        optimizer: whose groups' lr is set.
        schedulers: schedules of this optimizer.
        milestones: the epochs at which the next one takes over, rising; one less than there are schedules.

    >>> import cnnmath
    >>> from cnnmath.optim.schedules import ExponentialLR, LinearLR, SequentialLR
    >>> optimizer = cnnmath.optim.SGD(cnnmath.nn.Linear(1, 1), lr=1.0)
    >>> parts = [LinearLR(optimizer, start_factor=0.5, total_iters=2), ExponentialLR(optimizer, gamma=0.5)]
    >>> schedule = SequentialLR(optimizer, parts, milestones=[2])
    >>> lrs = []
    >>> for _ in range(5):
    ...     lrs += schedule.get_last_lr()
    ...     schedule.step()
    >>> lrs
    [0.5, 0.75, 1.0, 0.5, 0.25]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[Schedule],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        self._schedulers = list(schedulers)
        self._milestones = list(milestones)
        if not self._schedulers:
            raise ValueError("SequentialLR: expected at least one schedule, got none")
        for i, schedule in enumerate(self._schedulers):
            if not isinstance(schedule, Schedule) or isinstance(schedule, ReduceLROnPlateau):
                raise TypeError(
                    f"SequentialLR: expected schedules that need no measured value, "
                    f"got {type(schedule).__name__} at {i}"
                )
            if schedule.optimizer is not optimizer:
                raise ValueError(f"SequentialLR: the schedule at {i} is of another optimizer")
        if len(self._milestones) != len(self._schedulers) - 1:
            raise ValueError(
                f"SequentialLR: expected {len(self._schedulers) - 1} milestones for {len(self._schedulers)} "
                f"schedules, got {len(self._milestones)}"
            )
        if self._milestones != sorted(self._milestones):
            raise ValueError(f"SequentialLR: expected rising milestones, got {self._milestones}")
        self.optimizer = optimizer
        if any(schedule.interval == "step" for schedule in self._schedulers):
            self.interval = "step"
        self.last_epoch = last_epoch
        # Each of the schedules has set its first lr when it was made.
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        for schedule in self._schedulers:
            schedule._undo()
        self._begin()

    def _begin(self) -> None:
        self.last_epoch += 1
        first = self._schedulers[bisect_right(self._milestones, 0)]
        first._begin()
        self._last_lr = first.get_last_lr()

    def _restart(self) -> None:
        self.last_epoch = 0
        first = self._schedulers[bisect_right(self._milestones, 0)]
        first._restart()
        self._last_lr = first.get_last_lr()

    def _undo(self) -> None:
        super()._undo()
        for schedule in self._schedulers:
            schedule._undo()

    def step(self) -> None:
        """One epoch (or one step) is over: sets the next lr."""
        self.last_epoch += 1
        at = bisect_right(self._milestones, self.last_epoch)
        schedule = self._schedulers[at]
        if at > 0 and self._milestones[at - 1] == self.last_epoch:
            schedule._restart()
        else:
            schedule.step()
        self._last_lr = schedule.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """All but the optimizer; those of the schedules as a list."""
        return {**super().state_dict(), "_schedulers": [s.state_dict() for s in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over a state; load the optimizer's too, whose groups hold the lr."""
        state = dict(state_dict)
        for schedule, its in zip(self._schedulers, state.pop("_schedulers"), strict=True):
            schedule.load_state_dict(its)
        self.__dict__.update(state)
