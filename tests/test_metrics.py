"""Metrics against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from cnnmath import metrics


def top_k(logits: np.ndarray, targets: np.ndarray, k: int) -> float:
    """A stable sort, largest first."""
    hits = [t in np.argsort(-row, kind="stable")[:k] for row, t in zip(logits, targets)]
    return float(np.mean(hits))


@pytest.mark.parametrize("k", [1, 2, 5, 7, 20])
def test_top_k(k: int, rng: np.random.Generator) -> None:
    logits = rng.integers(-3, 3, (200, 7)).astype(np.float32)  # with ties
    targets = rng.integers(0, 7, 200)
    assert metrics.top_k_accuracy(logits, targets, k) == top_k(logits, targets, k)
    if k == 1:
        assert metrics.accuracy(logits, targets) == np.mean(logits.argmax(1) == targets)


def test_batches_add_up(rng: np.random.Generator) -> None:
    logits, targets = rng.standard_normal((50, 4)), rng.integers(0, 4, 50)
    for metric in (
        metrics.by_name("accuracy"),
        metrics.by_name("top2"),
        metrics.ConfusionMatrix(4),
    ):
        for cut in (slice(0, 20), slice(20, 21), slice(21, 50)):
            metric.update(logits[cut], targets[cut])
        whole = (
            type(metric)(4) if isinstance(metric, metrics.ConfusionMatrix) else metrics.by_name(metric.name)
        )
        whole.update(logits, targets)
        np.testing.assert_array_equal(metric.compute(), whole.compute())
        metric.reset()
        metric.update(logits[:1], targets[:1])
        assert np.sum(metric.compute()) in (0, 1)


def test_confusion_matrix(rng: np.random.Generator) -> None:
    logits, targets = rng.standard_normal((100, 3)), rng.integers(0, 3, 100)
    expected = np.zeros((3, 3), int)
    for row, t in zip(logits, targets):
        expected[t, row.argmax()] += 1
    np.testing.assert_array_equal(metrics.confusion_matrix(logits, targets), expected)
    np.testing.assert_array_equal(metrics.confusion_matrix(logits.argmax(1), targets, 3), expected)
    assert metrics.confusion_matrix(np.array([0, 1]), np.array([1, 1])).tolist() == [[0, 0], [1, 1]]
    with pytest.raises(ValueError, match=r"targets expect class indices in \[0, 1\], got 2"):
        metrics.confusion_matrix(np.array([0, 1]), np.array([2, 1]), 2)


def test_pixels_and_ignored_targets(rng: np.random.Generator) -> None:
    logits, targets = rng.standard_normal((2, 3, 4, 5)), rng.integers(0, 3, (2, 4, 5))
    assert metrics.accuracy(logits, targets) == np.mean(logits.argmax(1) == targets)
    targets[0] = -100
    assert metrics.accuracy(logits, targets) == np.mean(logits[1].argmax(0) == targets[1])
    assert metrics.confusion_matrix(logits, targets).sum() == 20
    probabilities = np.eye(3)[targets[1]].transpose(2, 0, 1)[None]
    assert metrics.accuracy(logits[1:], probabilities) == metrics.accuracy(logits[1:], targets[1:])


def test_nan_is_never_right() -> None:
    logits = np.array([[np.nan, np.nan], [np.nan, 1.0]])
    assert metrics.accuracy(logits, np.array([0, 1])) == 0


def test_no_samples() -> None:
    assert np.isnan(metrics.accuracy(np.zeros((0, 3)), np.zeros(0, int)))
    assert np.isnan(metrics.by_name("mse").compute())


def test_regression_metrics() -> None:
    for name, expected in (("mse", 2.5), ("mae", 1.5)):
        metric = metrics.by_name(name)
        metric.update(np.array([[1.0], [5.0]], np.float32), np.array([[2.0], [3.0]], np.float32))
        assert metric.compute() == expected
    with pytest.raises(ValueError, match=r"mae: expected targets of shape \(2, 1\), got \(2,\)"):
        metric.update(np.ones((2, 1)), np.ones(2))


def test_errors() -> None:
    with pytest.raises(ValueError, match="got 'topless'"):
        metrics.by_name("topless")
    with pytest.raises(ValueError, match="k expects an int of at least 1, got 0"):
        metrics.TopKAccuracy(0)
    with pytest.raises(ValueError, match=r"expected targets of shape \(2,\), got \(3,\)"):
        metrics.accuracy(np.zeros((2, 4)), np.zeros(3, int))
    with pytest.raises(TypeError, match="expected class indices of an integer dtype, got float64"):
        metrics.accuracy(np.zeros((2, 4)), np.zeros(2))
    with pytest.raises(ValueError, match=r"expected logits of shape \(N, C\)"):
        metrics.accuracy(np.zeros(2), np.zeros(2, int))
