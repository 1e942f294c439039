"""Learning rate schedules: they set the lr of each parameter group, after each epoch or each step.

The formulas are PyTorch's, evaluated in the same order of operations, so that the sequences of lr are the same doubles.
A schedule is also a callback of `Trainer.fit`: it steps by itself, at the end of each epoch or (OneCycleLR, or any
schedule whose `interval` is set to "step") of each step.
"""

from .base import Schedule
from .formulas import CosineAnnealingLR, ExponentialLR, LinearLR, MultiStepLR, StepLR
from .one_cycle import OneCycleLR
from .plateau import ReduceLROnPlateau
from .sequential import SequentialLR

__all__ = [
    "CosineAnnealingLR",
    "ExponentialLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "ReduceLROnPlateau",
    "Schedule",
    "SequentialLR",
    "StepLR",
]
