"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from ..functional import updates
from ..graph.ir import Tensor, item
from ..graph.variable import Variable
from .optimizer import Clock, Optimizer, at_least_zero


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum (Sutskever et al., 2013).

    For a parameter p with gradient g and velocity v:

        g <- g + weight_decay p
        v <- momentum v + (1 - dampening) g        (v = g in the first step)
        p <- p - lr v                              (nesterov: p - lr (g + momentum v))

    Without momentum p <- p - lr g, and there is no v.

    Args:
        params: a model, its parameters or named parameters, or a list of groups.
        lr: the learning rate.
        momentum: how much of the velocity stays.
        dampening: how much of the gradient does not enter the velocity.
        weight_decay: the strength of a penalty weight_decay / 2 sum p^2 on the parameters, by its gradient.
        nesterov: look ahead along the velocity; needs momentum > 0 and dampening 0.

    >>> import numpy as np, cnnmath
    >>> layer = cnnmath.nn.Linear(1, 1, bias=False)
    >>> layer.weight.assign(np.array([[1.0]], np.float32))
    >>> cnnmath.optim.SGD(layer, lr=0.5).step({"weight": np.array([[0.5]], np.float32)})
    >>> layer.weight.numpy().tolist()
    [[0.75]]
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
        }
        super().__init__(params, defaults)

    def _check(self, group: dict[str, Any]) -> None:
        at_least_zero("SGD", group, "lr", "momentum", "weight_decay")
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError("SGD: nesterov needs momentum > 0 and dampening 0")

    def _flags(self, group: dict[str, Any]) -> Hashable:
        return (group["momentum"] != 0, bool(group["nesterov"]))

    def _emit(self, group: dict[str, Any], clock: Clock, params: list[Variable], grads: list[Tensor]) -> bool:
        buffers, nesterov = bool(group["momentum"] != 0), bool(group["nesterov"])
        cells: dict[str, Any] = {
            key: item(group, key) for key in ("lr", "momentum", "dampening", "weight_decay")
        }
        cells["first"] = lambda: float(clock.count == 0)
        velocities = self._arrays("momentum_buffer", params) if buffers else None
        updates.sgd(params, grads, velocities, nesterov=nesterov, **cells)
        return buffers
