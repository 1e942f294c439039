"""Calls with generated shapes: the arrays, and how a call is compared in both libraries, with an error bound.

The reference is always PyTorch in float64, on the very values that cnnmath gets. A result in a dtype with
machine epsilon eps may be off by FACTOR * eps * magnitude, element by element. For operations that are linear
in each operand the magnitude is what the operation gives on absolute values, sum |a||b| for a product of
matrices; for others it is 1 + |result| + the largest |result|.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

import cnnmath

from .convert import quiet

FACTOR = 24.0
DTYPES = (np.float64, np.float32)
Call = Callable[..., Any]


class Source:
    """Random arrays of one dtype in memory layouts of all kinds: what a test draws its operands from."""

    def __init__(self, seed: int, dtype: Any) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = dtype

    def normal(self, *shape: int, mean: float = 0.0, deviation: float = 1.0) -> np.ndarray:
        return self.arrange(np.asarray(self.rng.normal(mean, deviation, shape), dtype=self.dtype))

    def uniform(self, low: float, high: float, *shape: int) -> np.ndarray:
        return self.arrange(np.asarray(self.rng.uniform(low, high, shape), dtype=self.dtype))

    def integers(self, low: int, high: int, *shape: int) -> np.ndarray:
        """Small whole numbers as floats: ties for a maximum, exact sums."""
        return self.arrange(np.asarray(self.rng.integers(low, high, shape), dtype=self.dtype))

    def arrange(self, a: np.ndarray) -> np.ndarray:
        """The same values contiguous or, as often, with permuted, stepped or reversed strides."""
        kind = self.rng.integers(6)
        if a.ndim == 0 or kind < 3:
            return np.ascontiguousarray(a).reshape(a.shape)
        if kind == 3:  # dims in any order in memory: channels-last among them
            order = self.rng.permutation(a.ndim)
            return np.ascontiguousarray(a.transpose(order)).transpose(np.argsort(order))
        step = 2 if kind == 4 else -1
        room = np.full([n * abs(step) for n in a.shape], np.nan, a.dtype)
        view = room[tuple(slice(None, None, step) for _ in a.shape)]
        view[...] = a
        return view


sources = st.builds(Source, st.integers(0, 2**32 - 1), st.sampled_from(DTYPES))


def check(
    ours: Call,
    theirs: Call,
    operands: Sequence[np.ndarray],
    source: Source,
    *,
    magnitudes: Call | None = None,
    factor: float = FACTOR,
    refuse: bool = False,
) -> None:
    """Both calls on the same operands give the same output and the same gradients for a random cotangent.

    `magnitudes`, a call like `theirs`, is given for operations that are linear in each operand. Where
    `refuse` is true, PyTorch may refuse the call: then ours must refuse it, too, and nothing is compared.
    """
    tensors = [_tensor(a).requires_grad_() for a in operands]
    try:
        with quiet():
            expected = theirs(*tensors)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        assert refuse, error
        try:
            ours(*operands)
        except (ValueError, TypeError):
            return
        raise AssertionError(f"accepted; PyTorch: {error}") from None
    kept = [a.copy() for a in operands]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        eager = ours(*operands)
        out, pullback = cnnmath.vjp(ours, *operands)
    cotangent = source.normal(*expected.shape)
    with quiet():
        wanted = torch.autograd.grad(expected, tensors, _tensor(cotangent), allow_unused=True)
    if expected.numel() == 0:  # nothing depends on anything; PyTorch leaves some of these gradients unwritten
        wanted, magnitudes = tuple(torch.zeros_like(t) for t in tensors), None
    gradients = pullback(cotangent)
    assert isinstance(gradients, tuple) and len(gradients) == len(operands)

    sizes: list[Any] = [None] * (1 + len(operands))
    if magnitudes is not None:
        positive = [t.detach().abs().requires_grad_() for t in tensors]
        largest = magnitudes(*positive)
        sizes = [
            largest,
            *torch.autograd.grad(largest, positive, _tensor(cotangent).abs(), allow_unused=True),
        ]
    near("output", eager, expected, source.dtype, sizes[0], factor)
    near("output of vjp", out, expected, source.dtype, sizes[0], factor)
    for i, (gradient, reference, tensor) in enumerate(zip(gradients, wanted, tensors, strict=True)):
        zero = torch.zeros_like(tensor)
        near(
            f"gradient {i}",
            gradient,
            zero if reference is None else reference,
            source.dtype,
            sizes[1 + i],
            factor,
        )
    for a, b in zip(operands, kept, strict=True):
        np.testing.assert_array_equal(a, b, err_msg="an operand was written to")


def near(
    what: str, actual: Any, expected: torch.Tensor, dtype: Any, magnitude: torch.Tensor | None, factor: float
) -> None:
    reference = expected.detach().numpy()
    assert isinstance(actual, np.ndarray), f"{what}: {type(actual).__name__}"
    assert actual.shape == reference.shape, f"{what}: expected {reference.shape}, got {actual.shape}"
    assert actual.dtype == dtype, f"{what}: expected {np.dtype(dtype)}, got {actual.dtype}"
    if reference.size == 0:
        return
    if magnitude is not None:
        bound = magnitude.detach().numpy()
    else:
        finite = np.abs(reference[np.isfinite(reference)])
        bound = 1 + np.abs(np.nan_to_num(reference)) + finite.max(initial=0.0)
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(reference), err_msg=f"{what}: NaN")
    infinite = np.isinf(reference)
    np.testing.assert_array_equal(actual[infinite], reference[infinite], err_msg=f"{what}: infinities")
    with np.errstate(invalid="ignore"):
        error = np.where(np.isfinite(reference), np.abs(actual.astype(np.float64) - reference), 0.0)
    allowed = factor * float(np.finfo(dtype).eps) * bound
    # `not <=`, so that a NaN or an infinity in the wrong place counts as wrong
    wrong = ~(error <= allowed) & np.isfinite(reference)
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise AssertionError(
            f"{what}: {int(wrong.sum())} of {wrong.size} values of {np.dtype(dtype)} are off, "
            f"first at {where}: expected {reference[where]!r}, got {actual[where]!r}, "
            f"allowed error {allowed[where]:.2e}"
        )


def _tensor(a: np.ndarray) -> torch.Tensor:
    return torch.tensor(np.array(a, np.float64, order="C"))
