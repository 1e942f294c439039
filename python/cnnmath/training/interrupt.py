"""Ctrl-C between steps: a step is done or not begun, so that weights, statistics and step counts fit together."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Interruptible:
    """Holds Ctrl-C back until `check()`; a second one acts at once. Only the main thread gets signals."""

    def __init__(self) -> None:
        self._pending = False
        self._before: Any = None

    def __enter__(self) -> Interruptible:
        ours = threading.current_thread() is threading.main_thread()
        if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._pending:
            signal.default_int_handler(number, frame)
        self._pending = True

    def check(self) -> None:
        """Raises the KeyboardInterrupt that came since."""
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt

    def __exit__(self, kind: Any, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
        if self._pending and kind is None:
            raise KeyboardInterrupt
