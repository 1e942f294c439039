"""The mathematics of every op, forward and backward, in plain NumPy, written to be read.

Nothing here is fast and nothing here depends on the rest of the library: these functions are what the fast
kernels are tested against. Arrays are logical NCHW; float64 gives float64, float32 gives float32.
"""

from .activations import (
    leaky_relu,
    leaky_relu_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    tanh,
    tanh_backward,
)
from .arithmetic import add, add_backward, mul, mul_backward, sub, sub_backward, unbroadcast
from .augmentation import augmentation_words, crop, crop_offsets, horizontal_flip, mirrored
from .conv import conv2d, conv2d_backward, conv_transpose2d, conv_transpose2d_backward
from .dropout import dropout, dropout_backward, philox4x32
from .linear import linear, linear_backward
from .losses import cross_entropy, cross_entropy_backward, mse_loss, mse_loss_backward
from .normalization import batch_norm, batch_norm_backward
from .pooling import (
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_backward,
    adaptive_max_pool2d,
    adaptive_max_pool2d_backward,
    avg_pool2d,
    avg_pool2d_backward,
    max_pool2d,
    max_pool2d_backward,
)
from .reductions import mean, mean_backward, sum, sum_backward
from .regularizers import l1, l1_backward, l2, l2_backward
from .shaping import (
    cat,
    cat_backward,
    flatten,
    flatten_backward,
    pad,
    pad_backward,
    reshape,
    reshape_backward,
)
from .softmax import log_softmax, log_softmax_backward, softmax, softmax_backward
from .updates import adam, adamw, sgd

__all__ = [
    "adam",
    "adamw",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "adaptive_max_pool2d",
    "adaptive_max_pool2d_backward",
    "add",
    "add_backward",
    "augmentation_words",
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "cat",
    "cat_backward",
    "conv2d",
    "conv2d_backward",
    "conv_transpose2d",
    "conv_transpose2d_backward",
    "crop",
    "crop_offsets",
    "cross_entropy",
    "cross_entropy_backward",
    "dropout",
    "dropout_backward",
    "flatten",
    "flatten_backward",
    "horizontal_flip",
    "l1",
    "l1_backward",
    "l2",
    "l2_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "linear",
    "linear_backward",
    "log_softmax",
    "log_softmax_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "mean",
    "mean_backward",
    "mirrored",
    "mse_loss",
    "mse_loss_backward",
    "mul",
    "mul_backward",
    "pad",
    "pad_backward",
    "philox4x32",
    "relu",
    "relu_backward",
    "reshape",
    "reshape_backward",
    "sgd",
    "sigmoid",
    "sigmoid_backward",
    "softmax",
    "softmax_backward",
    "sub",
    "sub_backward",
    "sum",
    "sum_backward",
    "tanh",
    "tanh_backward",
    "unbroadcast",
]
