"""The dense layer: y = x Wᵀ + b, one matrix product."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """y[..., o] = bias[o] + Σ_i W[o, i] x[..., i]

    x (..., I), weight W (O, I) or (I,), bias (O,) or (): y is (..., O), or (...) for a weight of one
    dimension.
    """
    y = x @ weight.T
    return np.asarray(y if bias is None else y + bias)


def linear_backward(grad: Array, x: Array, weight: Array) -> tuple[Array, Array, Array]:
    """(grad_x, grad_weight, grad_bias) from grad = dL/dy (..., O).

        dL/dx = grad W        dL/dW = gradᵀ x        dL/db = Σ grad

    the two sums running over every leading dimension of x.
    """
    w = weight.reshape(-1, weight.shape[-1])  # a weight of one dimension is a single row
    g, rows = grad.reshape(-1, w.shape[0]), x.reshape(-1, x.shape[-1])
    grad_bias = g.sum(0).reshape(weight.shape[:-1])
    return (g @ w).reshape(x.shape), (g.T @ rows).reshape(weight.shape), grad_bias
