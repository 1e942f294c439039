"""First values: shapes, dtypes, seeds, and the moments that the equations give."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import cnnmath
from cnnmath import initializers as init

SHAPE = (64, 32, 3, 3)
FAN_IN, FAN_OUT = 32 * 9, 64 * 9


def test_constants() -> None:
    assert init.zeros((2, 3)).tolist() == [[0] * 3] * 2
    assert init.ones(2, np.float64).dtype == np.float64
    assert init.constant((1,), 2.5).tolist() == [2.5]


def test_fans() -> None:
    assert init.fans(SHAPE) == (FAN_IN, FAN_OUT)
    assert init.fans((5, 7)) == (7, 5)
    with pytest.raises(ValueError, match=r"at least 2 dims, got shape \(3,\)"):
        init.fans((3,))


@pytest.mark.parametrize(
    ("draw", "std"),
    [
        (init.xavier_uniform, math.sqrt(2 / (FAN_IN + FAN_OUT))),
        (init.xavier_normal, math.sqrt(2 / (FAN_IN + FAN_OUT))),
        (init.kaiming_uniform, math.sqrt(2 / FAN_IN)),
        (init.kaiming_normal, math.sqrt(2 / FAN_IN)),
        (
            lambda shape, **k: init.kaiming_normal(shape, mode="fan_out", nonlinearity="relu", **k),
            math.sqrt(2 / FAN_OUT),
        ),
        (lambda shape, **k: init.kaiming_uniform(shape, a=math.sqrt(5), **k), math.sqrt(1 / 3 / FAN_IN)),
        (
            lambda shape, **k: init.xavier_uniform(shape, init.gain("tanh"), **k),
            5 / 3 * math.sqrt(2 / (FAN_IN + FAN_OUT)),
        ),
        (lambda shape, **k: init.normal(shape, 0, 0.3, **k), 0.3),
        (lambda shape, **k: init.uniform(shape, -1, 1, **k), 1 / math.sqrt(3)),
    ],
)  # fmt: skip
def test_moments(draw: Any, std: float) -> None:
    w = draw(SHAPE, generator=1)
    assert w.shape == SHAPE and w.dtype == np.float32
    np.testing.assert_allclose(w.std(), std, rtol=0.02)
    assert abs(w.mean()) < 0.03 * std
    np.testing.assert_array_equal(w, draw(SHAPE, generator=np.random.default_rng(1)))
    assert not np.array_equal(w, draw(SHAPE, generator=2))
    assert draw((2, 2), generator=1, dtype=np.float64).dtype == np.float64


def test_default_generator_is_the_librarys() -> None:
    cnnmath.manual_seed(5)
    first = init.he_normal((3, 4))
    cnnmath.manual_seed(5)
    np.testing.assert_array_equal(first, init.he_normal((3, 4)))
    assert not np.array_equal(first, init.he_normal((3, 4)))


def test_empty() -> None:
    assert init.kaiming_uniform((0, 3)).shape == (0, 3)
    assert init.kaiming_uniform((3, 0)).shape == (3, 0)


def test_errors() -> None:
    with pytest.raises(ValueError, match="unknown nonlinearity 'cube'"):
        init.kaiming_normal((2, 2), nonlinearity="cube")
    with pytest.raises(ValueError, match='expected "fan_in" or "fan_out", got \'fan\''):
        init.kaiming_normal((2, 2), mode="fan")
    with pytest.raises(TypeError, match=r"generator: expected a numpy.random.Generator"):
        init.normal((2,), generator="0")
