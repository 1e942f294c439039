"""Weights of samples and classes in the loss: against NumPy's equations and PyTorch's unreduced losses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnmath
from cnnmath import Trainer, nn, optim
from cnnmath import functional as F
from cnnmath.losses import CrossEntropyLoss, MSELoss
from cnnmath.regularizers import L2


def trainer_of(loss: Any, lr: float = 0.5, **options: Any) -> Trainer:
    cnnmath.manual_seed(0)
    model = nn.Linear(4, 3).double()
    return Trainer(model, optim.SGD(model, lr=lr), loss, **options)


def data(rng: np.random.Generator, n: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return rng.standard_normal((n, 4)), rng.integers(0, 3, n), rng.uniform(0, 2, n)


def one_step(trainer: Trainer, x: np.ndarray, y: np.ndarray, **weights: Any) -> tuple[float, np.ndarray]:
    history = trainer.fit(x, y, batch_size=len(x), verbose=0, shuffle=False, **weights)
    return history.history["loss"][0], trainer.model.weight.numpy()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(
    "options", [{}, {"weight": [0.5, 1.0, 3.0]}, {"ignore_index": 1}, {"label_smoothing": 0.2}]
)
def test_a_step_is_that_of_pytorch(options: dict[str, Any], reduction: str, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    x, y, s = data(rng)
    if "weight" in options:
        options = {"weight": np.array(options["weight"])}
    trainer = trainer_of(CrossEntropyLoss(reduction=reduction, **options))
    w = torch.tensor(trainer.model.weight.numpy(), requires_grad=True)
    b = torch.tensor(trainer.model.bias.numpy())
    theirs = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    logits = torch.tensor(x) @ w.T + b
    each = torch.nn.functional.cross_entropy(logits, torch.tensor(y), reduction="none", **theirs)
    divisor = 1.0
    if reduction == "mean":
        of_targets = options.get("weight", np.ones(3))[y]
        divisor = float(np.sum(of_targets[y != options.get("ignore_index", -100)]))
    want = (torch.tensor(s) * each).sum() / divisor
    want.backward()
    loss, weight = one_step(trainer, x, y, sample_weight=s)
    assert loss == pytest.approx(want.item(), rel=1e-12)
    np.testing.assert_allclose(weight, (w - 0.5 * w.grad).detach().numpy(), rtol=1e-10)


@pytest.mark.parametrize("options", [{}, {"weight": np.array([0.5, 1.0, 3.0])}, {"ignore_index": 1}])
def test_weights_of_one_change_nothing(options: dict[str, Any], rng: np.random.Generator) -> None:
    x, y, _ = data(rng)
    plain = one_step(trainer_of(CrossEntropyLoss(**options)), x, y)
    for given in ({"sample_weight": np.ones(12)}, {"class_weight": {}}, {"class_weight": {0: 1, 2: 1.0}}):
        loss, weight = one_step(trainer_of(CrossEntropyLoss(**options)), x, y, **given)
        assert loss == pytest.approx(plain[0], rel=1e-12)
        np.testing.assert_allclose(weight, plain[1], rtol=1e-12)


def test_classes_are_samples_by_their_target(rng: np.random.Generator) -> None:
    x, y, _ = data(rng)
    want = one_step(trainer_of(CrossEntropyLoss()), x, y, sample_weight=np.array([0.25, 1.0, 4.0])[y])
    hot = np.eye(3)[y]
    for target in (y, y.astype(np.uint8), hot):
        loss, weight = one_step(
            trainer_of(CrossEntropyLoss()), x, target, class_weight={0: 0.25, np.int64(2): 4}
        )
        assert loss == pytest.approx(want[0], rel=1e-12)
        np.testing.assert_allclose(weight, want[1], rtol=1e-10)


def test_squared_error(rng: np.random.Generator) -> None:
    """The divisor is the number of elements; a penalty is not weighted."""
    x, _, s = data(rng)
    y = rng.standard_normal((12, 3))
    trainer = trainer_of(MSELoss(), regularizers=L2(0.1))
    w, b = trainer.model.weight.numpy(), trainer.model.bias.numpy()
    error = x @ w.T + b - y
    penalty = 0.1 * np.sum(w**2)
    loss, weight = one_step(trainer, x, y, sample_weight=s)
    assert loss == pytest.approx(np.sum(s[:, None] * error**2) / 36 + penalty, rel=1e-12)
    np.testing.assert_allclose(weight, w - 0.5 * (2 / 36 * (s[:, None] * error).T @ x + 0.2 * w), rtol=1e-10)
    loss, _ = one_step(
        trainer_of(MSELoss()), x, y, sample_weight=np.repeat(s[:, None], 3, 1)
    )  # of each element
    assert loss == pytest.approx(np.sum(s[:, None] * error**2) / 36, rel=1e-12)


def test_pixels(rng: np.random.Generator) -> None:
    """Classes of pixels: weights of whole samples, of single pixels, and by class."""
    x, y = rng.standard_normal((4, 2, 5, 5)), rng.integers(0, 3, (4, 5, 5))
    s, table = rng.uniform(0, 2, 4), np.array([1.0, 5.0, 0.0])
    model = nn.Conv2d(2, 3, 3, padding=1).double()
    each = F.cross_entropy(model(x), y, reduction="none")
    for given, weights in (
        ({"sample_weight": s}, s[:, None, None]),
        ({"sample_weight": table[y]}, table[y]),
        ({"class_weight": {1: 5.0, 2: 0.0}}, table[y]),
    ):
        trainer = Trainer(model, optim.SGD(model, lr=0.0), CrossEntropyLoss())
        loss, _ = one_step(trainer, x, y, **given)
        assert loss == pytest.approx(np.mean(weights * each), rel=1e-12)


def test_weights_go_with_their_samples(rng: np.random.Generator) -> None:
    """Shuffled, in batches, split for validation, and from an iterable, in float32 too."""
    x, y, s = data(rng, 40)
    trainer = trainer_of(CrossEntropyLoss(), lr=0.0)
    each = F.cross_entropy(trainer.model(x), y, reduction="none")
    history = trainer.fit(x, y, 7, epochs=2, verbose=0, validation_split=0.25, sample_weight=s).history
    np.testing.assert_allclose(history["loss"], np.mean((s * each)[:30]), rtol=1e-12)
    np.testing.assert_allclose(history["val_loss"], np.mean((s * each)[30:]), rtol=1e-12)
    batches = [(x[i : i + 8], y[i : i + 8], s[i : i + 8]) for i in range(0, 40, 8)]
    history = trainer.fit(batches, verbose=0, validation_data=(x, y, s)).history
    assert history["loss"][0] == pytest.approx(np.mean(s * each), rel=1e-12)
    assert history["val_loss"][0] == pytest.approx(np.mean(s * each), rel=1e-12)
    assert trainer.evaluate(x, y, sample_weight=s)["loss"] == pytest.approx(np.mean(s * each), rel=1e-12)
    pairs = [batch[:2] for batch in batches]
    table = np.array([1.0, 1.0, 0.5])
    history = trainer.fit(pairs, verbose=0, class_weight={2: 0.5}, validation_data=(x, y)).history
    assert history["loss"][0] == pytest.approx(np.mean(table[y] * each), rel=1e-12)
    assert history["val_loss"][0] == pytest.approx(np.mean(each), rel=1e-12)  # not by class
    trainer.model.float()
    history = trainer.fit(x.astype(np.float32), y, verbose=0, sample_weight=list(s)).history
    assert history["loss"][0] == pytest.approx(np.mean(s * each), rel=1e-5)


X, Y = np.zeros((8, 4)), np.zeros(8, np.int64)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sample_weight": np.ones(7)}, ValueError, r"one weight for each of 8 samples, got \(7,\)"),
        ({"sample_weight": 2.0}, ValueError, r"one weight for each of 8 samples, got \(\)"),
        ({"sample_weight": ["a"] * 8}, TypeError, "sample_weight: expected an array of numbers"),
        ({"sample_weight": np.ones((8, 2))}, ValueError, r"shape \(8,\) or its first dims, got \(8, 2\)"),
        ({"class_weight": [1.0, 2.0]}, TypeError, "expected a dict from class indices to weights, got list"),
        ({"class_weight": {"cat": 1.0}}, ValueError, "expected class indices as keys, got 'cat'"),
        ({"class_weight": {-1: 1.0}}, ValueError, "expected class indices as keys, got -1"),
        ({"class_weight": {0: -1.0}}, ValueError, "at least 0 for class 0, got -1.0"),
        ({"class_weight": {0: float("nan")}}, ValueError, "a finite weight of at least 0 for class 0, got nan"),
        ({"class_weight": {0: "x"}}, ValueError, "for class 0, got 'x'"),
        ({"class_weight": {0: 1}, "sample_weight": np.ones(8)}, ValueError, "class_weight or sample_weight, not both"),
    ],
)  # fmt: skip
def test_wrong_arguments(options: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        trainer_of(CrossEntropyLoss()).fit(X, Y, verbose=0, **options)


def test_wrong_companions() -> None:
    trainer = trainer_of(CrossEntropyLoss())
    with pytest.raises(ValueError, match="gives weights as third arrays"):
        trainer.fit([(X, Y)], verbose=0, sample_weight=np.ones(8))
    with pytest.raises(ValueError, match="the batches have weights already"):
        trainer.fit([(X, Y, np.ones(8))], verbose=0, class_weight={0: 1.0})
    with pytest.raises(TypeError, match=r"class_weight: expected class indices or probabilities"):
        trainer_of(MSELoss()).fit(X, np.zeros(8), verbose=0, class_weight={0: 1.0})
    with pytest.raises(TypeError, match="expected a loss with a reduction 'mean' or 'sum'"):
        trainer_of(lambda out, y: F.cross_entropy(out, y)).fit(X, Y, verbose=0, class_weight={0: 1.0})
