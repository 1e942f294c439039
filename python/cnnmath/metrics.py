"""Metrics: how good predictions are, in numbers that are not trained on.

Functions on NumPy arrays, and objects that gather them over batches: `update(logits, targets)` as often as there are
batches, then `compute()`; `reset()` starts anew; `name` is the key under which a Trainer reports it.

Logits are (N, C), or (N, C, d1, ...) with targets (N, d1, ...): the class of the largest one is the prediction. A
target of `ignore_index` counts for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np


class Metric(Protocol):
    """What a Trainer expects of a metric."""

    name: str

    def update(self, logits: np.ndarray, targets: np.ndarray) -> None: ...
    def compute(self) -> Any: ...
    def reset(self) -> None: ...


def _rows(logits: Any, targets: Any, ignore_index: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits as (rows, C) and targets as (rows,), those of ignore_index left out."""
    logits, targets = np.asarray(logits), np.asarray(targets)
    if logits.ndim < 2:
        raise ValueError(f"metrics: expected logits of shape (N, C) or (N, C, ...), got {logits.shape}")
    expected = (logits.shape[0], *logits.shape[2:])
    if targets.shape == logits.shape and targets.dtype.kind == "f":
        targets = targets.argmax(axis=1)  # probabilities
    if targets.shape != expected:
        raise ValueError(
            f"metrics: expected targets of shape {expected}, got {targets.shape} (logits: {logits.shape})"
        )
    if targets.dtype.kind not in "iu":
        raise TypeError(f"metrics: expected class indices of an integer dtype, got {targets.dtype}")
    rows = np.moveaxis(logits, 1, -1).reshape(-1, logits.shape[1])
    flat = targets.reshape(-1).astype(np.int64)
    kept = flat != ignore_index
    return (rows, flat) if kept.all() else (rows[kept], flat[kept])


def _hits(rows: np.ndarray, targets: np.ndarray, k: int) -> np.ndarray:
    """Whether the target is among the k largest logits. Of equal logits the first counts as the larger, NaN as none."""
    classes = rows.shape[1]
    valid = (targets >= 0) & (targets < classes)
    at = np.where(valid, targets, 0)
    own = np.take_along_axis(rows, at[:, None], axis=1) if classes else np.zeros((len(rows), 1))
    earlier = np.arange(classes) < at[:, None]
    ahead = (rows > own) | ((rows == own) & earlier) | (np.isnan(rows) & ~np.isnan(own))
    return np.asarray(valid & ~np.isnan(own[:, 0]) & (ahead.sum(axis=1) < k))


def top_k_accuracy(logits: Any, targets: Any, k: int = 5, ignore_index: int = -100) -> float:
    """The share of samples whose target is among the `k` largest logits; NaN without samples.

    >>> import numpy as np
    >>> from cnnmath.metrics import top_k_accuracy
    >>> top_k_accuracy(np.array([[1.0, 3.0, 2.0], [1.0, 2.0, 3.0]]), np.array([2, 0]), k=2)
    0.5
    """
    metric = TopKAccuracy(k, ignore_index)
    metric.update(logits, targets)
    return metric.compute()


def accuracy(logits: Any, targets: Any, ignore_index: int = -100) -> float:
    """The share of samples whose target is the largest logit; NaN without samples.

    >>> import numpy as np
    >>> from cnnmath.metrics import accuracy
    >>> accuracy(np.array([[1.0, 3.0], [2.0, 1.0]]), np.array([1, 1]))
    0.5
    """
    return top_k_accuracy(logits, targets, 1, ignore_index)


def confusion_matrix(
    logits: Any, targets: Any, num_classes: int | None = None, ignore_index: int = -100
) -> np.ndarray:
    """Counts (num_classes, num_classes): row i, column j is how many samples of class i were predicted as j.

    Args:
        logits: (N, C, ...); or predicted classes, integers of the shape of `targets`.
        targets: class indices (N, ...).
        num_classes: C if None; of predicted classes the largest index plus one.
    """
    predicted = np.asarray(logits)
    if predicted.dtype.kind in "iu":
        truth = np.asarray(targets)
        if predicted.shape != truth.shape:
            raise ValueError(
                f"confusion_matrix: expected targets of shape {predicted.shape}, got {truth.shape}"
            )
        kept = truth != ignore_index
        predicted, truth = predicted[kept].astype(np.int64), truth[kept].astype(np.int64)
        if num_classes is None:
            num_classes = 1 + int(max(predicted.max(initial=-1), truth.max(initial=-1)))
    else:
        rows, truth = _rows(predicted, targets, ignore_index)
        num_classes = rows.shape[1] if num_classes is None else num_classes
        predicted = rows.argmax(axis=1)
    for what, values in (("targets", truth), ("predictions", predicted)):
        wrong = values[(values < 0) | (values >= num_classes)]
        if wrong.size:
            raise ValueError(
                f"confusion_matrix: {what} expect class indices in [0, {num_classes - 1}], got {wrong.flat[0]}"
            )
    counts = np.bincount(truth * num_classes + predicted, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


class TopKAccuracy:
    """`top_k_accuracy` over batches."""

    higher_is_better = True

    def __init__(self, k: int = 5, ignore_index: int = -100, name: str | None = None) -> None:
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
            raise ValueError(f"TopKAccuracy: k expects an int of at least 1, got {k!r}")
        self.k = int(k)
        self.ignore_index = ignore_index
        self.name = name or (f"top{k}" if k != 1 else "accuracy")
        self.reset()

    def reset(self) -> None:
        """Forgets all batches."""
        self.correct = 0
        self.count = 0

    def update(self, logits: Any, targets: Any) -> None:
        """Adds a batch."""
        rows, flat = _rows(logits, targets, self.ignore_index)
        self.correct += int(_hits(rows, flat, self.k).sum())
        self.count += len(flat)

    def compute(self) -> float:
        """The share so far; NaN without samples."""
        return self.correct / self.count if self.count else float("nan")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"


class Accuracy(TopKAccuracy):
    """`accuracy` over batches."""

    def __init__(self, ignore_index: int = -100, name: str = "accuracy") -> None:
        super().__init__(1, ignore_index, name)


class ConfusionMatrix:
    """`confusion_matrix` over batches."""

    def __init__(self, num_classes: int, ignore_index: int = -100, name: str = "confusion_matrix") -> None:
        self.num_classes = int(num_classes)
        self.ignore_index = ignore_index
        self.name = name
        self.reset()

    def reset(self) -> None:
        """Forgets all batches."""
        self.counts = np.zeros((self.num_classes, self.num_classes), np.int64)

    def update(self, logits: Any, targets: Any) -> None:
        """Adds a batch."""
        self.counts += confusion_matrix(logits, targets, self.num_classes, self.ignore_index)

    def compute(self) -> np.ndarray:
        """The counts so far."""
        return self.counts.copy()


class _Mean:
    """The mean of a function of predictions and targets over all elements: a distance."""

    higher_is_better = False

    def __init__(self, name: str, fn: Callable[[np.ndarray], np.ndarray]) -> None:
        self.name = name
        self._fn = fn
        self.reset()

    def reset(self) -> None:
        """Forgets all batches."""
        self.total = 0.0
        self.count = 0

    def update(self, predictions: Any, targets: Any) -> None:
        """Adds a batch."""
        x, y = np.asarray(predictions), np.asarray(targets)
        if x.shape != y.shape:
            raise ValueError(f"{self.name}: expected targets of shape {x.shape}, got {y.shape}")
        self.total += float(self._fn(x.astype(np.float64) - y).sum())
        self.count += x.size

    def compute(self) -> float:
        """The mean so far; NaN without samples."""
        return self.total / self.count if self.count else float("nan")


def by_name(name: str) -> Metric:
    """The metric of that name: "accuracy", "top5" (any number), "mse", "mae"."""
    if name in ("accuracy", "acc"):
        return Accuracy(name=name)
    if name.startswith("top") and name[3:].isdigit() and int(name[3:]) > 0:
        return TopKAccuracy(int(name[3:]), name=name)
    if name == "mse":
        return _Mean(name, np.square)
    if name == "mae":
        return _Mean(name, np.abs)
    raise ValueError(f'metrics: expected "accuracy", "top5" (any number), "mse" or "mae", got {name!r}')


__all__ = [
    "Accuracy",
    "ConfusionMatrix",
    "Metric",
    "TopKAccuracy",
    "accuracy",
    "by_name",
    "confusion_matrix",
    "top_k_accuracy",
]
