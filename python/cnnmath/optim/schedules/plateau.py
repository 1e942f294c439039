"""The schedule that follows a measured value."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

from ..optimizer import Optimizer
from .base import Schedule


class ReduceLROnPlateau(Schedule):
    """lr <- max(factor lr, min_lr) where a measured value has not become better for more than `patience` epochs.

    Better is, with b the best value so far: m < b (1 - threshold) for mode "min" and threshold_mode "rel",
    m < b - threshold for "min" and "abs", m > b (1 + threshold) for "max" and "rel", m > b + threshold for "max" and
    "abs". As a callback of `fit` it reads the value that `monitor` names.

    Args:
        optimizer: whose groups' lr is set.
        mode: "min" or "max".
        factor: below 1.
        patience: epochs without a better value that are waited for.
        threshold, threshold_mode: how much better counts, see above.
        cooldown: epochs after a change that do not count as bad.
        min_lr: the lowest lr, a number or one for each group.
        eps: a change of lr that is not larger is not made.
        monitor: the name of the value in the logs of `fit`.

    >>> import cnnmath
    >>> from cnnmath.optim.schedules import ReduceLROnPlateau
    >>> optimizer = cnnmath.optim.SGD(cnnmath.nn.Linear(1, 1), lr=1.0)
    >>> schedule = ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    >>> for loss in (3.0, 2.0, 2.0, 2.0):
    ...     schedule.step(loss)
    >>> schedule.get_last_lr()
    [0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0,
        eps: float = 1e-8,
        *,
        monitor: str = "val_loss",
    ) -> None:
        if not factor < 1:
            raise ValueError(f"ReduceLROnPlateau: expected a factor below 1, got {factor}")
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"ReduceLROnPlateau: expected an Optimizer, got {type(optimizer).__name__}")
        if mode not in ("min", "max"):
            raise ValueError(f"ReduceLROnPlateau: expected mode 'min' or 'max', got {mode!r}")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(
                f"ReduceLROnPlateau: expected threshold_mode 'rel' or 'abs', got {threshold_mode!r}"
            )
        self.optimizer = optimizer
        self.default_min_lr = None if isinstance(min_lr, Sequence) else min_lr
        self.min_lrs = self._lowest() if self.default_min_lr is not None else list(min_lr)  # type: ignore[arg-type]
        if len(self.min_lrs) != len(optimizer.param_groups):
            raise ValueError(
                f"ReduceLROnPlateau: expected {len(optimizer.param_groups)} values of min_lr, "
                f"got {len(self.min_lrs)}"
            )
        self.mode, self.threshold, self.threshold_mode = mode, threshold, threshold_mode
        self.factor, self.patience, self.cooldown, self.eps = factor, patience, cooldown, eps
        self.monitor = monitor
        self.last_epoch = 0
        self.best = math.inf if mode == "min" else -math.inf
        self.cooldown_counter = 0
        self.num_bad_epochs = 0
        self._last_lr = self._lrs()

    def _lowest(self) -> list[float]:
        assert self.default_min_lr is not None
        return [self.default_min_lr] * len(self.optimizer.param_groups)

    def _better(self, value: float) -> bool:
        sign = -1 if self.mode == "min" else 1
        relative = self.threshold_mode == "rel"
        bound = self.best * (1.0 + sign * self.threshold) if relative else self.best + sign * self.threshold
        return value < bound if self.mode == "min" else value > bound

    def step(self, metrics: float) -> None:  # type: ignore[override]
        """An epoch is over that ended with this value."""
        value = float(metrics)
        self.last_epoch += 1
        if self._better(value):
            self.best = value
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._last_lr = self._lrs()

    def _reduce(self) -> None:
        groups = self.optimizer.param_groups
        if len(groups) != len(self.min_lrs):  # a group was added
            if self.default_min_lr is None:
                raise ValueError(
                    f"ReduceLROnPlateau: {len(groups)} groups, but {len(self.min_lrs)} values of min_lr"
                )
            self.min_lrs = self._lowest()
        for group, low in zip(groups, self.min_lrs):
            lr = max(group["lr"] * self.factor, low)
            if group["lr"] - lr > self.eps:
                group["lr"] = lr

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if self.interval == "step":
            self._read(logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if self.interval == "epoch":
            self._read(logs)

    def _read(self, logs: dict[str, float] | None) -> None:
        if logs is None or self.monitor not in logs:
            warnings.warn(
                f"ReduceLROnPlateau: no {self.monitor!r} to monitor; there is {', '.join(logs or ())}",
                stacklevel=2,
            )
            return
        self.step(logs[self.monitor])
