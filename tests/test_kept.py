"""What depends on variables alone is computed once, and again when one of them was changed, however it was changed."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

import cnnmath
import cnnmath.functional as F
from cnnmath import Trainer, losses, nn, optim
from cnnmath.planner import lowering
from cnnmath.planner.plan import Plan


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


class Network(nn.Module):
    """Winograd, strides, a max-pool behind few outputs, a transposed convolution, a dense layer: all that packs."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 32, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(32)
        self.third = nn.Conv2d(32, 32, 3, stride=2, padding=1)
        self.norm3 = nn.BatchNorm2d(32, affine=False)
        self.up = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.dense = nn.Linear(16 * 8 * 8, 300)
        self.last = nn.Linear(300, 10)
        for i, v in enumerate([*self.parameters(), *self.buffers()]):
            if v.dtype == np.float32 and v.ndim == 1:
                v[...] = (0.5 + np.abs(normal(*v.shape, seed=i))).astype(np.float32)

    def forward(self, x: np.ndarray) -> np.ndarray:
        x = F.max_pool2d(F.relu(self.norm1(self.first(x))), 2)
        x = F.relu(self.norm2(self.second(x)))
        x = F.relu(self.up(self.norm3(self.third(x))))
        return self.last(F.relu(self.dense(F.flatten(x, 1))))


def by_hand(m: Network, x: np.ndarray) -> np.ndarray:
    """The same, op by op on arrays: nothing is fused, folded or kept."""

    def norm(x: np.ndarray, n: nn.BatchNorm2d) -> np.ndarray:
        arrays = [None if v is None else v.numpy() for v in (n.running_mean, n.running_var, n.weight, n.bias)]
        return F.batch_norm(x, *arrays, eps=n.eps)

    def conv(x: np.ndarray, c: nn.Conv2d, **how: int) -> np.ndarray:
        return F.conv2d(x, c.weight.numpy(), None if c.bias is None else c.bias.numpy(), padding=1, **how)

    def dense(x: np.ndarray, layer: nn.Linear) -> np.ndarray:
        return F.linear(x, layer.weight.numpy(), layer.bias.numpy())

    x = F.max_pool2d(F.relu(norm(conv(x, m.first), m.norm1)), 2)
    x = F.relu(norm(conv(x, m.second), m.norm2))
    x = norm(conv(x, m.third, stride=2), m.norm3)
    x = F.relu(F.conv_transpose2d(x, m.up.weight.numpy(), m.up.bias.numpy(), stride=2))
    return dense(F.relu(dense(F.flatten(x, 1), m.dense)), m.last)


def plan_of(model: nn.Module, x: np.ndarray) -> Plan:
    plan = model.plan(x)
    assert isinstance(plan, Plan)
    return plan


def train(m: Network) -> None:
    m.train()
    optimizer = optim.SGD(m, lr=0.1)
    Trainer(m, optimizer, losses.CrossEntropyLoss()).train_step(normal(8, 3, 16, 16), np.arange(8))
    m.eval()


def step_by_hand(m: Network) -> None:
    optimizer = optim.SGD(m, lr=0.1)
    _, grads = cnnmath.value_and_grad(lambda x: F.mean(m(x)), m)(normal(8, 3, 16, 16))
    optimizer.step(grads)


def load(m: Network) -> None:
    state = m.state_dict()
    m.load_state_dict({key: (1.5 * value).astype(value.dtype) for key, value in state.items()})


def assign(name: str, value: Callable[[np.ndarray], np.ndarray]) -> Callable[[Network], None]:
    def change(m: Network) -> None:
        layer, attribute = name.split(".")
        variable = getattr(getattr(m, layer), attribute)
        variable.assign(value(variable.numpy()))

    return change


def eps(m: Network) -> None:
    m.norm2.eps = 0.5


def in_place(m: Network) -> None:
    m.dense.weight[3, 5] = 100.0


CHANGES = {
    "a training step": train,
    "a step by hand": step_by_hand,
    "loading": load,
    "weights": assign("second.weight", lambda w: -w),
    "a bias": assign("second.bias", lambda b: b + 1),
    "statistics": assign("norm1.running_var", lambda v: 4 * v),
    "the mean": assign("norm3.running_mean", lambda v: v + 2),
    "transposed weights": assign("up.weight", lambda w: 3 * w),
    "one number": in_place,
    "a number that is read at each run": eps,
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_seen(change: str) -> None:
    m, x = Network(), normal(5, 3, 16, 16, seed=1)
    m.eval()
    before = by_hand(m, x)
    np.testing.assert_allclose(m(x), before, rtol=1e-4, atol=1e-5 * np.abs(before).max())
    CHANGES[change](m)
    after = by_hand(m, x)
    assert np.abs(after - before).max() > 1e-3 * np.abs(before).max()
    for _ in range(2):
        np.testing.assert_allclose(m(x), after, rtol=1e-4, atol=1e-5 * np.abs(after).max())


def test_a_cast_makes_a_plan_of_its_own() -> None:
    m, x = Network(), normal(5, 3, 16, 16, seed=1)
    m.eval()
    single = m(x)
    for v in [*m.parameters(), *m.buffers()]:
        if v.dtype == np.float32:
            v.cast(np.float64)
    double = m(x.astype(np.float64))
    assert double.dtype == np.float64
    np.testing.assert_allclose(double, by_hand(m, x.astype(np.float64)), rtol=1e-10)
    np.testing.assert_allclose(single, double, rtol=1e-3, atol=1e-5 * np.abs(double).max())


LAYERS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Conv2d(*channels, kernel, stride, padding, groups=groups), shape)
    for channels, kernel, stride, padding, groups, shape in (
        ((16, 32), 3, 1, 1, 1, (4, 16, 20, 20)),  # by Winograd
        ((64, 64), 3, 1, 1, 1, (1, 64, 8, 8)),  # by Winograd, few tiles
        ((3, 64), 7, 2, 3, 1, (2, 3, 33, 33)),
        ((48, 100), 1, 1, 0, 1, (3, 48, 30, 30)),
        ((100, 5), 3, 1, 1, 1, (2, 100, 20, 20)),  # few outputs
        ((3, 2), 3, 1, 1, 1, (2, 3, 40, 40)),  # few channels
        ((32, 48), 5, 2, 2, 1, (2, 32, 25, 25)),
        ((24, 36), 3, 1, 1, 12, (2, 24, 20, 20)),  # groups of few channels
        ((80, 160), 3, 1, 1, 2, (2, 80, 20, 20)),  # and of many
        ((40, 40), 3, 1, 1, 40, (2, 40, 20, 20)),
    )
] + [
    (nn.ConvTranspose2d(32, 48, 3, stride=1, padding=1), (2, 32, 20, 20)),
    (nn.ConvTranspose2d(48, 20, 4, stride=2, padding=1), (2, 48, 15, 15)),
    (nn.ConvTranspose2d(30, 2, 8, stride=8), (2, 30, 12, 12)),
    (nn.Linear(300, 280), (200, 300)),
    (nn.Linear(300, 280), (3, 300)),
    (nn.Linear(600, 1100), (70, 600)),
    (nn.Linear(1030, 520), (1, 1030)),
    (nn.Linear(5000, 130), (1, 5000)),  # rows that are cut into pieces
    (nn.Linear(5000, 130), (70, 5000)),
    (nn.Linear(70, 30), (500, 70)),
    (nn.Linear(70, 30), (1, 70)),
]


@pytest.mark.parametrize("layer, shape", LAYERS, ids=[f"{layer!r} of {shape}" for layer, shape in LAYERS])
def test_packed_once_the_bits_stay(layer: nn.Module, shape: tuple[int, ...]) -> None:
    """Where nothing is folded: the same kernel reads the same numbers, those of another x too."""
    weight, bias = (v.numpy() for v in layer.parameters())
    for seed in range(2):
        x = normal(*shape, seed=seed)
        if isinstance(layer, nn.Linear):
            expected = F.linear(x, weight, bias)
        else:
            convolve = F.conv2d if isinstance(layer, nn.Conv2d) else F.conv_transpose2d
            expected = convolve(
                x, weight, bias, stride=layer.stride, padding=layer.padding, groups=layer.groups
            )
        np.testing.assert_array_equal(layer(x), expected)


def test_very_large_weights_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every plan would have a copy of its own."""
    x = normal(200, 300)
    layer = nn.Linear(300, 280)
    kept = plan_of(layer, x).kept_bytes
    assert kept >= 4 * 300 * 280
    monkeypatch.setattr(lowering, "MOST_KEPT", 4 * 300 * 280 - 1)
    other = nn.Linear(300, 280)
    other.load_state_dict(layer.state_dict())
    assert plan_of(other, x).kept_bytes == 0
    np.testing.assert_array_equal(other(x), layer(x))


def test_only_changes_cost() -> None:
    m, x = Network(), normal(5, 3, 16, 16)
    m.eval()
    plan = plan_of(m, x)
    assert plan.kept_bytes > 4 * 32 * 32 * 9
    m(x)
    kept = plan._kept
    m(x + 1)
    assert kept is not None and plan._kept is kept
    m.first.weight[0] = 1.0
    m(x)
    assert plan._kept is not kept


def test_what_is_kept_counts() -> None:
    m, x = Network(), normal(5, 3, 16, 16)
    m.eval()
    plan = plan_of(m, x)
    assert plan.memory >= plan.arena_bytes + plan.kept_bytes and plan.held_bytes >= plan.kept_bytes


def test_training_keeps_nothing() -> None:
    """Its weights change with every step."""
    m = Network()
    x, y = normal(8, 3, 16, 16), np.arange(8)
    trainer = Trainer(m, optim.SGD(m, lr=0.1), losses.CrossEntropyLoss())
    assert trainer.plan(x, y).kept_bytes == 0


def test_threads_wait_for_what_is_kept() -> None:
    m, x = Network(), normal(5, 3, 16, 16)
    m.eval()
    expected = by_hand(m, x)
    for round_ in range(5):
        m.dense.weight.assign(m.dense.weight.numpy())  # the same numbers, but who knows?
        results: list[np.ndarray] = []
        workers = [threading.Thread(target=lambda to=results: to.append(m(x))) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(results) == 4, round_
        for result in results:
            np.testing.assert_array_equal(result, results[0])
    np.testing.assert_allclose(results[0], expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def norms(plan: Plan) -> int:
    """The norms of images that are left, of single values per channel not."""
    return sum(n.op.name.startswith("batch_norm") and n.output.shape[0] != 1 for n in plan.graph.nodes)


class Pair(nn.Module):
    def __init__(self, shortcut: bool) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.shortcut = shortcut

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        y = self.conv(x)
        return (F.relu(self.norm(y) + x),) if self.shortcut else (self.norm(y), y)


@pytest.mark.parametrize("shortcut", [False, True])
def test_norms_that_cannot_be_folded(shortcut: bool) -> None:
    """With a shortcut behind, or where somebody else reads what comes before."""
    m, x = Pair(shortcut), normal(3, 4, 9, 9)
    m.eval()
    m.norm.running_mean.assign(normal(4))
    plan = m.plan(x)
    assert norms(plan) == 1
    y = F.conv2d(x, m.conv.weight.numpy(), m.conv.bias.numpy(), padding=1)
    expected = (y - normal(4)[:, None, None]) / np.sqrt(1 + 1e-5)
    expected = np.maximum(expected + x, 0) if shortcut else expected
    np.testing.assert_allclose(m(x)[0], expected, rtol=1e-4, atol=1e-5)


def test_norms_in_training_stay() -> None:
    m = Network()
    assert norms(plan_of(m, normal(5, 3, 16, 16))) == 3
    m.eval()
    assert norms(plan_of(m, normal(5, 3, 16, 16))) == 0


def test_gradients_through_a_folded_norm() -> None:
    """In evaluation too, gradients are those of the plain ops."""
    m, x = Network(), normal(2, 3, 16, 16)
    m.eval()
    v = normal(2, 10, seed=1)
    _, pullback = cnnmath.vjp(m, x)
    (dx,) = pullback(v)
    m(x)
    eps, d = 1e-2, normal(2, 3, 16, 16, seed=2)
    for var in [*m.parameters(), *m.buffers()]:
        if var.dtype == np.float32:
            var.cast(np.float64)
    m, x64 = m, x.astype(np.float64)
    slope = np.sum((by_hand(m, x64 + 1e-6 * d) - by_hand(m, x64 - 1e-6 * d)) * v) / 2e-6
    assert np.sum(dx * d) == pytest.approx(slope, rel=eps)


def test_functions_of_ones_own_are_called_each_time() -> None:
    class Count(cnnmath.Function):
        calls = 0

        def shape(self, *shapes: tuple[int, ...]) -> tuple[int, ...]:
            return shapes[0]

        def forward(self, w: np.ndarray) -> np.ndarray:
            self.calls += 1
            return w * self.calls

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(np.ones((3, 3), np.float32))
            self.count = Count()

        def forward(self, x: np.ndarray) -> np.ndarray:
            return F.linear(x, self.count(self.weight))

    m = Model()
    x = np.ones((1, 3), np.float32)
    assert [float(m(x)[0, 0]) for _ in range(3)] == [3.0, 6.0, 9.0]


def test_random_weights_are_drawn_each_time() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(normal(64, 64))

        def forward(self, x: np.ndarray) -> np.ndarray:
            return F.linear(x, F.dropout(self.weight, 0.5))

    m, x = Noisy(), normal(2, 64)
    assert not np.array_equal(m(x), m(x))
