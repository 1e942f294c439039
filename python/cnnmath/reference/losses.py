"""Losses: how far a prediction is from its target.

`reduction` says what becomes of the single losses ℓ: "none" keeps them, "sum" adds them, "mean" divides that
sum by their number (or, in cross_entropy with class indices, by the sum of their weights).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .arithmetic import unbroadcast
from .softmax import log_softmax, softmax

Array = npt.NDArray[Any]


def mse_loss(input: Array, target: Array, reduction: str = "mean") -> Array:
    """ℓ = (input − target)²"""
    return _reduced((input - target) ** 2, reduction)


def mse_loss_backward(
    grad: Array, input: Array, target: Array, reduction: str = "mean"
) -> tuple[Array, Array]:
    """(grad_input, grad_target): dℓ/dinput = 2 (input − target) = −dℓ/dtarget"""
    difference = input - target
    g = 2 * difference * grad
    if reduction == "mean":
        g = g / difference.size
    return unbroadcast(g, input.shape), unbroadcast(-g, target.shape)


def cross_entropy(
    input: Array,
    target: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """ℓ = −Σ_c q_c log p_c,  p = softmax(input) over the classes c

    input holds logits: (C,), (N, C) or (N, C, d1, ...). target holds class indices, of the shape of input
    without C, or probabilities, of the shape of input. With s = label_smoothing and w = weight (C,), 1 if
    None:

        target index t:          q_c = w_c ((1 − s) [c = t] + s / C), and 0 for t = ignore_index
        target probabilities t:  q_c = w_c ((1 − s) t_c + s / C)

    "mean" divides Σ ℓ by Σ w_t over the targets that are not ignored; with probabilities by the number of ℓ.
    """
    classes = _class_axis(input)
    q, divisor = _target_weights(input, target, weight, ignore_index, label_smoothing)
    log_p = log_softmax(input, classes)
    if target.ndim < input.ndim:  # a class that is not asked for costs nothing, even at probability 0
        log_p = np.where(q == 0, 0, log_p).astype(input.dtype)
    losses = -(q * log_p).sum(classes)
    return _reduced(losses, reduction, divisor)


def cross_entropy_backward(
    grad: Array,
    input: Array,
    target: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> tuple[Array, Array | None]:
    """(grad_input, grad_target); grad_target is None for class indices.

    dℓ/dinput_k = p_k Σ_c q_c − q_k        (p − onehot, without weights and smoothing)
    dℓ/dtarget_k = −(1 − s) w_k log p_k
    """
    classes = _class_axis(input)
    q, divisor = _target_weights(input, target, weight, ignore_index, label_smoothing)
    if reduction == "none":
        grad = np.expand_dims(grad, classes)
    elif reduction == "mean":
        grad = grad / divisor
    grad_input = grad * (softmax(input, classes) * q.sum(classes, keepdims=True) - q)
    if target.ndim < input.ndim:
        return grad_input, None
    w = _per_class(np.ones(input.shape[classes], input.dtype) if weight is None else weight, input)
    return grad_input, -(1 - label_smoothing) * grad * w * log_softmax(input, classes)


def _class_axis(input: Array) -> int:
    return 0 if input.ndim == 1 else 1


def _per_class(values: Array, input: Array) -> Array:
    """(C,) shaped to broadcast against input."""
    return values.reshape(-1, *(1,) * (input.ndim - _class_axis(input) - 1))


def _target_weights(
    input: Array, target: Array, weight: Array | None, ignore_index: int, smoothing: float
) -> tuple[Array, Array]:
    """q of the shape of input, and what "mean" divides by."""
    axis = _class_axis(input)
    count = input.shape[axis]
    w = np.ones(count, input.dtype) if weight is None else weight
    if target.ndim == input.ndim:
        q = _per_class(w, input) * ((1 - smoothing) * target + smoothing / count)
        return q, np.asarray(input.size // count, input.dtype)

    valid = target != ignore_index
    if ((target[valid] < 0) | (target[valid] >= count)).any():
        raise ValueError(f"cross_entropy: a target lies outside the {count} classes")
    index = np.where(valid, target, 0)
    onehot = (_per_class(np.arange(count), input) == np.expand_dims(index, axis)).astype(input.dtype)
    q = _per_class(w, input) * ((1 - smoothing) * onehot + smoothing / count)
    return q * np.expand_dims(valid, axis), np.asarray((w[index] * valid).sum(dtype=input.dtype))


def _reduced(losses: Array, reduction: str, divisor: Array | None = None) -> Array:
    if reduction == "none":
        return losses
    if reduction == "sum":
        return np.asarray(losses.sum())
    if reduction != "mean":
        raise ValueError(f"reduction must be 'none', 'sum' or 'mean', got {reduction!r}")
    with np.errstate(invalid="ignore", divide="ignore"):  # the mean of nothing is NaN
        return np.asarray(losses.sum() / (losses.dtype.type(losses.size) if divisor is None else divisor))
