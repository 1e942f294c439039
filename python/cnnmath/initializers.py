"""First values of weights: functions from a shape to an array.

Random ones take `generator`: a `numpy.random.Generator`, an int as seed, or None for the generator that
`cnnmath.manual_seed` seeds. For a weight of shape (out, in, *kernel), with r the product of the kernel's sizes,

    fan_in = in * r,    fan_out = out * r

are the numbers of inputs of an output and of outputs of an input.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .planner.random import generator as default_generator

Shape = Any  # a tuple of ints, or an int


def _shape(shape: Shape) -> tuple[int, ...]:
    return (int(shape),) if isinstance(shape, (int, np.integer)) else tuple(int(n) for n in shape)


def _random(generator: Any) -> np.random.Generator:
    if generator is None:
        return default_generator.numpy()
    if isinstance(generator, np.random.Generator):
        return generator
    if isinstance(generator, (int, np.integer)) and not isinstance(generator, bool):
        return np.random.default_rng(int(generator))
    raise TypeError(
        f"generator: expected a numpy.random.Generator, an int or None, got {type(generator).__name__}"
    )


def fans(shape: Shape) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight; ValueError below two dims."""
    sizes = _shape(shape)
    if len(sizes) < 2:
        raise ValueError(f"fan_in and fan_out need a weight of at least 2 dims, got shape {sizes}")
    receptive = math.prod(sizes[2:])
    return sizes[1] * receptive, sizes[0] * receptive


def gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which the activation that follows shrinks: sqrt(2) for "relu", sqrt(2 / (1 + a²)) for "leaky_relu"
    of slope a = `param` (0.01 by default), 5/3 for "tanh", 1 for "linear", "sigmoid" and convolutions."""
    if nonlinearity in ("linear", "sigmoid", "identity") or nonlinearity.startswith("conv"):
        return 1.0
    if nonlinearity == "tanh":
        return 5.0 / 3.0
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "leaky_relu":
        return math.sqrt(2.0 / (1.0 + (0.01 if param is None else param) ** 2))
    raise ValueError(f"gain: unknown nonlinearity {nonlinearity!r}")


def constant(shape: Shape, value: float, dtype: Any = np.float32) -> np.ndarray:
    """w = value."""
    return np.full(_shape(shape), value, dtype)


def zeros(shape: Shape, dtype: Any = np.float32) -> np.ndarray:
    """w = 0."""
    return constant(shape, 0.0, dtype)


def ones(shape: Shape, dtype: Any = np.float32) -> np.ndarray:
    """w = 1."""
    return constant(shape, 1.0, dtype)


def uniform(
    shape: Shape, low: float = 0.0, high: float = 1.0, generator: Any = None, dtype: Any = np.float32
) -> np.ndarray:
    """w ~ U(low, high).

    >>> from cnnmath import initializers
    >>> initializers.uniform((2, 3), -1, 1, generator=0).shape
    (2, 3)
    """
    return _random(generator).uniform(low, high, _shape(shape)).astype(dtype)


def normal(
    shape: Shape, mean: float = 0.0, std: float = 1.0, generator: Any = None, dtype: Any = np.float32
) -> np.ndarray:
    """w ~ N(mean, std²)."""
    return _random(generator).normal(mean, std, _shape(shape)).astype(dtype)


def xavier_uniform(
    shape: Shape, gain: float = 1.0, generator: Any = None, dtype: Any = np.float32
) -> np.ndarray:
    """w ~ U(-b, b), b = gain * sqrt(6 / (fan_in + fan_out)).

    Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010.
    """
    bound = gain * math.sqrt(6.0 / max(sum(fans(shape)), 1))
    return uniform(shape, -bound, bound, generator, dtype)


def xavier_normal(
    shape: Shape, gain: float = 1.0, generator: Any = None, dtype: Any = np.float32
) -> np.ndarray:
    """w ~ N(0, s²), s = gain * sqrt(2 / (fan_in + fan_out)); see `xavier_uniform`."""
    return normal(shape, 0.0, gain * math.sqrt(2.0 / max(sum(fans(shape)), 1)), generator, dtype)


def _kaiming_std(shape: Shape, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f'mode: expected "fan_in" or "fan_out", got {mode!r}')
    fan = fans(shape)[mode == "fan_out"]
    return gain(nonlinearity, a) / math.sqrt(max(fan, 1))


def kaiming_uniform(
    shape: Shape,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Any = None,
    dtype: Any = np.float32,
) -> np.ndarray:
    """w ~ U(-b, b), b = gain * sqrt(3 / fan), with gain² = 2 / (1 + a²) for a leaky ReLU of slope a.

    He et al., Delving deep into rectifiers, 2015.
    """
    bound = math.sqrt(3.0) * _kaiming_std(shape, a, mode, nonlinearity)
    return uniform(shape, -bound, bound, generator, dtype)


def kaiming_normal(
    shape: Shape,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Any = None,
    dtype: Any = np.float32,
) -> np.ndarray:
    """w ~ N(0, s²), s = gain / sqrt(fan); see `kaiming_uniform`."""
    return normal(shape, 0.0, _kaiming_std(shape, a, mode, nonlinearity), generator, dtype)


glorot_uniform, glorot_normal = xavier_uniform, xavier_normal
he_uniform, he_normal = kaiming_uniform, kaiming_normal

__all__ = [
    "constant",
    "fans",
    "gain",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "kaiming_normal",
    "kaiming_uniform",
    "normal",
    "ones",
    "uniform",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]
