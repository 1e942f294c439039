"""conv2d by the plain sum: values and gradients against the reference, exactly on whole numbers; refused calls."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cnnmath
import cnnmath.functional as F
from cnnmath import reference
from cnnmath.functional._conv_ops import WEIGHTS, Geometry, conv2d_grad_input_op, conv2d_grad_weight_op
from cnnmath.functional._moves import in_order
from cnnmath.graph.ir import apply
from cnnmath.planner.eager import function

from .checks import FLOATS, Array, same_bits_on_any_threads, strided

pytestmark = pytest.mark.usefixtures("direct_convolutions")

channels = st.sampled_from([1, 2, 3, 6, 15, 16, 17, 33, 64])
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    """Shapes of input and weight, and arguments that fit them."""
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    inputs, outputs = draw(channels), draw(channels)
    if draw(st.integers(0, 5)) == 0:  # a filter, or two, for every channel
        groups, inputs, outputs = draw(channels), 1, draw(st.sampled_from([1, 1, 2]))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    dilation = draw(pairs)
    padding = tuple(draw(st.integers(0, 3)) for _ in range(4))
    size = []
    for k, d, before, behind in zip(kernel, dilation, padding[2::-2], padding[3::-2], strict=True):
        least = max(d * (k - 1) + 1 - min(before, behind), 1)
        size.append(draw(st.integers(least, least + 20)))
    shape = draw(st.integers(1, 3)), inputs * groups, *size
    args = {"stride": draw(pairs), "padding": padding, "dilation": dilation, "groups": groups}
    return shape, (outputs * groups, inputs, *kernel), args


def whole(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Array:
    """Small whole numbers: products and sums are exact in any order."""
    return rng.integers(-3, 4, shape).astype(dtype)


def check_exactly(x: Array, w: Array, b: Array | None, args: dict[str, Any]) -> None:
    given = [a for a in (x, w, b) if a is not None]
    out, pullback = cnnmath.vjp(lambda *a: F.conv2d(*a, **args), *given)
    np.testing.assert_array_equal(out, reference.conv2d(x, w, b, **args))
    assert out.dtype == x.dtype
    v = np.random.default_rng(1).integers(-3, 4, out.shape).astype(x.dtype)
    for mine, other in zip(pullback(v), reference.conv2d_backward(v, x, w, **args), strict=False):
        np.testing.assert_array_equal(mine, other)


# Few channels a group, where all groups lie side by side in the lanes.
GROUPED: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 38, 23, 45), (38, 2, 1, 1), {"groups": 19}),
    ((3, 24, 70, 61), (24, 2, 3, 3), {"padding": 1, "groups": 12}),  # several blocks of rows
    ((2, 8, 11, 300), (12, 2, 3, 2), {"padding": (1, 0, 2, 3), "groups": 4}),  # and of columns
    ((9, 18, 17, 33), (24, 3, 3, 4), {"padding": (0, 2, 1, 3), "stride": (2, 3), "groups": 6}),
    ((2, 32, 31, 40), (16, 4, 3, 5), {"padding": 2, "stride": 2, "dilation": (2, 3), "groups": 8}),
    ((2, 32, 21, 20), (32, 2, 1, 1), {"stride": (2, 3), "groups": 16}),
    ((70, 12, 9, 9), (24, 2, 3, 3), {"groups": 6}),  # a batch in chunks
    ((3, 64, 20, 21), (8, 8, 3, 3), {"padding": 1, "groups": 8}),  # inputs of a vector in many vectors
    ((1, 320, 5, 6), (400, 4, 3, 3), {"padding": 1, "groups": 80}),  # tasks by outputs
    # Few channels in all, pixels in the lanes, and the gradient of the weights out of that without groups.
    ((3, 9, 29, 31), (18, 3, 1, 1), {"groups": 3}),
    ((2, 30, 31, 47), (6, 10, 1, 1), {"groups": 3}),
    ((2, 9, 28, 30), (30, 3, 3, 3), {"padding": 2, "dilation": 2, "groups": 3}),
    ((2, 24, 23, 42), (80, 3, 1, 1), {"groups": 8}),
    ((2, 32, 19, 61), (20, 8, 1, 4), {"padding": (0, 3), "dilation": 2, "groups": 4}),
    ((2, 16, 21, 20), (20, 8, 3, 3), {"padding": 1, "groups": 2}),
    ((3, 54, 21, 20), (45, 18, 1, 1), {"stride": 2, "groups": 3}),  # places that no window meets
]


@pytest.mark.parametrize("dtype", FLOATS)
@given(case=convolutions(), with_bias=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_whole_numbers(dtype: Any, case: Any, with_bias: bool, seed: int) -> None:
    (x_shape, w_shape, args), rng = case, np.random.default_rng(seed)
    bias = whole(rng, w_shape[:1], dtype) if with_bias else None
    check_exactly(whole(rng, x_shape, dtype), whole(rng, w_shape, dtype), bias, args)


@pytest.mark.parametrize("side", [1, 2, 5, 7, 8, 14, 17, 28, 33])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 6), (3, 64), (16, 17), (64, 64), (70, 33)])
def test_sizes_of_networks(side: int, inputs: int, outputs: int, rng: np.random.Generator) -> None:
    x, w = whole(rng, (3, inputs, side, side), np.float32), whole(rng, (outputs, inputs, 3, 3), np.float32)
    check_exactly(x, w, whole(rng, (outputs,), np.float32), {"padding": 1})


@pytest.mark.parametrize(
    ("x", "w", "args"),
    [
        ((4, 512, 7, 7), (96, 512, 3, 3), {"padding": 1}),  # a sum that is cut within a row of the window
        ((2, 1200, 5, 4), (40, 1200, 1, 1), {}),
        ((2, 200, 9, 9), (300, 200, 3, 3), {"padding": 1, "stride": 2}),  # weights cut by taps and panels
        ((70, 5, 9, 9), (20, 5, 3, 3), {"padding": 1}),  # a batch in chunks
        ((3, 3, 65, 63), (64, 3, 7, 7), {"padding": 3, "stride": 2}),
        ((3, 64, 28, 28), (128, 64, 1, 1), {"stride": 2}),
        ((8, 40, 30, 30), (40, 1, 3, 3), {"padding": 1, "groups": 40}),
        ((8, 40, 30, 30), (40, 10, 3, 3), {"padding": 1, "groups": 4}),
        ((3, 5, 8, 9), (10, 1, 3, 5), {"padding": 1, "groups": 5}),  # two outputs of each channel
        *GROUPED,
        ((9, 1, 28, 28), (6, 1, 5, 5), {"padding": 2}),
        ((9, 1, 28, 20), (40, 1, 3, 4), {"stride": (2, 1), "dilation": (3, 1)}),
        ((9, 6, 14, 14), (16, 6, 5, 5), {}),  # few channels, whose gradient is summed window by window
        ((3, 16, 33, 32), (32, 16, 3, 3), {"padding": 1, "stride": 2}),
        ((2, 20, 47, 70), (5, 20, 9, 11), {"padding": (7, 3, 2, 1), "stride": (4, 5), "dilation": (3, 1)}),
        ((2, 70, 64, 64), (5, 70, 32, 32), {"padding": 8, "stride": 16}),
        (
            (5, 286, 19, 19),
            (4, 286, 3, 3),
            {"padding": 1},
        ),  # few outputs: the gradient of the weights by channels
        ((9, 57, 19, 17), (5, 57, 3, 3), {"padding": (2, 0, 1, 3), "stride": (2, 1), "dilation": (1, 2)}),
        ((40, 15, 21, 20), (13, 15, 4, 4), {"padding": 1}),
        ((3, 130, 17, 15), (7, 130, 3, 3), {"padding": 1, "stride": 2, "dilation": (1, 3)}),
        ((2, 37, 30, 31), (12, 37, 1, 5), {"padding": (0, 1, 2, 0)}),
        ((2, 41, 20, 21), (74, 41, 2, 2), {}),  # channels that do not end with a cache line
        ((1, 175, 33, 33), (20, 175, 3, 3), {"stride": 2, "padding": (0, 1, 1, 2)}),
        ((2, 90, 13, 14), (11, 90, 4, 4), {"padding": 2}),
        ((2, 140, 21, 20), (98, 70, 3, 3), {"groups": 2, "padding": 1}),  # groups of many channels
        ((3, 190, 15, 15), (98, 95, 6, 6), {"groups": 2, "padding": 2}),
        ((2, 96, 18, 30), (64, 48, 2, 3), {"groups": 2, "stride": (2, 1), "dilation": (1, 2)}),
        ((2, 48, 40, 41), (2, 24, 4, 4), {"groups": 2}),  # few outputs of many channels, in groups
        ((3, 105, 17, 19), (15, 35, 3, 3), {"groups": 3, "padding": 1}),
        ((2, 66, 21, 20), (6, 33, 2, 5), {"groups": 2, "stride": (1, 2), "padding": (2, 1, 0, 1)}),
        ((6, 40, 30, 29), (33, 40, 3, 3), {"stride": (2, 3), "dilation": (3, 2), "padding": (1, 2, 3, 0)}),
        ((4, 130, 31, 30), (14, 130, 4, 5), {"stride": 2, "padding": 2}),
        ((2, 20, 57, 56), (64, 20, 5, 4), {"stride": (1, 2)}),
        ((8, 64, 30, 30), (64, 64, 1, 2), {"dilation": (1, 2)}),
        ((3, 2, 20, 53), (1, 2, 1, 1), {}),  # few channels on either side, pixels in the lanes
        ((3, 4, 21, 50), (3, 4, 3, 3), {"padding": 1}),
        ((2, 1, 19, 65), (2, 1, 2, 3), {"padding": (2, 1, 0, 1), "dilation": (2, 1)}),
        ((2, 3, 17, 33), (4, 3, 1, 1), {"padding": 2}),
    ],
)
def test_every_way_to_cut_the_work(x: Any, w: Any, args: Any, rng: np.random.Generator) -> None:
    check_exactly(whole(rng, x, np.float32), whole(rng, w, np.float32), None, args)


@pytest.mark.parametrize("dtype", FLOATS)
@given(case=convolutions(), seed=st.integers(0, 2**32 - 1))
def test_rounding(dtype: Any, case: Any, seed: int) -> None:
    """Within c·eps·Σ|a||b| of float64's result."""
    (x_shape, w_shape, args), rng = case, np.random.default_rng(seed)
    x, w = rng.standard_normal(x_shape).astype(dtype), rng.standard_normal(w_shape).astype(dtype)
    exact, size = (
        reference.conv2d(f(x.astype(np.longdouble)), f(w.astype(np.longdouble)), **args)
        for f in (np.array, np.abs)
    )
    error = np.abs(F.conv2d(x, w, **args) - exact)
    assert (error <= 8 * np.finfo(dtype).eps * size).all()


@given(case=convolutions(), seed=st.integers(0, 2**32 - 1))
def test_the_gradient_is_the_transpose(case: Any, seed: int) -> None:
    """<conv x, y> = <x, convᵀ y>, and the same for the weights."""
    (x_shape, w_shape, args), rng = case, np.random.default_rng(seed)
    x, w = rng.standard_normal(x_shape), rng.standard_normal(w_shape)
    out, pullback = cnnmath.vjp(lambda x, w: F.conv2d(x, w, **args), x, w)
    v = rng.standard_normal(out.shape)
    dx, dw = pullback(v)
    assert dx is not None and dw is not None
    scale = 1e-12 * (np.abs(out * v).sum() + 1)
    assert abs((out * v).sum() - (dx * x).sum()) <= scale
    assert abs((out * v).sum() - (dw * w).sum()) <= scale


def sweep() -> None:
    """Exact values and finite differences; runs alone, on each instruction set."""
    import itertools
    from functools import partial

    import numpy as np

    import cnnmath
    import cnnmath.functional as F
    from cnnmath import reference

    cnnmath.set_conv_algorithm("direct")
    rng = np.random.default_rng(0)
    windows = ((1, 1, 0, 1), (3, 1, 1, 1), (3, 2, 1, 1), (5, 1, (2, 1, 0, 3), 1), (2, 3, 1, 2))
    for dtype, c, o in itertools.product((np.float32, np.float64), (1, 3, 16, 17), (1, 6, 8, 16, 33, 64)):
        for k, s, p, d in windows:
            x, w, b = (rng.integers(-3, 4, n).astype(dtype) for n in ((2, c, 9, 11), (o, c, k, k), o))
            args = {"stride": s, "padding": p, "dilation": d}
            out, pullback = cnnmath.vjp(partial(F.conv2d, **args), x, w, b)
            np.testing.assert_array_equal(out, reference.conv2d(x, w, b, **args))
            v = rng.integers(-3, 4, out.shape).astype(dtype)
            for mine, other in zip(pullback(v), reference.conv2d_backward(v, x, w, **args), strict=True):
                np.testing.assert_array_equal(mine, other)
    for c, o, g, s in ((8, 8, 4, 1), (38, 38, 19, 2), (12, 36, 12, 1), (24, 8, 8, 2), (18, 24, 6, 3)):
        x, w = (rng.integers(-3, 4, n).astype(np.float32) for n in ((3, c, 19, 23), (o, c // g, 3, 2)))
        args = {"stride": s, "padding": (1, 0, 2, 1), "groups": g}
        out, pullback = cnnmath.vjp(partial(F.conv2d, **args), x, w)
        np.testing.assert_array_equal(out, reference.conv2d(x, w, **args))
        v = rng.integers(-3, 4, out.shape).astype(np.float32)
        for mine, other in zip(pullback(v), reference.conv2d_backward(v, x, w, **args), strict=False):
            np.testing.assert_array_equal(mine, other)
    for c, o, g, s in ((2, 3, 1, 1), (2, 3, 1, 2), (4, 6, 2, 1), (5, 5, 5, 2)):
        arrays = (
            rng.standard_normal((2, c, 5, 6)),
            rng.standard_normal((o, c // g, 3, 2)),
            rng.standard_normal(o),
        )
        assert cnnmath.gradcheck(partial(F.conv2d, stride=s, padding=(1, 0, 2, 1), groups=g), arrays)


def test_every_instruction_set(isa: str, run_on: Callable[[str, str], str]) -> None:
    run_on(isa, f"{inspect.getsource(sweep)}\nsweep()")


@pytest.mark.parametrize(
    ("x", "w", "args"),
    [
        ((9, 16, 20, 20), (32, 16, 3, 3), {"padding": 1}),
        ((5, 3, 40, 40), (6, 3, 5, 5), {"stride": 2}),
        ((2, 192, 7, 7), (192, 192, 3, 3), {"padding": 1}),
        ((6, 24, 30, 30), (24, 1, 3, 3), {"padding": 1, "groups": 24}),
        ((6, 24, 30, 30), (36, 2, 3, 3), {"padding": 1, "groups": 12}),
        *GROUPED,
    ],
)
def test_threads(x: Any, w: Any, args: Any, threads: Callable[[int], None], rng: np.random.Generator) -> None:
    arrays = [rng.standard_normal(shape, np.float32) for shape in (x, w, w[:1])]
    same_bits_on_any_threads(threads, lambda *a: F.conv2d(*a, **args), *arrays)


@pytest.mark.usefixtures("direct_convolutions")
@pytest.mark.parametrize(
    "shape, kernel, stride, padding",
    [
        ((300, 6, 6), (40, 3), 2, 1),
        ((600, 5, 5), (33, 3), 1, 1),
        ((20, 9, 9), (29, 9), 1, 4),
        ((150, 12, 12), (44, 7), 1, 0),
        ((36, 3, 134), (43, 3), 1, 0),
    ],
)
def test_taps_outside_the_map_do_not_tell_the_batch(
    shape: tuple[int, ...], kernel: tuple[int, int], stride: int, padding: int, rng: np.random.Generator
) -> None:
    """Sums long enough to be cut; whether taps are skipped follows from how many images there are."""
    outputs, size = kernel
    x = rng.standard_normal((16, *shape)).astype(np.float32)
    w = rng.standard_normal((outputs, shape[0], size, size)).astype(np.float32)
    y = F.conv2d(x, w, stride=stride, padding=padding)
    dx = F.conv_transpose2d(y, w, stride=stride, padding=padding)
    for n in (1, 2, 3):
        np.testing.assert_array_equal(F.conv2d(x[:n], w, stride=stride, padding=padding), y[:n])
        np.testing.assert_array_equal(F.conv_transpose2d(y[:n], w, stride=stride, padding=padding), dx[:n])


def test_an_image_does_not_depend_on_its_batch(rng: np.random.Generator) -> None:
    x, w = rng.standard_normal((9, 8, 11, 11), np.float32), rng.standard_normal((20, 8, 3, 3), np.float32)
    alone = np.concatenate([F.conv2d(x[i : i + 1], w, padding=1) for i in range(9)])
    np.testing.assert_array_equal(F.conv2d(x, w, padding=1), alone)
    x[4] = np.nan
    assert np.isnan(F.conv2d(x, w, padding=1)).any((1, 2, 3)).tolist() == [i == 4 for i in range(9)]


def test_gradients_of_gradients(rng: np.random.Generator) -> None:
    """The gradients are convolutions too, and have their own."""
    x, w, v = (rng.standard_normal(shape) for shape in ((2, 3, 6, 5), (4, 3, 3, 2), (2, 4, 3, 3)))
    args = {"geometry": Geometry((2, 2), (1, 1, 1, 1), (1, 1), 1)}
    assert F.conv2d(x, w, stride=2, padding=1).shape == v.shape

    def grad_input(v: Any, w: Any) -> Any:
        return apply(conv2d_grad_input_op, v, in_order(w, WEIGHTS), shape=x.shape, **args)

    def grad_weight(x: Any, v: Any) -> Any:
        return apply(conv2d_grad_weight_op, x, v, shape=w.shape, **args)

    assert cnnmath.gradcheck(function(grad_input), [v, w])
    assert cnnmath.gradcheck(function(grad_weight), [x, v])


@pytest.mark.parametrize("dtype", FLOATS)
def test_unbatched_empty_and_strided(dtype: Any, rng: np.random.Generator) -> None:
    x, w, b = (whole(rng, shape, dtype) for shape in ((3, 6, 8), (5, 3, 3, 3), (5,)))
    check_exactly(x, w, b, {"padding": 1})
    out, pullback = cnnmath.vjp(F.conv2d, x[None][:0], w, b)
    assert out.shape == (0, 5, 4, 6)
    dx, dw, db = pullback(out)
    assert dx is not None and dw is not None and db is not None
    assert dx.shape == (0, 3, 6, 8)
    assert not dw.any() and dw.shape == w.shape
    assert not db.any() and db.shape == b.shape
    np.testing.assert_array_equal(F.conv2d(strided(x), strided(w), strided(b)), F.conv2d(x, w, b))
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)
    np.testing.assert_array_equal(F.conv2d(last, w, b), F.conv2d(x, w, b))


def test_paddings_by_name(rng: np.random.Generator) -> None:
    x = whole(rng, (2, 3, 7, 9), np.float64)
    for kh, kw, d in itertools.product((1, 2, 3, 4), (1, 2, 5), (1, 2)):
        if d * (kh - 1) >= 7 or d * (kw - 1) >= 9:
            continue
        w = whole(rng, (4, 3, kh, kw), np.float64)
        y = F.conv2d(x, w, padding="same", dilation=d)
        assert y.shape == (2, 4, 7, 9)
        np.testing.assert_array_equal(y, reference.conv2d(x, w, padding="same", dilation=d))
        np.testing.assert_array_equal(F.conv2d(x, w, padding="valid"), F.conv2d(x, w))


def test_the_worked_example() -> None:
    image = np.tile([4.0, 3.0, 2.0, 1.0, 0.0], (1, 5, 1))
    kernel = np.tile([1.0, 0.0, -1.0], (1, 1, 3, 1))
    np.testing.assert_array_equal(F.conv2d(image, kernel), np.full((1, 3, 3), 6.0))


def test_nan_stays_where_it_is_seen() -> None:
    """Lanes beyond the channels and the border of zeros hold no NaN and spread none."""
    x, w = np.ones((1, 3, 6, 6), np.float32), np.ones((5, 3, 3, 3), np.float32)
    x[0, 1, 0, 0] = np.nan
    y = F.conv2d(x, w, padding=1)
    seen = np.zeros((6, 6), bool)
    seen[:2, :2] = True
    np.testing.assert_array_equal(np.isnan(y), np.broadcast_to(seen, y.shape))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(("shape", "weight", "args"), GROUPED)
def test_groups_see_nothing_of_each_other(
    shape: Any, weight: Any, args: Any, value: float, dtype: Any
) -> None:
    rng, groups = np.random.default_rng(0), args["groups"]
    x, w = rng.standard_normal(shape).astype(dtype), rng.standard_normal(weight).astype(dtype)
    y, pullback = cnnmath.vjp(lambda x, w: F.conv2d(x, w, **args), x, w)
    v = rng.standard_normal(y.shape).astype(dtype)
    plain = (y, *pullback(v))
    group = groups // 2
    inputs, outputs = (slice(n // groups * group, n // groups * (group + 1)) for n in (x.shape[1], len(w)))
    x[:, inputs] = w[outputs] = v[:, outputs] = value
    y, pullback = cnnmath.vjp(lambda x, w: F.conv2d(x, w, **args), x, w)
    for got, before, axis in zip((y, *pullback(v)), plain, (1, 1, 0), strict=True):
        assert got is not None and before is not None
        mine, others = (
            np.split(np.moveaxis(got, axis, 0), groups),
            np.split(np.moveaxis(before, axis, 0), groups),
        )
        assert not np.isfinite(mine.pop(group)).all()
        del others[group]
        np.testing.assert_array_equal(mine, others)


X, W = (2, 4, 6, 8), (6, 4, 3, 3)


@pytest.mark.parametrize(
    ("x", "w", "b", "args", "message"),
    [
        ((6, 8), W, None, {}, r"conv2d: input expects shape .* got \(6, 8\)"),
        (X, (4, 3, 3), None, {}, r"conv2d: weight expects shape .* got \(4, 3, 3\)"),
        ((8, 1, 28, 28), (16, 3, 5, 5), None, {}, "conv2d: weight expects 3 input channels, input has 1 "),
        ((8, 28, 28, 3), (16, 3, 5, 5), None, {}, r"looks like \(N, H, W, C\): x.transpose\(0, 3, 1, 2\)$"),
        ((28, 28, 3), (16, 3, 5, 5), None, {}, r"looks like \(H, W, C\): x.transpose\(2, 0, 1\)$"),
        ((8, 28, 28), (16, 1, 5, 5), None, {}, r"add the channels: x\[:, None\]$"),
        (X, W, None, {"groups": 2}, "weight expects 8 input channels, input has 4"),
        (X, (6, 1, 3, 3), None, {"groups": 4}, "groups expects a divisor of the 6 output channels"),
        (X, W, None, {"groups": 0}, "groups expects a positive number, got 0"),
        (X, W, (5,), {}, r"bias expects shape \(6,\), got \(5,\)"),
        (X, W, None, {"stride": 0}, "stride expects numbers >= 1, got 0"),
        (X, W, None, {"stride": (1, 2, 3)}, r"stride expects an int or \(vertical, horizontal\), got"),
        (X, W, None, {"dilation": 0}, "dilation expects numbers >= 1, got 0"),
        (X, W, None, {"dilation": 3}, r"the kernel reaches over \(7, 7\), the padded input has \(6, 8\)"),
        (X, W, None, {"padding": -1}, "padding expects numbers >= 0, got -1"),
        (X, W, None, {"padding": (1, 2, 3)}, r"padding expects an int or .*left, right, top, bottom"),
        (X, W, None, {"padding": "full"}, 'padding expects numbers, "same" or "valid", got \'full\''),
        (X, W, None, {"padding": "same", "stride": 2}, 'padding "same" expects stride 1'),
        ((2, 4, 0, 8), W, None, {}, "expected at least one channel, one output and one pixel"),
    ],
)
def test_wrong_values(x: Any, w: Any, b: Any, args: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        F.conv2d(np.zeros(x), np.zeros(w), None if b is None else np.zeros(b), **args)


def test_wrong_types() -> None:
    x, w = np.zeros(X), np.zeros(W)
    with pytest.raises(TypeError, match="conv2d: weight is float32, input is float64"):
        F.conv2d(x, w.astype(np.float32))
    with pytest.raises(TypeError, match="conv2d: input expects float32 or float64, got int64"):
        F.conv2d(x.astype(np.int64), w)
    with pytest.raises(TypeError, match=r"conv2d: stride expects ints, got 1\.5"):
        F.conv2d(x, w, stride=1.5)
    with pytest.raises(TypeError, match="conv2d: groups expects an int, got 'a'"):
        F.conv2d(x, w, groups="a")


@pytest.mark.parametrize("huge", [1 << 31, 1 << 62, 1 << 63])
def test_huge_numbers(huge: int, rng: np.random.Generator) -> None:
    """A stride beyond the image is one step, a single tap has no distance, a border beyond memory is an error."""
    x, w = rng.normal(0, 1, (1, 2, 4, 5)), rng.normal(0, 1, (3, 2, 1, 1))
    y, pullback = cnnmath.vjp(lambda x, w: F.conv2d(x, w, stride=huge, dilation=huge), x, w)
    same, same_pullback = cnnmath.vjp(lambda x, w: F.conv2d(x, w, stride=5), x, w)
    assert np.array_equal(y, same) and y.shape == (1, 3, 1, 1)
    for g, expected in zip(pullback(np.ones_like(y)), same_pullback(np.ones_like(y))):
        assert np.array_equal(g, expected)
    for batch in (0, 1):
        with pytest.raises(
            ValueError, match=r"conv2d: with padding .* more bytes than a process can address"
        ):
            F.conv2d(x[:batch], w, padding=huge, stride=huge)
