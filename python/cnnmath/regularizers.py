"""Regularizers: penalties on large weights, added to the loss.

By default the penalty is over the weights: trainable parameters of two or more dims, neither biases nor the scales and
shifts of BatchNorm. `params` chooses others: a list of names and Parameters, or a predicate
`params(name, parameter) -> bool`. Frozen parameters are left out, shared ones count once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from numbers import Real
from typing import Any

import numpy as np

from .functional.reductions import sum_abs, sum_squares
from .graph.ir import Cell, Tensor, as_tensor, current_graph
from .nn import Module, Parameter
from .planner import eager


def is_weight(name: str, parameter: Parameter) -> bool:
    """Whether a parameter is regularized by default."""
    return parameter.ndim >= 2 and name.rpartition(".")[2] != "bias"


class _Penalty:
    """strength * sum of f(w) over parameters.

    Args:
        strength: the factor, not negative; read at each run, so that it may be assigned to at any time.
        params: which parameters, see the module.
    """

    def __init__(
        self,
        strength: float,
        params: Iterable[str | Parameter] | Callable[[str, Parameter], bool] | None = None,
    ) -> None:
        self.strength = strength
        self.params = params if params is None or callable(params) else list(params)
        self._strength()
        for p in self.params if isinstance(self.params, list) else ():
            if not isinstance(p, (str, Parameter)):
                raise TypeError(
                    f"{type(self).__name__}: params expects names and Parameters, got {type(p).__name__}"
                )

    def _strength(self) -> float:
        if not isinstance(self.strength, (Real, np.ndarray)):
            raise TypeError(f"{type(self).__name__}: strength expects a number, got {self.strength!r}")
        if not self.strength >= 0:
            raise ValueError(
                f"{type(self).__name__}: strength expects a number not below 0, got {self.strength}"
            )
        return float(self.strength)

    def parameters(self, model: Module) -> list[Parameter]:
        """The parameters of `model` that are penalized."""
        if isinstance(self.params, list):
            named = dict(model.named_parameters(remove_duplicate=False))
            unknown = [p for p in self.params if isinstance(p, str) and p not in named]
            if unknown:
                raise ValueError(
                    f"{type(self).__name__}: the model has no parameters {', '.join(unknown)}; "
                    f"it has {', '.join(named)}"
                )
            chosen = [named[p] if isinstance(p, str) else p for p in self.params]
        else:
            select = self.params or is_weight
            chosen = [p for name, p in model.named_parameters() if select(name, p)]
        return [p for p in dict.fromkeys(chosen) if p.trainable]

    def _term(self, weight: Tensor, strength: Cell) -> Tensor:
        raise NotImplementedError

    def plan_key(self) -> Hashable:
        """What a plan that contains the penalty depends on: all but the strength."""
        if not isinstance(self.params, list):
            return self.params
        return tuple((p, getattr(p, "trainable", None)) for p in self.params)

    def __call__(self, model: Module) -> Any:
        """The penalty of a model: a number, or inside a traced function a tensor of shape ()."""
        graph = current_graph()
        if graph is None:
            return eager.call(self, (model,), {}, key=self, cache=model._plans)
        graph.depend(self)
        for module in model.modules():
            graph.depend(module)
        strength = Cell(self._strength)
        total: Any = None
        for parameter in self.parameters(model):
            term = self._term(as_tensor(parameter), strength)
            total = term if total is None else total + term
        if total is None:
            dtype = next((p.dtype for p in model.parameters()), "float32")
            return graph.constant(0.0, dtype)
        return total

    def __repr__(self) -> str:
        params = "" if self.params is None else f", params={self.params!r}"
        return f"{type(self).__name__}({self.strength}{params})"


class L1(_Penalty):
    """strength * Σ |w|, with the gradient strength * sign(w): drives weights to exactly 0.

    >>> from cnnmath import nn
    >>> from cnnmath.regularizers import L1
    >>> layer = nn.Linear(2, 1)
    >>> layer.weight[...] = [[3.0, -1.0]]
    >>> float(L1(0.5)(layer))
    2.0
    """

    def _term(self, weight: Tensor, strength: Cell) -> Tensor:
        return sum_abs(weight, strength)


class L2(_Penalty):
    """strength * Σ w², with the gradient 2 strength w: as SGD's weight_decay = 2 * strength.

    >>> from cnnmath import nn
    >>> from cnnmath.regularizers import L2
    >>> layer = nn.Linear(2, 1)
    >>> layer.weight[...] = [[3.0, -1.0]]
    >>> float(L2(0.5)(layer))
    5.0
    """

    def _term(self, weight: Tensor, strength: Cell) -> Tensor:
        return sum_squares(weight, strength)


__all__ = ["L1", "L2", "is_weight"]
