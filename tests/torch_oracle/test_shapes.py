"""Operations with spatial dimensions against PyTorch on generated arguments, forward and backward."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("hypothesis")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

import cnnmath.functional as F  # noqa: E402

from .generated import Source, check, sources  # noqa: E402

T = torch.nn.functional


def int_or_pair(low: int, high: int) -> st.SearchStrategy[Any]:
    number = st.integers(low, high)
    return number | st.tuples(number, number) | st.tuples(number)


def image(draw: st.DrawFn, source: Source, channels: int, height: int, width: int) -> np.ndarray:
    batch = draw(st.sampled_from([(), (1,), (2,), (3,), (0,)]))
    return source.normal(*batch, channels, height, width)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Source, list[np.ndarray], dict[str, Any]]:
    source = draw(sources)
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    # a multiple of no vector's length, a whole vector, more than one
    channels = st.sampled_from([1, 2, 3, 4, 7, 8, 16, 17, 33])
    c, o = groups * draw(channels), groups * draw(channels)
    if draw(st.integers(0, 3)) == 0:  # depthwise, also with a multiplier
        groups, o = c, c * draw(st.integers(1, 2))
    kh, kw = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    kwargs: dict[str, Any] = {"groups": groups}
    kwargs["padding"] = draw(int_or_pair(0, 3) | st.sampled_from(["same", "valid"]))
    kwargs["dilation"] = draw(int_or_pair(1, 3))
    kwargs["stride"] = 1 if kwargs["padding"] == "same" else draw(int_or_pair(1, 3))
    x = image(draw, source, c, draw(st.integers(1, 14)), draw(st.integers(1, 14)))
    operands = [x, source.normal(o, c // groups, kh, kw)]
    if draw(st.booleans()):
        operands.append(source.normal(o))
    return source, operands, kwargs


@given(convolutions())
def test_conv2d(case: tuple[Source, list[np.ndarray], dict[str, Any]]) -> None:
    source, operands, kwargs = case

    def theirs(*ts: Any) -> Any:
        return T.conv2d(*ts, **kwargs)

    check(lambda *xs: F.conv2d(*xs, **kwargs), theirs, operands, source, magnitudes=theirs, refuse=True)


@given(convolutions(), st.tuples(*[st.integers(0, 3)] * 4))
def test_conv2d_with_four_paddings(
    case: tuple[Source, list[np.ndarray], dict[str, Any]], padding: tuple[int, int, int, int]
) -> None:
    """Left, right, top, bottom: the order of `pad`."""
    source, operands, kwargs = case
    kwargs.pop("padding")

    def theirs(x: Any, *ts: Any) -> Any:
        return T.conv2d(T.pad(x, padding), *ts, **kwargs)

    def ours(*xs: Any) -> Any:
        return F.conv2d(*xs, padding=padding, **kwargs)

    check(ours, theirs, operands, source, magnitudes=theirs, refuse=True)


@st.composite
def transposed_convolutions(draw: st.DrawFn) -> tuple[Source, list[np.ndarray], dict[str, Any]]:
    source = draw(sources)
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    channels = st.sampled_from([1, 2, 3, 4, 7, 8, 16, 17, 33])
    c, o = groups * draw(channels), draw(channels)
    if draw(st.integers(0, 3)) == 0:  # each channel for itself
        groups, o = c, draw(st.integers(1, 2))
    kwargs: dict[str, Any] = {"groups": groups}
    kwargs["stride"], kwargs["dilation"] = draw(int_or_pair(1, 4)), draw(int_or_pair(1, 3))
    kwargs["padding"], kwargs["output_padding"] = draw(int_or_pair(0, 3)), draw(int_or_pair(0, 2))
    x = image(draw, source, c, draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    if x.size == 0:  # PyTorch does not look at these then, and takes what it refuses for one image
        kwargs["padding"], kwargs["output_padding"] = 0, 0
    operands = [x, source.normal(c, o, draw(st.integers(1, 4)), draw(st.integers(1, 4)))]
    if draw(st.booleans()):
        operands.append(source.normal(o * groups))
    return source, operands, kwargs


@given(transposed_convolutions())
def test_conv_transpose2d(case: tuple[Source, list[np.ndarray], dict[str, Any]]) -> None:
    source, operands, kwargs = case

    def theirs(*ts: Any) -> Any:
        return T.conv_transpose2d(*ts, **kwargs)

    def ours(*xs: Any) -> Any:
        return F.conv_transpose2d(*xs, **kwargs)

    check(ours, theirs, operands, source, magnitudes=theirs, refuse=True)


@given(st.data(), sources, st.booleans(), st.booleans())
def test_max_pool2d(data: st.DataObject, source: Source, ceil_mode: bool, ties: bool) -> None:
    kwargs = {
        "kernel_size": data.draw(int_or_pair(1, 4)),
        "stride": data.draw(st.none() | int_or_pair(1, 3)),
        "padding": data.draw(int_or_pair(0, 2)),
        "dilation": data.draw(int_or_pair(1, 3)),
        "ceil_mode": ceil_mode,
    }
    c, h, w = (data.draw(st.integers(1, n)) for n in (20, 11, 11))
    x = image(data.draw, source, c, h, w)
    if ties:
        x = source.integers(-2, 3, *x.shape)
        x[source.rng.random(x.shape) < 0.02] = np.nan
        x[source.rng.random(x.shape) < 0.02] = -np.inf
    try:
        expected, indices = T.max_pool2d(torch.tensor(x.copy()), **kwargs, return_indices=True)
    except RuntimeError:
        with pytest.raises(ValueError, match="max_pool2d"):
            F.max_pool2d(x, **kwargs)
        return
    out = F.max_pool2d(x, **kwargs, return_indices=True)
    np.testing.assert_array_equal(out[0], expected.numpy(), strict=True)
    np.testing.assert_array_equal(out[1], indices.numpy(), strict=True)
    # With padding and dilation a window can miss the image. PyTorch's backward pass then writes outside of its
    # memory or to a place that the window does not see, and may end the process.
    if bool(torch.isfinite(T.max_pool2d(torch.zeros(x.shape), **kwargs)).all()):
        check(lambda x: F.max_pool2d(x, **kwargs), lambda x: T.max_pool2d(x, **kwargs), [x], source)


@given(st.data(), sources, st.booleans(), st.booleans())
def test_avg_pool2d(data: st.DataObject, source: Source, ceil_mode: bool, count_include_pad: bool) -> None:
    kwargs = {
        "kernel_size": data.draw(int_or_pair(1, 4)),
        "stride": data.draw(st.none() | int_or_pair(1, 3)),
        "padding": data.draw(int_or_pair(0, 2)),
        "ceil_mode": ceil_mode,
        "count_include_pad": count_include_pad,
    }
    divisor = data.draw(st.none() | st.sampled_from([-3, 1, 2, 5]))
    c, h, w = (data.draw(st.integers(1, n)) for n in (20, 11, 11))
    x = image(data.draw, source, c, h, w)
    check(
        lambda x: F.avg_pool2d(x, **kwargs, divisor_override=divisor),
        lambda x: T.avg_pool2d(x, **kwargs, divisor_override=divisor),
        [x],
        source,
        magnitudes=lambda x: T.avg_pool2d(x, **kwargs, divisor_override=divisor and abs(divisor)),
        refuse=True,
    )


sides = st.none() | st.integers(1, 9)
adaptive_sizes = st.integers(1, 9) | st.tuples(sides, sides)


@given(st.data(), sources, adaptive_sizes)
def test_adaptive_avg_pool2d(data: st.DataObject, source: Source, output_size: Any) -> None:
    c, h, w = (data.draw(st.integers(1, n)) for n in (20, 11, 11))
    x = image(data.draw, source, c, h, w)

    def theirs(x: Any) -> Any:
        return T.adaptive_avg_pool2d(x, output_size)

    check(lambda x: F.adaptive_avg_pool2d(x, output_size), theirs, [x], source, magnitudes=theirs)


@given(st.data(), sources, adaptive_sizes)
def test_adaptive_max_pool2d(data: st.DataObject, source: Source, output_size: Any) -> None:
    c, h, w = (data.draw(st.integers(1, n)) for n in (20, 11, 11))
    x = source.integers(-2, 3, *image(data.draw, source, c, h, w).shape)
    check(
        lambda x: F.adaptive_max_pool2d(x, output_size),
        lambda x: T.adaptive_max_pool2d(x, output_size),
        [x],
        source,
    )
    _, expected = T.adaptive_max_pool2d(torch.tensor(x.copy()), output_size, return_indices=True)
    _, indices = F.adaptive_max_pool2d(x, output_size, return_indices=True)
    np.testing.assert_array_equal(indices, expected.numpy(), strict=True)


@st.composite
def normalisations(draw: st.DrawFn) -> tuple[Source, list[np.ndarray], list[np.ndarray] | None]:
    source = draw(sources)
    c = draw(st.sampled_from([1, 2, 3, 8, 17, 40]))
    rest = draw(st.lists(st.integers(1, 5), max_size=3))
    n = draw(st.integers(2 if not rest else 1, 5))
    operands = [source.normal(n, c, *rest, mean=2, deviation=3)]
    if draw(st.booleans()):
        operands += [source.normal(c), source.normal(c)]
    running = [source.rng.standard_normal(c), source.rng.uniform(0.5, 2, c)]
    return source, operands, [a.astype(source.dtype) for a in running] if draw(st.booleans()) else None


@given(normalisations(), st.booleans(), st.sampled_from([0.0, 0.1, 1.0, 0.3]), st.sampled_from([1e-5, 0.1]))
def test_batch_norm(case: Any, training: bool, momentum: float, eps: float) -> None:
    source, operands, running = case
    training = training or running is None
    kwargs = {"training": training, "momentum": momentum, "eps": eps}
    ours_running = [a.copy() for a in running] if running else [None, None]
    before = [a.copy() for a in running] if running else []

    def ours(x: Any, *affine: Any) -> Any:
        # Running statistics are written once per call: each call gets its own.
        return F.batch_norm(x, *[None if a is None else a.copy() for a in ours_running], *affine, **kwargs)

    def theirs(x: Any, *affine: Any) -> Any:
        statistics = [torch.tensor(a, dtype=torch.float64) for a in running] if running else [None, None]
        return T.batch_norm(x, *statistics, *affine, **kwargs)

    x = operands[0]
    count = x.size // x.shape[1]
    if count < 2:
        check(ours, theirs, operands, source, refuse=True)
        return
    # Subtracting the mean loses |mean|/deviation, dividing by a small deviation enlarges: see the spread.
    spread = np.sqrt(np.var(x.astype(np.float64), axis=tuple(i for i in range(x.ndim) if i != 1)) + eps)
    factor = 200.0 * max(1.0, float(20 / spread.min())) ** 2 if training else 200.0
    check(ours, theirs, operands, source, factor=factor)

    if running:
        F.batch_norm(x, *ours_running, *operands[1:], **kwargs)
        tensors = [torch.tensor(a, dtype=torch.float64) for a in before]
        T.batch_norm(torch.tensor(np.array(x, np.float64)), *tensors, **kwargs)
        tolerance = 200 * np.finfo(source.dtype).eps
        for a, t in zip(ours_running, tensors, strict=True):
            np.testing.assert_allclose(a, t.numpy(), rtol=tolerance, atol=20 * tolerance)


@st.composite
def paddings(draw: st.DrawFn) -> tuple[Source, np.ndarray, list[int], str]:
    source = draw(sources)
    mode = draw(st.sampled_from(["constant", "reflect", "replicate", "circular"]))
    rank = draw(st.integers(1 if mode == "constant" else 2, 5))
    x = source.normal(*[draw(st.integers(1, 5)) for _ in range(rank)])
    if mode == "constant":
        pairs = draw(st.integers(1, rank))
    else:
        pairs = draw(st.sampled_from([p for p in (rank - 2, rank - 1) if 1 <= p <= 3]))
    return source, x, [draw(st.integers(-2, 4)) for _ in range(2 * pairs)], mode


@given(paddings())
def test_pad(case: tuple[Source, np.ndarray, list[int], str]) -> None:
    source, x, numbers, mode = case
    pairs = list(zip(reversed(x.shape), numbers[::2], numbers[1::2], strict=False))
    if mode == "circular" and any(max(a, b, 0) > n + min(a, 0) + min(b, 0) for n, a, b in pairs):
        # What is to be repeated has been cropped. PyTorch refuses, or gives values that nobody has written.
        with pytest.raises(ValueError, match="pad"):
            F.pad(x, numbers, mode)
        return

    def theirs(x: Any) -> Any:
        return T.pad(x, numbers, mode)

    check(lambda x: F.pad(x, numbers, mode), theirs, [x], source, magnitudes=theirs, refuse=True)


@given(sources, st.lists(st.integers(-2, 3), min_size=4, max_size=4), st.sampled_from([0.5, -np.inf, np.nan]))
def test_pad_with_a_value(source: Source, numbers: list[int], value: float) -> None:
    x = source.normal(2, 4, 5)
    check(
        lambda x: F.pad(x, numbers, "constant", value),
        lambda x: T.pad(x, numbers, "constant", value),
        [x],
        source,
        refuse=True,
    )
