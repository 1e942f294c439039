"""The one-cycle policy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..optimizer import Optimizer
from .base import Schedule


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
