"""Schedules of one formula in the number of the epoch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from ..optimizer import Optimizer
from .base import Schedule


class StepLR(Schedule):
    """lr = initial_lr * gamma^(epoch // step_size): times gamma after every `step_size` epochs.

    Args:
        optimizer: whose groups' lr is set.
        step_size: epochs between two changes.
        gamma: the factor.
    """

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        if step_size < 1:
            raise ValueError(f"StepLR: expected a step_size of at least 1, got {step_size}")
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0 or self.last_epoch % self.step_size:
            return self._lrs()
        return [lr * self.gamma for lr in self._lrs()]


class MultiStepLR(Schedule):
    """lr = initial_lr * gamma^(number of milestones <= epoch): times gamma at every milestone.

    Args:
        optimizer: whose groups' lr is set.
        milestones: epochs; one that stands twice counts twice.
        gamma: the factor.
    """

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones = Counter(milestones)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch not in self.milestones:
            return self._lrs()
        return [lr * self.gamma ** self.milestones[self.last_epoch] for lr in self._lrs()]


class ExponentialLR(Schedule):
    """lr = initial_lr * gamma^epoch.

    Args:
        optimizer: whose groups' lr is set.
        gamma: the factor of each epoch.
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return self._lrs() if self._fresh else [lr * self.gamma for lr in self._lrs()]


class LinearLR(Schedule):
    """lr = initial_lr * f, where f goes from start_factor to end_factor in a straight line: the usual warm-up.

        f = start_factor + (end_factor - start_factor) min(t, total_iters) / total_iters    at epoch t

    It is computed from one epoch to the next, so that a change of lr from elsewhere persists.

    Args:
        optimizer: whose groups' lr is set.
        start_factor: the first factor, above 0 and at most 1.
        end_factor: the last factor, in [0, 1].
        total_iters: epochs (steps, where `interval` is "step") from the first to the last.

    >>> import cnnmath
    >>> from cnnmath.optim.schedules import LinearLR
    >>> optimizer = cnnmath.optim.SGD(cnnmath.nn.Linear(1, 1), lr=1.0)
    >>> schedule = LinearLR(optimizer, start_factor=0.25, total_iters=3)
    >>> lrs = []
    >>> for _ in range(5):
    ...     lrs += schedule.get_last_lr()
    ...     schedule.step()
    >>> lrs
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 < start_factor <= 1:
            raise ValueError(f"LinearLR: expected 0 < start_factor <= 1, got {start_factor}")
        if not 0 <= end_factor <= 1:
            raise ValueError(f"LinearLR: expected 0 <= end_factor <= 1, got {end_factor}")
        if total_iters < 0:
            raise ValueError(f"LinearLR: expected total_iters of at least 0, got {total_iters}")
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        t, start, rise = self.last_epoch, self.start_factor, self.end_factor - self.start_factor
        if t == 0:
            return [lr * start for lr in self._lrs()]
        if self._fresh or t > self.total_iters:
            return self._lrs()
        # f(t) / f(t - 1), without their common denominator
        return [lr * (1.0 + rise / (self.total_iters * start + (t - 1) * rise)) for lr in self._lrs()]


class CosineAnnealingLR(Schedule):
    """lr = eta_min + (initial_lr - eta_min) (1 + cos(pi t / T_max)) / 2 at epoch t (Loshchilov and Hutter, 2017).

    It is computed from one epoch to the next, lr_t - eta_min = (lr_{t-1} - eta_min) (1 + cos(pi t / T_max)) /
    (1 + cos(pi (t-1) / T_max)), so that a change of lr from elsewhere persists. Beyond T_max the lr rises again.

    Args:
        optimizer: whose groups' lr is set.
        T_max: epochs from the highest to the lowest lr.
        eta_min: the lowest lr.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        if T_max < 1:
            raise ValueError(f"CosineAnnealingLR: expected a T_max of at least 1, got {T_max}")
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        t, low = self.last_epoch, self.eta_min
        if t == 0:
            return self._lrs()
        if self._fresh:
            return [
                low + (base - low) * (1 + math.cos(t * math.pi / self.T_max)) / 2 for base in self.base_lrs
            ]
        if (t - 1 - self.T_max) % (2 * self.T_max) == 0:
            # The epoch before was at the lowest point, where the ratio is 0 / 0.
            rise = 1 - math.cos(math.pi / self.T_max)
            return [lr + (base - low) * rise / 2 for lr, base in zip(self._lrs(), self.base_lrs)]
        now, before = (1 + math.cos(math.pi * s / self.T_max) for s in (t, t - 1))
        return [now / before * (lr - low) + low for lr in self._lrs()]
