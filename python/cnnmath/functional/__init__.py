"""Stateless operations on arrays, with the names, arguments and meaning of torch.nn.functional.

Each takes NumPy arrays and gives NumPy arrays; inside a traced function they take and give symbolic tensors.
"""

from .activations import leaky_relu, relu, sigmoid, tanh
from .arithmetic import add, div, mul, neg, sub
from .conv import conv2d
from .conv_transpose import conv_transpose2d
from .dropout import dropout
from .linear import linear
from .losses import cross_entropy, mse_loss
from .normalization import batch_norm
from .pooling import adaptive_avg_pool2d, adaptive_max_pool2d, avg_pool2d, max_pool2d
from .reductions import mean, sum
from .shaping import cat, flatten, pad, permute, reshape
from .softmax import log_softmax, softmax

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "add",
    "avg_pool2d",
    "batch_norm",
    "cat",
    "conv2d",
    "conv_transpose2d",
    "cross_entropy",
    "div",
    "dropout",
    "flatten",
    "leaky_relu",
    "linear",
    "log_softmax",
    "max_pool2d",
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
