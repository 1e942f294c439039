"""Batch normalisation (Ioffe and Szegedy, 2015)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def _others(x: Array) -> tuple[int, ...]:
    """Every axis but that of the channels."""
    return (0, *range(2, x.ndim))


def _per_channel(values: Array, x: Array) -> Array:
    """(C,) shaped to broadcast against x (N, C, ...)."""
    return values.reshape(1, -1, *(1,) * (x.ndim - 2))


def _statistics(
    x: Array, running_mean: Array | None, running_var: Array | None, training: bool
) -> tuple[Array, Array]:
    if training:
        return x.mean(_others(x)), x.var(_others(x))
    if running_mean is None or running_var is None:
        raise ValueError("batch_norm: running_mean and running_var are needed when training is False")
    return running_mean, running_var


def batch_norm(
    x: Array,
    running_mean: Array | None,
    running_var: Array | None,
    weight: Array | None = None,
    bias: Array | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Array, Array | None, Array | None]:
    """(y, new running_mean, new running_var), for x (N, C) or (N, C, ...), and per channel c:

        x̂ = (x − μ) / sqrt(σ² + eps)        y = γ x̂ + β

    with γ = weight and β = bias (1 and 0 if None). In training μ and σ² = 1/n Σ (x − μ)² are those of the
    batch, over the n = N·H·W elements of the channel, and

        running_mean ← (1 − momentum) running_mean + momentum μ
        running_var  ← (1 − momentum) running_var  + momentum σ² n / (n − 1)

    In evaluation μ and σ² are the running statistics, which stay as they are. The arguments are not changed.
    """
    mean, var = _statistics(x, running_mean, running_var, training)
    y = (x - _per_channel(mean, x)) / np.sqrt(_per_channel(var, x) + eps)
    if weight is not None:
        y = y * _per_channel(weight, x)
    if bias is not None:
        y = y + _per_channel(bias, x)
    if not training:
        return y, running_mean, running_var

    n = x.size // x.shape[1]
    if running_mean is not None:
        running_mean = (1 - momentum) * running_mean + momentum * mean
    if running_var is not None:
        running_var = (1 - momentum) * running_var + momentum * var * n / (n - 1)
    return y, running_mean, running_var


def batch_norm_backward(
    grad: Array,
    x: Array,
    running_mean: Array | None,
    running_var: Array | None,
    weight: Array | None = None,
    training: bool = False,
    eps: float = 1e-5,
) -> tuple[Array, Array, Array]:
    """(grad_x, grad_weight, grad_bias) from grad = dL/dy, with the symbols of batch_norm:

        dL/dβ = Σ grad        dL/dγ = Σ grad x̂        dL/dx̂ = γ grad

    In evaluation dL/dx = dL/dx̂ / sqrt(σ² + eps). In training μ and σ² depend on x too, which takes away the
    mean of dL/dx̂ and its part along x̂:

        dL/dx = (dL/dx̂ − mean(dL/dx̂) − x̂ mean(dL/dx̂ x̂)) / sqrt(σ² + eps)
    """
    mean, var = _statistics(x, running_mean, running_var, training)
    deviation = np.sqrt(_per_channel(var, x) + eps)
    x_hat = (x - _per_channel(mean, x)) / deviation
    over = _others(x)
    grad_x_hat = grad if weight is None else grad * _per_channel(weight, x)
    grad_x = grad_x_hat
    if training:
        along = (grad_x_hat * x_hat).mean(over, keepdims=True)
        grad_x = grad_x_hat - grad_x_hat.mean(over, keepdims=True) - x_hat * along
    return grad_x / deviation, (grad * x_hat).sum(over), grad.sum(over)
