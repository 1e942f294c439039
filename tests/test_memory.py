"""The arena's layout: live buffers never overlap, few bytes are lost, and a plan's figure is what a run takes."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cnnmath.functional as F
from cnnmath import _core
from cnnmath.planner import eager, memory
from cnnmath.planner.lowering import ARENA, Buffer, Call, Place
from cnnmath.planner.plan import Plan


def call(*buffers: Buffer | None, workspace: Buffer | None = None) -> Call:
    return Call(None, [], [None if b is None else Place(b) for b in buffers], workspace)


@st.composite
def call_lists(draw: st.DrawFn) -> list[Call]:
    """Calls on random buffers, some in slots of their own, some arguments missing, some with a workspace."""
    sizes = st.one_of(st.integers(0, 300), st.integers(0, 1 << 20))
    buffers = [
        Buffer(n, draw(st.sampled_from([ARENA, ARENA, ARENA, 2]))) for n in draw(st.lists(sizes, max_size=30))
    ]
    argument = st.sampled_from([None, *buffers])
    workspace = st.one_of(st.none(), sizes.map(Buffer))
    return [
        call(*draw(st.lists(argument, max_size=5)), workspace=draw(workspace))
        for _ in range(draw(st.integers(0, 25)))
    ]


def arena_buffers(calls: list[Call]) -> dict[Buffer, tuple[int, int]]:
    """First and last call of every arena buffer, computed afresh."""
    life: dict[Buffer, tuple[int, int]] = {}
    for i, c in enumerate(calls):
        for b in [p.buffer for p in c.args if p is not None] + (
            [c.workspace] if c.workspace is not None else []
        ):
            if b.slot == ARENA:
                life[b] = (life.get(b, (i, i))[0], i)
    return life


@given(call_lists())
def test_live_buffers_never_overlap(calls: list[Call]) -> None:
    total = memory.assign(calls)
    life = arena_buffers(calls)
    for b, (first, last) in life.items():
        assert b.offset % memory.ALIGNMENT == 0 and b.offset >= 0 and b.offset + b.nbytes <= total
        for other, (other_first, other_last) in life.items():
            if other is not b and other_first <= last and first <= other_last and b.nbytes and other.nbytes:
                assert b.offset + b.nbytes <= other.offset or other.offset + other.nbytes <= b.offset


@given(call_lists())
def test_layout_is_not_wasteful(calls: list[Call]) -> None:
    """At least what is alive at once, at most what all buffers take side by side."""
    total = memory.assign(calls)
    life = arena_buffers(calls)
    rounded = {b: -(-max(b.nbytes, 1) // memory.ALIGNMENT) * memory.ALIGNMENT for b in life}
    alive = [
        sum(rounded[b] for b, (first, last) in life.items() if first <= i <= last) for i in range(len(calls))
    ]
    assert max(alive, default=0) <= total <= sum(rounded.values())


def test_a_chain_needs_two_buffers() -> None:
    buffers = [Buffer(1000) for _ in range(10)]
    assert memory.assign([call(a, b) for a, b in itertools.pairwise(buffers)]) == 2 * 1024


def test_a_chain_of_ops_in_place_needs_no_more() -> None:
    def chain(x: Any) -> Any:
        for _ in range(8):
            x = F.tanh(F.reshape(F.relu(x), (30, 20)))
        return F.mul(x, x)

    plan = Plan(eager.trace(chain, (np.zeros((20, 30), np.float32),), {})[0])
    assert plan.arena_bytes <= 2 * 2432  # 20 * 30 * 4 bytes, rounded up


def test_memory_is_known_before_the_run(threads: Callable[[int], None]) -> None:
    """`plan.memory` is the arena and each thread's scratch: what a run takes beyond inputs, outputs and variables."""
    x = np.zeros((64, 3, 32, 32), np.float32)

    def net(x: Any) -> Any:
        return F.sum(F.max_pool2d(F.relu(F.avg_pool2d(x, 3, padding=1, stride=1)), 2))

    plan = Plan(eager.trace(net, (x,), {})[0])
    scratch = max(segment.scratch_bytes for segment in plan._segments)
    for n in (1, 3):
        threads(n)
        assert plan.memory == plan.arena_bytes + n * scratch
    assert x.nbytes <= plan.arena_bytes <= 4 * x.nbytes


def test_outputs_are_not_in_the_arena() -> None:
    x = np.zeros((100, 100))
    plan = Plan(eager.trace(F.relu, (x,), {})[0])
    assert plan.arena_bytes == 0
    assert sys.getrefcount(plan(x)[0]) <= 2


def test_arenas_are_shared_by_plans() -> None:
    """Scratch comes from one pool: a hundred plans hold no more than the largest needs."""
    from cnnmath.planner import plan as plans

    def fn(x: Any) -> Any:
        return F.mul(F.add(x, 1.0), F.sub(x, 1.0))

    for n in range(1, 60):
        eager.call(fn, (np.zeros(1000 * n),), {}, fn)
    assert len(plans._arenas._idle) <= 4
    assert all(isinstance(a, _core.Arena) for a in plans._arenas._idle)


@given(call_lists())
def test_separate_buffers_share_nothing(calls: list[Call]) -> None:
    """The layout under AddressSanitizer: all buffers apart, whenever they live."""
    zones = memory.separate(calls)
    assert sorted(zones) == sorted((b.offset, b.nbytes) for b in arena_buffers(calls))
    for (first, nbytes), (second, _) in itertools.pairwise(zones):
        assert first % memory.ALIGNMENT == 0 and first + nbytes + memory.FENCE <= second


def test_a_fence_is_a_part_of_its_arena() -> None:
    arena = _core.Arena(256)
    arena.fence([(0, 64), (128, 128)])
    for zone in ((0, 257), (257, 0), (192, 65)):
        with pytest.raises(ValueError, match="the zone leaves the arena"):
            arena.fence([zone])
    with pytest.raises(TypeError):
        arena.fence([(-1, 0)])


def test_a_kernel_that_leaves_its_buffer_is_reported(run_python: Callable[..., Any]) -> None:
    """By a build with AddressSanitizer; any other has no fences, and the byte lands in the same arena."""
    done = run_python(
        """
import numpy as np
from cnnmath import _core
arena = _core.Arena(4096)
arena.fence([(0, 64), (2048, 64)])
program = _core.Program(1)
program.add(_core.find_kernel("copy_bytes", ""), [65], [(0, 0), (0, 2048)], (-1, 0))
program.run([arena])
""",
        check=False,
        ASAN_OPTIONS="detect_leaks=0",
    )
    reported = done.returncode != 0 and "use-after-poison" in done.stderr
    assert reported if _core.sanitized else done.returncode == 0
