"""Optimizers and learning rate schedules."""

from typing import TYPE_CHECKING

from .. import _hints
from . import schedules
from .adam import Adam, AdamW
from .clip import clip_grad_norm
from .optimizer import Optimizer
from .sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "clip_grad_norm", "schedules"]

if not TYPE_CHECKING:
    _SCHEDULES = "schedules are in cnnmath.optim.schedules"
    _HINTS = {
        **dict.fromkeys(("lr_scheduler", "LRScheduler", *schedules.__all__), _SCHEDULES),
        "clip_grad_norm_": "it is clip_grad_norm(grads, max_norm), or Trainer(clip_norm=...)",
    }
    __getattr__ = _hints.missing(__name__, _HINTS)
