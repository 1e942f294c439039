"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from ..functional import updates
from ..graph.ir import Tensor, item
from ..graph.variable import Variable
from .optimizer import Clock, Optimizer, at_least_zero


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015): steps of about lr, whatever the scale of the gradients.

    For a parameter p with gradient g, moments m and v, beta1, beta2 = betas, at step t = 1, 2, ...:

        g <- g + weight_decay p
        m <- beta1 m + (1 - beta1) g               v <- beta2 v + (1 - beta2) g^2
        m_hat = m / (1 - beta1^t)                  v_hat = v / (1 - beta2^t)
        p <- p - lr m_hat / (sqrt(v_hat) + eps)

    With amsgrad (Reddi et al., 2018), the elementwise maximum of all v so far stands in the place of v in v_hat.

    Args:
        params: a model, its parameters or named parameters, or a list of groups.
        lr: the learning rate.
        betas: how much of the two moments stays.
        eps: keeps the division finite.
        weight_decay: the strength of a penalty weight_decay / 2 sum p^2 on the parameters, by its gradient.
        amsgrad: see above.
    """

    _decoupled = False

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        super().__init__(params, defaults)

    def _check(self, group: dict[str, Any]) -> None:
        at_least_zero(type(self).__name__, group, "lr", "eps", "weight_decay")
        betas = group["betas"]
        pair = isinstance(betas, Sequence) and len(betas) == 2
        if not pair or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"{type(self).__name__}: expected two betas, each 0 <= beta < 1, got {betas}")

    def _flags(self, group: dict[str, Any]) -> Hashable:
        return bool(group["amsgrad"])

    def _emit(self, group: dict[str, Any], clock: Clock, params: list[Variable], grads: list[Tensor]) -> bool:
        updates.adam(
            params,
            grads,
            self._arrays("exp_avg", params),
            self._arrays("exp_avg_sq", params),
            self._arrays("max_exp_avg_sq", params) if group["amsgrad"] else None,
            decoupled=self._decoupled,
            lr=item(group, "lr"),
            beta1=lambda: group["betas"][0],
            beta2=lambda: group["betas"][1],
            eps=item(group, "eps"),
            weight_decay=item(group, "weight_decay"),
            correction1=lambda: 1 - group["betas"][0] ** (clock.count + 1),
            correction2=lambda: 1 - group["betas"][1] ** (clock.count + 1),
        )
        return True


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019).

    p <- p - lr weight_decay p, and then Adam's step without its weight decay: the decay does not pass through the
    moments.

    Args:
        params, lr, betas, eps, amsgrad: as for Adam.
        weight_decay: the part of each parameter, times lr, that a step takes away.
    """

    _decoupled = True

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad)
