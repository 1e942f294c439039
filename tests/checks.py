"""What tests of several ops share: comparisons, finite differences, and the same bits on any number of threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import cnnmath

Array = npt.NDArray[Any]
FLOATS = (np.float32, np.float64)


def close(actual: Any, expected: Any, ulps: float = 64, atol: float = 0.0) -> None:
    """Same shape and dtype, and values within some units in the last place of the largest expected one."""
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    eps = np.finfo(expected.dtype).eps
    finite = np.abs(expected[np.isfinite(expected)])
    largest = float(finite.max()) if finite.size else 0.0
    np.testing.assert_allclose(actual, expected, rtol=ulps * eps, atol=ulps * eps * largest + atol)


def values_and_gradients(fn: Callable[..., Any], *arrays: Array, seed: int = 0) -> list[Array]:
    """The value of `fn` and its gradients for a fixed pseudo-random cotangent."""
    out, pullback = cnnmath.vjp(fn, *arrays)
    cotangent = np.random.default_rng(seed).standard_normal(out.shape).astype(out.dtype)
    return [out, *(g for g in pullback(cotangent) if g is not None)]


def same_bits_on_any_threads(
    threads: Callable[[int], None],
    fn: Callable[..., Any],
    *arrays: Array,
    counts: Sequence[int] = (1, 2, 3, 5),
) -> None:
    """Runs value and gradients on several thread counts and compares them bit for bit."""
    first: list[bytes] | None = None
    for count in counts:
        threads(count)
        found = [np.ascontiguousarray(a).tobytes() for a in values_and_gradients(fn, *arrays)]
        first = first or found
        assert found == first, f"other bits on {count} threads"


def strided(array: Array) -> Array:
    """The same values in memory that is neither row-major nor channels-last, with gaps."""
    doubled = np.zeros([2 * n for n in array.shape], array.dtype, order="F")
    view = doubled[tuple(slice(0, 2 * n, 2) for n in array.shape)]
    view[...] = array
    return view


def differences(f: Callable[[], Array], x: Array, grad: Array) -> Array:
    """d(Σ grad · f()) / dx by central differences; f reads x, whose elements are changed one by one."""
    result, eps = np.zeros_like(x), 1e-6
    for i in np.ndindex(x.shape):
        kept = x[i]
        x[i] = kept + eps
        above = f()
        x[i] = kept - eps
        below = f()
        x[i] = kept
        result[i] = ((above - below) / (2 * eps) * grad).sum()
    return result


def check_gradients(
    f: Callable[[], Array], arrays: Sequence[Array], gradients: Sequence[Array], grad: Array
) -> None:
    """Gradients of Σ grad · f() with respect to arrays that f reads are what central differences give."""
    assert len(arrays) == len(gradients)
    for x, g in zip(arrays, gradients, strict=True):
        assert g.shape == x.shape
        np.testing.assert_allclose(g, differences(f, x, grad), rtol=1e-6, atol=1e-7)
