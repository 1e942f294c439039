"""What a worker process holds: something to time, and answers that show that it computes the right thing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Unavailable(Exception):
    """A library that is installed cannot do this workload here; the text says why. The others go on without it."""


@dataclass(frozen=True)
class Session:
    step: Callable[[], object]
    answers: list[float] | list[list[float]]  # of one result, or of several, each compared by its own size
    work: float  # floating-point operations (or bytes) of one step
    build: str


def sampled(array: Array, count: int = 2000) -> list[float]:
    """Some elements, the same ones for arrays of the same shape."""
    flat = np.asarray(array).reshape(-1)
    if flat.size > count:
        flat = flat[np.random.default_rng(flat.size).integers(0, flat.size, count)]
    return [float(value) for value in flat]
