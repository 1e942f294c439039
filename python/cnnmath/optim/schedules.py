"""Learning rate schedules: they set the lr of each parameter group, after each epoch or each step.

The formulas are PyTorch's, evaluated in the same order of operations, so that the sequences of lr are the same doubles.
A schedule is also a callback of `Trainer.fit`: it steps by itself, at the end of each epoch or (OneCycleLR, or any
schedule whose `interval` is set to "step") of each step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .optimizer import Optimizer


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
        self._fresh = True  # no step since it was made
        if last_epoch == -1:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"]
        self._advance()

    def get_lr(self) -> list[float]:
        """The lr of each group for `last_epoch`, given those in the groups (of the step before)."""
        raise NotImplementedError

    def step(self) -> None:
        """One epoch (or one step, as the schedule is meant) is over: sets the next lr."""
        self._fresh = False
        self._advance()

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


class OneCycleLR(Schedule):
    """One rise of lr from max_lr / div_factor to max_lr, then a fall to that first lr / final_div_factor (Smith, 2018).

    Momentum (or Adam's beta1) goes the other way, between max_momentum and base_momentum. Step it after every step of
    the optimizer; `Trainer.fit` does.

    Args:
        optimizer: whose groups' lr is set.
        max_lr: the highest lr, a number or one for each group.
        total_steps: steps in all; or give epochs and steps_per_epoch.
        pct_start: the part of all steps during which lr rises.
        anneal_strategy: "cos" or "linear".
        cycle_momentum, base_momentum, max_momentum: whether and between what momentum moves.
        div_factor, final_div_factor: see above.
        three_phase: rise, symmetric fall, and then the fall to the lowest lr.
    """

    interval = "step"

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("OneCycleLR: expected total_steps, or both epochs and steps_per_epoch")
            total_steps = epochs * steps_per_epoch
        if total_steps < 1:
            raise ValueError(f"OneCycleLR: expected at least 1 step in all, got {total_steps}")
        if not 0 <= pct_start <= 1:
            raise ValueError(f"OneCycleLR: expected pct_start between 0 and 1, got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                f"OneCycleLR: expected anneal_strategy 'cos' or 'linear', got {anneal_strategy!r}"
            )
        self.total_steps = total_steps
        self.anneal_strategy = anneal_strategy
        self.cycle_momentum = cycle_momentum
        peak = float(pct_start * total_steps) - 1
        # (last step of the phase, lr from, lr to, momentum from, momentum to), as keys of the group.
        up = (peak, "initial_lr", "max_lr", "max_momentum", "base_momentum")
        if three_phase:
            back = (
                float(2 * pct_start * total_steps) - 2,
                "max_lr",
                "initial_lr",
                "base_momentum",
                "max_momentum",
            )
            down = (total_steps - 1, "initial_lr", "min_lr", "max_momentum", "max_momentum")
            self.phases = [up, back, down]
        else:
            self.phases = [up, (total_steps - 1, "max_lr", "min_lr", "base_momentum", "max_momentum")]
        groups = optimizer.param_groups
        if cycle_momentum and not any(key in optimizer.defaults for key in ("momentum", "betas")):
            raise ValueError(
                "OneCycleLR: the optimizer has neither momentum nor betas: set cycle_momentum=False"
            )
        if last_epoch == -1:
            for group, highest in zip(groups, self._each("max_lr", max_lr, groups)):
                group["initial_lr"] = highest / div_factor
                group["max_lr"] = highest
                group["min_lr"] = group["initial_lr"] / final_div_factor
            if cycle_momentum:
                highs = self._each("max_momentum", max_momentum, groups)
                lows = self._each("base_momentum", base_momentum, groups)
                for group, high, low in zip(groups, highs, lows):
                    group["max_momentum"], group["base_momentum"] = high, low
        super().__init__(optimizer, last_epoch)

    @staticmethod
    def _each(name: str, value: float | Sequence[float], groups: list[dict[str, Any]]) -> list[float]:
        values = list(value) if isinstance(value, (list, tuple)) else [value] * len(groups)
        if len(values) != len(groups):
            raise ValueError(f"OneCycleLR: expected {len(groups)} values of {name}, got {len(values)}")
        return values  # type: ignore[return-value]

    def _between(self, start: float, end: float, part: float) -> float:
        if self.anneal_strategy == "linear":
            return (end - start) * part + start
        return end + (start - end) / 2.0 * (math.cos(math.pi * part) + 1)

    def get_lr(self) -> list[float]:
        step = self.last_epoch
        if step > self.total_steps:
            raise ValueError(f"OneCycleLR: step {step} of {self.total_steps}: the cycle is over")
        start: float = 0.0
        for phase in self.phases:
            end, lr_from, lr_to, momentum_from, momentum_to = phase
            if step <= end or phase is self.phases[-1]:
                break
            start = end
        # A cycle of one step has no length; it stays at its start.
        part = (step - start) / (end - start) if end != start else 0.0
        if self.cycle_momentum:
            for group in self.optimizer.param_groups:
                momentum = self._between(group[momentum_from], group[momentum_to], part)
                if "betas" in group:
                    group["betas"] = (momentum, *group["betas"][1:])
                else:
                    group["momentum"] = momentum
        return [self._between(group[lr_from], group[lr_to], part) for group in self.optimizer.param_groups]
