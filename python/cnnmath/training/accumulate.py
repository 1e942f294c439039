"""Gradients of several batches, averaged as those of one large batch."""

from __future__ import annotations

from collections.abc import Sequence

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
