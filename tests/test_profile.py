"""Where the time of a step goes: every call has its time, every node its line, and the steps stay what they are."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

import cnnmath
import cnnmath.functional as F
from cnnmath import _core, losses, nn, optim
from cnnmath.planner.plan import Plan
from cnnmath.planner.profile import measured

Threads = Callable[[int], None]


def trainer(**options: object) -> cnnmath.Trainer:
    cnnmath.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(16 * 64, 10),
    )
    return cnnmath.Trainer(
        model, optim.SGD(model, lr=0.1, momentum=0.9), losses.CrossEntropyLoss(), **options
    )


def batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(32, 3, 16, 16)).astype(np.float32), rng.integers(0, 10, 32)


def test_each_call_has_its_own_time(threads: Threads) -> None:
    """Multiply-adds in registers take as long as there are many: 1 to 20 to 4, in the order of the calls."""
    kernel = _core.find_kernel("fma_peak", "f64")
    fields = kernel.fields.split()
    for count in (1, 2):
        threads(count)
        program = _core.Program(2)
        for rounds in (100_000, 2_000_000, 400_000):
            params = {"chunks": 2, "rounds": rounds}
            program.add(kernel, [params[f] for f in fields], [(0, 0), (1, 0)], (-1, 0))
        slots = [np.array([0.5, 1.0]), np.zeros(3)]
        samples = []
        for _ in range(15):
            start = time.perf_counter()
            samples.append(program.run_timed(slots))
            assert 0 < sum(samples[-1]) <= time.perf_counter() - start
        first, second, third = np.min(samples, 0)
        assert second > 5 * first
        assert third > 1.5 * first
        assert second > 1.5 * third


@pytest.mark.parametrize("count", [1, 2])
def test_lines_of_a_step(count: int, threads: Threads) -> None:
    threads(count)
    t, (x, y) = trainer(), batch()
    profile = t.profile(x, y, steps=3)
    plan = t.plan(x, y)
    passes = {(line.op, line.direction) for line in profile.ops}
    assert {
        ("conv2d", "forward"),
        ("max_pool2d", "forward"),
        ("cross_entropy", "forward"),
        ("conv2d_grad_weight", "backward"),
        ("matmul", "forward"),
        ("matmul", "backward"),
        ("sgd", "update"),
    } <= passes
    assert ("conv2d_grad_input", "backward") not in passes  # nobody asks for the images' gradient
    assert sum(line.calls for line in profile.nodes) == len(plan.nodes_of_calls)
    assert sum(line.flops for line in profile.nodes) == plan.graph.flops
    assert sum(line.seconds for line in profile.nodes) > 0
    seconds = [line.seconds for line in profile.ops]
    assert seconds == sorted(seconds, reverse=True) and profile.seconds > max(seconds)
    (conv,) = (line for line in profile.nodes if line.op == "conv2d")
    assert conv.shapes == "32x3x16x16 -> 32x16x16x16"
    assert conv.flops == 2 * 32 * 16 * 16 * 16 * 27 + 32 * 16 * 16 * 16
    assert conv.nbytes == 4 * (32 * 3 * 256 + 16 * 27 + 16 + 32 * 16 * 256)
    assert conv.gflops == pytest.approx(conv.flops / conv.seconds / 1e9)
    assert conv.bandwidth == pytest.approx(conv.nbytes / conv.seconds / 1e9)


def test_table() -> None:
    t, (x, y) = trainer(), batch()
    profile = t.profile(x, y, steps=1)
    head, *lines = str(profile).splitlines()
    assert head.split() == ["op", "pass", "calls", "ms", "share", "GFLOP/s", "GB/s"]
    assert [line.split()[0] for line in lines] == [*(line.op for line in profile.ops), "(Python)", "a"]
    shares = [float(part.rstrip("%")) for line in lines for part in line.split() if part.endswith("%")]
    assert sum(shares) == pytest.approx(100, abs=0.1 * len(shares))  # one step: each is what it was
    assert all(len(line) <= len(head) for line in lines)
    single = profile.table(profile.nodes).splitlines()
    assert "shapes" in single[0] and any("32x3x16x16 -> 32x16x16x16" in line for line in single)
    assert profile.table([]).count("\n") == 2


def test_profiled_steps_are_real_steps() -> None:
    """The same bits as without the clock, dropout and running statistics too."""
    x, y = batch()
    timed, plain = trainer(seed=1), trainer(seed=1)
    timed.profile(x, y, steps=3)
    for _ in range(4):
        plain.train_step(x, y)
    for a, b in zip(timed.model.state_dict().values(), plain.model.state_dict().values(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert timed.train_step(x, y) == plain.train_step(x, y)


def test_with_accumulation_nothing_is_updated() -> None:
    x, y = batch()
    t = trainer(accumulate=2)
    before = t.model[0].weight.data.copy()
    assert "update" not in {line.direction for line in t.profile(x, y, steps=1).nodes if line.op == "sgd"}
    np.testing.assert_array_equal(t.model[0].weight.data, before)


def test_calls_into_python_have_their_time_too() -> None:
    class Slow(cnnmath.Function):
        def shape(self, x: tuple[int, ...]) -> tuple[int, ...]:
            return x

        def forward(self, x: np.ndarray) -> np.ndarray:
            time.sleep(0.02)
            return 2 * x

    from cnnmath.planner import eager

    graph, _ = eager.trace(lambda x: F.tanh(Slow()(F.relu(x))), (np.ones((4, 5), np.float32),), {})
    plan = Plan(graph)
    x = np.ones((4, 5), np.float32)
    profile = measured(plan, [x], 2)
    assert [line.op for line in profile.nodes] == ["relu", plan.graph.nodes[1].op.name, "tanh"]
    assert profile.ops[0].seconds >= 0.02 > profile.ops[1].seconds
    seconds: list[float] = []
    (result,) = plan(x, seconds=seconds)
    np.testing.assert_allclose(result, np.tanh(2 * x), rtol=1e-6)
    assert len(seconds) == 3


def test_steps_are_checked() -> None:
    x, y = batch()
    for steps in (0, 1.5, True):
        with pytest.raises(ValueError, match="steps: expected an int of at least 1, got"):
            trainer().profile(x, y, steps=steps)
