"""One step of an optimizer on one parameter w with gradient g.

Each function returns the new parameter and the new state and changes nothing in place. The state of the first
step is None (sgd) or zeros (adam, adamw); `step` counts from 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def sgd(
    w: Array,
    g: Array,
    velocity: Array | None = None,
    *,
    lr: float = 1e-3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> tuple[Array, Array | None]:
    """(w, v) after

        g ← g + weight_decay w
        v ← momentum v + (1 − dampening) g        (v = g in the first step)
        w ← w − lr v                              (nesterov: w − lr (g + momentum v))

    Without momentum w ← w − lr g and there is no v.
    """
    g = g + weight_decay * w
    if momentum == 0:
        return w - lr * g, velocity
    velocity = g if velocity is None else momentum * velocity + (1 - dampening) * g
    direction = g + momentum * velocity if nesterov else velocity
    return w - lr * direction, velocity


def adam(
    w: Array,
    g: Array,
    m: Array,
    v: Array,
    step: int,
    v_max: Array | None = None,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> tuple[Array, Array, Array, Array | None]:
    """(w, m, v, v_max) after, with β1, β2 = betas and t = step (Kingma and Ba, 2015):

        g ← g + weight_decay w
        m ← β1 m + (1 − β1) g          v ← β2 v + (1 − β2) g²
        m̂ = m / (1 − β1^t)             v̂ = v / (1 − β2^t)
        w ← w − lr m̂ / (sqrt(v̂) + eps)

    With v_max (AMSGrad: Reddi et al., 2018) v_max ← max(v_max, v) stands in the place of v in v̂.
    """
    return _adam(w, g + weight_decay * w, m, v, step, v_max, lr, betas, eps)


def adamw(
    w: Array,
    g: Array,
    m: Array,
    v: Array,
    step: int,
    v_max: Array | None = None,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
) -> tuple[Array, Array, Array, Array | None]:
    """(w, m, v, v_max) after  w ← w − lr weight_decay w  and then adam's step without weight decay.

    The decay does not pass through m and v (Loshchilov and Hutter, 2019).
    """
    return _adam(w - lr * weight_decay * w, g, m, v, step, v_max, lr, betas, eps)


def _adam(
    w: Array,
    g: Array,
    m: Array,
    v: Array,
    step: int,
    v_max: Array | None,
    lr: float,
    betas: tuple[float, float],
    eps: float,
) -> tuple[Array, Array, Array, Array | None]:
    beta1, beta2 = betas
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    if v_max is not None:
        v_max = np.maximum(v_max, v)
    m_hat = m / (1 - beta1**step)
    v_hat = (v if v_max is None else v_max) / (1 - beta2**step)
    return w - lr * m_hat / (np.sqrt(v_hat) + eps), m, v, v_max
