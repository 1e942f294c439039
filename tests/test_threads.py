"""Threads: the same bits on any number of them, Python threads at once, and children of a fork."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable

import numpy as np
import pytest

import cnnmath
import cnnmath.functional as F
from cnnmath import _core

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def work(x: np.ndarray) -> np.ndarray:
    """Large enough for many tasks, with a reduction over all of it."""
    return np.asarray(F.sum(F.mul(F.tanh(x), F.sigmoid(x)), dim=0))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bits_on_any_number_of_threads(
    dtype: type, threads: Callable[[int], None], rng: np.random.Generator
) -> None:
    x = rng.standard_normal((257, 1031)).astype(dtype)
    threads(1)
    alone = work(x)
    for n in (2, 3, 7, 64):  # most are more than there are CPUs
        threads(n)
        for _ in range(3):
            assert np.array_equal(work(x), alone)


def test_python_threads_at_once(threads: Callable[[int], None], rng: np.random.Generator) -> None:
    """Several Python threads share plans and arenas; each gets the bits that it gets alone."""
    threads(2)
    arrays = [rng.standard_normal((n, 500)).astype(np.float32) for n in (1, 100, 100, 301)]
    alone = [work(x) for x in arrays]
    wrong: list[str] = []
    start = threading.Barrier(len(arrays))

    def repeat(i: int) -> None:
        try:
            start.wait()
            for _ in range(30):
                if not np.array_equal(work(arrays[i]), alone[i]):
                    wrong.append(f"array {i} differs")
        except Exception as e:
            wrong.append(f"array {i}: {e!r}")

    team = [threading.Thread(target=repeat, args=(i,)) for i in range(len(arrays))]
    for t in team:
        t.start()
    for t in team:
        t.join()
    assert not wrong


def test_thread_count_may_change_while_others_run(
    threads: Callable[[int], None], rng: np.random.Generator
) -> None:
    x = rng.standard_normal((300, 500)).astype(np.float32)
    alone = work(x)
    stop = threading.Event()

    def change() -> None:
        n = 1
        while not stop.is_set():
            cnnmath.set_num_threads(n := n % 5 + 1)
            stop.wait(0.001)

    other = threading.Thread(target=change)
    other.start()
    try:
        assert all(np.array_equal(work(x), alone) for _ in range(60))
    finally:
        stop.set()
        other.join()


FORK = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of a fork in a process with threads
import numpy as np, cnnmath, cnnmath.functional as F
x = np.linspace(-1, 1, 1_000_000, dtype=np.float32).reshape(1000, 1000)
run = lambda: F.sum(F.tanh(x), dim=0)
cnnmath.set_num_threads(4)
before = run()
for generation in range(3):
    pid = os.fork()
    if pid:
        assert np.array_equal(run(), before)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        assert code == 0, code
        if generation:
            os._exit(0)
        print("parent fine")
        sys.exit()
    if not np.array_equal(run(), before) or not np.array_equal(F.relu(-x).sum(), F.relu(-x).sum()):
        os._exit(3)
os._exit(0)
"""


def test_forked_child_goes_on_working(run_python: Run) -> None:
    """A child forked after a parallel run has lost the team's threads: it goes on alone, as do its own children."""
    assert "parent fine" in run_python(FORK, timeout=60).stdout


def test_child_forked_before_any_run_has_threads(run_python: Run) -> None:
    code = """
import os, numpy as np, cnnmath, cnnmath.functional as F
pid = os.fork()
x = np.ones((1000, 1000), dtype=np.float32)
cnnmath.set_num_threads(2)
ok = F.sum(F.relu(x)) == 1e6
if not pid:
    os._exit(0 if ok else 3)
assert ok and os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""
    run_python(code, timeout=60)


def test_denormals_setting_of_the_caller_is_restored(threads: Callable[[int], None]) -> None:
    tiny = np.full(100_000, 1e-40, dtype=np.float32)
    for n in (1, 2):
        threads(n)
        F.relu(tiny)
        assert (tiny * np.float32(0.5)).max() > 0


def test_waiting_threads_spin_for_a_short_while(run_python: Run) -> None:
    """The OpenMP runtime tells its settings when it is loaded; those of the user stay."""
    if not cnnmath.build_config()["compiler"].startswith("g++"):
        pytest.skip("about the OpenMP runtime of GCC")
    code = "import os, cnnmath; print('GOMP_SPINCOUNT' in os.environ)"
    done = run_python(code, OMP_DISPLAY_ENV="verbose")
    assert done.stdout.strip() == "False"
    assert "GOMP_SPINCOUNT = '8000'" in done.stderr
    done = run_python(code, OMP_DISPLAY_ENV="verbose", GOMP_SPINCOUNT="77")
    assert done.stdout.strip() == "True"
    assert "GOMP_SPINCOUNT = '77'" in done.stderr
    assert (
        "OMP_WAIT_POLICY = 'ACTIVE'"
        in run_python(code, OMP_DISPLAY_ENV="verbose", OMP_WAIT_POLICY="active").stderr
    )


def test_threads_of_a_team_part() -> None:
    """Of two on one CPU the later one keeps away from it, where there is room that the caller is allowed."""
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("needs two CPUs")
    caller = os.getpid()
    seen: list[bool] = []

    def work() -> None:
        here = _core.current_cpu()
        os.sched_setaffinity(0, {here})  # or it might move at any time
        other = min(allowed - {here})
        for cpus, thread in (([here, other], 1), ([here, here], 0), ([*allowed, here], len(allowed))):
            _core.part(cpus, thread, caller)
            seen.append(os.sched_getaffinity(0) == {here})
        os.sched_setaffinity(caller, {here})
        try:
            _core.part([here, here], 1, caller)
            seen.append(os.sched_getaffinity(0) == {here})
        finally:
            os.sched_setaffinity(caller, allowed)
        _core.part([here, here], 1, caller)
        seen.append(os.sched_getaffinity(0) == allowed - {here} and _core.current_cpu() != here)

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    assert seen == [True] * 5
    assert os.sched_getaffinity(0) == allowed
