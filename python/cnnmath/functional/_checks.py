"""Checks that many ops share: what was expected, and what came."""

from __future__ import annotations

from typing import Any

from ..graph.ir import Tensor


def floating(op: str, **tensors: Tensor | None) -> Any:
    """Checks that all given tensors are float32 or all float64; gives them back (one alone, or a tuple)."""
    given = {name: t for name, t in tensors.items() if t is not None}
    first = next(iter(given))
    for name, t in given.items():
        if t.dtype.name not in ("float32", "float64"):
            pixels = " / 255 for pixels of 0 to 1" if t.dtype.kind in "iu" else ""
            raise TypeError(
                f"{op}: {name} expects float32 or float64, got {t.dtype}; cast it: .astype(np.float32){pixels}"
            )
        if t.dtype != given[first].dtype:
            raise TypeError(
                f"{op}: {name} is {t.dtype}, {first} is {given[first].dtype}; cast one of them with .astype"
            )
    found = tuple(tensors.values())
    return found[0] if len(found) == 1 else found
