"""Steps of a Trainer with clipped and with accumulated gradients."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import cnnmath
from cnnmath import Trainer, nn, optim
from cnnmath.losses import CrossEntropyLoss, MSELoss
from cnnmath.optim.clip import clipped
from cnnmath.regularizers import L2
from cnnmath.training import Callback


def network(double: bool = False, norm: bool = True, drop: float = 0.0) -> nn.Module:
    cnnmath.manual_seed(1)
    layers = [nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6) if norm else nn.Identity(), nn.ReLU(), nn.MaxPool2d(2)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(drop), nn.Linear(24, 3))
    return model.double() if double else model


def data(rng: np.random.Generator, n: int = 21, dtype: Any = np.float32) -> tuple[np.ndarray, np.ndarray]:
    return rng.standard_normal((n, 2, 6, 6)).astype(dtype), rng.integers(0, 3, n)


def states(trainer: Trainer) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in trainer.model.state_dict().items()}


# Clipping.


@pytest.mark.parametrize("max_norm", [0.0, 0.05, 1e-3, 1e6])
@pytest.mark.parametrize(
    "make", [lambda m: optim.SGD(m, lr=0.3, momentum=0.9), lambda m: optim.Adam(m, lr=0.01)]
)
@pytest.mark.parametrize("double", [False, True])
def test_clipping_has_the_bits_of_the_manual_loop(
    make: Any, max_norm: float, double: bool, rng: np.random.Generator
) -> None:
    x, y = data(rng, dtype=np.float64 if double else np.float32)
    model = network(double)
    trainer = Trainer(model, make(model), CrossEntropyLoss(), clip_norm=max_norm)
    other = network(double)
    optimizer, loss = make(other), CrossEntropyLoss()
    step = cnnmath.value_and_grad(lambda a, b: loss(other(a), b), other)
    norms = []
    for _ in range(4):
        value, grads = step(x, y)
        norms.append(optim.clip_grad_norm(grads, max_norm))
        optimizer.step(grads)
        assert trainer.train_step(x, y) == float(value)
    assert min(norms) > 0.05
    for name, array in other.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[name], array)


def test_the_limit_is_read_at_each_step(rng: np.random.Generator) -> None:
    """A plain linear model: the step's length is lr times the norm."""
    model = nn.Linear(3, 2).double()
    x, y = rng.standard_normal((10, 3)), 10 + rng.standard_normal((10, 2))
    trainer = Trainer(model, optim.SGD(model, lr=0.5), MSELoss())
    lengths = []
    for limit in (None, 0.25, 0.125, 1e9, None):
        trainer.clip_norm = limit
        before = [p.numpy() for p in model.parameters()]
        trainer.train_step(x, y)
        moved = [np.sum((p.numpy() - b) ** 2) for p, b in zip(model.parameters(), before)]
        lengths.append(np.sqrt(sum(moved)) / 0.5)
    assert lengths[1:3] == pytest.approx([0.25, 0.125], rel=1e-4)
    assert min(lengths[0], *lengths[3:]) > 1
    assert len(trainer._plans) == 2


def test_a_gradient_of_two_parameters_is_scaled_once() -> None:
    def double(a: Any) -> Any:
        t = a + a
        return tuple(clipped([t, t], lambda: 1.0))

    x = np.array([3.0, 4.0])
    first, second = cnnmath.planner.eager.call(double, (x,), {})
    np.testing.assert_allclose(first, x / 5 / np.sqrt(2), rtol=1e-6)
    np.testing.assert_array_equal(first, second)


def test_nan_spreads_and_nothing_trainable_is_no_error(rng: np.random.Generator) -> None:
    x, y = data(rng)
    model = network()
    trainer = Trainer(model, optim.SGD(model, lr=0.1), CrossEntropyLoss(), clip_norm=1.0)
    model.freeze()
    before = states(trainer)
    trainer.train_step(x, y)
    assert states(trainer) == before
    model.unfreeze()
    x[0] = np.nan
    trainer.train_step(x, y)
    assert np.isnan(model[6].weight.numpy()).all()


def test_long_gradients(rng: np.random.Generator) -> None:
    """More than one block, in orders of memory other than row-major, with gaps, and empty."""
    arrays = [
        rng.standard_normal((5, 7, 31, 47)).astype(np.float32).transpose(3, 0, 2, 1),
        rng.standard_normal((200, 300))[::2, ::3],
        np.zeros((0, 3)),
        np.array(2.0),
    ]
    want = np.sqrt(sum(np.sum(a.astype(np.float64) ** 2) for a in arrays))
    before = [a.copy() for a in arrays]
    assert optim.clip_grad_norm(arrays, 1.0) == pytest.approx(want, rel=1e-13)
    for a, b in zip(arrays, before):
        np.testing.assert_allclose(a, b / want, rtol=1e-5)


# Accumulation.


@pytest.mark.parametrize("clip_norm", [None, 0.05])
@pytest.mark.parametrize(
    "make",
    [lambda m: optim.SGD(m, lr=0.3, momentum=0.9, weight_decay=0.01), lambda m: optim.AdamW(m, lr=0.01)],
)
def test_small_batches_are_one_large_one(
    make: Any, clip_norm: float | None, rng: np.random.Generator
) -> None:
    """21 samples: 5 batches of 4 and one of 1, updates by 2 or 3 of them; also with penalties and weights."""
    x, y = data(rng, dtype=np.float64)
    s = rng.uniform(0.5, 2, len(x))
    for size, k in ((4, 2), (4, 3), (8, 1), (3, 8)):
        runs = []
        for batch_size, accumulate in ((size, k), (size * k, 1)):
            model = network(double=True, norm=False)
            trainer = Trainer(
                model, make(model), CrossEntropyLoss(), L2(0.01), "accuracy", 3, clip_norm, accumulate
            )
            history = trainer.fit(x, y, batch_size, epochs=3, verbose=0, sample_weight=s).history
            runs.append((history, model.state_dict(), trainer.optimizer.state_dict()))
        (one, weights, inner), (other, wanted, want) = runs
        np.testing.assert_allclose(one["loss"], other["loss"], rtol=1e-10)
        assert one["accuracy"] == other["accuracy"]
        for name, array in wanted.items():
            np.testing.assert_allclose(weights[name], array, rtol=1e-8, atol=1e-10)
        for number, state in want["state"].items():
            assert inner["state"][number]["step"] == state["step"] == 3 * -(-21 // (size * k))


def test_accumulation_is_the_manual_loop(rng: np.random.Generator) -> None:
    """Updates after every third call of train_step, BatchNorm's statistics after each."""
    model, other = network(), network()
    trainer = Trainer(model, optim.SGD(model, lr=0.3), CrossEntropyLoss(), accumulate=3)
    loss, optimizer = CrossEntropyLoss(), optim.SGD(other, lr=0.3)
    step = cnnmath.value_and_grad(lambda a, b: loss(other(a), b), other)
    sums: dict[str, np.ndarray] = {}
    for i in range(7):
        x, y = data(rng, 8)
        value, grads = step(x, y)
        assert trainer.train_step(x, y) == float(value)
        for name, g in grads.items():
            sums[name] = sums.get(name, 0) + g * np.float32(8)
        if i % 3 == 2:
            optimizer.step({name: g / np.float32(24) for name, g in sums.items()})
            sums = {}
    for name, array in other.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[name], array)
    assert int(model[1].num_batches_tracked.numpy()) == 7


def test_fit_begins_anew(rng: np.random.Generator) -> None:
    """Gradients that an error left behind take no part in the next training."""

    class Fails(Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            raise RuntimeError("enough")

    x, y = data(rng)
    trainers = []
    for failing in (True, False):
        model = network(norm=False)
        trainer = Trainer(model, optim.SGD(model, lr=0.1), CrossEntropyLoss(), seed=0, accumulate=2)
        if failing:
            with pytest.raises(RuntimeError, match="enough"):
                trainer.fit(x, y, 8, verbose=0, callbacks=[Fails()])
        trainer.fit(x, y, 8, epochs=2, verbose=0)
        trainers.append(trainer)
    assert states(trainers[0]) == states(trainers[1])


@pytest.mark.parametrize(
    "options", [{"clip_norm": 0.05}, {"accumulate": 2}, {"clip_norm": 0.05, "accumulate": 2}]
)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_copies_and_threads(options: dict[str, Any], copied: Any, rng: np.random.Generator) -> None:
    x, y = data(rng)
    model = network(drop=0.5)
    trainer = Trainer(model, optim.Adam(model, lr=0.01), CrossEntropyLoss(), seed=2, **options)
    trainer.train_step(x, y)  # of two, where they accumulate
    other = copied(trainer)
    other.train_step(x, y)
    before = cnnmath.get_num_threads()
    cnnmath.set_num_threads(1)
    try:
        trainer.train_step(x, y)
    finally:
        cnnmath.set_num_threads(before)
    assert states(trainer) == states(other)
    assert trainer.optimizer.state_dict()["state"][0]["step"] == (1 if "accumulate" in options else 2)


def test_plans(rng: np.random.Generator) -> None:
    x, y = data(rng)
    model = network()
    trainer = Trainer(model, optim.Adam(model), CrossEntropyLoss(), clip_norm=1.0)
    assert "clip_norm" in repr(trainer.plan(x, y).graph)
    trainer.accumulate = 4
    graph = trainer.plan(x, y).graph
    assert "adam" not in repr(graph) and len(graph.outputs) == 1 + len(list(model.parameters()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip_norm": -1.0}, "clip_norm of at least 0 or None, got -1.0"),
        ({"clip_norm": "1"}, "clip_norm of at least 0 or None, got '1'"),
        ({"clip_norm": float("nan")}, "clip_norm of at least 0 or None, got nan"),
        ({"accumulate": 0}, "accumulate to be an int of at least 1, got 0"),
        ({"accumulate": 1.5}, "accumulate to be an int of at least 1, got 1.5"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], message: str) -> None:
    model = network()
    with pytest.raises(ValueError, match=message):
        Trainer(model, optim.SGD(model), CrossEntropyLoss(), **options)
