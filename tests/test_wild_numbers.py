"""Products and convolutions large enough for a matrix unit: precision, and infinities, NaN, the largest numbers.

On every instruction set, whether it has such a unit or not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cnnmath
import cnnmath.functional as F

from .checks import Array, same_bits_on_any_threads

pytestmark = pytest.mark.usefixtures("direct_convolutions")

EPS = 2.0**-24
LARGEST = float(np.finfo(np.float32).max)
LINEAR = [(300, 256, 256), (1, 300, 1100), (130, 513, 2100), (17, 256, 270)]  # rows, outputs, inputs
CONV: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 64, 9, 33), (64, 64, 3, 3), {"padding": 1}),
    ((3, 16, 7, 7), (31, 16, 3, 3), {"padding": 1}),
    ((5, 48, 8, 8), (33, 48, 3, 3), {"padding": (0, 2, 1, 0)}),
    ((2, 32, 17, 31), (32, 32, 3, 3), {"padding": 1, "stride": 2}),
    ((1, 32, 20, 20), (48, 32, 3, 3), {"padding": 2, "dilation": 2}),
    ((2, 64, 14, 14), (128, 64, 1, 1), {}),
    ((2, 64, 17, 17), (64, 64, 1, 1), {"stride": 2}),
    ((1, 512, 7, 7), (40, 512, 3, 3), {"padding": 1}),
    ((2, 6, 40, 40), (32, 6, 5, 5), {}),
    ((2, 32, 9, 33), (64, 32, 3, 3), {"padding": 1}),
    (
        (2, 41, 15, 21),
        (37, 41, 2, 3),
        {"padding": (1, 0, 2, 1)},
    ),  # channels that do not end with a cache line
    ((2, 90, 21, 19), (11, 90, 4, 4), {"stride": 2}),  # few outputs
    ((3, 15, 30, 31), (13, 15, 4, 4), {}),
    ((2, 128, 14, 14), (44, 32, 3, 3), {"groups": 4, "padding": 1}),
    ((4, 48, 30, 29), (40, 48, 3, 3), {"stride": (2, 1), "padding": 1}),
]


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def close(got: Array, exact: Array, size: Array) -> None:
    """Within a few roundings of the sum of the magnitudes."""
    np.testing.assert_array_less(np.abs(got - exact) / (size * EPS + 1e-300), 12)


def doubles(*arrays: Array) -> list[Array]:
    return [a.astype(np.float64) for a in arrays]


@pytest.mark.parametrize("m, n, k", LINEAR)
def test_linear_is_as_precise_as_float32(m: int, n: int, k: int) -> None:
    x, w, v = normal(0, m, k), normal(1, n, k), normal(2, m, n)
    y, pullback = cnnmath.vjp(F.linear, x, w)
    dx, dw = pullback(v)
    a, b, c = doubles(x, w, v)
    close(y, a @ b.T, abs(a) @ abs(b.T))
    close(dx, c @ b, abs(c) @ abs(b))
    close(dw, c.T @ a, abs(c.T) @ abs(a))


def test_gradient_of_weights_of_a_large_layer() -> None:
    x, w, v = normal(0, 600, 300), normal(1, 280, 300), normal(2, 600, 280)
    _, pullback = cnnmath.vjp(F.linear, x, w)
    a, c = doubles(x, v)
    close(pullback(v)[1], c.T @ a, abs(c.T) @ abs(a))


@pytest.mark.parametrize("shape, weight, args", CONV)
def test_convolution_is_as_precise_as_float32(
    shape: tuple[int, ...], weight: tuple[int, ...], args: dict[str, Any]
) -> None:
    x, w = normal(0, *shape), normal(1, *weight)
    y, pullback = cnnmath.vjp(lambda x, w: F.conv2d(x, w, **args), x, w)
    v = normal(2, *y.shape)
    exact, exact_pullback = cnnmath.vjp(lambda x, w: F.conv2d(x, w, **args), *doubles(x, w))
    size, size_pullback = cnnmath.vjp(lambda x, w: F.conv2d(x, w, **args), *doubles(abs(x), abs(w)))
    close(y, exact, size)
    for mine, other, most in zip(
        pullback(v), exact_pullback(v.astype(float)), size_pullback(abs(v).astype(float)), strict=True
    ):
        close(mine, other, most)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, LARGEST, -0.999 * LARGEST, 1e-38, 1e-44])
@pytest.mark.parametrize("m, n, k", LINEAR)
def test_linear_with_wild_numbers(m: int, n: int, k: int, value: float) -> None:
    x, w = normal(0, m, k) / 8, normal(1, n, k) / 8
    plain = F.linear(x, w)
    x[m // 2, k // 3] = value
    got, want = F.linear(x, w), F.linear(*doubles(x, w)).astype(np.float32)
    np.testing.assert_allclose(got[m // 2], want[m // 2], rtol=1e-4, atol=1e-4)
    others = np.arange(m) != m // 2
    np.testing.assert_array_equal(got[others], plain[others])  # to the bit
    x[m // 2, k // 3] = 1
    plain = F.linear(x, w)
    w[n // 3, k // 2] = value
    got, want = F.linear(x, w), F.linear(*doubles(x, w)).astype(np.float32)
    np.testing.assert_allclose(got[:, n // 3], want[:, n // 3], rtol=1e-4, atol=1e-4)
    others = np.arange(n) != n // 3
    np.testing.assert_array_equal(got[:, others], plain[:, others])


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, LARGEST, -0.999 * LARGEST, 1e-38])
@pytest.mark.parametrize("shape, weight, args", CONV)
def test_convolution_with_wild_numbers(
    shape: tuple[int, ...], weight: tuple[int, ...], args: dict[str, Any], value: float
) -> None:
    """An infinity spoils the pixels whose windows hold it, and no others; nor does a NaN."""
    x, w = normal(0, *shape) / 16, normal(1, *weight) / 16
    bias = normal(2, weight[0])
    plain = F.conv2d(x, w, bias, **args)
    n, c, h, width = shape
    x[n - 1, c // 2, h // 2, width // 2] = value
    got = F.conv2d(x, w, bias, **args)
    want = F.conv2d(*doubles(x, w, bias), **args).astype(np.float32)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    mark = np.zeros_like(x)
    mark[n - 1, c // 2, h // 2, width // 2] = 1
    met = F.conv2d(mark, np.ones_like(w), **args)
    assert 0 < np.count_nonzero(met) < met.size
    np.testing.assert_array_equal(got[met == 0], plain[met == 0])  # to the bit
    x[n - 1, c // 2, h // 2, width // 2] = 1
    w[-1, 0, 0, -1] = value
    got, want = F.conv2d(x, w, bias, **args), F.conv2d(*doubles(x, w, bias), **args).astype(np.float32)
    met = F.conv2d(np.ones_like(x), np.ones_like(w), **args)
    inside = met == met.max()  # beside the border 0 * inf counts or is left out
    assert inside.any()
    np.testing.assert_allclose(got[inside], want[inside], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("value", [np.inf, np.nan])
@pytest.mark.parametrize("shape, weight, args", CONV)
def test_gradients_with_wild_numbers(
    shape: tuple[int, ...], weight: tuple[int, ...], args: dict[str, Any], value: float
) -> None:
    x, w = normal(0, *shape) / 16, normal(1, *weight) / 16
    y, pullback = cnnmath.vjp(lambda x, w: F.conv2d(x, w, **args), x, w)
    _, exact = cnnmath.vjp(lambda x, w: F.conv2d(x, w, **args), *doubles(x, w))
    v = normal(2, *y.shape) / 16
    v[0, 1, -1, 0] = value
    for mine, other in zip(pullback(v), exact(v.astype(np.float64)), strict=True):
        np.testing.assert_allclose(mine, other.astype(np.float32), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape, weight, args", CONV[:4])
def test_an_image_does_not_depend_on_its_batch(
    shape: tuple[int, ...], weight: tuple[int, ...], args: dict[str, Any]
) -> None:
    x, w = normal(0, *shape), normal(1, *weight)
    together = F.conv2d(x, w, **args)
    for i in range(len(x)):
        np.testing.assert_array_equal(F.conv2d(x[i : i + 1], w, **args)[0], together[i])


def test_a_row_of_a_product_does_not_depend_on_the_others() -> None:
    for outputs, inputs in ((400, 512), (40, 5000), (130, 9216)):
        x, w, b = normal(0, 1100, inputs), normal(1, outputs, inputs), normal(2, outputs)
        together = F.linear(x, w, b)
        for i in (0, 127, 128, 1099):
            np.testing.assert_array_equal(F.linear(x[i : i + 1], w, b)[0], together[i])
        np.testing.assert_array_equal(F.linear(x[:70], w, b), together[:70])


def test_products_are_the_same_bits_on_any_threads(threads: Callable[[int], None]) -> None:
    same_bits_on_any_threads(threads, F.linear, normal(0, 700, 600), normal(1, 300, 600))


@pytest.mark.parametrize("shape, weight, args", CONV)
def test_convolutions_are_the_same_bits_on_any_threads(
    threads: Callable[[int], None], shape: tuple[int, ...], weight: tuple[int, ...], args: dict[str, Any]
) -> None:
    x, w = normal(0, *shape), normal(1, *weight)
    same_bits_on_any_threads(threads, lambda x, w: F.conv2d(x, w, **args), x, w)
