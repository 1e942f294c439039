"""How training shows itself: a line for each epoch, with a bar while it runs or without, or nothing."""

from __future__ import annotations

import sys
import time
from typing import Any


def level(verbose: Any) -> int:
    """0, 1 or 2. "auto" is with a bar on a terminal (or in a notebook), else lines alone."""
    if verbose == "auto":
        interactive = sys.stderr is not None and (sys.stderr.isatty() or "ipykernel" in sys.modules)
        return 1 if interactive else 2
    if verbose in (0, 1, 2):  # True and False too
        return int(verbose)
    raise ValueError(f'verbose: expected 0, 1, 2 or "auto", got {verbose!r}')


def text(logs: dict[str, Any]) -> list[str]:
    return [f"{name}: {value:.4f}" for name, value in logs.items() if isinstance(value, (int, float))]


class Progress:
    """The progress of one epoch.

    Args:
        verbose: 0 for silence, 1 for a bar that gives way to a line at the end, 2 for the line alone.
        epoch, epochs: its number from 0, and how many there are.
        total: its number of steps, None if unknown.
        done: steps done before.
    """

    def __init__(self, verbose: int, epoch: int, epochs: int, total: int | None, done: int = 0) -> None:
        self._verbose = verbose
        self._title = f"Epoch {epoch + 1}/{epochs}"
        self._start = time.perf_counter()
        self._shown = self._start
        self._steps = done
        self._bar: Any = None
        if verbose == 1:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total, initial=done, desc=self._title, unit="step", dynamic_ncols=True, leave=False
            )

    @property
    def due(self) -> bool:
        """Whether a step is to be shown: not more than ten times a second, for small steps."""
        self._steps += 1
        if self._bar is None:
            return False
        now = time.perf_counter()
        if now - self._shown < 0.1:
            return False
        self._shown = now
        return True

    def show(self, logs: dict[str, Any]) -> None:
        """Brings the bar to the steps done, and the loss: a terminal has no room for more."""
        self._bar.set_postfix_str(f"loss: {logs['loss']:.4f}", refresh=False)
        self._bar.update(self._steps - self._bar.n)

    def end(self, logs: dict[str, Any]) -> None:
        """The epoch is over."""
        self.close()
        if self._verbose:
            seconds = time.perf_counter() - self._start
            print(" - ".join([self._title, f"{seconds:.1f}s", *text(logs)]), flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
