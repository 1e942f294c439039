"""Gradients of several batches, averaged as those of one large batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..graph.variable import Variable


class Accumulator:
    """g = Σ_j n_j g_j / Σ_j n_j over batches of n_j samples.

    Attributes:
        batches: how many there are.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.batches = 0
        self._samples = 0
        self._sums: dict[Variable, np.ndarray] = {}

    def add(self, params: Sequence[Variable], grads: Sequence[np.ndarray], samples: int) -> None:
        """Another batch."""
        self.batches += 1
        self._samples += samples
        for p, g in zip(params, grads, strict=True):
            if p not in self._sums:
                self._sums[p] = np.zeros_like(g)
            self._sums[p] += g * g.dtype.type(samples)

    def take(self) -> dict[Variable, np.ndarray]:
        """The mean gradients by parameter; none are left."""
        grads, samples = self._sums, self._samples
        self.clear()
        for g in grads.values():
            g /= g.dtype.type(samples)
        return grads

    def state_dict(self, names: Mapping[Any, str]) -> dict[str, Any]:
        """The sums by name of the parameter, and what they are divided by."""
        sums = {names[p]: g.copy() for p, g in self._sums.items()}
        return {"batches": self.batches, "samples": self._samples, "sums": sums}

    def load_state_dict(self, state: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
        """Takes it over."""
        self.batches, self._samples = state["batches"], state["samples"]
        self._sums = {parameters[name]: g for name, g in state["sums"].items()}
