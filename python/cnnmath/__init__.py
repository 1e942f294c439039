"""cnnmath: convolutional neural networks on CPUs. NumPy in, NumPy out; the hot paths are C++."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import _load as _load  # isort: skip  (first)
from . import _hints, functional, initializers, nn
from ._core import get_num_threads
from ._core import version as __version__
from .derivatives import Function, grad, gradcheck, value_and_grad, vjp
from .functional.conv import set_conv_algorithm
from .machine import build_config, set_num_threads
from .planner.random import manual_seed

if TYPE_CHECKING:
    from . import callbacks, data, losses, metrics, models, optim, regularizers, training, viz
    from .io import load, save
    from .training import Trainer

__all__ = [
    "Function",
    "Trainer",
    "__version__",
    "build_config",
    "callbacks",
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
    "models",
    "nn",
    "optim",
    "regularizers",
    "save",
    "set_conv_algorithm",
    "set_num_threads",
    "training",
    "value_and_grad",
    "viz",
    "vjp",
]

# Imported on first use, so that `import cnnmath` stays quick: modules, and names with the module that has them.
_MODULES = ("callbacks", "data", "losses", "metrics", "models", "optim", "regularizers", "training", "viz")
_NAMES = {"Trainer": "training", "load": "io", "save": "io"}
_ARRAYS = "cnnmath takes and gives NumPy arrays"
_HINTS = {
    "no_grad": "nothing is recorded: gradients are computed where cnnmath.value_and_grad or vjp asks for them",
    "inference_mode": "call model.eval(), then model(x)",
    "tensor": _ARRAYS,
    "Tensor": _ARRAYS,
    "from_numpy": _ARRAYS,
    "device": "there are CPUs alone",
    "cuda": "there are CPUs alone",
    "autograd": _hints.STEP,
    "utils": "DataLoader is in cnnmath.data, clip_grad_norm in cnnmath.optim",
    "Sequential": "layers and models are in cnnmath.nn",
    "layers": "layers and models are in cnnmath.nn",
    "Model": "a model is a cnnmath.nn.Module, or a cnnmath.nn.Sequential",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f".{name}", __name__)  # which sets the attribute
    if name in _NAMES:
        value = globals()[name] = getattr(import_module(f".{_NAMES[name]}", __name__), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{_hints.told(_HINTS, name)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
