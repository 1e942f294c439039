"""Training in forked children, in several Python threads at once, on fewer CPUs than threads: always the same bits."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import cnnmath
from cnnmath import Trainer, losses, nn, optim

Run = Callable[..., "subprocess.CompletedProcess[str]"]

# Convolutions, BatchNorm and dropout on images large enough for many tasks.
TRAINING = """
import os, sys, warnings, zlib
warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of a fork in a process with threads
import numpy as np, cnnmath
from cnnmath import Trainer, losses, nn, optim

def trainer():
    cnnmath.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
                          nn.Dropout(0.3), nn.Flatten(), nn.Linear(16 * 12 * 12, 5))
    return Trainer(model, optim.SGD(model, lr=0.05, momentum=0.9), losses.CrossEntropyLoss(), seed=3)

rng = np.random.default_rng(0)
x, y = rng.normal(size=(64, 3, 24, 24)).astype(np.float32), rng.integers(0, 5, 64)

def digest(t):
    return zlib.crc32(b"".join(a.tobytes() for a in t.model.state_dict().values()))

def steps(t, n=3):
    for _ in range(n):
        t.train_step(x, y)
    return digest(t)
"""

FORK = (
    TRAINING
    + """
cnnmath.set_num_threads(2)
t = trainer()
steps(t, 1)
reader, writer = os.pipe()
pid = os.fork()
if not pid:
    status = 1
    try:
        went_on = steps(t)
        fitted = trainer()
        fitted.fit(x, y, batch_size=16, epochs=2, verbose=0)
        os.write(writer, f"{went_on} {digest(fitted)} {steps(trainer(), 4)}".encode())
        status = 0
    finally:
        os._exit(status)
went_on = steps(t)  # while the child trains
_, status = os.waitpid(pid, 0)
assert os.waitstatus_to_exitcode(status) == 0
fitted = trainer()
fitted.fit(x, y, batch_size=16, epochs=2, verbose=0)
wanted = f"{went_on} {digest(fitted)} {went_on}"  # a training begun in the child is the parent's, too
assert os.read(reader, 1000).decode() == wanted
print("same bits")
"""
)

POOL = (
    TRAINING
    + """
import multiprocessing
cnnmath.set_num_threads(2)
t = trainer()
steps(t, 1)

def child(number):
    return number, steps(t, 3), steps(trainer(), 4)

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(3) as pool:
        results = pool.map(child, range(3), chunksize=1)
    own = steps(t, 3)
    # A worker that takes two numbers goes on with the same trainer; whoever took one has the parent's bits.
    assert own in [went_on for _, went_on, _ in results], results
    assert {begun for _, _, begun in results} == {own}
    print("same bits")
"""
)


@pytest.mark.parametrize("code", [FORK, POOL], ids=["fork", "multiprocessing"])
def test_children_of_a_training_train_too(code: str, run_python: Run) -> None:
    assert run_python(code, timeout=100).stdout.strip() == "same bits"


def test_spawned_children_have_threads(run_python: Run, tmp_path: Path) -> None:
    """A worker of multiprocessing's "spawn" starts anew."""
    script = tmp_path / "script.py"
    script.write_text(
        TRAINING
        + """
import multiprocessing
def child(threads):
    cnnmath.set_num_threads(threads)
    return steps(trainer())
if __name__ == "__main__":
    own = steps(trainer())
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(child, [1, 2, 3]) == [own] * 3
    print("same bits")
"""
    )
    code = f"import runpy, sys; sys.argv = [{str(script)!r}]; runpy.run_path({str(script)!r}, run_name='__main__')"
    assert run_python(code, timeout=100).stdout.strip() == "same bits"


def make_trainer(seed: int) -> Trainer:
    cnnmath.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(2048, 4)
    )  # fmt: skip
    return Trainer(
        model, optim.Adam(model, lr=0.01), losses.CrossEntropyLoss(), metrics=["accuracy"], seed=seed
    )


def weights(trainer: Trainer) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in trainer.model.state_dict().items()}


@pytest.mark.parametrize("count", [1, 2, 5])
def test_python_threads_train_their_models_at_once(
    count: int, threads: Callable[[int], None], rng: np.random.Generator
) -> None:
    """Each has the bits that it has alone: dropout, order and statistics are its own."""
    threads(count)
    x = rng.normal(size=(96, 3, 16, 16)).astype(np.float32)
    y = rng.integers(0, 4, 96)

    def train(trainer: Trainer) -> None:
        trainer.fit(x, y, batch_size=24, epochs=4, verbose=0)
        for _ in range(5):
            trainer.train_step(x, y)
        trainer.evaluate(x, y)

    seeds = (1, 2, 3)
    alone = []
    for seed in seeds:
        train(trainer := make_trainer(seed))
        alone.append(weights(trainer))
    together = [make_trainer(seed) for seed in seeds]
    errors: list[BaseException] = []
    start = threading.Barrier(len(seeds))

    def at_once(trainer: Trainer) -> None:
        try:
            start.wait()
            train(trainer)
        except BaseException as error:
            errors.append(error)

    team = [threading.Thread(target=at_once, args=(trainer,)) for trainer in together]
    for member in team:
        member.start()
    for member in team:
        member.join()
    assert not errors
    for trainer, wanted in zip(together, alone):
        for name, array in weights(trainer).items():
            np.testing.assert_array_equal(array, wanted[name], err_msg=name)


def test_python_threads_predict_with_one_model(
    threads: Callable[[int], None], rng: np.random.Generator
) -> None:
    threads(2)
    trainer = make_trainer(0)
    batches = [rng.normal(size=(n, 3, 16, 16)).astype(np.float32) for n in (1, 7, 7, 40)]
    alone = [trainer.predict(x) for x in batches]
    found: list[list[np.ndarray]] = [[] for _ in batches]

    def predict(i: int) -> None:
        for _ in range(20):
            found[i].append(trainer.predict(batches[i]))

    team = [threading.Thread(target=predict, args=(i,)) for i in range(len(batches))]
    for member in team:
        member.start()
    for member in team:
        member.join()
    for results, wanted in zip(found, alone):
        assert len(results) == 20 and all(np.array_equal(r, wanted) for r in results)


def test_a_training_on_one_cpu_has_the_bits_of_any_other(run_python: Run) -> None:
    """Pinned to one CPU: one thread by default; more than there are CPUs also finish."""
    if shutil.which("taskset") is None:
        pytest.skip("needs taskset")
    cpu = min(os.sched_getaffinity(0))
    code = TRAINING + "print(cnnmath.get_num_threads(), steps(trainer()))"
    many = TRAINING + "cnnmath.set_num_threads(16); print(cnnmath.get_num_threads(), steps(trainer()))"
    wanted = run_python(code).stdout.split()[1]
    pinned = f"import os, subprocess, sys; os.execvp('taskset', ['taskset', '-c', '{cpu}', sys.executable, '-c', {{}}])"
    for program, count in ((code, "1"), (many, "16")):
        assert run_python(pinned.format(repr(program)), timeout=100).stdout.split() == [count, wanted]
    assert run_python(many).stdout.split() == ["16", wanted]
