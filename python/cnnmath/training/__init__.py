"""Training: the Trainer, its history and callbacks."""

from .callbacks import Callback, History
from .trainer import Trainer

__all__ = ["Callback", "History", "Trainer"]
