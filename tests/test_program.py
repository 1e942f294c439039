"""The program and its executor, through the private bindings: what it refuses and binds, what memory it hands out."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from cnnmath import _core

NOWHERE = (-1, 0)


def copy_program(nbytes: int, slots: int = 2) -> _core.Program:
    program = _core.Program(slots)
    program.add(_core.find_kernel("copy_bytes", ""), [nbytes], [(0, 0), (1, 0)], NOWHERE)
    return program


def test_runs_on_what_is_bound() -> None:
    program = copy_program(800)
    assert program.calls == 1
    for value in (1.0, 2.0):
        x, y = np.full(100, value), np.zeros(100)
        program.run([x, y])
        assert (y == value).all()


def test_offsets_into_slots_and_arena() -> None:
    program = _core.Program(2)
    copy = _core.find_kernel("copy_bytes", "")
    program.add(copy, [8], [(0, 16), (1, 64)], NOWHERE)
    program.add(copy, [8], [(1, 64), (0, 0)], NOWHERE)
    x, arena = np.array([1.0, 2.0, 3.0]), _core.Arena(128)
    program.run([x, arena])
    assert x.tolist() == [3.0, 2.0, 3.0]
    assert arena.view(64, [1], np.dtype(np.float64)).tolist() == [3.0]


def test_calls_run_in_order(threads: Callable[[int], None]) -> None:
    """A long chain of calls with many tasks each: every barrier holds."""
    threads(4)
    n, length = 40_000, 60
    program = _core.Program(length)
    add = _core.find_kernel("add_scalar", "f64")
    for i in range(1, length):
        program.add(add, [n], [(i - 1, 0), (0, 0), (i, 0)], NOWHERE)
    slots = [np.ones(n), *(np.empty(n) for _ in range(length - 1))]
    for _ in range(5):
        program.run(slots)
        assert (slots[-1] == length).all()


@pytest.mark.parametrize(
    ("params", "args", "message"),
    [
        ([8], [(0, 0)], r"copy_bytes\.: got 1 arguments for 'x y'"),
        ([8], [(0, 0)] * 3, r"copy_bytes\.: got 3 arguments for 'x y'"),
        ([], [(0, 0), (1, 0)], r"copy_bytes\.: got 0 parameters for 'nbytes'"),
        ([8, 8], [(0, 0), (1, 0)], r"copy_bytes\.: got 2 parameters for 'nbytes'"),
        ([8], [(0, 0), (2, 0)], r"copy_bytes\.: no place 2:0"),
        ([8], [(0, 0), (-2, 0)], r"copy_bytes\.: no place -2:0"),
        ([8], [(0, -8), (1, 0)], r"copy_bytes\.: no place 0:-8"),
    ],
)
def test_add_refuses(params: list[int], args: list[tuple[int, int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _core.Program(2).add(_core.find_kernel("copy_bytes", ""), params, args, NOWHERE)


def test_run_refuses() -> None:
    program = copy_program(8)
    with pytest.raises(ValueError, match="expected 2 slots, got 1"):
        program.run([np.zeros(1)])
    with pytest.raises(TypeError, match="a slot is bound to an ndarray, an Arena or None, got"):
        program.run([np.zeros(1), 3])


def test_unknown_kernel() -> None:
    with pytest.raises(ValueError, match="no kernel 'cnov2d' for dtype 'f32'"):
        _core.find_kernel("cnov2d", "f32")
    with pytest.raises(TypeError, match="No constructor"):
        _core.Kernel()


def test_kernels_describe_themselves() -> None:
    found = _core.kernels()
    assert len({(k.name, k.dtype) for k in found}) == len(found)
    for kernel in found:
        assert kernel.dtype in {"f32", "f64", "i64", "i32", "u8", ""}
        assert kernel.name.isidentifier()
        for names in (kernel.args.split(), kernel.fields.split()):
            stems = [name.rstrip("?*") for name in names]
            assert all(map(str.isidentifier, stems)) and len(set(stems)) == len(stems), kernel.name
            assert not any(name.endswith("*") for name in names[:-1]), kernel.name


def test_floating_kernels_come_in_both_precisions() -> None:
    by_name: dict[str, set[str]] = {}
    for kernel in _core.kernels():
        by_name.setdefault(kernel.name, set()).add(kernel.dtype)
    tools = {"fma_peak", "triad"}  # these measure the machine
    for name, dtypes in by_name.items():
        assert (
            name in tools
            or len(dtypes & {"f32", "f64"}) in (0, 2)
            or name.startswith(("to_", "conv2d_winograd"))
        ), (
            name,
            dtypes,
        )


def test_concurrent_runs_of_one_program(threads: Callable[[int], None]) -> None:
    threads(2)
    n = 600_000
    program = copy_program(8 * n)
    failures: list[int] = []

    def repeat(i: int) -> None:
        x, y = np.full(n, float(i)), np.empty(n)
        for _ in range(40):
            y[:] = -1
            program.run([x, y])
            if not (y == i).all():
                failures.append(i)

    team = [threading.Thread(target=repeat, args=(i,)) for i in range(4)]
    for t in team:
        t.start()
    for t in team:
        t.join()
    assert not failures


def test_arena() -> None:
    arena = _core.Arena(1000)
    assert arena.nbytes == 1000
    view = arena.view(8, [3, 4], np.dtype(np.float32))
    assert view.shape == (3, 4) and view.dtype == np.float32
    view[...] = 7
    assert (arena.view(8, [12], np.dtype(np.float32)) == 7).all()
    assert arena.view(0, [1], np.dtype(np.uint8)).ctypes.data % 64 == 0
    del arena
    assert (view == 7).all()  # the view keeps it alive
    for offset, shape in [(-1, [1]), (0, [251]), (996, [2]), (0, [-1]), (2**62, [2**62]), (0, [2**62, 4])]:
        with pytest.raises(ValueError, match="the view leaves the arena"):
            _core.Arena(1000).view(offset, shape, np.dtype(np.float32))


def test_arena_refuses() -> None:
    with pytest.raises(ValueError, match="negative size"):
        _core.Arena(-1)
    with pytest.raises(MemoryError):
        _core.Arena(2**63 - 1)
    assert _core.Arena(0).nbytes == 0


def test_large_arenas_are_aligned_to_huge_pages() -> None:
    assert _core.Arena(5 << 20).view(0, [1], np.dtype(np.uint8)).ctypes.data % (2 << 20) == 0


def test_aligned_zeros() -> None:
    for shape in ([], [0], [3], [2, 3, 5, 7], [0, 4]):
        for dtype in (np.float32, np.float64, np.int64):
            a = _core.aligned_zeros(shape, np.dtype(dtype))
            assert a.shape == tuple(shape) and a.dtype == dtype
            assert a.ctypes.data % 64 == 0 and a.flags.writeable and a.flags.c_contiguous
            assert not a.any()
    for shape in ([-1], [2**62, 2**62], [2**40, 2**40], [0, -1], [2**31, 2**31, 4]):
        with pytest.raises(ValueError, match="no array has that shape"):
            _core.aligned_zeros(shape, np.dtype(np.float32))
