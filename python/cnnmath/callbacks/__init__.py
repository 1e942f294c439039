"""Callbacks for `Trainer.fit`, with the names, arguments and defaults of Keras.

The schedules of `cnnmath.optim.schedules` are callbacks too, `ReduceLROnPlateau` among them. One of your own is a
`Callback`, or any object with some of its methods.
"""

from typing import TYPE_CHECKING

from .. import _hints
from ..training import Callback, History
from .logs import CSVLogger, LambdaCallback
from .monitor import EarlyStopping, TerminateOnNaN
from .saving import BackupAndRestore, ModelCheckpoint

__all__ = [
    "BackupAndRestore",
    "CSVLogger",
    "Callback",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "ModelCheckpoint",
    "TerminateOnNaN",
]

if not TYPE_CHECKING:
    _SCHEDULES = "schedules are in cnnmath.optim.schedules, and are callbacks"
    _HINTS = {
        **dict.fromkeys(("ReduceLROnPlateau", "LearningRateScheduler"), _SCHEDULES),
        "TensorBoard": "CSVLogger writes the numbers of the epochs, cnnmath.viz.curves draws them",
    }
    __getattr__ = _hints.missing(__name__, _HINTS)
