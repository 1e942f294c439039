"""Dropout."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from .. import functional as F
from ..graph.ir import Cell
from .module import Module


class Dropout(Module):
    """In training, sets each element to 0 with probability `p` and divides the others by 1 - p; else y = x.

    `p` may be assigned to at any time; it is read at each run. Frozen or not makes no difference.

    Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting, 2014.
    """

    _run_time = ("p",)

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        self.p = p
        self.inplace = inplace
        self._probability()

    def _probability(self) -> float:
        if not isinstance(self.p, (Real, np.ndarray)):
            raise TypeError(f"Dropout: p expects a number, got {self.p!r}")
        if not 0 <= self.p <= 1:
            raise ValueError(f"Dropout: p expects a probability, between 0 and 1, got {self.p}")
        return float(self.p)

    def forward(self, x: Any) -> Any:
        return F.dropout(x, Cell(self._probability), self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"
