"""The Trainer: models are trained in planned steps, evaluated, and asked for predictions."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import metrics as known_metrics
from ..data.transforms import Transform, as_transform
from ..graph.autodiff import differentiate
from ..graph.ir import Tensor, attribute
from ..nn import Module, Parameter
from ..optim import Optimizer, clip_grad_norm
from ..optim.clip import clipped
from ..planner import eager
from ..planner.plan import Plan
from ..planner.random import Generator, generator, using
from .accumulate import Accumulator
from .batches import ArrayBatches, Batch, IterableBatches, Rows, checked_size, shuffled, split
from .callbacks import Callbacks, History
from .interrupt import Interruptible
from .progress import Progress, level
from .weights import ClassWeights, check_loss, divided, weighted_loss

PREDICT_BATCH = 256


class Trainer:
    """Trains a model.

    A step (forward, loss, penalties, gradients, update) is one planned program. It computes the same bits as the manual
    loop, `loss, grads = cnnmath.value_and_grad(fn, model)(x, y); optimizer.step(grads)`, and the same on any number of
    threads.

    Args:
        model: a Module.
        optimizer: with the model's parameters, such as `cnnmath.optim.Adam(model)`.
        loss: a function of the model's output and the target that gives one number, such as
            `cnnmath.losses.CrossEntropyLoss()`.
        regularizers: penalties on the model, from `cnnmath.regularizers`; they are added to the loss, in training
            and evaluation.
        metrics: names ("accuracy", "top5", "mse", "mae") or objects with `name`, `reset()`, `update(output, target)`
            and `compute()`, see `cnnmath.metrics`.
        seed: of dropout and shuffling, instead of `cnnmath.manual_seed`; None for that.
        clip_norm: the highest norm of all gradients together, see `cnnmath.optim.clip_grad_norm`, whose bits a step
            has; None for no limit. It may be assigned to at any time.
        accumulate: how many batches' gradients are averaged for an update, g = Σ_j n_j g_j / Σ_j n_j with n_j samples
            in batch j: to rounding, a step on one batch of them all, where the loss is a mean over samples and no
            BatchNorm looks at the batch. `fit` makes the last update of an epoch with the batches that are left.
            The update is then a program of its own, beside that of the gradients.

    Attributes:
        stop_training: set it from a callback to end `fit`: after the epoch, or, from a hook of a step, after the step;
            the epoch is then closed as any other.
        epochs_done: how many epochs were trained, in all calls of `fit`; the shuffling goes on from there.

    >>> import numpy as np, cnnmath
    >>> from cnnmath import nn
    >>> cnnmath.manual_seed(0)
    >>> model = nn.Linear(1, 1)
    >>> trainer = cnnmath.Trainer(model, cnnmath.optim.SGD(model, lr=0.5), cnnmath.losses.MSELoss())
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> history = trainer.fit(x, 3 * x + 1, epochs=20, verbose=0)
    >>> trainer.predict(np.array([[2.0]], np.float32)).round(2).tolist()
    [[7.0]]
    """

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
        self.stop_training = False
        self.epochs_done = 0
        self._plans = eager.PlanCache(most=64)

    # One step.

    def train_step(self, x: Any, y: Any) -> float:
        """One step on a batch, in the model's present modes: gives its loss, penalties included.

        With accumulate=k every k-th call updates the model.

        Args:
            x: the input of the model.
            y: the target, as the loss wants it; integers of any dtype become int64.
        """
        return self._train_step(np.asarray(x), np.asarray(y))[0]

    def plan(self, x: Any, y: Any) -> Plan:
        """The plan of a training step on such a batch; `memory` (bytes) and `graph` tell about it. Nothing is run.

        With accumulate > 1 it ends with the gradients.
        """
        step = self._training if self.accumulate == 1 else self._gradients
        entry, _ = self._find(step, np.asarray(x), np.asarray(y))
        return entry.plan

    def _train_step(self, *batch: np.ndarray) -> tuple[float, Any]:
        entry, arrays = self._find(self._training if self.accumulate == 1 else self._gradients, *batch)
        with using(self.generator):
            loss, output, *grads = entry.form(entry.plan(*arrays))
        if self.accumulate > 1:
            self._pending.add(self._trainable(), grads[0], len(batch[0]))
            if self._pending.batches >= self.accumulate:
                self._update()
        return float(loss), output

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
        zeros = (np.zeros(t.shape, t.dtype) for t in targets)
        grads = tuple(graph.constant(z) if g is None else g for g, z in zip(found, zeros))
        return loss, output if self.metrics else None, grads

    def _training(self, *batch: Tensor) -> tuple[Tensor, Any]:
        """A step on a batch, with the update of the parameters."""
        loss, output, grads = self._gradients(*batch)
        if self.clip_norm is not None and grads:
            grads = tuple(clipped(grads, attribute(self, "clip_norm").read))
        self.optimizer.update(loss.graph, dict(zip(self._trainable(), grads)))
        return loss, output

    # Training.

    def fit(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 32,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = (),
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Any = None,
        sample_weight: Any = None,
        augment: Any = None,
    ) -> History:
        """Trains for some epochs.

        Args:
            x: samples, (n, ...); or, without `y`, an iterable that gives batches (x, y) or (x, y, sample_weight) anew
                for each epoch, which then decides on their size and order.
            y: targets, (n, ...); integers of any dtype become int64.
            batch_size: samples of a step; the last step of an epoch may have fewer.
            epochs: passes over the data.
            verbose: 0 for silence, 1 for a progress bar, 2 for a line for each epoch; "auto" is 1 on a terminal,
                else 2.
            callbacks: those of `cnnmath.callbacks`, or objects (or one) with methods of its `Callback`. A schedule of
                `cnnmath.optim.schedules` is one: it steps at the end of each epoch, OneCycleLR of each step (its
                `interval` tells).
            validation_split: the part of the data, from its end, that is kept for validation.
            validation_data: (x, y), (x, y, sample_weight), or an iterable of batches, for validation after each epoch.
            shuffle: whether each epoch has an order of its own, by the seed and the number of the epoch.
            class_weight: a dict from class indices to weights s_i of the samples of that class in the loss of training;
                classes without one have 1. Of targets that are probabilities the likeliest class counts.
            sample_weight: weights s_i, (n,), or of the shape of the single losses; not together with class_weight.
                validation_split splits them too.
            augment: a transform of the training images, such as `cnnmath.data.RandomCrop`, or a function of a batch of
                samples. The draws of sample i depend on the seed, the number of the epoch and i alone; the samples of
                an iterable are numbered as they come. Validation is never augmented.

        With weights, the loss of a batch is 1/D Σ s_i l_i, where D is what the loss divides by without them: the number
        of its elements (so that all weights times 2 make the loss twice as large), for cross-entropy of class indices
        with a weight or ignored targets Σ w_t over the others; no 1/D for reduction "sum". Metrics are not weighted.

        Returns:
            A History: `history["loss"]` is the mean over each epoch's samples, as the model was when it met them;
            `history["val_loss"]` and `history["val_accuracy"]` are of the end of the epoch.

        The model is in training mode meanwhile (frozen parts stay frozen), and in its former mode afterwards. Ctrl-C
        ends the training between two steps.
        """
        verbosity = level(verbose)
        if isinstance(epochs, bool) or not isinstance(epochs, (int, np.integer)) or epochs < 0:
            raise ValueError(f"fit: expected epochs to be an int of at least 0, got {epochs!r}")
        if validation_split:
            if validation_data is not None:
                raise ValueError("fit: expected validation_split or validation_data, not both")
            if y is None:
                raise ValueError("fit: validation_split needs arrays x and y")
            arrays = (x, y) if sample_weight is None else (x, y, sample_weight)
            for_training, validation_data = split(arrays, validation_split)
            x, y, sample_weight = (*for_training, None)[:3]
        if class_weight is not None or sample_weight is not None:
            check_loss(self.loss)
        weigh = None
        if class_weight is not None:
            if sample_weight is not None:
                raise ValueError("fit: expected class_weight or sample_weight, not both")
            weigh = ClassWeights(class_weight)
        transform = None if augment is None else as_transform(augment, "fit: augment")
        batches = _batches(x, y, batch_size, sample_weight, "fit")
        total = len(batches) if isinstance(batches, ArrayBatches) else batches.count
        validation = None if validation_data is None else _validation(validation_data, batch_size)
        history = History()
        several = isinstance(callbacks, Iterable)
        calls = Callbacks([*(callbacks if several else (callbacks,)), history], self)
        self.stop_training = False
        self._pending.clear()  # of steps that an error ended
        with _mode(self.model, True), Interruptible() as interrupts:
            calls("on_train_begin", {})
            logs: dict[str, Any] = {}
            for epoch in range(epochs):
                calls("on_epoch_begin", epoch, {})
                progress = Progress(verbosity, epoch, epochs, total)
                try:
                    ordered = self._order(batches, shuffle, weigh, transform)
                    logs = self._epoch(ordered, calls, progress, interrupts)
                    if validation is not None:
                        logs.update(
                            {f"val_{k}": v for k, v in self._evaluate(validation, interrupts).items()}
                        )
                    progress.end(logs)
                finally:
                    progress.close()
                self.epochs_done += 1
                calls("on_epoch_end", epoch, logs)
                interrupts.check()
                if self.stop_training:
                    break
            calls("on_train_end", logs)
        return history

    def _order(
        self,
        batches: ArrayBatches | IterableBatches,
        shuffle: bool,
        weigh: ClassWeights | None,
        augment: Transform | None,
    ) -> Iterator[Batch]:
        key = ((self.generator or generator).seed, self.epochs_done)
        if isinstance(batches, ArrayBatches):
            order = shuffled(len(batches.x), *key) if shuffle else None
            ordered = batches.ordered(order, augment, key)
        else:
            ordered = iter(batches) if augment is None else batches.augmented(augment, key)
        for batch in ordered:
            if weigh is None:
                yield batch
            elif len(batch) == 3:
                raise ValueError("fit: class_weight, but the batches have weights already")
            else:
                yield *batch, weigh(batch[1])

    def _epoch(
        self, batches: Iterator[Batch], calls: Callbacks, progress: Progress, interrupts: Interruptible
    ) -> dict[str, Any]:
        for metric in self.metrics:
            metric.reset()
        sum_of_losses, count = 0.0, 0
        begin, end = calls.wants("on_train_batch_begin"), calls.wants("on_train_batch_end")
        for number, batch in enumerate(batches):
            x, y = batch[:2]
            if begin:
                calls("on_train_batch_begin", number, {})
            loss, output = self._train_step(*batch)
            sum_of_losses += loss * len(x)
            count += len(x)
            for metric in self.metrics:
                metric.update(output, y)
            if end:
                calls("on_train_batch_end", number, {"loss": loss})
            if progress.due:
                progress.show(self._logs(sum_of_losses / count))
            interrupts.check()
            if self.stop_training:
                break
        if self._pending.batches:
            self._update()
        if count == 0:
            raise ValueError("fit: the data gave no samples; an iterable must start anew for each epoch")
        return self._logs(sum_of_losses / count)

    def _logs(self, loss: float) -> dict[str, Any]:
        return {"loss": loss, **{m.name: m.compute() for m in self.metrics}}

    # Evaluation.

    def evaluate(
        self, x: Any, y: Any = None, batch_size: int = PREDICT_BATCH, *, sample_weight: Any = None
    ) -> dict[str, Any]:
        """Loss and metrics in evaluation mode, over all samples: {"loss": ..., "accuracy": ...}.

        Args:
            x, y: samples and targets; or, without `y`, an iterable of batches (x, y).
            batch_size: samples computed at once.
            sample_weight: weights of the samples in the loss, as for `fit`.
        """
        return self._evaluate(_batches(x, y, batch_size, sample_weight, "evaluate"))

    def _evaluate(
        self, batches: ArrayBatches | IterableBatches, interrupts: Interruptible | None = None
    ) -> dict[str, Any]:
        for metric in self.metrics:
            metric.reset()
        sum_of_losses, count = 0.0, 0
        with _mode(self.model, False):
            for batch in batches:
                x, y = batch[:2]
                entry, arrays = self._find(self._objective, *batch)
                with using(self.generator):
                    loss, output = entry.form(entry.plan(*arrays))
                sum_of_losses += float(loss) * len(x)
                count += len(x)
                for metric in self.metrics:
                    metric.update(output, y)
                if interrupts is not None:
                    interrupts.check()
        if count == 0:
            raise ValueError("evaluate: the data gave no samples")
        penalty = sum(float(regularizer(self.model)) for regularizer in self.regularizers)
        return self._logs(sum_of_losses / count + penalty)

    def predict(self, x: Any, batch_size: int = PREDICT_BATCH) -> np.ndarray:
        """The model's outputs in evaluation mode.

        Args:
            x: samples, (n, ...).
            batch_size: samples computed at once; it changes no more than the rounding.
        """
        rows, batch_size = Rows(x, "x"), checked_size(batch_size)
        with _mode(self.model, False), using(self.generator):
            starts = range(0, max(len(rows), 1), batch_size)
            parts = [self.model(rows.rows(slice(start, start + batch_size))) for start in starts]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def __repr__(self) -> str:
        return f"Trainer({type(self.model).__name__}, {type(self.optimizer).__name__}, {self.loss!r})"


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


def _iterable(batches: Any, op: str) -> IterableBatches:
    if isinstance(batches, np.ndarray) or not isinstance(batches, Iterable):
        raise TypeError(f"{op}: expected targets y, or an iterable of batches (x, y) without y")
    return IterableBatches(batches)


def _batches(x: Any, y: Any, batch_size: int, weights: Any, op: str) -> ArrayBatches | IterableBatches:
    if y is not None:
        return ArrayBatches(x, y, batch_size, weights)
    if weights is not None:
        raise ValueError(f"{op}: an iterable gives weights as third arrays of its batches, not sample_weight")
    return _iterable(x, op)


def _validation(data: Any, batch_size: int) -> ArrayBatches | IterableBatches:
    arrays = isinstance(data, list) and all(
        isinstance(part, np.ndarray) for part in data
    )  # not a list of batches
    if (arrays or isinstance(data, tuple)) and len(data) in (2, 3):
        x, y, weights = (*data, None)[:3]
        return ArrayBatches(x, y, max(batch_size, PREDICT_BATCH), weights)
    return _iterable(data, "fit: validation_data")


@contextmanager
def _mode(model: Module, training: bool) -> Iterator[None]:
    """The model in training or evaluation mode, and then as it was, module by module."""
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, was in before:
            module.training = was
