"""Weights of samples and of classes in the loss of a batch."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import functional as F
from ..functional._moves import cast
from ..graph.ir import Tensor


def weighted_loss(loss: Any, output: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """1/D Σ s_i l_i (without 1/D for reduction "sum") of the loss's elements l and weights s of their first dims.

    D is the number of elements; what else the loss divides by is in the weights already, see `divided`.
    """
    each = copy.copy(loss)
    each.reduction = "none"
    if hasattr(loss, "plan_key"):
        output.graph.depend(loss)
    losses = each(output, y)
    if not isinstance(losses, Tensor) or losses.shape[: weights.ndim] != weights.shape:
        raise ValueError(
            f"sample_weight: expected weights of shape {losses.shape} or its first dims, got {weights.shape}"
        )
    weights = cast(weights, losses.dtype).reshape(*weights.shape, *(1,) * (losses.ndim - weights.ndim))
    weighted = losses * weights
    return F.mean(weighted) if loss.reduction == "mean" else F.sum(weighted)  # type: ignore[no-any-return]


def check_loss(loss: Any) -> None:
    """Raises TypeError for a loss that cannot be weighted."""
    if getattr(loss, "reduction", None) not in ("mean", "sum"):
        raise TypeError(
            f"class_weight and sample_weight: expected a loss with a reduction 'mean' or 'sum', such as those of "
            f"cnnmath.losses, got {loss!r}"
        )


def divided(loss: Any, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weights of a batch such that the mean over its elements has the divisor of the loss's own mean.

    Cross-entropy of class indices divides by Σ w_t over the targets that are not ignored, instead of their number.
    """
    ignored = getattr(loss, "ignore_index", None)
    if loss.reduction == "mean" and ignored is not None and y.dtype.kind in "iu":
        kept = y[y != ignored]
        of_classes = getattr(loss, "weight", None)
        # An index out of range is the loss's to refuse.
        divisor = (
            len(kept) if of_classes is None else float(np.sum(np.take(of_classes.numpy(), kept, mode="clip")))
        )
        if divisor != y.size:
            with np.errstate(all="ignore"):  # no target that counts: NaN, as without weights
                weights = weights * (np.float64(y.size) / divisor)
    return weights


def sample_weights(weights: Any, count: int) -> np.ndarray:
    """The weights given, checked: one row for each sample."""
    array = np.asarray(weights)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"sample_weight: expected an array of numbers, got dtype {array.dtype}")
    if array.ndim == 0 or len(array) != count:
        raise ValueError(f"sample_weight: expected one weight for each of {count} samples, got {array.shape}")
    return array.astype(np.float64)


class ClassWeights:
    """Weights by class index; classes without one have 1.

    Args:
        weights: a dict from class indices to numbers of at least 0.
    """

    def __init__(self, weights: Any) -> None:
        if not isinstance(weights, Mapping):
            raise TypeError(
                f"class_weight: expected a dict from class indices to weights, got {type(weights).__name__}; "
                "of an array w that is dict(enumerate(w))"
            )
        for key, value in weights.items():
            if isinstance(key, bool) or not isinstance(key, (int, np.integer)) or key < 0:
                raise ValueError(f"class_weight: expected class indices as keys, got {key!r}")
            if not (isinstance(value, (int, float, np.number)) and 0 <= value < math.inf):
                raise ValueError(
                    f"class_weight: expected a finite weight of at least 0 for class {key}, got {value!r}"
                )
        self._weights = {int(key): float(value) for key, value in weights.items()}

    def check(self, classes: int) -> None:
        """Raises ValueError for an index that is not below the number of classes."""
        most = max(self._weights, default=0)
        if most >= classes:
            raise ValueError(
                f"class_weight: expected class indices in [0, {classes - 1}] as keys, got {most}"
            )

    def __call__(self, y: np.ndarray) -> np.ndarray:
        """The weight of each target: of class indices, or of the likeliest class where they are probabilities."""
        if y.dtype.kind == "f" and y.ndim > 1:
            y = y.argmax(axis=1)
        if y.dtype.kind not in "iu":
            raise TypeError(
                f"class_weight: expected class indices or probabilities (N, C), got {y.dtype}{y.shape}"
            )
        found = np.ones(y.shape)
        for key, value in self._weights.items():
            found[y == key] = value
        return found
