"""Random numbers: one generator, counter-based, keyed by seed, step, op and position, never by thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


class Generator:
    """A seed and a counter: every run that draws random numbers takes one step of it."""

    def __init__(self, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self.seed = 0
        self.counter = 0
        self.manual_seed(seed)

    def manual_seed(self, seed: int) -> None:
        """Starts anew from `seed`, a whole number of 64 bits."""
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
            raise TypeError(f"manual_seed: expected an int, got {type(seed).__name__}")
        self.seed = int(seed) & (2**64 - 1)
        self.counter = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.seed, self.counter)

    def next_key(self) -> tuple[int, int]:
        """(seed, counter) of the next run."""
        with self._lock:
            key = (self.seed, self.counter)
            self.counter += 1
        return key

    def numpy(self) -> np.random.Generator:
        """A NumPy generator of the next step: for initial weights and shuffling."""
        seed, counter = self.next_key()
        return np.random.Generator(np.random.Philox(key=np.array([seed, counter], dtype=np.uint64)))


def _restored(seed: int, counter: int) -> Generator:
    copy = Generator(seed)
    copy.counter = counter
    return copy


generator = Generator()


class _Chosen(threading.local):
    generators: tuple[Generator, ...] = ()


_chosen = _Chosen()


def current_generator() -> Generator:
    """The generator that runs of this thread draw from: that of `using`, else the one of the process."""
    return _chosen.generators[-1] if _chosen.generators else generator


@contextmanager
def using(own: Generator | None) -> Iterator[None]:
    """Runs inside draw from this generator instead of the process's; None leaves things as they are."""
    before = _chosen.generators
    if own is not None:
        _chosen.generators = (*before, own)
    try:
        yield
    finally:
        _chosen.generators = before


def manual_seed(seed: int) -> None:
    """Seeds initial weights, dropout, shuffling and augmentation of this process."""
    generator.manual_seed(seed)


def shuffled(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of the samples in an epoch: a permutation that depends on the seed and the epoch alone.

    The counter's last word keeps this stream apart from those of initial weights and dropout under the same key.
    """
    key = np.array([seed & (2**64 - 1), epoch], np.uint64)
    counter = np.array([0, 0, 0, 1], np.uint64)
    return np.random.Generator(np.random.Philox(counter=counter, key=key)).permutation(count)
