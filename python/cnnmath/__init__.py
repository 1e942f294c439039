"""cnnmath: convolutional neural networks on CPUs. NumPy in, NumPy out; the hot paths are C++."""

from . import functional, initializers, losses, metrics, nn, regularizers
from ._core import get_num_threads
from ._core import version as __version__
from .derivatives import Function, grad, gradcheck, value_and_grad, vjp
from .machine import build_config, set_num_threads
from .planner.random import manual_seed

__all__ = [
    "Function",
    "__version__",
    "build_config",
    "functional",
    "get_num_threads",
    "grad",
    "gradcheck",
    "initializers",
    "losses",
    "manual_seed",
    "metrics",
    "nn",
    "regularizers",
    "set_num_threads",
    "value_and_grad",
    "vjp",
]
