"""cnnmath: convolutional neural networks on CPUs. NumPy in, NumPy out; the hot paths are C++."""

from . import data, functional, initializers, losses, metrics, nn, optim, regularizers, training
from ._core import get_num_threads
from ._core import version as __version__
from .derivatives import Function, grad, gradcheck, value_and_grad, vjp
from .io import load, save
from .machine import build_config, set_num_threads
from .planner.random import manual_seed
from .training import Trainer

__all__ = [
    "Function",
    "Trainer",
    "__version__",
    "build_config",
    "data",
    "functional",
    "get_num_threads",
    "grad",
    "gradcheck",
    "initializers",
    "load",
    "losses",
    "manual_seed",
    "metrics",
    "nn",
    "optim",
    "regularizers",
    "save",
    "set_num_threads",
    "training",
    "value_and_grad",
    "vjp",
]
