"""reshape, flatten, permute, cat, pad: numbers keep their bits, wherever they go."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import cnnmath
import cnnmath.functional as F
from cnnmath import reference

from .checks import same_bits_on_any_threads, strided

DTYPES = (np.float32, np.float64, np.int64, np.uint8)
shapes = hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=7)
seeds = st.integers(0, 2**32 - 1)


def numbers(shape: Any, dtype: Any, seed: int) -> Any:
    return np.asarray(np.random.default_rng(seed).integers(0, 100, shape), dtype)


def factors(draw: Any, size: int) -> tuple[int, ...]:
    """A shape with that many elements."""
    if size == 0:
        return (0, draw(st.integers(0, 3)))
    found = []
    while size > 1 and len(found) < 4:
        n = draw(st.sampled_from([d for d in range(1, size + 1) if size % d == 0]))
        found.append(n)
        size //= n
    return (*found, size)


@given(data=st.data(), shape=shapes, dtype=st.sampled_from(DTYPES), seed=seeds)
def test_reshape(data: Any, shape: Any, dtype: Any, seed: int) -> None:
    x = numbers(shape, dtype, seed)
    wanted = factors(data.draw, x.size)
    np.testing.assert_array_equal(F.reshape(x, wanted), x.reshape(wanted))
    if x.dtype.kind == "f":
        v = numbers(wanted, dtype, seed + 1)
        _, pullback = cnnmath.vjp(lambda x: F.reshape(x, wanted), x)
        np.testing.assert_array_equal(pullback(v)[0], v.reshape(shape))


@given(data=st.data(), shape=shapes, seed=seeds)
def test_flatten(data: Any, shape: Any, seed: int) -> None:
    most = max(len(shape), 1)
    first = data.draw(st.integers(0, most - 1))
    last = data.draw(st.integers(first, most - 1))
    x = numbers(shape, np.float64, seed)
    np.testing.assert_array_equal(F.flatten(x, first, last - most), reference.flatten(x, first, last - most))


@given(data=st.data(), shape=shapes, dtype=st.sampled_from(DTYPES), seed=seeds)
def test_permute(data: Any, shape: Any, dtype: Any, seed: int) -> None:
    x = numbers(shape, dtype, seed)
    dims = tuple(data.draw(st.permutations(range(x.ndim))))
    np.testing.assert_array_equal(F.permute(x, dims), x.transpose(dims))
    if x.dtype.kind == "f":
        v = numbers(x.transpose(dims).shape, dtype, seed + 1)
        _, pullback = cnnmath.vjp(lambda x: F.permute(x, dims), x)
        np.testing.assert_array_equal(pullback(v)[0], v.transpose(np.argsort(dims)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [(2, 3, 224, 97), (3, 64, 65, 33), (2, 130, 7, 9), (200, 333), (3, 128, 130), (1, 1, 300, 301)]
)
def test_large_transposes(shape: Any, dtype: Any, threads: Any, rng: np.random.Generator) -> None:
    """The tiles transposed in registers, their edges, and the tasks they are dealt in."""
    x = rng.integers(0, 250, shape).astype(dtype)
    for dims in {tuple(range(len(shape)))[::-1], (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)}:
        np.testing.assert_array_equal(F.permute(x, dims), x.transpose(dims))
    np.testing.assert_array_equal(F.flatten(x, 1), x.reshape(shape[0], -1))
    np.testing.assert_array_equal(F.flatten(strided(x), 1), x.reshape(shape[0], -1))
    if np.dtype(dtype).kind == "f":
        same_bits_on_any_threads(threads, lambda x: F.flatten(x, 1), x)


@st.composite
def parts(draw: Any) -> tuple[list[tuple[int, ...]], int]:
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=6))
    dim = draw(st.integers(0, len(shape) - 1))
    sizes = draw(st.lists(st.integers(0, 5), min_size=1, max_size=4))
    return [(*shape[:dim], n, *shape[dim + 1 :]) for n in sizes], dim


@given(case=parts(), negative=st.booleans(), dtype=st.sampled_from(DTYPES), seed=seeds)
def test_cat(case: Any, negative: bool, dtype: Any, seed: int) -> None:
    shapes, dim = case
    arrays = [numbers(s, dtype, seed + i) for i, s in enumerate(shapes)]
    axis = dim - len(shapes[0]) if negative else dim
    expected = np.concatenate(arrays, dim)
    np.testing.assert_array_equal(F.cat(arrays, axis), expected)
    if expected.dtype.kind == "f":
        v = numbers(expected.shape, dtype, seed - 1 if seed else 1)
        _, pullback = cnnmath.vjp(lambda *a: F.cat(a, axis), *arrays)
        for got, wanted in zip(pullback(v), reference.cat_backward(v, arrays, dim)):
            np.testing.assert_array_equal(got, wanted)


def test_cat_twice_and_of_nothing() -> None:
    x = np.arange(6.0).reshape(2, 3)
    _, pullback = cnnmath.vjp(lambda x: F.cat([x, x]), x)
    v = np.arange(12.0).reshape(4, 3)
    np.testing.assert_array_equal(pullback(v)[0], v[:2] + v[2:])
    np.testing.assert_array_equal(F.cat([np.zeros(0), x]), x)
    assert F.cat([np.zeros(0), np.zeros(0)]).shape == (0,)


MODES = ("constant", "reflect", "replicate", "circular")


@st.composite
def paddings(draw: Any) -> tuple[tuple[int, ...], list[int], str]:
    mode = draw(st.sampled_from(MODES))
    if mode == "constant":
        shape = draw(hnp.array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=5))
        dims = draw(st.integers(0, len(shape)))
    else:
        dims = draw(st.integers(1, 3))
        rank = dims + draw(st.integers(1, 2))
        shape = draw(hnp.array_shapes(min_dims=rank, max_dims=rank, min_side=1, max_side=5))
    pad = []
    for k in range(dims):
        n = shape[len(shape) - 1 - k]
        most = {"constant": 4, "reflect": n - 1, "replicate": 4, "circular": n}[mode]
        pad += [draw(st.integers(-2, most)), draw(st.integers(-2, most))]
    return shape, pad, mode


@given(case=paddings(), dtype=st.sampled_from((np.float32, np.float64)), seed=seeds)
def test_pad(case: Any, dtype: Any, seed: int) -> None:
    shape, pad, mode = case
    x = numbers(shape, dtype, seed)
    value = 7.0 if mode == "constant" else None
    try:
        out, pullback = cnnmath.vjp(lambda x: F.pad(x, pad, mode, value), x)
    except ValueError as e:
        assert any(s in str(e) for s in ("leaves", "more than", "at most"))
        assume(False)
    np.testing.assert_array_equal(out, reference.pad(x, pad, mode, value))
    v = numbers(out.shape, dtype, seed + 1)
    np.testing.assert_array_equal(pullback(v)[0], reference.pad_backward(v, x, pad, mode))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(8, 3, 40, 50), (8, 16, 33, 31), (5, 100, 101)])
def test_large_pad(mode: str, shape: Any, threads: Any, rng: np.random.Generator) -> None:
    x = rng.normal(0, 1, shape).astype(np.float32)
    pad = [3, 2, 1, 5][: 2 * (len(shape) - 2)]
    np.testing.assert_array_equal(F.pad(x, pad, mode), reference.pad(x, pad, mode))
    same_bits_on_any_threads(threads, lambda x: F.pad(x, pad, mode), x)


@pytest.mark.parametrize("mode", MODES)
def test_gradcheck_of_pad(mode: str, rng: np.random.Generator) -> None:
    assert cnnmath.gradcheck(lambda x: F.pad(x, (2, 1, 0, 2), mode), [rng.normal(0, 1, (2, 3, 4, 4))])


@pytest.mark.parametrize("dtype", [np.int64, np.uint8])
def test_pad_of_integers(dtype: Any) -> None:
    assert F.pad(np.array([1, 2], dtype), (1, 0), value=5).tolist() == [5, 1, 2]
    with pytest.raises(TypeError, match=r"pad: value 0\.5 does not fit"):
        F.pad(np.array([1, 2], dtype), (1, 0), value=0.5)


X = np.zeros((2, 3, 4))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.reshape(X, (5, -1)), ValueError, "reshape: cannot fill in -1: 24 elements"),
        (lambda: F.reshape(X, (5, 5)), ValueError, r"reshape: \(5, 5\) has 25 elements, input has 24"),
        (lambda: F.reshape(X, (-1, -1)), ValueError, "reshape: .*at most one -1"),
        (lambda: F.reshape(X, (24.0,)), TypeError, "reshape: shape expects ints, got 24.0"),
        (lambda: F.flatten(X, 2, 1), ValueError, "flatten: start_dim 2 comes after end_dim 1"),
        (lambda: F.flatten(X, 3), ValueError, r"flatten: start_dim expects a dim in \[-3, 2\], got 3"),
        (lambda: F.permute(X, (0, 1, 1)), ValueError, "permute: dims expects each of the 3 dims once"),
        (lambda: F.cat(X), TypeError, "cat: tensors expects a list or tuple of arrays, got (ndarray|Tensor)"),
        (lambda: F.cat([]), ValueError, "cat: expected at least one array"),
        (
            lambda: F.cat([X, np.zeros((2, 3, 5))]),
            ValueError,
            r"cat: shapes must agree but for dim 0, got \(2, 3, 4\) and",
        ),
        (
            lambda: F.cat([X, X.astype(np.float32)]),
            TypeError,
            "cat: expected one dtype, got float64 and float32",
        ),
        (lambda: F.cat([np.array(1.0)]), ValueError, "cat: 0-d arrays cannot be joined"),
        (lambda: F.pad(X, (1,)), ValueError, "pad: pad expects an even number"),
        (lambda: F.pad(X, (1, 1) * 4), ValueError, "pad: 8 sizes pad 4 dims, input has 3"),
        (lambda: F.pad(X, (1, 1), "mirror"), ValueError, "pad: mode expects one of constant"),
        (
            lambda: F.pad(X, (4, 0), "reflect"),
            ValueError,
            "pad: mode reflect expects at most 3 on each side of dim 2",
        ),
        (lambda: F.pad(X, (5, 0), "circular"), ValueError, "pad: mode circular expects at most 4"),
        (lambda: F.pad(X, (-5, 0)), ValueError, "pad: .* leaves dim 2 with a negative size"),
        (lambda: F.pad(X, (-2, -2), "replicate"), ValueError, "pad: .* leaves nothing"),
        (
            lambda: F.pad(X, (1, 1) * 3, "reflect"),
            ValueError,
            "pad: mode reflect pads the last dim of ranks 2 and 3",
        ),
        (lambda: F.pad(X, (1, 1), "reflect", 1.0), ValueError, "pad: mode reflect takes no value"),
    ],
)
def test_errors(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call()
