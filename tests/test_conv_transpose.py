"""conv_transpose2d by the plain sum: the reference, exactly on whole numbers; conv2d's transpose; refused calls."""

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
from cnnmath import nn, reference
from cnnmath.graph.autodiff import differentiate
from cnnmath.graph.ir import current_graph
from cnnmath.planner import eager
from cnnmath.planner.eager import function

from .checks import FLOATS, Array, same_bits_on_any_threads, strided

pytestmark = pytest.mark.usefixtures("direct_convolutions")

channels = st.sampled_from([1, 2, 3, 6, 15, 16, 17, 33])
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def transposed(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    """Shapes of input and weight, and arguments that fit them."""
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    inputs, outputs = draw(channels), draw(channels)
    if draw(st.integers(0, 5)) == 0:  # each channel for itself
        groups, inputs, outputs = draw(channels), 1, draw(st.sampled_from([1, 1, 2]))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    stride, dilation = draw(pairs), draw(pairs)
    size, padding, more = [], [], []
    for k, s, d in zip(kernel, stride, dilation, strict=True):
        n = draw(st.integers(1, 12))
        e = draw(st.integers(0, max(s, d) - 1))
        size.append(n)
        more.append(e)
        padding.append(draw(st.integers(0, min(3, ((n - 1) * s + d * (k - 1) + e) // 2))))
    args = {"stride": stride, "padding": tuple(padding), "output_padding": tuple(more)}
    args |= {"groups": groups, "dilation": dilation}
    return (draw(st.integers(1, 3)), inputs * groups, *size), (inputs * groups, outputs, *kernel), args


def whole(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Array:
    """Small whole numbers: products and sums are exact in any order."""
    return rng.integers(-3, 4, shape).astype(dtype)


def check_exactly(x: Array, w: Array, b: Array | None, args: dict[str, Any]) -> None:
    given = [a for a in (x, w, b) if a is not None]
    out, pullback = cnnmath.vjp(lambda *a: F.conv_transpose2d(*a, **args), *given)
    np.testing.assert_array_equal(out, reference.conv_transpose2d(x, w, b, **args))
    assert out.dtype == x.dtype
    v = np.random.default_rng(1).integers(-3, 4, out.shape).astype(x.dtype)
    wanted = reference.conv_transpose2d_backward(v, x, w, **args)
    for mine, other in zip(pullback(v), wanted, strict=False):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("dtype", FLOATS)
@given(case=transposed(), with_bias=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_whole_numbers(dtype: Any, case: Any, with_bias: bool, seed: int) -> None:
    (x_shape, w_shape, args), rng = case, np.random.default_rng(seed)
    bias = whole(rng, (w_shape[1] * args["groups"],), dtype) if with_bias else None
    check_exactly(whole(rng, x_shape, dtype), whole(rng, w_shape, dtype), bias, args)


@pytest.mark.parametrize(
    ("x", "w", "args"),
    [
        ((3, 64, 14, 14), (64, 32, 2, 2), {"stride": 2}),  # the way up of a U-Net
        ((2, 100, 1, 1), (100, 64, 4, 4), {}),  # a generator's first layers
        ((2, 64, 4, 4), (64, 32, 4, 4), {"stride": 2, "padding": 1}),
        ((2, 33, 15, 9), (33, 17, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
        ((1, 5, 6, 7), (5, 3, 3, 2), {"stride": (2, 3), "dilation": (4, 1), "output_padding": (3, 2)}),
        ((2, 40, 16, 16), (40, 1, 4, 4), {"stride": 2, "padding": 1, "groups": 40}),
        ((2, 3, 9, 9), (3, 5, 1, 1), {"padding": 3}),  # more is cut off than the kernel adds
        ((1, 3, 5, 4), (3, 2, 16, 16), {"stride": 8, "padding": 4}),
    ],
)
def test_sizes_of_networks(x: Any, w: Any, args: Any, rng: np.random.Generator) -> None:
    bias = whole(rng, (w[1] * args.get("groups", 1),), np.float32)
    check_exactly(whole(rng, x, np.float32), whole(rng, w, np.float32), bias, args)


@pytest.mark.usefixtures("direct_convolutions")
@pytest.mark.parametrize("dtype", FLOATS)
@given(case=transposed(), seed=st.integers(0, 2**32 - 1))
def test_rounding(dtype: Any, case: Any, seed: int) -> None:
    """Within c·eps·Σ|a||b| of an exact result, as plain sums."""
    (x_shape, w_shape, args), rng = case, np.random.default_rng(seed)
    x, w = rng.standard_normal(x_shape).astype(dtype), rng.standard_normal(w_shape).astype(dtype)
    exact, size = (
        reference.conv_transpose2d(f(x.astype(np.longdouble)), f(w.astype(np.longdouble)), **args)
        for f in (np.array, np.abs)
    )
    error = np.abs(F.conv_transpose2d(x, w, **args) - exact)
    assert (error <= 8 * np.finfo(dtype).eps * size).all()


@given(case=transposed(), seed=st.integers(0, 2**32 - 1))
def test_it_is_the_transpose_of_conv2d(case: Any, seed: int) -> None:
    """<conv y, x> = <y, convᵀ x>, with the same weight and the same arguments."""
    (x_shape, w_shape, args), rng = case, np.random.default_rng(seed)
    x, w = rng.standard_normal(x_shape), rng.standard_normal(w_shape)
    there = F.conv_transpose2d(x, w, **args)
    y = rng.standard_normal(there.shape)
    more = args.pop("output_padding")
    # Rows that output_padding adds beyond a step of the stride make a further output of conv2d: it is left out.
    back = F.conv2d(y, w, **args)[..., : x.shape[2], : x.shape[3]]
    assert back.shape == x.shape or any(e >= s for e, s in zip(more, args["stride"]))
    scale = 1e-12 * (np.abs(y * there).sum() + 1)
    assert abs((back * x).sum() - (y * there).sum()) <= scale


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
    windows = (
        (1, 1, 0, 0, 1),
        (2, 2, 0, 0, 1),
        (3, 2, 1, 1, 1),
        (4, 2, 1, 0, 1),
        (3, 1, 1, 0, 1),
        (3, 2, 0, 2, 3),
    )
    for dtype, c, o in itertools.product((np.float32, np.float64), (1, 3, 16, 17, 33), (1, 8, 16, 33)):
        for k, s, p, e, d in windows:
            x, w, b = (rng.integers(-3, 4, n).astype(dtype) for n in ((2, c, 5, 7), (c, o, k, k), o))
            args = {"stride": s, "padding": p, "output_padding": e, "dilation": d}
            out, pullback = cnnmath.vjp(partial(F.conv_transpose2d, **args), x, w, b)
            np.testing.assert_array_equal(out, reference.conv_transpose2d(x, w, b, **args))
            v = rng.integers(-3, 4, out.shape).astype(dtype)
            wanted = reference.conv_transpose2d_backward(v, x, w, **args)
            for mine, other in zip(pullback(v), wanted, strict=True):
                np.testing.assert_array_equal(mine, other)
    for c, o, g, s in ((2, 3, 1, 1), (2, 3, 1, 2), (4, 3, 2, 1), (5, 1, 5, 2)):
        arrays = (
            rng.standard_normal((2, c, 4, 3)),
            rng.standard_normal((c, o, 3, 2)),
            rng.standard_normal(o * g),
        )
        args = {"stride": s, "padding": (1, 0), "output_padding": (s - 1, 1), "dilation": (1, 2), "groups": g}
        assert cnnmath.gradcheck(partial(F.conv_transpose2d, **args), arrays)


def test_every_instruction_set(isa: str, run_on: Callable[[str, str], str]) -> None:
    run_on(isa, f"{inspect.getsource(sweep)}\nsweep()")


@pytest.mark.parametrize(
    ("x", "w", "args"),
    [
        ((9, 32, 10, 10), (32, 16, 2, 2), {"stride": 2}),
        ((5, 16, 20, 20), (16, 16, 3, 3), {"padding": 1}),
        ((6, 24, 15, 15), (24, 1, 4, 4), {"stride": 2, "padding": 1, "groups": 24}),
    ],
)
def test_threads(x: Any, w: Any, args: Any, threads: Callable[[int], None], rng: np.random.Generator) -> None:
    shapes = (x, w, (w[1] * args.get("groups", 1),))
    arrays = [rng.standard_normal(shape, np.float32) for shape in shapes]
    same_bits_on_any_threads(threads, lambda *a: F.conv_transpose2d(*a, **args), *arrays)


def test_gradients_of_gradients(rng: np.random.Generator) -> None:
    """The gradients are convolutions, and have their own."""
    x, w, v = (rng.standard_normal(shape) for shape in ((2, 2, 3, 2), (2, 3, 3, 2), (2, 3, 6, 4)))
    args = {"stride": 2, "padding": (1, 0), "output_padding": (1, 0)}
    assert F.conv_transpose2d(x, w, **args).shape == v.shape

    @function
    def squares(x: Any, w: Any, v: Any) -> Any:
        graph = current_graph()
        assert graph is not None
        y = F.conv_transpose2d(x, w, **args)
        loss = F.sum(y * y * v)
        dx, dw = differentiate(graph, [loss], [graph.constant(1.0)], [x, w])
        return F.sum(dx * dx) + F.sum(dw * dw)

    assert cnnmath.gradcheck(squares, [x, w, v])


@pytest.mark.parametrize("dtype", FLOATS)
def test_unbatched_empty_and_strided(dtype: Any, rng: np.random.Generator) -> None:
    x, w, b = (whole(rng, shape, dtype) for shape in ((3, 6, 8), (3, 5, 3, 3), (5,)))
    check_exactly(x, w, b, {"stride": 2, "padding": 1, "output_padding": 1})
    out, pullback = cnnmath.vjp(F.conv_transpose2d, x[None][:0], w, b)
    assert out.shape == (0, 5, 8, 10)
    dx, dw, db = pullback(out)
    assert dx is not None and dw is not None and db is not None
    assert dx.shape == (0, 3, 6, 8)
    assert not dw.any() and dw.shape == w.shape
    assert not db.any() and db.shape == b.shape
    plain = F.conv_transpose2d(x, w, b)
    np.testing.assert_array_equal(F.conv_transpose2d(strided(x), strided(w), strided(b)), plain)
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)
    np.testing.assert_array_equal(F.conv_transpose2d(last, w, b), plain)


def test_an_image_does_not_depend_on_its_batch(rng: np.random.Generator) -> None:
    x, w = rng.standard_normal((7, 8, 9, 9), np.float32), rng.standard_normal((8, 20, 4, 4), np.float32)
    alone = np.concatenate([F.conv_transpose2d(x[i : i + 1], w, stride=2) for i in range(7)])
    np.testing.assert_array_equal(F.conv_transpose2d(x, w, stride=2), alone)


def test_nan_stays_where_it_goes() -> None:
    x, w = np.ones((1, 3, 4, 4), np.float32), np.ones((3, 5, 3, 3), np.float32)
    x[0, 1, 0, 0] = np.nan
    y = F.conv_transpose2d(x, w, stride=2, padding=1)
    met = np.zeros((7, 7), bool)
    met[:2, :2] = True
    np.testing.assert_array_equal(np.isnan(y), np.broadcast_to(met, y.shape))


def test_its_name_and_cost_in_the_graph() -> None:
    arrays = np.zeros((2, 6, 5, 5)), np.zeros((6, 4, 3, 2)), np.zeros(8)
    graph, _ = eager.trace(lambda *a: F.conv_transpose2d(*a, stride=2, groups=2), arrays, {})
    names = [node.op.name for node in graph.nodes if node.op.name not in ("relayout", "reshape")]
    assert names == ["conv_transpose2d", "add"]
    pixels, out = 2 * 6 * 5 * 5, 2 * 8 * 11 * 10
    assert graph.outputs[0].size == out
    assert graph.flops == 2 * pixels * (4 * 3 * 2) + out


X, W = (2, 4, 6, 8), (4, 6, 3, 3)


@pytest.mark.parametrize(
    ("x", "w", "b", "args", "message"),
    [
        ((6, 8), W, None, {}, r"input expects shape \(N, C, H, W\) or \(C, H, W\), got \(6, 8\)"),
        (X, (4, 3, 3), None, {}, r"weight expects shape .* got \(4, 3, 3\)"),
        (X, (6, 4, 3, 3), None, {}, "weight expects 6 input channels, input has 4 "),
        (X, W, None, {"groups": 3}, "groups expects a divisor of the 4 input channels"),
        (X, W, None, {"groups": 0}, "groups expects a positive number, got 0"),
        (X, W, (4,), {}, r"bias expects shape \(6,\), got \(4,\)"),
        (X, W, (6,), {"groups": 2}, r"bias expects shape \(12,\), got \(6,\)"),
        (X, W, (6, 1), {}, r"bias expects shape \(6,\), got \(6, 1\)"),
        (X, W, None, {"stride": 0}, "stride expects numbers >= 1, got 0"),
        (X, W, None, {"stride": (1, 2, 3)}, r"stride expects an int or \(vertical, horizontal\), got"),
        (X, W, None, {"dilation": 0}, "dilation expects numbers >= 1, got 0"),
        (X, W, None, {"padding": -1}, "padding expects numbers >= 0, got -1"),
        (X, W, None, {"padding": (1, 1, 1, 1)}, r"padding expects an int or \(vertical, horizontal\), got"),
        (X, W, None, {"padding": 5}, r"padding \(5, 5\) leaves nothing of the result of size \(8, 10\)"),
        (X, W, None, {"output_padding": -1}, "output_padding expects numbers >= 0, got -1"),
        (X, W, None, {"output_padding": 1}, r"output_padding expects numbers below stride or dilation, got \(1, 1\)"),
        (X, W, None, {"output_padding": (0, 2), "stride": (3, 2)}, "output_padding expects numbers below"),
        ((2, 4, 0, 8), W, None, {}, "expected at least one channel, one output and one pixel"),
        ((2, 0, 6, 8), (0, 6, 3, 3), None, {}, "expected at least one channel, one output and one pixel"),
        (X, (4, 0, 3, 3), None, {}, "expected at least one channel, one output and one pixel"),
    ],
)  # fmt: skip
def test_wrong_values(x: Any, w: Any, b: Any, args: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"conv_transpose2d: {message}"):
        F.conv_transpose2d(np.zeros(x), np.zeros(w), None if b is None else np.zeros(b), **args)


def test_wrong_types() -> None:
    x, w = np.zeros(X), np.zeros(W)
    with pytest.raises(TypeError, match="conv_transpose2d: weight is float32, input is float64"):
        F.conv_transpose2d(x, w.astype(np.float32))
    with pytest.raises(TypeError, match="conv_transpose2d: input expects float32 or float64, got int64"):
        F.conv_transpose2d(x.astype(np.int64), w)
    with pytest.raises(TypeError, match=r"conv_transpose2d: stride expects ints, got 1\.5"):
        F.conv_transpose2d(x, w, stride=1.5)
    with pytest.raises(TypeError, match="conv_transpose2d: padding expects ints, got 'same'"):
        F.conv_transpose2d(x, w, padding="same")
    with pytest.raises(TypeError, match="conv_transpose2d: groups expects an int, got 'a'"):
        F.conv_transpose2d(x, w, groups="a")


@pytest.mark.parametrize("huge", [1 << 31, 1 << 62, 1 << 63])
def test_huge_numbers(huge: int, rng: np.random.Generator) -> None:
    """A single pixel takes no step, a single tap has no distance; a result beyond memory is an error."""
    x, w = rng.normal(0, 1, (1, 2, 1, 1)), rng.normal(0, 1, (2, 3, 1, 1))
    y, pullback = cnnmath.vjp(lambda x, w: F.conv_transpose2d(x, w, stride=huge, dilation=huge), x, w)
    np.testing.assert_array_equal(y, F.conv_transpose2d(x, w))
    for g, shape in zip(pullback(np.ones_like(y)), (x.shape, w.shape), strict=True):
        assert g.shape == shape
    wide = np.zeros((1, 2, 2, 2))
    for image, args in (
        (wide, {"stride": huge}),
        (wide, {"stride": huge, "padding": (huge // 2, 0)}),
        (x, {"stride": huge, "output_padding": huge - 1}),
        (wide[:0], {"stride": huge}),
    ):
        with pytest.raises(ValueError, match=r"conv_transpose2d: .* more bytes than a process can address"):
            F.conv_transpose2d(image, w, **args)


# The layer.


@pytest.mark.parametrize("size", [(9, 9), (10, 9), [10, 10], (7, 3, 10, 9), np.array([9, 10])])
def test_output_size(size: Any, rng: np.random.Generator) -> None:
    """It chooses the output padding."""
    layer = nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1)
    x = rng.standard_normal((2, 4, 5, 5), np.float32)
    sizes = tuple(map(int, size))
    more = tuple(n - 9 for n in sizes[-2:])
    y = layer(x, output_size=tuple(size) if isinstance(size, np.ndarray) else size)
    want = F.conv_transpose2d(x, layer.weight, layer.bias, 2, 1, more)
    np.testing.assert_array_equal(y, want)
    assert y.shape == (2, 3, *sizes[-2:])
    np.testing.assert_array_equal(layer(x[0], sizes[-2:]), want[0])
    assert layer(x).shape == (2, 3, 10, 10)


def test_output_sizes_that_cannot_be() -> None:
    layer, x = nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1), np.zeros((2, 4, 5, 5), np.float32)
    for size in ((11, 9), (9, 8)):
        with pytest.raises(
            ValueError, match=r"output_size expects \(9, 9\) to \(10, 10\) for an input of shape .*, got"
        ):
            layer(x, size)
    with pytest.raises(ValueError, match="output_size expects 2 or 4 numbers"):
        layer(x, (4, 10, 10))
    with pytest.raises(ValueError, match="output_size expects 2 or 3 numbers"):
        layer(x[0], (1, 4, 10, 10))
    with pytest.raises(TypeError, match="output_size expects ints, got 10"):
        layer(x, 10)
    with pytest.raises(TypeError, match="output_size expects an int, got float"):
        layer(x, (9.0, 9))
    with pytest.raises(ValueError, match="conv_transpose2d: input expects shape"):
        layer(x[0, 0, 0], (9, 9))


def test_the_layers_arguments() -> None:
    with pytest.raises(ValueError, match=r"ConvTranspose2d: .* must be multiples of groups \(2\)"):
        nn.ConvTranspose2d(4, 3, 3, groups=2)
    with pytest.raises(ValueError, match="ConvTranspose2d: in_channels expects at least 1, got 0"):
        nn.ConvTranspose2d(0, 3, 3)
    with pytest.raises(ValueError, match="ConvTranspose2d: padding_mode expects \"zeros\", got 'reflect'"):
        nn.ConvTranspose2d(4, 3, 3, padding_mode="reflect")
    with pytest.raises(ValueError, match="ConvTranspose2d: padding expects an int or 2 ints"):
        nn.ConvTranspose2d(4, 3, 3, padding=(1, 1, 1, 1))
    layer = nn.ConvTranspose2d(4, 6, (3, 2), groups=2, bias=False, dtype=np.float64)
    assert layer.weight.shape == (4, 3, 3, 2) and layer.weight.dtype == np.float64
    assert layer.weight.physical.shape == (3, 2, 3, 4)  # as the kernels read it: no copy at each call
    assert [node.op.name for node in layer.plan(np.zeros((1, 4, 2, 2))).graph.nodes][-1] == "conv_transpose2d"
    assert list(layer.state_dict()) == ["weight"]
