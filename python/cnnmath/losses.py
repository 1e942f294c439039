"""Losses as objects: called on predictions and targets they give a number to minimise."""

from __future__ import annotations

from typing import Any

from . import functional as F
from .nn import Module

_REDUCTIONS = ("none", "mean", "sum")


class Loss(Module):
    """The base of losses: `loss(prediction, target)` on arrays, or on tensors inside a traced function.

    Args:
        reduction: "mean", "sum", or "none" for one number for each sample.
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        if reduction not in _REDUCTIONS:
            raise ValueError(
                f"{type(self).__name__}: reduction expects one of {_REDUCTIONS}, got {reduction!r}"
            )
        self.reduction = reduction


class CrossEntropyLoss(Loss):
    """Softmax and cross-entropy of logits x (N, C, ...) and targets t: for class indices (N, ...)

        l = -w_t log p_t,    p = softmax(x) over the C classes,

    and for probabilities t (N, C, ...) l = -sum_c w_c t_c log p_c; see `cnnmath.functional.cross_entropy`.

    Args:
        weight: w, an array (C,); None for ones. A buffer of the loss.
        ignore_index: targets of this index count for nothing.
        reduction: "mean" (divided by the sum of w_t), "sum" or "none".
        label_smoothing: s in [0, 1]: a target t becomes (1 - s) t + s / C.

    >>> import numpy as np
    >>> from cnnmath.losses import CrossEntropyLoss
    >>> loss = CrossEntropyLoss()
    >>> round(float(loss(np.zeros((2, 10), np.float32), np.array([3, 7]))), 4)
    2.3026
    """

    def __init__(
        self,
        weight: Any = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        if not 0 <= label_smoothing <= 1:
            raise ValueError(
                f"CrossEntropyLoss: label_smoothing expects a number in [0, 1], got {label_smoothing}"
            )
        self.label_smoothing = label_smoothing

    def forward(self, logits: Any, target: Any) -> Any:
        return F.cross_entropy(
            logits,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class MSELoss(Loss):
    """Squared error, l = (x - t)², see `cnnmath.functional.mse_loss`.

    Args:
        reduction: "mean" over all elements, "sum" or "none".

    >>> import numpy as np
    >>> from cnnmath.losses import MSELoss
    >>> float(MSELoss()(np.array([1.0, 3.0]), np.array([1.0, 1.0])))
    2.0
    """

    def forward(self, prediction: Any, target: Any) -> Any:
        return F.mse_loss(prediction, target, reduction=self.reduction)


__all__ = ["CrossEntropyLoss", "Loss", "MSELoss"]
