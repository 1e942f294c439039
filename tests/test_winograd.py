"""Convolutions by Winograd's filtering: precision, what cannot be filtered, threads, batches, and when it is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cnnmath
import cnnmath.functional as F

from .checks import Array, same_bits_on_any_threads

# Input, weight, padding.
CASES: list[tuple[tuple[int, ...], tuple[int, ...], Any]] = [
    ((2, 64, 32, 32), (64, 64, 3, 3), 1),
    ((3, 16, 12, 9), (17, 16, 3, 3), 1),
    ((5, 33, 14, 14), (40, 33, 3, 3), (0, 2, 1, 0)),
    ((1, 17, 31, 10), (65, 17, 3, 3), 2),
    ((2, 48, 10, 22), (96, 48, 3, 3), 0),
    ((19, 130, 8, 8), (128, 130, 3, 3), 1),
    ((4, 256, 7, 7), (48, 256, 3, 3), 1),
    ((9, 112, 12, 12), (144, 112, 3, 3), 1),  # sums over more tiles than a block of them
    ((33, 96, 8, 8), (600, 96, 3, 3), 1),  # outputs in groups
    ((2, 320, 16, 12), (80, 320, 3, 3), 1),
    ((40, 64, 16, 16), (128, 64, 3, 3), 1),  # sums in chunks
    ((8, 320, 16, 12), (256, 320, 3, 3), 1),  # outputs in units
    ((4, 288, 14, 14), (288, 288, 3, 3), 1),  # few tiles, many weights
]


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def all_three(x: Array, w: Array, v: Array | None, padding: Any) -> list[Array]:
    """The convolution and both gradients."""
    y, pullback = cnnmath.vjp(lambda x, w: F.conv2d(x, w, padding=padding), x, w)
    dx, dw = pullback(normal(2, *y.shape).astype(x.dtype) if v is None else v)
    assert dx is not None and dw is not None
    return [y, dx, dw]


@pytest.fixture
def algorithm() -> Iterator[Callable[[str], None]]:
    yield cnnmath.set_conv_algorithm
    cnnmath.set_conv_algorithm("auto")


@pytest.mark.parametrize("shape, weight, padding", CASES)
def test_precision(
    shape: tuple[int, ...], weight: tuple[int, ...], padding: Any, algorithm: Callable[[str], None]
) -> None:
    """The largest error is what the docs say; and it is not the plain sum."""
    x, w = normal(0, *shape), normal(1, *weight)
    found = all_three(x, w, None, padding)
    exact = all_three(x.astype(np.float64), w.astype(np.float64), None, padding)
    algorithm("direct")
    plain = all_three(x, w, None, padding)
    limit = 3e-5 if max(weight) <= 256 else 4e-5
    if cnnmath.build_config()["isa"] == "amx":  # the matrix unit adds up in shorter chains
        limit /= 2
    for mine, other, want in zip(found, plain, exact, strict=True):
        assert np.abs(mine - want).max() < limit * want.std()
        assert np.abs(other - want).max() < 1e-5 * want.std()
        assert not np.array_equal(mine, other)
    algorithm("auto")
    assert all(map(np.array_equal, all_three(x, w, None, padding), found))


@given(
    n=st.integers(1, 4),
    c=st.integers(16, 70),
    oc=st.integers(16, 70),
    size=st.tuples(st.integers(3, 27), st.integers(3, 27)),
    padding=st.tuples(*[st.integers(0, 3)] * 4),
    relu=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_shape(n: int, c: int, oc: int, size: Any, padding: Any, relu: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w, b = (rng.standard_normal(s).astype(np.float32) for s in ((n, c, *size), (oc, c, 3, 3), (oc,)))

    @cnnmath.planner.eager.function
    def layer(x: Any, w: Any, b: Any) -> Any:
        y = F.conv2d(x, w, b, padding=padding)
        return F.relu(y) if relu else y

    exact = layer(*(a.astype(np.float64) for a in (x, w, b)))
    np.testing.assert_allclose(layer(x, w, b), exact, rtol=0, atol=2e-5 * (9 * c) ** 0.5)
    found, want = (all_three(x.astype(t), w.astype(t), None, padding) for t in (np.float32, np.float64))
    for mine, other in zip(found, want, strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-5 * max(np.abs(other).max(), 1))


@pytest.mark.parametrize("padding", [0, 1, 2, 3])
def test_transposed_convolutions(
    padding: int, algorithm: Callable[[str], None], threads: Callable[[int], None]
) -> None:
    """They are gradients of convolutions, and are filtered as those are."""

    def all_three(x: Array, w: Array) -> list[Array]:
        y, pullback = cnnmath.vjp(lambda x, w: F.conv_transpose2d(x, w, padding=padding), x, w)
        return [y, *pullback(normal(2, *y.shape).astype(x.dtype))]

    x, w = normal(0, 2, 48, 21, 30), normal(1, 48, 33, 3, 3)
    found, exact = all_three(x, w), all_three(x.astype(np.float64), w.astype(np.float64))
    algorithm("direct")
    plain = all_three(x, w)
    for mine, other, want in zip(found, plain, exact, strict=True):
        assert np.abs(mine - want).max() < 2e-5 * want.std()
        assert not np.array_equal(mine, other)
    algorithm("auto")
    threads(3)
    assert all(map(np.array_equal, all_three(x, w), found))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("shape, weight, padding", CASES[:5] + CASES[7:8])
def test_wild_numbers(shape: tuple[int, ...], weight: tuple[int, ...], padding: Any, value: float) -> None:
    """An infinity or a NaN spoils what it meets, in the image, the kernel and the gradient, and nothing else."""
    x, w = normal(0, *shape) / 16, normal(1, *weight) / 16
    v = normal(2, *F.conv2d(x, w, padding=padding).shape) / 16
    for array, place in ((x, (-1, 3, 1, 2)), (w, (1, 2, 0, 1)), (v, (0, 5, -1, 0))):
        kept = array[place]
        array[place] = value
        found = all_three(x, w, v, padding)
        with np.errstate(over="ignore"):
            want = [
                a.astype(np.float32) for a in all_three(*(a.astype(np.float64) for a in (x, w, v)), padding)
            ]
        for mine, other in zip(found, want, strict=True):
            mine, other = np.where(np.isinf(mine), np.nan, mine), np.where(np.isinf(other), np.nan, other)
            if mine.shape != weight:  # beside the border the plain sums, too, count 0 * inf or leave it out
                either = np.isnan(mine) | np.isnan(other)
                either[..., 2:-2, 2:-2] = False
                mine, other = np.where(either, 0, mine), np.where(either, 0, other)
            np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-3)
        array[place] = kept


def test_all_infinite_or_nan() -> None:
    x, w = normal(0, 1, 16, 8, 8), normal(1, 16, 16, 3, 3)
    assert np.isnan(F.conv2d(np.full_like(x, np.nan), w)).all()
    assert (F.conv2d(np.full_like(x, np.inf), abs(w)) == np.inf).all()


@pytest.mark.parametrize("shape, weight, padding", CASES)
def test_an_image_does_not_depend_on_its_batch(
    shape: tuple[int, ...], weight: tuple[int, ...], padding: Any
) -> None:
    x, w = normal(0, *shape), normal(1, *weight)
    together = F.conv2d(x, w, padding=padding)
    for i in range(len(x)):
        np.testing.assert_array_equal(F.conv2d(x[i : i + 1], w, padding=padding)[0], together[i])


def test_weights_that_last_give_the_same_bits() -> None:
    """A layer keeps its transformed weights; a function transforms them where it uses them, for one small image."""
    layer = cnnmath.nn.Conv2d(48, 64, 3, padding=1)
    layer.eval()
    x = normal(0, 1, 48, 8, 8)
    state = layer.state_dict()
    for _ in range(2):
        np.testing.assert_array_equal(layer(x), F.conv2d(x, state["weight"], state["bias"], padding=1))


@pytest.mark.parametrize("shape, weight, padding", CASES)
def test_threads(
    threads: Callable[[int], None], shape: tuple[int, ...], weight: tuple[int, ...], padding: Any
) -> None:
    same_bits_on_any_threads(
        threads, lambda x, w: F.conv2d(x, w, padding=padding), normal(0, *shape), normal(1, *weight)
    )


@pytest.mark.parametrize(
    "shape, weight, args",
    [
        ((2, 15, 16, 16), (32, 15, 3, 3), {}),
        ((2, 32, 16, 16), (32, 32, 5, 5), {}),
        ((2, 32, 16, 16), (32, 32, 3, 3), {"dilation": 2}),
        ((2, 32, 17, 17), (32, 32, 3, 3), {"stride": 2}),
        ((2, 64, 16, 16), (64, 32, 3, 3), {"groups": 2}),
        ((2, 32, 5, 5), (32, 32, 3, 3), {}),  # most of a tile idle
        ((1, 512, 7, 7), (512, 512, 3, 3), {"padding": 1}),  # weights for few tiles
    ],
)
def test_where_it_is_not_taken(
    shape: tuple[int, ...], weight: tuple[int, ...], args: Any, algorithm: Callable[[str], None]
) -> None:
    """The plain sum of whole numbers is exact; Winograd's weights have thirds and fifteenths."""
    rng = np.random.default_rng(0)
    x, w = (rng.integers(-3, 4, s).astype(np.float32) for s in (shape, weight))
    auto = F.conv2d(x, w, **args)
    algorithm("direct")
    np.testing.assert_array_equal(auto, F.conv2d(x, w, **args))
    np.testing.assert_array_equal(auto, np.round(auto))


def test_layers_and_steps_follow_the_algorithm(algorithm: Callable[[str], None]) -> None:
    """Plans that were made before do not stay."""
    cnnmath.manual_seed(0)
    layer = cnnmath.nn.Conv2d(32, 32, 3, padding=1)
    x = normal(0, 2, 32, 16, 16)
    auto = layer(x)
    algorithm("direct")
    direct = layer(x)
    assert not np.array_equal(auto, direct)
    algorithm("auto")
    np.testing.assert_array_equal(layer(x), auto)


def test_unknown_algorithms() -> None:
    with pytest.raises(ValueError, match='set_conv_algorithm: expected "auto" or "direct", got \'fft\''):
        cnnmath.set_conv_algorithm("fft")
