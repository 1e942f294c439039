"""One step of training, planned: forward, loss, penalties, gradients, update."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import metrics as known_metrics
from ..functional._moves import cast
from ..graph.autodiff import differentiate
from ..graph.ir import Tensor, attribute
from ..nn import Module, Parameter
from ..optim import Optimizer, clip_grad_norm
from ..optim.clip import clipped
from ..planner import eager
from ..planner.plan import Plan
from ..planner.random import Generator, using
from .accumulate import Accumulator
from .weights import check_loss, divided, weighted_loss


class Steps:
    """The part of a Trainer that does a step; its arguments are told there."""

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        loss: Callable[[Any, Any], Any],
        regularizers: Any = (),
        metrics: Any = (),
        seed: int | None = None,
        clip_norm: float | None = None,
        accumulate: int = 1,
    ) -> None:
        if not isinstance(model, Module):
            raise TypeError(f"Trainer: expected a Module as model, got {type(model).__name__}")
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"Trainer: expected an Optimizer, got {type(optimizer).__name__}")
        if not callable(loss) or isinstance(loss, type):
            raise TypeError(f"Trainer: expected a loss, a function of output and target, got {loss!r}")
        own = set(model.parameters())
        if own and not any(p in own for group in optimizer.param_groups for p in group["params"]):
            raise ValueError(
                "Trainer: the optimizer has no parameter of the model; was it made for another one?"
            )
        self.model = model
        self.optimizer = optimizer
        self.loss = loss
        self.regularizers = (regularizers,) if callable(regularizers) else tuple(regularizers)
        for regularizer in self.regularizers:
            if not callable(regularizer) or isinstance(regularizer, type):
                raise TypeError(
                    f"Trainer: expected regularizers, functions of the model, got {regularizer!r}"
                )
        single = isinstance(metrics, str) or hasattr(metrics, "update")
        self.metrics = [_metric(m) for m in ([metrics] if single else metrics)]
        names = ["loss", *(m.name for m in self.metrics)]
        if len(set(names)) != len(names):
            raise ValueError(f"Trainer: expected metrics of distinct names, got {names[1:]}")
        self.seed = seed
        self.generator = None if seed is None else Generator(seed)
        if clip_norm is not None and not (isinstance(clip_norm, (int, float, np.number)) and clip_norm >= 0):
            raise ValueError(f"Trainer: expected clip_norm of at least 0 or None, got {clip_norm!r}")
        self.clip_norm = clip_norm
        if isinstance(accumulate, bool) or not isinstance(accumulate, (int, np.integer)) or accumulate < 1:
            raise ValueError(f"Trainer: expected accumulate to be an int of at least 1, got {accumulate!r}")
        self.accumulate = int(accumulate)
        self._pending = Accumulator()
        self._plans = eager.PlanCache(most=64)

    def train_step(self, x: Any, y: Any) -> float:
        """One step on a batch, in the model's present modes: gives its loss, penalties included.

        With accumulate=k every k-th call updates the model.

        Args:
            x: the input of the model.
            y: the target, as the loss wants it; integers of any dtype become int64, floating values the output's dtype.
        """
        return self._train_step(np.asarray(x), np.asarray(y))[0]

    def plan(self, x: Any, y: Any) -> Plan:
        """The plan of a training step on such a batch; `memory` (bytes) and `graph` tell about it. Nothing is run.

        With accumulate > 1 it ends with the gradients.
        """
        return self._planned(np.asarray(x), np.asarray(y))[0].plan

    def _train_step(self, *batch: np.ndarray) -> tuple[float, Any]:
        entry, arrays = self._planned(*batch)
        with using(self.generator):
            loss, output, *grads = entry.form(entry.plan(*arrays))
        if self.accumulate > 1:
            self._pending.add(self._trainable(), grads[0], len(batch[0]))
            if self._pending.batches >= self.accumulate:
                self._update()
        return float(loss), output

    def _planned(self, *batch: np.ndarray) -> tuple[eager.Entry, list[np.ndarray]]:
        """The plan of a step on a batch, and the arrays to run it on."""
        return self._find(self._training if self.accumulate == 1 else self._gradients, *batch)

    def _update(self) -> None:
        """The update by the gradients of the batches since the last one."""
        grads = self._pending.take()
        if grads and self.clip_norm is not None:
            clip_grad_norm(grads.values(), self.clip_norm)
        self.optimizer.step(grads)

    def _trainable(self) -> list[Parameter]:
        return [p for p in self.model.parameters() if p.trainable]

    def _find(
        self, fn: Callable[..., Any], x: np.ndarray, y: np.ndarray, *weights: np.ndarray
    ) -> tuple[eager.Entry, list[np.ndarray]]:
        if y.dtype.kind in "iu":
            y = y.astype(np.int64, copy=False)  # labels come in all integer dtypes; losses take int64
        if weights:
            check_loss(self.loss)
            weights = (divided(self.loss, y, weights[0]),)
        parts = (self.model, self.optimizer, self.loss, self.regularizers)
        key: Hashable = (fn.__name__, *parts, bool(self.metrics), self.clip_norm is None)
        try:
            return eager.find(fn, (x, y, *weights), {}, key, self._plans)
        except eager.WrongArray as error:
            raise TypeError(f"Trainer: {error}") from None

    def _objective(self, x: Tensor, y: Tensor, *weights: Tensor) -> tuple[Tensor, Any]:
        """(loss of a batch, output of the model)."""
        output = self.model(x)
        if isinstance(output, Tensor) and output.ndim == y.ndim and output.dtype.kind == y.dtype.kind == "f":
            y = cast(y, output.dtype)  # probabilities and values, as NumPy makes them: float64
        if weights:
            return weighted_loss(self.loss, output, y, *weights), output
        loss = self.loss(output, y)
        if not isinstance(loss, Tensor) or loss.shape != ():
            raise ValueError(f"Trainer: expected a loss of one number (reduction mean or sum), got {loss!r}")
        return loss, output

    def _gradients(self, *batch: Tensor) -> tuple[Tensor, Any, tuple[Tensor, ...]]:
        """(loss of a batch with penalties, output for the metrics, gradients of the trainable parameters)."""
        loss, output = self._objective(*batch)
        for regularizer in self.regularizers:
            loss = loss + regularizer(self.model)
        graph = loss.graph
        for (
            module
        ) in self.model.modules():  # also those that the trace did not visit: their parameters may be frozen
            graph.depend(module)
        targets = [graph.variable(p) for p in self._trainable()]
        found = differentiate(graph, [loss], [graph.constant(1.0, loss.dtype)], targets)
        grads = tuple(
            graph.constant(np.zeros(t.shape, t.dtype)) if g is None else g for g, t in zip(found, targets)
        )
        return loss, output if self.metrics else None, grads

    def _training(self, *batch: Tensor) -> tuple[Tensor, Any]:
        """A step on a batch, with the update of the parameters."""
        loss, output, grads = self._gradients(*batch)
        if self.clip_norm is not None and grads:
            grads = tuple(clipped(grads, attribute(self, "clip_norm").read))
        self.optimizer.update(loss.graph, dict(zip(self._trainable(), grads)))
        return loss, output

    def _logs(self, loss: float) -> dict[str, Any]:
        return {"loss": loss, **{m.name: m.compute() for m in self.metrics}}


def _metric(metric: Any) -> Any:
    if isinstance(metric, str):
        return known_metrics.by_name(metric)
    if isinstance(metric, type) or not all(
        hasattr(metric, a) for a in ("name", "reset", "update", "compute")
    ):
        raise TypeError(
            f"Trainer: expected metrics by name, or objects with name, reset, update and compute, got {metric!r}"
        )
    return metric


@contextmanager
def in_mode(model: Module, training: bool) -> Iterator[None]:
    """The model in training or evaluation mode, and then as it was, module by module."""
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, was in before:
            module.training = was
