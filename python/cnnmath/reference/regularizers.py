"""Penalties on weights, added to the loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def l1(w: Array, strength: float) -> Array:
    """strength Σ |w|"""
    return np.asarray(strength * np.abs(w).sum())


def l1_backward(grad: Array, w: Array, strength: float) -> Array:
    """dL/dw = grad strength sign(w), 0 at 0"""
    return np.asarray(grad * strength * np.sign(w))


def l2(w: Array, strength: float) -> Array:
    """strength Σ w²"""
    return np.asarray(strength * (w * w).sum())


def l2_backward(grad: Array, w: Array, strength: float) -> Array:
    """dL/dw = 2 grad strength w: what SGD's weight_decay = 2 strength adds to the gradient."""
    return np.asarray(2 * grad * strength * w)
