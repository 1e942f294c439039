"""Stateless operations on arrays, with the names, arguments and meaning of torch.nn.functional.

Each takes NumPy arrays and gives NumPy arrays; inside a traced function they take and give symbolic tensors.
"""

from .activations import leaky_relu, relu, sigmoid, tanh
from .arithmetic import add, div, mul, neg, sub
from .losses import cross_entropy, mse_loss
from .reductions import mean, sum
from .shaping import cat, flatten, pad, permute, reshape
from .softmax import log_softmax, softmax

__all__ = [
    "add",
    "cat",
    "cross_entropy",
    "div",
    "flatten",
    "leaky_relu",
    "log_softmax",
    "mean",
    "mse_loss",
    "mul",
    "neg",
    "pad",
    "permute",
    "relu",
    "reshape",
    "sigmoid",
    "softmax",
    "sub",
    "sum",
    "tanh",
]
