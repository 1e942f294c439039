"""Which modules are being traced."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .module import Module


class _Visits(threading.local):
    """The modules whose `forward` is being traced by this thread; `observer` wraps each visit (see summary.py)."""

    def __init__(self) -> None:
        self.stack: list[Module] = []
        self.observer: Callable[[Module, Callable[[], Any]], Any] | None = None


visits = _Visits()


def note_place(error: Exception) -> None:
    """Notes on the error which layer it comes from: the message of an op knows shapes, not names."""
    if len(visits.stack) < 2 or not hasattr(error, "add_note") or getattr(error, "_cnnmath_placed", False):
        return  # notes are of Python 3.11; the innermost layer writes one
    root, layer = visits.stack[0], visits.stack[-1]
    name = next((name for name, module in root.named_modules() if module is layer), "?")
    error.add_note(f"in layer {name} of {type(root).__name__}: {type(layer).__name__}")
    error._cnnmath_placed = True  # type: ignore[attr-defined]
