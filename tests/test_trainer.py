"""The Trainer: one step, with gradients against NumPy; wrong arguments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnmath import Trainer, nn, optim
from cnnmath.losses import CrossEntropyLoss, MSELoss
from cnnmath.regularizers import L2

from .trainers import classifier, digits, linear, trainer_of

# One step.


def test_step_is_that_of_the_equations(rng: np.random.Generator) -> None:
    """Linear model, squared error, L2: loss and weights after a step, in NumPy."""
    model, x, y = linear(rng)
    w, b = model.weight.numpy(), model.bias.numpy()
    trainer = Trainer(model, optim.SGD(model, lr=0.3), MSELoss(), L2(0.05))
    loss = trainer.train_step(x, y)
    residual = x @ w.T + b - y
    assert isinstance(loss, float)
    assert loss == pytest.approx(np.mean(residual**2) + 0.05 * np.sum(w**2), rel=1e-12)
    grad_w = 2 * residual.T @ x / residual.size + 0.1 * w
    np.testing.assert_allclose(model.weight.numpy(), w - 0.3 * grad_w, rtol=1e-10)
    np.testing.assert_allclose(model.bias.numpy(), b - 0.3 * 2 * residual.sum(0) / residual.size, rtol=1e-10)


def test_one_plan_for_all_steps(rng: np.random.Generator) -> None:
    x, y = digits(64)
    trainer = trainer_of(classifier(drop=0.2))
    plan = trainer.plan(x[:32], y[:32])
    before = trainer.model.state_dict()
    assert plan is trainer.plan(x[32:], y[32:])
    assert plan.memory > 0 and "adam" in repr(plan.graph)
    for name, array in trainer.model.state_dict().items():  # nothing was run
        np.testing.assert_array_equal(array, before[name])
    trainer.train_step(x[:32], y[:32])
    trainer.optimizer.param_groups[0]["lr"] = 1e-3
    trainer.train_step(x[32:], y[32:])
    assert plan is trainer.plan(x[:32], y[:32]) and len(trainer._plans) == 1
    assert trainer.plan(x[:20], y[:20]) is not plan
    trainer.model[0].freeze()
    assert trainer.plan(x[:32], y[:32]) is not plan


def test_step_keeps_the_modes_of_the_model() -> None:
    model = classifier().eval()
    x, y = digits(32)
    mean = model[1].running_mean.numpy()
    trainer_of(model).train_step(x, y)
    np.testing.assert_array_equal(model[1].running_mean.numpy(), mean)
    model.train()
    trainer_of(model).train_step(x, y)
    assert not np.array_equal(model[1].running_mean.numpy(), mean)


def test_strengths_and_rates_are_read_at_each_step(rng: np.random.Generator) -> None:
    model, x, y = linear(rng)
    penalty = L2(0.0)
    trainer = Trainer(model, optim.SGD(model, lr=0.0), MSELoss(), [penalty])
    plain = trainer.train_step(x, y)
    penalty.strength = 2.0
    assert trainer.train_step(x, y) == pytest.approx(plain + 2 * np.sum(model.weight.numpy() ** 2))
    assert len(trainer._plans) == 1


def test_parts_of_the_trainer_may_be_replaced(rng: np.random.Generator) -> None:
    model, x, y = linear(rng)
    trainer = Trainer(model, optim.SGD(model, lr=0.0), MSELoss())
    mean = trainer.train_step(x, y)
    trainer.loss = MSELoss(reduction="sum")
    assert trainer.train_step(x, y) == pytest.approx(20 * mean)
    trainer.optimizer = optim.SGD(model, lr=1.0)
    before = model.weight.numpy()
    trainer.train_step(x, y)
    assert not np.array_equal(model.weight.numpy(), before)


# What goes wrong.


MODEL = nn.Linear(64, 10)
X, Y = np.zeros((8, 64), np.float32), np.zeros(8, np.int64)


def make(**options: Any) -> Trainer:
    arguments = {"model": MODEL, "optimizer": optim.SGD(MODEL), "loss": CrossEntropyLoss(), **options}
    return Trainer(**arguments)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: make(model=3), TypeError, "expected a Module as model, got int"),
        (lambda: make(optimizer="sgd"), TypeError, "expected an Optimizer, got str"),
        (lambda: make(optimizer=optim.SGD(nn.Linear(64, 10))), ValueError, "no parameter of the model"),
        (lambda: make(loss="mse"), TypeError, "expected a loss, a function of output and target, got 'mse'"),
        (lambda: make(loss=MSELoss), TypeError, "expected a loss"),
        (lambda: make(regularizers=[3]), TypeError, "expected regularizers"),
        (lambda: make(metrics=["speed"]), ValueError, "got 'speed'"),
        (lambda: make(metrics=[3]), TypeError, "expected metrics by name"),
        (lambda: make(metrics=["mse", "mse"]), ValueError, "distinct names"),
        (lambda: make(seed="x"), TypeError, "expected an int"),
        (lambda: make().fit(X, Y[:5]), ValueError, "got 8 in x and 5 in y"),
        (lambda: make().fit(X[:0], Y[:0]), ValueError, "at least one sample"),
        (lambda: make().fit(X), TypeError, "fit: expected arrays x and y, or an iterable of batches"),
        (lambda: make().fit(X, Y, batch_size=0), ValueError, "batch_size: expected an int of at least 1, got 0"),
        (lambda: make().fit(X, Y, epochs=-1), ValueError, "an int of at least 0, got -1"),
        (lambda: make().fit(X, Y, verbose=3), ValueError, 'expected 0, 1, 2 or "auto", got 3'),
        (lambda: make().fit(X, Y, validation_split=1.5), ValueError, "a number between 0 and 1, got 1.5"),
        (lambda: make().fit(X, Y, validation_split=0.99), ValueError, "leaves one part empty"),
        (lambda: make().fit([(X, Y)], validation_split=0.5), ValueError, "needs arrays x and y"),
        (lambda: make().fit(X, Y, validation_split=0.5, validation_data=(X, Y)), ValueError, "not both"),
        (lambda: make().fit(X, Y, callbacks=[3], verbose=0), TypeError, "expected callbacks with methods"),
        (lambda: make().fit(X, Y, callbacks=3, verbose=0), TypeError, "expected callbacks with methods"),
        (lambda: make().fit(X.astype(np.float16), Y, verbose=0), TypeError, "Trainer: .* float16; cast it"),
        (lambda: make().fit(X, np.eye(10, dtype=int)[Y], verbose=0), TypeError, "probabilities expect float32"),
        (lambda: make().fit([X], verbose=0), TypeError, r"batches of two arrays \(x, y\)"),
        (lambda: make().fit(X.astype(np.float64), Y, verbose=0), TypeError, "expected an input of float32"),
        (lambda: make().fit(X, Y.astype(str), verbose=0), TypeError, "y: expected an array of numbers"),
        (lambda: make(loss=CrossEntropyLoss(reduction="none")).train_step(X, Y), ValueError, "a loss of one number"),
        (lambda: make().train_step(X, Y + 10), ValueError, "."),
        (lambda: make().predict(np.float32(3)), ValueError, "got a single number"),
    ],
)  # fmt: skip
def test_wrong_arguments(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_repr() -> None:
    assert repr(make()) == "Trainer(Linear, SGD, CrossEntropyLoss())"
