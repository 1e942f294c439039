"""The Trainer: models are trained in planned steps, evaluated, and asked for predictions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..data.transforms import as_transform
from ..io import save
from ..nn import Module
from ..optim import Optimizer
from ..planner.profile import Profile, measured
from ..planner.random import using
from . import checkpoint
from .batches import (
    PREDICT_BATCH,
    ArrayBatches,
    IterableBatches,
    Rows,
    batches_of,
    checked_size,
    split,
    validation_of,
)
from .callbacks import Callbacks, History
from .fitting import Fit
from .interrupt import Interruptible
from .progress import level
from .steps import Steps, in_mode
from .weights import ClassWeights, check_loss


class Trainer(Steps):
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
        initial_epoch: the epoch that the last `fit` started with, from 0; it went on from a checkpoint if above 0.
        history: the History of the last `fit`, also of one that was interrupted.

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
        super().__init__(model, optimizer, loss, regularizers, metrics, seed, clip_norm, accumulate)
        self.stop_training = False
        self.epochs_done = 0
        self.initial_epoch = 0
        self.history = History()
        self._fit: Fit | None = None

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
        resume: str | os.PathLike[str] | None = None,
    ) -> History:
        """Trains for some epochs.

        Args:
            x: samples, (n, ...); or, without `y`, an iterable that gives batches (x, y) or (x, y, sample_weight) anew
                for each epoch, which then decides on their size and order.
            y: targets, (n, ...); integers of any dtype become int64, floating values the dtype of the output.
            batch_size: samples of a step; the last step of an epoch may have fewer.
            epochs: passes over the data.
            verbose: 0 for silence, 2 for a line for each epoch, 1 for a progress bar too; "auto" is 1 on a terminal,
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
            resume: a checkpoint, see `save_checkpoint`, of a `fit` with the same arguments, from where this one goes
                on: weights, callbacks and history are to the bit what they would be without the interruption. `epochs`
                counts those before it too. Callbacks of the same classes take over the states.

        With weights, the loss of a batch is 1/D Σ s_i l_i, where D is what the loss divides by without them: the number
        of its elements (so that all weights times 2 make the loss twice as large), for cross-entropy of class indices
        with a weight or ignored targets Σ w_t over the others; no 1/D for reduction "sum". Metrics are not weighted.

        Returns:
            A History: `history["loss"]` is the mean over each epoch's samples, as the model was when it met them;
            `history["val_loss"]` and `history["val_accuracy"]` are of the end of the epoch.

        The model is in training mode meanwhile (frozen parts stay frozen), and in its former mode afterwards. Ctrl-C
        raises its KeyboardInterrupt after the step in progress; `self.history` has the epochs so far, and
        `save_checkpoint` still knows where the training stood.
        """
        verbosity = level(verbose)
        if not isinstance(shuffle, (bool, np.bool_)):
            raise TypeError(f"fit: expected shuffle to be True or False, got {shuffle!r}")
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
        if any(True for _ in self.model.parameters()) and not self._trainable():
            raise ValueError(
                "fit: expected parameters to train, but all of the model are frozen; see model.unfreeze()"
            )
        transform = None if augment is None else as_transform(augment, "fit: augment")
        batches = batches_of(x, y, batch_size, sample_weight, "fit")
        validation = None if validation_data is None else validation_of(validation_data, batch_size)
        given = () if callbacks is None else callbacks if isinstance(callbacks, Iterable) else (callbacks,)
        calls = Callbacks(given, self)
        fit = Fit(self, batches, validation, int(epochs), shuffle, weigh, transform, calls, verbosity)
        self.stop_training = False
        self.initial_epoch = 0
        self._pending.clear()  # of steps that an error ended
        resume = calls.checkpoint() if resume is None else resume
        if resume is not None:
            fit.resume(checkpoint.read(resume))
        self._fit, self.history = fit, fit.history
        return fit.run()

    def profile(self, x: Any, y: Any, steps: int = 10) -> Profile:
        """Where the time of a training step goes: calls, milliseconds, share, GFLOP/s and GB/s of each op and pass.

        Args:
            x, y: a batch, as for `train_step`.
            steps: how many steps are timed, after a first one that is not; each time is the median over them.

        These are real steps: they train the model, except with accumulate > 1, where they end with the gradients. The
        threads wait for each other twice behind each op, so that it can be timed: some microseconds an op.

        Returns:
            A Profile. `print(trainer.profile(x, y))` shows a line for each op and pass; `profile.nodes` has the single
            ones.
        """
        steps = checked_size(steps, "steps")
        entry, arrays = self._planned(np.asarray(x), np.asarray(y))
        with using(self.generator):
            return measured(entry.plan, arrays, steps)

    # Checkpoints.

    def save_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Writes all that `fit(..., resume=path)` needs to go on as if it had never been interrupted.

        These are the model's `state_dict`, the optimizer's (momenta, step counts, options of the groups), seeds and
        counters of the random numbers, and of the last `fit`, in progress or not: its place, its history, and the
        states of callbacks (schedules among them) and of batch loaders that have `state_dict()` and
        `load_state_dict(state)`. What your program builds (layers, loss, data, what is frozen) it must build again.

        The callbacks `ModelCheckpoint(..., save_weights_only=False)` and `BackupAndRestore` call it at the right
        time. One of your own calls it from `on_checkpoint`, when all others have seen the step or the epoch.

        Args:
            path: a safetensors file, written as `cnnmath.save` does it; `cnnmath.load(path)["model"]` has the weights.

        Raises RuntimeError where a step was begun and not ended, OSError that names the file where it cannot be
        written.
        """
        save(checkpoint.gathered(self, self._fit), path)

    def load_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Takes over model, optimizer, random numbers, `epochs_done` and `history` of a checkpoint.

        A `fit` that follows is a new one: its callbacks start anew. To go on with the one that was interrupted, use
        `fit(..., resume=path)`.

        Raises ValueError where the file is no checkpoint, or one of another model or optimizer; nothing is changed
        then.
        """
        state = checkpoint.read(path)
        checkpoint.restore(self, state)
        checkpoint.restore_random(self, state)
        self.history, self._fit = checkpoint.history_of(state), None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_fit": None}  # with callbacks and data, which are not the trainer's

    # Evaluation.

    def evaluate(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = PREDICT_BATCH,
        *,
        sample_weight: Any = None,
        verbose: Any = 0,
    ) -> dict[str, Any]:
        """Loss and metrics in evaluation mode, over all samples: {"loss": ..., "accuracy": ...}.

        Args:
            x, y: samples and targets; or, without `y`, an iterable of batches (x, y).
            batch_size: samples computed at once.
            sample_weight: weights of the samples in the loss, as for `fit`.
            verbose: as for `fit`; nothing is shown in any case.
        """
        level(verbose)
        return self._evaluate(batches_of(x, y, batch_size, sample_weight, "evaluate"))

    def _evaluate(
        self, batches: ArrayBatches | IterableBatches, interrupts: Interruptible | None = None
    ) -> dict[str, Any]:
        for metric in self.metrics:
            metric.reset()
        sum_of_losses, count = 0.0, 0
        with in_mode(self.model, False):
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

    def predict(self, x: Any, batch_size: int = PREDICT_BATCH, *, verbose: Any = 0) -> np.ndarray:
        """The model's outputs in evaluation mode.

        Args:
            x: samples, (n, ...).
            batch_size: samples computed at once; it changes no more than the rounding.
            verbose: as for `fit`; nothing is shown in any case.
        """
        level(verbose)
        rows, batch_size = Rows(x, "x"), checked_size(batch_size)
        with in_mode(self.model, False), using(self.generator):
            starts = range(0, max(len(rows), 1), batch_size)
            parts = [self.model(rows.rows(slice(start, start + batch_size))) for start in starts]
        if rows.physical.ndim == 3 and np.shape(parts[0])[:1] != (min(batch_size, len(rows)),):
            raise ValueError(
                f"predict: x {rows.physical.shape} was read as one image (C, H, W), so that the output has shape "
                f"{np.shape(parts[0])}; add the channels: x[:, None], or the samples: x[None]"
            )
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def __repr__(self) -> str:
        return f"Trainer({type(self.model).__name__}, {type(self.optimizer).__name__}, {self.loss!r})"
