"""Layers and models, with the names, arguments and state of torch.nn."""

from typing import TYPE_CHECKING

from .. import _hints
from .activations import LeakyReLU, LogSoftmax, ReLU, Sigmoid, Softmax, Tanh
from .containers import Identity, ModuleList, Sequential
from .dropout import Dropout
from .module import Module
from .normalization import BatchNorm1d, BatchNorm2d
from .parameter import Buffer, Parameter
from .pooling import AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, MaxPool2d
from .shaping import CircularPad2d, ConstantPad2d, Flatten, ReflectionPad2d, ReplicationPad2d, ZeroPad2d
from .weighted import Conv2d, ConvTranspose2d, Linear

__all__ = [
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool2d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Buffer",
    "CircularPad2d",
    "ConstantPad2d",
    "Conv2d",
    "ConvTranspose2d",
    "Dropout",
    "Flatten",
    "Identity",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MaxPool2d",
    "Module",
    "ModuleList",
    "Parameter",
    "ReLU",
    "ReflectionPad2d",
    "ReplicationPad2d",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "ZeroPad2d",
]

if not TYPE_CHECKING:
    _HINTS = {
        **dict.fromkeys(
            ("CrossEntropyLoss", "MSELoss", "NLLLoss", "BCELoss", "BCEWithLogitsLoss", "L1Loss"),
            _hints.LOSSES,
        ),
        "functional": "it is cnnmath.functional",
        "init": "it is cnnmath.initializers",
        "utils": "clip_grad_norm is in cnnmath.optim",
        "DataParallel": "all cores work at each step already, see cnnmath.set_num_threads",
        "Dropout2d": "there is nn.Dropout alone",
        "Dense": "it is nn.Linear",
    }
    __getattr__ = _hints.missing(__name__, _HINTS)
