"""Maximum and average pooling, strided and adaptive: values, indices, gradients, refused calls."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cnnmath
import cnnmath.functional as F
from cnnmath import reference

from .checks import FLOATS, close, same_bits_on_any_threads, strided

channels = st.sampled_from([1, 2, 3, 6, 8, 15, 16, 17, 33, 64, 65])
sides = st.integers(1, 12)


@st.composite
def windows(draw: st.DrawFn, dilations: tuple[int, ...] = (1,)) -> tuple[tuple[int, ...], dict[str, Any]]:
    """A shape, and arguments of a pooling in which every window holds a place of the image."""
    shape = draw(st.integers(1, 3)), draw(channels), draw(sides), draw(sides)
    kernel, stride, padding, dilation = [], [], [], []
    for n in shape[2:]:
        d = draw(st.sampled_from(dilations))
        k = draw(st.integers(1, max(1, (n - 1) // d + 1)))
        reach = d * (k - 1) + 1
        kernel.append(k)
        dilation.append(d)
        stride.append(draw(st.integers(1, 4)))
        # with dilation and padding a window can fall between the places of a small image
        padding.append(draw(st.integers(0, k // 2 if d == 1 else min(k // 2, max(0, n - reach)))))
    args: dict[str, Any] = {"kernel_size": tuple(kernel), "stride": tuple(stride), "padding": tuple(padding)}
    args["ceil_mode"] = draw(st.booleans())
    if len(dilations) > 1:
        args["dilation"] = tuple(dilation)
        args["ceil_mode"] = args["ceil_mode"] and dilation == [1, 1]
    return shape, args


def with_ties(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any, nans: float = 0.0) -> np.ndarray:
    """Small whole numbers: equal maxima are frequent and sums are exact."""
    x = rng.integers(-3, 4, shape).astype(dtype)
    x[rng.random(shape) < nans] = np.nan
    return x


@pytest.mark.parametrize("dtype", FLOATS)
@given(case=windows((1, 2, 3)), nans=st.sampled_from([0.0, 0.1]), seed=st.integers(0, 2**32 - 1))
def test_max_pool(dtype: Any, case: Any, nans: float, seed: int) -> None:
    (shape, args), rng = case, np.random.default_rng(seed)
    x = with_ties(rng, shape, dtype, nans)
    y, indices = reference.max_pool2d(x, **args)
    ours, ours_at = F.max_pool2d(strided(x), **args, return_indices=True)
    np.testing.assert_array_equal(ours, y)
    np.testing.assert_array_equal(ours_at, indices)
    assert (ours.dtype, ours_at.dtype) == (dtype, np.int64)
    v = with_ties(rng, y.shape, dtype)
    out, pullback = cnnmath.vjp(lambda x: F.max_pool2d(x, **args), x)
    np.testing.assert_array_equal(out, y)
    np.testing.assert_array_equal(pullback(v)[0], reference.max_pool2d_backward(v, indices, shape))


@pytest.mark.parametrize("dtype", FLOATS)
@given(
    case=windows(), more=st.tuples(st.booleans(), st.sampled_from([None, 3])), seed=st.integers(0, 2**32 - 1)
)
def test_avg_pool(dtype: Any, case: Any, more: Any, seed: int) -> None:
    (shape, args), rng = case, np.random.default_rng(seed)
    args = {**args, "count_include_pad": more[0], "divisor_override": more[1]}
    x = with_ties(rng, shape, dtype)
    out, pullback = cnnmath.vjp(lambda x: F.avg_pool2d(x, **args), x)
    np.testing.assert_array_equal(out, reference.avg_pool2d(x, **args))  # exact: whole sums, one division
    v = with_ties(rng, out.shape, dtype)
    close(pullback(v)[0], reference.avg_pool2d_backward(v, x, **args))


@pytest.mark.parametrize("dtype", FLOATS)
@given(
    shape=st.tuples(st.integers(1, 3), channels, sides, sides),
    size=st.tuples(*[st.none() | st.integers(1, 14)] * 2) | st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_adaptive(dtype: Any, shape: tuple[int, ...], size: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = with_ties(rng, shape, dtype, 0.05)
    y, indices = reference.adaptive_max_pool2d(x, size)
    ours, ours_at = F.adaptive_max_pool2d(x, size, return_indices=True)
    np.testing.assert_array_equal(ours, y)
    np.testing.assert_array_equal(ours_at, indices)
    v = with_ties(rng, y.shape, dtype)
    _, pullback = cnnmath.vjp(lambda x: F.adaptive_max_pool2d(x, size), x)
    np.testing.assert_array_equal(pullback(v)[0], reference.max_pool2d_backward(v, indices, shape))
    x = with_ties(rng, shape, dtype)
    out, pullback = cnnmath.vjp(lambda x: F.adaptive_avg_pool2d(x, size), x)
    close(out, reference.adaptive_avg_pool2d(x, size))
    close(pullback(v)[0], reference.adaptive_avg_pool2d_backward(v, x, size))


def sweep() -> None:
    """Exact values and finite differences; runs alone, on each instruction set."""
    from functools import partial

    import numpy as np

    import cnnmath
    import cnnmath.functional as F
    from cnnmath import reference

    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        for c in (1, 3, 4, 7, 8, 9, 16, 17, 64, 70):
            for k, s, p in ((2, 2, 0), (3, 2, 1), (3, 1, 1), (2, 3, 0), (5, 2, 2), (17, 3, 8)):
                x = rng.integers(-4, 5, (2, c, 18, 19)).astype(dtype)
                y, at = reference.max_pool2d(x, k, s, p)
                v = rng.integers(-4, 5, y.shape).astype(dtype)
                args = {"kernel_size": k, "stride": s, "padding": p}
                (out, indices), pullback = cnnmath.vjp(partial(F.max_pool2d, **args, return_indices=True), x)
                np.testing.assert_array_equal(out, y)
                np.testing.assert_array_equal(indices, at)
                dx = pullback((v, np.zeros(0)))[0]
                np.testing.assert_array_equal(dx, reference.max_pool2d_backward(v, at, x.shape))
                out, pullback = cnnmath.vjp(partial(F.avg_pool2d, **args, divisor_override=1), x)
                np.testing.assert_array_equal(out, reference.avg_pool2d(x, k, s, p, divisor_override=1))
                dx = reference.avg_pool2d_backward(v, x, k, s, p, divisor_override=1)
                np.testing.assert_array_equal(pullback(v)[0], dx)
    x = rng.permutation(2 * 3 * 7 * 6).reshape(2, 3, 7, 6) * 0.1
    for fn in (
        lambda x: F.max_pool2d(x, (3, 2), 2, 1),
        lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
        lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
        lambda x: F.adaptive_avg_pool2d(x, (3, 4)),
        lambda x: F.adaptive_max_pool2d(x, (3, 4)),
        lambda x: F.adaptive_avg_pool2d(x, 1),
    ):
        assert cnnmath.gradcheck(fn, [x])


def test_every_instruction_set(isa: str, run_on: Callable[[str, str], str]) -> None:
    run_on(isa, f"{inspect.getsource(sweep)}\nsweep()")


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: F.max_pool2d(x, 2),
        lambda x: F.max_pool2d(x, 3, 2, 1),
        lambda x: F.avg_pool2d(x, 2),
        lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
        lambda x: F.adaptive_avg_pool2d(x, (5, 7)),
        lambda x: F.adaptive_avg_pool2d(x, 1),
    ],
)
def test_threads(fn: Any, threads: Callable[[int], None], rng: np.random.Generator) -> None:
    same_bits_on_any_threads(threads, fn, rng.standard_normal((5, 20, 33, 34), np.float32))


def test_few_large_planes_are_cut_by_channels(
    threads: Callable[[int], None], rng: np.random.Generator
) -> None:
    x = rng.integers(-4, 5, (1, 200, 60, 61)).astype(np.float32)
    same_bits_on_any_threads(threads, lambda x: F.adaptive_avg_pool2d(x, 1), x)
    np.testing.assert_array_equal(F.adaptive_avg_pool2d(x, 1), reference.adaptive_avg_pool2d(x, 1))
    v = rng.standard_normal((1, 200, 1, 1), np.float32)
    (dx,) = cnnmath.vjp(lambda x: F.adaptive_max_pool2d(x, 1), x)[1](v)
    at = reference.adaptive_max_pool2d(x, 1)[1]
    np.testing.assert_array_equal(dx, reference.max_pool2d_backward(v, at, x.shape))


def test_unbatched_and_empty(rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, 6, 8))
    for fn in (
        lambda x: F.max_pool2d(x, 2),
        lambda x: F.avg_pool2d(x, 2),
        lambda x: F.adaptive_avg_pool2d(x, 4),
        lambda x: F.adaptive_max_pool2d(x, 4),
    ):
        np.testing.assert_array_equal(fn(x), fn(x[None])[0])
        v = rng.standard_normal(fn(x).shape)
        (one,), (many,) = cnnmath.vjp(fn, x)[1](v), cnnmath.vjp(fn, x[None])[1](v[None])
        np.testing.assert_array_equal(one, many[0])
        assert fn(x[None][:0]).shape == (0, *fn(x).shape)
    y, indices = F.max_pool2d(x, 2, return_indices=True)
    np.testing.assert_array_equal(
        np.take_along_axis(x.reshape(3, -1), indices.reshape(3, -1), 1), y.reshape(3, -1)
    )
    out, pullback = cnnmath.vjp(lambda x: F.adaptive_avg_pool2d(x, (0, 3)), x)
    assert out.shape == (3, 0, 3)
    assert not pullback(out)[0].any()


def test_a_window_without_a_place_of_the_image() -> None:
    """Dilation and padding can make one: its maximum is -inf, and no gradient flows."""
    x = np.ones((1, 1, 1, 1))
    out, pullback = cnnmath.vjp(lambda x: F.max_pool2d(x, 2, 1, 1, 2), x)
    assert out.tolist() == [[[[-np.inf]]]]
    assert pullback(np.ones_like(out))[0].tolist() == [[[[0.0]]]]


def test_large_sums_keep_their_digits() -> None:
    """A global mean of many equal numbers that float32 cannot add up one by one."""
    x = np.full((1, 1, 512, 512), 0.1, np.float32)
    assert abs(float(F.adaptive_avg_pool2d(x, 1)[0, 0, 0, 0]) - np.float32(0.1)) < 1e-6  # one by one: 2e-4


def test_against_pytorch(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    for _ in range(40):
        k, s = rng.integers(1, 5, 2), rng.integers(1, 4, 2)
        p = np.array([rng.integers(0, n // 2 + 1) for n in k])
        x = rng.standard_normal((2, int(rng.integers(1, 20)), *rng.integers(5, 12, 2)))
        ceil = bool(rng.integers(2))
        k, s, p = (tuple(map(int, v)) for v in (k, s, p))
        theirs = torch.nn.functional.max_pool2d(torch.from_numpy(x), k, s, p, 1, ceil, True)
        for mine, other in zip(F.max_pool2d(x, k, s, p, 1, ceil, True), theirs):
            np.testing.assert_array_equal(mine, other.numpy())
        theirs = torch.nn.functional.avg_pool2d(torch.from_numpy(x), k, s, p, ceil, False)
        close(F.avg_pool2d(x, k, s, p, ceil, False), theirs.numpy())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: F.max_pool2d(x, 0), ValueError, "max_pool2d: kernel_size expects positive numbers"),
        (lambda x: F.max_pool2d(x, 2, 0), ValueError, "max_pool2d: stride expects positive numbers"),
        (lambda x: F.max_pool2d(x, 2, padding=2), ValueError, "at most half of kernel_size"),
        (lambda x: F.max_pool2d(x, 2, padding=-1), ValueError, "no negative number"),
        (lambda x: F.max_pool2d(x, 9), ValueError, "is larger than the padded x"),
        (lambda x: F.max_pool2d(x, 2.0), TypeError, "kernel_size expects an int or two"),
        (lambda x: F.max_pool2d(x, (2, 2, 2)), ValueError, "kernel_size expects an int or two"),
        (lambda x: F.max_pool2d(x[0, 0], 2), ValueError, r"max_pool2d: x expects shape .* got \(6, 8\)"),
        (lambda x: F.max_pool2d(x[:, :, :0], 1), ValueError, "C, H, W > 0"),
        (
            lambda x: F.max_pool2d(x.astype(np.int64), 2),
            TypeError,
            "max_pool2d: x expects float32 or float64",
        ),
        (lambda x: F.avg_pool2d(x, 2, divisor_override=0), ValueError, "divisor_override must not be zero"),
        (lambda x: F.adaptive_avg_pool2d(x, -1), ValueError, "output_size expects no negative number"),
        (lambda x: F.adaptive_max_pool2d(x, (1, 2, 3)), ValueError, "output_size expects an int, or two"),
    ],
)
def test_refused(call: Any, error: type[Exception], message: str, rng: np.random.Generator) -> None:
    with pytest.raises(error, match=message):
        call(rng.standard_normal((2, 3, 6, 8)))
