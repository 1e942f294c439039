"""Layers and models, with the names, arguments and state of torch.nn."""

from .activations import LeakyReLU, LogSoftmax, ReLU, Sigmoid, Softmax, Tanh
from .containers import Identity, ModuleList, Sequential
from .module import Module
from .parameter import Buffer, Parameter
from .weighted import Conv2d, Linear

__all__ = [
    "Buffer",
    "Conv2d",
    "Identity",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "Module",
    "ModuleList",
    "Parameter",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Tanh",
]
