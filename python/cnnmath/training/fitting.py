"""The loop of `Trainer.fit`, and where it stands: after so many epochs, and so many steps of the next one."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..data.transforms import Transform
from ..planner.random import generator, shuffled
from . import checkpoint
from .batches import ArrayBatches, Batch, IterableBatches, naming
from .callbacks import Callbacks, History
from .checks import check_training, check_validation
from .interrupt import Interruptible
from .progress import Progress
from .steps import in_mode
from .weights import ClassWeights

if TYPE_CHECKING:
    from .trainer import Trainer


class Fit:
    """One call of `Trainer.fit`.

    Attributes:
        history: the numbers of the epochs.
        epoch: how many epochs are over.
        step: how many steps of the next one are done.
        beyond: whether the checkpoint that it goes on from is further than it is to train.
    """

    def __init__(
        self,
        trainer: Trainer,
        batches: ArrayBatches | IterableBatches,
        validation: ArrayBatches | IterableBatches | None,
        epochs: int,
        shuffle: bool,
        weigh: ClassWeights | None,
        augment: Transform | None,
        calls: Callbacks,
        verbosity: int,
    ) -> None:
        self.trainer, self.calls, self.history = trainer, calls, calls.history
        self._batches: ArrayBatches | IterableBatches | None = batches
        self._validation, self._count = validation, batches.count
        self._epochs, self._shuffle, self._verbosity = epochs, shuffle, verbosity
        self._weigh, self._augment = weigh, augment
        self._saved: dict[str, Any] | None = None  # a checkpoint to go on from
        self.epoch = self.step = 0
        self.beyond = False
        self._begun = False  # whether the epoch is in progress
        self._loaders: list[Any] = []  # as they were when it began
        self._sum_of_losses, self._samples = 0.0, 0
        self._logs: dict[str, Any] | None = None  # its numbers, when its steps are over
        self._between = True  # states, not within a step
        self._checked = self._told = False  # the data, and that the loss is NaN

    def resume(self, saved: dict[str, Any]) -> None:
        """Goes on from a checkpoint. Raises ValueError where it is none of such a fit, with nothing changed."""
        trainer, place = self.trainer, saved["fit"]
        if place is not None:
            self.calls.owners(place["callbacks"])
            if place["begun"] and place["count"] != self._count:
                raise ValueError(
                    f"fit: {saved['path']} was saved within an epoch of {place['count']} batches: "
                    f"expected as many, got {self._count}"
                )
        checkpoint.restore(trainer, saved)
        checkpoint.restore_random(trainer, saved)
        self._saved = saved
        if place is None:
            return
        self.epoch = trainer.initial_epoch = place["epoch"]
        self.step, self._begun, self._logs = place["step"], place["begun"], place["logs"]
        self._sum_of_losses, self._samples = place["sum_of_losses"], place["samples"]
        self._loaders = place["loaders"]
        trainer.stop_training = place["stop"]
        self.beyond = self.epoch + (self.step > 0) > self._epochs
        if self.beyond:
            warnings.warn(
                f"fit: {saved['path']} is at epoch {self.epoch} already, so that nothing is trained with "
                f"epochs={self._epochs}; epochs counts those before it, too",
                stacklevel=3,
            )
        for part, state in zip((self._batches, self._validation), self._loaders):
            if isinstance(part, IterableBatches):
                part.load_state_dict(state)

    def state_dict(self) -> dict[str, Any]:
        """Where it stands, for `resume`."""
        if not self._between:
            raise RuntimeError(
                "save_checkpoint: the last step was begun, but not ended; the checkpoint before holds"
            )
        if self.calls.waiting:
            raise RuntimeError(
                f"save_checkpoint: {', '.join(self.calls.waiting)} is to see the step or the epoch that ends now; "
                f"call it from on_checkpoint"
            )
        unfinished = self._begun and self._logs is None
        return {
            "epoch": self.epoch,
            "step": self.step,
            "begun": self._begun,
            "count": self._count,
            "stop": self.trainer.stop_training,
            "sum_of_losses": self._sum_of_losses,
            "samples": self._samples,
            "logs": self._logs,
            "metrics": [checkpoint.state_of(m) for m in self.trainer.metrics] if unfinished else None,
            "loaders": self._loaders if self._begun else self._now(),
            "callbacks": self.calls.states(),
        }

    def _now(self) -> list[Any]:
        if self._batches is None:
            return self._loaders
        parts = (self._batches, self._validation)
        return [part.state_dict() if isinstance(part, IterableBatches) else None for part in parts]

    # The loop.

    def run(self) -> History:
        """Trains to the last epoch; gives the history."""
        trainer = self.trainer
        over = self.epoch >= self._epochs or (not self._begun and trainer.stop_training)
        try:
            if self._validation is not None and not over:
                check_validation(trainer, self._validation)
            with in_mode(trainer.model, True), Interruptible() as interrupts:
                self.calls("on_train_begin", {})
                if not self._begun:
                    self._restore()
                logs = {name: values[-1] for name, values in self.history.history.items()}
                while not over:
                    logs = self._run_epoch(interrupts)
                    over = self.epoch >= self._epochs or trainer.stop_training
                self.calls("on_train_end", logs)
        finally:
            # What stays for `save_checkpoint` is not the data.
            self._loaders = self._loaders if self._begun else self._now()
            self._batches = self._validation = None
        return self.history

    def _restore(self) -> None:
        """The end of `resume`, after hooks and batches that come before it."""
        saved, self._saved = self._saved, None
        if saved is None:
            return
        if saved["fit"] is not None:
            states = saved["fit"]["callbacks"]
            for owner, entry in zip(self.calls.owners(states), states):
                owner.load_state_dict(entry["state"])
            for metric, state in zip(self.trainer.metrics, saved["fit"]["metrics"] or ()):
                checkpoint.restore_state(metric, state)
        checkpoint.restore_random(self.trainer, saved)

    def _run_epoch(self, interrupts: Interruptible) -> dict[str, Any]:
        trainer, epoch = self.trainer, self.epoch
        self.calls("on_epoch_begin", epoch, {})
        if not self._begun:
            self._loaders = self._now()
            self.step, self._sum_of_losses, self._samples, self._logs = 0, 0.0, 0, None
            for metric in trainer.metrics:
                metric.reset()
            self._begun = True
        progress = Progress(self._verbosity, epoch, self._epochs, self._count, self.step)
        try:
            if self._logs is None:
                batches = self._ordered()
                self._restore()
                self._steps(batches, progress, interrupts)
            self._restore()
            logs = dict(self._logs or {})
            if self._validation is not None:
                with naming("validation_data"):
                    found = trainer._evaluate(self._validation, interrupts)
                logs.update({f"val_{name}": value for name, value in found.items()})
            progress.end(logs)
        finally:
            progress.close()
        self.epoch, self.step, self._begun, self._logs = epoch + 1, 0, False, None
        trainer.epochs_done += 1
        self.calls("on_epoch_end", epoch, logs)
        self.calls("on_checkpoint")
        interrupts.check()
        return logs

    def _ordered(self) -> Iterator[Batch]:
        """The batches of this epoch that are not done."""
        assert self._batches is not None
        key = ((self.trainer.generator or generator).seed, self.trainer.epochs_done)
        if isinstance(self._batches, ArrayBatches):
            order = shuffled(len(self._batches.x), *key) if self._shuffle else None
            return self._weighed(self._batches.ordered(order, self.step, self._augment, key))
        augment = self._augment
        found = iter(self._batches) if augment is None else self._batches.augmented(augment, key)
        for done in range(self.step):
            if next(found, None) is None:
                raise ValueError(f"fit: expected at least {self.step} batches, as before, got {done}")
        return self._weighed(found)

    def _weighed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            if self._weigh is None:
                yield batch
            elif len(batch) == 3:
                raise ValueError("fit: class_weight, but the batches have weights already")
            else:
                yield *batch, self._weigh(batch[1])

    def _steps(self, batches: Iterator[Batch], progress: Progress, interrupts: Interruptible) -> None:
        trainer, calls = self.trainer, self.calls
        begin, end, checkpoints = map(
            calls.wants, ("on_train_batch_begin", "on_train_batch_end", "on_checkpoint")
        )
        # A checkpoint may be of a step that ended the training.
        for batch in () if trainer.stop_training and self.step else batches:
            x, y = batch[:2]
            if not self._checked and self._batches is not None:
                self._checked = True
                check_training(trainer, self._batches, batch, self._weigh)
            if begin:
                calls("on_train_batch_begin", self.step, {})
            self._between = False
            loss, output = trainer._train_step(*batch)
            self._sum_of_losses += loss * len(x)
            self._samples += len(x)
            for metric in trainer.metrics:
                metric.update(output, y)
            self.step += 1
            self._between = True
            if end:
                calls("on_train_batch_end", self.step - 1, {"loss": loss})
            if checkpoints:
                calls("on_checkpoint")
            if progress.due:
                progress.show(trainer._logs(self._sum_of_losses / self._samples))
            interrupts.check()
            if trainer.stop_training:
                break
            if loss != loss and not self._told:
                self._told = True
                warnings.warn(
                    f"fit: the loss is NaN in step {self.step} of epoch {self.epoch + 1}: look for NaN in the data, or "
                    "take a smaller learning rate",
                    stacklevel=5,
                )
        self._between = False
        if trainer._pending.batches:
            trainer._update()
        if self._samples == 0:
            raise ValueError("fit: the data gave no samples; an iterable must start anew for each epoch")
        self._logs = trainer._logs(self._sum_of_losses / self._samples)
        self._between = True
