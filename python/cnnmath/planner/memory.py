"""Memory: which buffers of the arena may share bytes, and where each one lies.

A buffer is alive from the first to the last call that touches it. Two buffers alive at the same time must not
overlap. Large ones are placed first, each at the lowest offset that is free during its whole life: the greedy by
size of Pisarchyk and Lee (2020), "Efficient memory management for deep neural net inference".
"""

from __future__ import annotations

from collections.abc import Sequence

from .lowering import ARENA, KEPT, Buffer, Call

ALIGNMENT = 64
FENCE = 1 << 16  # bytes between separate buffers


def lifetimes(calls: Sequence[Call], slot: int = ARENA) -> list[Buffer]:
    """Sets first and last of every buffer of the arena (or what is kept); gives the buffers."""
    buffers: dict[Buffer, None] = {}
    for i, call in enumerate(calls):
        touched = [place.buffer for place in call.args if place is not None]
        if call.workspace is not None:
            touched.append(call.workspace)
        for buffer in touched:
            if buffer.slot == slot:
                if buffer not in buffers:
                    buffers[buffer] = None
                    buffer.first = i
                buffer.last = i
    return list(buffers)


def assign(calls: Sequence[Call]) -> int:
    """Gives every arena buffer its offset; returns the bytes that the arena needs."""
    buffers = lifetimes(calls)
    placed: list[Buffer] = []  # sorted by offset
    total = 0
    for buffer in sorted(buffers, key=lambda b: (-b.nbytes, b.first)):
        size = _round_up(buffer.nbytes)
        offset = 0
        first, last = buffer.first, buffer.last
        for other in placed:
            if other.first <= last and first <= other.last:
                if other.offset >= offset + size:
                    break
                end = other.offset + _round_up(other.nbytes)
                if end > offset:
                    offset = end
        buffer.offset = offset
        total = max(total, offset + size)
        at = len(placed)
        while at and placed[at - 1].offset > offset:
            at -= 1
        placed.insert(at, buffer)
    return total


def keep(calls: Sequence[Call]) -> int:
    """Gives every buffer that outlives the run its offset; returns the bytes that they need."""
    return extent(_in_a_row(lifetimes(calls, KEPT), 0))


def separate(calls: Sequence[Call], slot: int = ARENA) -> list[tuple[int, int]]:
    """Gives every buffer memory of its own, far from the others; returns (offset, nbytes) of each.

    For a build with AddressSanitizer, which then sees a kernel leave its buffer (see `Arena.fence`).
    """
    return _in_a_row(lifetimes(calls, slot), FENCE)


def _in_a_row(buffers: Sequence[Buffer], apart: int) -> list[tuple[int, int]]:
    zones, end = [], 0
    for buffer in buffers:
        buffer.offset = end
        zones.append((end, buffer.nbytes))
        end += _round_up(buffer.nbytes) + apart
    return zones


def extent(zones: Sequence[tuple[int, int]]) -> int:
    """The bytes up to the end of the last zone."""
    return sum(zones[-1]) if zones else 0


def _round_up(nbytes: int) -> int:
    return (max(nbytes, 1) + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
