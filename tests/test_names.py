"""The names of arguments are PyTorch's: keyword calls carry over."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import cnnmath.functional as F
from cnnmath import nn, regularizers

INPUT = np.linspace(-1, 1, 32, dtype=np.float32).reshape(1, 2, 4, 4)


@pytest.mark.parametrize("name", [name for name in F.__all__ if name != "cat"])
def test_the_first_argument_is_the_input(name: str) -> None:
    assert next(iter(inspect.signature(getattr(F, name)).parameters)) == "input"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("max_pool2d", {"kernel_size": 2}),
        ("avg_pool2d", {"kernel_size": 2}),
        ("adaptive_avg_pool2d", {"output_size": 1}),
        ("adaptive_max_pool2d", {"output_size": 1}),
        ("batch_norm", {"running_mean": None, "running_var": None, "training": True}),
        ("dropout", {"training": False, "inplace": True}),
        ("relu", {"inplace": True}),
        ("leaky_relu", {"inplace": True}),
    ],
)
def test_keyword_calls(name: str, arguments: dict[str, Any]) -> None:
    function, before = getattr(F, name), INPUT.copy()
    positional = {key: value for key, value in arguments.items() if key != "inplace"}
    np.testing.assert_array_equal(function(input=INPUT, **arguments), function(INPUT, **positional))
    np.testing.assert_array_equal(INPUT, before)


def test_numbers_that_are_none() -> None:
    with pytest.raises(TypeError, match="Dropout: p expects a number, got 'half'"):
        nn.Dropout("half")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="L2: strength expects a number, got 'strong'"):
        regularizers.L2("strong")  # type: ignore[arg-type]
