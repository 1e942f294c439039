"""Callbacks that hand the numbers of a training on."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..io import append_bytes, write_bytes
from ..training import Callback
from .monitor import Logs


class CSVLogger(Callback):
    """Writes the numbers of each epoch as a row of a CSV file: "epoch" (from 0) and then the logs by name.

    The first epoch decides on the columns. A row is complete on disk when its epoch ends; an array, such as a confusion
    matrix, is one field, "[...]".

    Args:
        filename: the file; its folder is made.
        separator: between fields.
        append: go on with the file, with the columns of its first row, instead of replacing it.

    A `fit` that goes on from a checkpoint goes on with the file, too; rows of epochs after the checkpoint are removed.
    """

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False) -> None:
        self.filename = os.fspath(filename)
        self.separator = separator
        self.append = append
        self.keys: list[str] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.keys = None
        path = Path(self.filename)
        path.parent.mkdir(parents=True, exist_ok=True)
        first = self.trainer.initial_epoch
        if not (self.append or first) or not path.exists():
            write_bytes(path, b"")
            return
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file, delimiter=self.separator))
        self.keys = rows[0] if rows else None
        if first:
            self._cut(path, rows, first)

    def _cut(self, path: Path, rows: list[list[str]], first: int) -> None:
        """Removes the rows of epochs from `first` on: those of the last training that the file tells of."""
        # The last one may have been cut off.
        whole = (len(row) == len(rows[0]) and row[0].isdigit() for row in rows)
        numbers = [int(row[0]) if good else -1 for row, good in zip(rows, whole)]
        begin = max((i for i, number in enumerate(numbers) if number == 0), default=1)
        kept = [row for i, row in enumerate(rows) if i < begin or 0 <= numbers[i] < first]
        if len(kept) != len(rows):
            write_bytes(path, self._text(kept))

    def _text(self, rows: Iterable[Iterable[Any]]) -> bytes:
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=self.separator).writerows(rows)
        return text.getvalue().encode()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        row = {"epoch": epoch, **(logs or {})}
        keys = ["epoch", *sorted(logs or {})] if self.keys is None else self.keys
        rows = [[_field(row.get(key, "NA")) for key in keys]]
        append_bytes(Path(self.filename), self._text([keys, *rows] if self.keys is None else rows))
        self.keys = keys


def _field(value: Any) -> Any:
    if isinstance(value, str) or not isinstance(value, Iterable) or np.ndim(value) == 0:  # type: ignore[arg-type]
        return value
    return f"[{', '.join(str(v).replace(chr(10), '') for v in value)}]"


class LambdaCallback(Callback):
    """A callback of single functions.

    Args:
        on_epoch_begin, on_epoch_end: functions of (epoch, logs).
        on_train_begin, on_train_end: functions of (logs).
        on_train_batch_begin, on_train_batch_end: functions of (batch, logs).

    >>> import numpy as np, cnnmath
    >>> from cnnmath.callbacks import LambdaCallback
    >>> model = cnnmath.nn.Linear(1, 1)
    >>> trainer = cnnmath.Trainer(model, cnnmath.optim.SGD(model, lr=0.0), cnnmath.losses.MSELoss())
    >>> x = np.ones((8, 1), np.float32)
    >>> shout = LambdaCallback(on_epoch_end=lambda epoch, logs: print("epoch", epoch, *logs))
    >>> history = trainer.fit(x, x, epochs=2, verbose=0, callbacks=[shout])
    epoch 0 loss
    epoch 1 loss
    """

    def __init__(
        self,
        on_epoch_begin: Callable[[int, Logs], Any] | None = None,
        on_epoch_end: Callable[[int, Logs], Any] | None = None,
        on_train_begin: Callable[[Logs], Any] | None = None,
        on_train_end: Callable[[Logs], Any] | None = None,
        on_train_batch_begin: Callable[[int, Logs], Any] | None = None,
        on_train_batch_end: Callable[[int, Logs], Any] | None = None,
    ) -> None:
        hooks = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
        }
        self.__dict__.update({name: hook for name, hook in hooks.items() if hook is not None})
