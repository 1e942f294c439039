"""What `cnnmath train` looks at while it trains: the time, and whether the numbers still are some."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from ..callbacks import Callback


class Diverged(ValueError):
    """A loss or a weight is not finite any more."""


class Watch(Callback):
    """Ends a training that diverges, before its weights replace those of the last checkpoint.

    Attributes:
        steps: how many were done since `fit` began.
        seconds: the time of the training, also before it was interrupted.
    """

    def __init__(self) -> None:
        self.steps = self._epoch = 0
        self._before, self._start = 0.0, time.perf_counter()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._start = time.perf_counter()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.steps += 1
        loss = (logs or {})["loss"]
        if not math.isfinite(loss):
            raise Diverged(f"the loss of step {batch + 1} in epoch {self._epoch + 1} is {loss}")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        for name, array in self.trainer.model.state_dict().items():
            if not np.isfinite(array).all():
                raise Diverged(f"after epoch {epoch + 1} {name} is not finite")

    @property
    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._start

    def state_dict(self) -> dict[str, float]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self._before, self._start = state_dict["seconds"], time.perf_counter()
        print(f"Going on with epoch {self.trainer.initial_epoch + 1}", flush=True)
