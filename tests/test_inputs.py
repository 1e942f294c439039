"""Hard inputs for every public op: any strides, read-only, empty, extreme, wrong.

The right answer or a clear error, never a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import cnnmath
import cnnmath.functional as F

LABELS = np.array([1, 0, 3])

# Each public op with small arrays that it takes; the functions take those of floating point.
CASES: dict[str, tuple[Callable[..., Any], list[tuple[int, ...]]]] = {
    "adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x, (2, 3)), [(2, 3, 6, 5)]),
    "adaptive_max_pool2d": (lambda x: F.adaptive_max_pool2d(x, (2, 3)), [(2, 3, 6, 5)]),
    "add": (F.add, [(2, 3, 4, 5), (3, 1, 5)]),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 3, stride=2, padding=1), [(2, 3, 6, 5)]),
    "batch_norm": (
        lambda x, m, v, w, b: F.batch_norm(
            x, m, v, w, b, eps=20.0
        ),  # the variances of these tests may be below 0
        [(2, 3, 4, 5), (3,), (3,), (3,), (3,)],
    ),
    "cat": (lambda a, b: F.cat([a, b], 1), [(2, 3, 4, 5), (2, 1, 4, 5)]),
    "conv2d": (lambda x, w, b: F.conv2d(x, w, b, padding=1), [(2, 3, 6, 5), (4, 3, 3, 3), (4,)]),
    "conv_transpose2d": (
        lambda x, w, b: F.conv_transpose2d(x, w, b, stride=2, padding=1),
        [(2, 3, 6, 5), (3, 4, 3, 3), (4,)],
    ),
    "cross_entropy": (lambda x: F.cross_entropy(x, LABELS), [(3, 5)]),
    "div": (lambda a, b: F.div(a, F.add(F.mul(b, b), 1.0)), [(2, 3, 4), (3, 1)]),
    "dropout": (lambda x: F.dropout(x, 0.0), [(2, 3, 4, 5)]),
    "flatten": (lambda x: F.flatten(x, 1), [(2, 3, 4, 5)]),
    "leaky_relu": (F.leaky_relu, [(2, 3, 4, 5)]),
    "linear": (F.linear, [(4, 5), (3, 5), (3,)]),
    "log_softmax": (lambda x: F.log_softmax(x, 1), [(2, 3, 4, 5)]),
    "max_pool2d": (lambda x: F.max_pool2d(x, 3, stride=2, padding=1), [(2, 3, 6, 5)]),
    "mean": (lambda x: F.mean(x, (0, 2)), [(2, 3, 4, 5)]),
    "mse_loss": (F.mse_loss, [(2, 3, 4, 5), (2, 3, 4, 5)]),
    "mul": (F.mul, [(2, 3, 4), (2, 1, 4)]),
    "neg": (F.neg, [(2, 3, 4, 5)]),
    "pad": (lambda x: F.pad(x, (1, 2, 0, 1)), [(2, 3, 4, 5)]),
    "permute": (lambda x: F.permute(x, (2, 0, 3, 1)), [(2, 3, 4, 5)]),
    "relu": (F.relu, [(2, 3, 4, 5)]),
    "reshape": (lambda x: F.reshape(x, (6, -1)), [(2, 3, 4, 5)]),
    "sigmoid": (F.sigmoid, [(2, 3, 4, 5)]),
    "softmax": (lambda x: F.softmax(x, 1), [(2, 3, 4, 5)]),
    "sub": (F.sub, [(2, 3, 4, 5), (4, 1)]),
    "sum": (lambda x: F.sum(x, 1), [(2, 3, 4, 5)]),
    "tanh": (F.tanh, [(2, 3, 4, 5)]),
}
# Zeros in the batch give a mean over nothing, which is NaN, or an error: their own tests say which.
NO_EMPTY_BATCH = {"reshape", "batch_norm", "mean", "cross_entropy", "mse_loss", "cat"}
# These mix dtypes or take other kinds of numbers, as in PyTorch.
ARITHMETIC = {"add", "sub", "mul", "div", "neg", "sum", "cat", "pad", "permute", "reshape", "flatten"}


def test_every_public_op_is_here() -> None:
    assert set(CASES) == set(F.__all__)


def arrays_of(name: str, rng: np.random.Generator, dtype: type = np.float64) -> list[np.ndarray]:
    return [rng.standard_normal(shape).astype(dtype) for shape in CASES[name][1]]


def leaves(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, (tuple, list)):
        for v in value:
            yield from leaves(v)
    else:
        assert isinstance(value, (np.ndarray, np.generic))
        yield np.asarray(value)


def unaligned(a: np.ndarray) -> np.ndarray:
    raw = np.zeros(a.nbytes + 1, np.uint8)
    view = raw[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def readonly(a: np.ndarray) -> np.ndarray:
    a = a.copy()
    a.flags.writeable = False
    return a


def every_second(a: np.ndarray) -> np.ndarray:
    big = np.full([2 * n for n in a.shape], np.nan, a.dtype)
    view = big[tuple(slice(None, None, 2) for _ in a.shape)]
    view[...] = a
    return view


class Subclass(np.ndarray):
    pass


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "negative strides": lambda a: a[(slice(None, None, -1),) * a.ndim].copy()[
        (slice(None, None, -1),) * a.ndim
    ],
    "Fortran order": np.asfortranarray,
    "channels last": lambda a: np.moveaxis(np.moveaxis(a, 1, -1).copy(), -1, 1) if a.ndim > 1 else a,
    "every second": every_second,
    "read-only": readonly,
    "unaligned": unaligned,
    "subclass": lambda a: a.view(Subclass),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CASES)
def test_any_layout_gives_the_same_bits(name: str, layout: str, rng: np.random.Generator) -> None:
    fn, _ = CASES[name]
    arrays = arrays_of(name, rng)
    before = [a.copy() for a in arrays]
    want, pullback = cnnmath.vjp(fn, *arrays)
    changed = [LAYOUTS[layout](a) for a in arrays]
    assert all(np.array_equal(a, b) for a, b in zip(arrays, changed))
    cotangents = tuple(rng.standard_normal(np.shape(w)) for w in leaves(want))
    v = cotangents if isinstance(want, tuple) else cotangents[0]
    want_grads = pullback(v)
    got, pullback = cnnmath.vjp(fn, *changed)
    for g, w in zip(leaves(fn(*changed)), leaves(want), strict=True):
        assert np.array_equal(g, w) and type(g) is np.ndarray and g.flags.writeable
        assert not any(np.shares_memory(g, a) for a in changed)
    assert all(np.array_equal(g, w) for g, w in zip(leaves(got), leaves(want), strict=True))
    for g, w in zip(pullback(v), want_grads, strict=True):
        assert np.array_equal(g, w)
    assert all(np.array_equal(a, b) for a, b in zip(changed, before))  # inputs are left alone


@pytest.mark.parametrize("name", CASES)
def test_zero_strides(name: str, rng: np.random.Generator) -> None:
    """A broadcast view, one number under many indices, is read like the array it stands for."""
    fn, shapes = CASES[name]
    arrays = [np.broadcast_to(rng.standard_normal((1,) * len(s)), s) for s in shapes]
    full = [np.array(a) for a in arrays]
    for g, w in zip(leaves(fn(*arrays)), leaves(fn(*full)), strict=True):
        assert np.array_equal(g, w)


@pytest.mark.parametrize("name", sorted(set(CASES) - NO_EMPTY_BATCH))
def test_empty_batch(name: str, rng: np.random.Generator) -> None:
    fn, shapes = CASES[name]
    arrays = arrays_of(name, rng)
    weights = range(1, len(shapes)) if name in ("conv2d", "conv_transpose2d", "linear") else ()
    batched = [i not in weights and len(s) == len(shapes[0]) for i, s in enumerate(shapes)]
    empty = [a[:0] if batched[i] else a for i, a in enumerate(arrays)]
    out, pullback = cnnmath.vjp(fn, *empty)
    assert out.size == 0 or name in ("sum",)
    for g, a in zip(pullback(np.ones(out.shape)), empty, strict=True):
        assert g.shape == a.shape and not g.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_values_that_are_not_finite(name: str, dtype: type, bad: float, rng: np.random.Generator) -> None:
    """They come without a warning or a crash, and a NaN among the inputs shows in the result."""
    fn, _ = CASES[name]
    arrays = arrays_of(name, rng, dtype)
    for a in arrays:
        a[(0,) * a.ndim] = bad
    out, pullback = cnnmath.vjp(fn, *arrays)
    pullback(np.ones(out.shape, dtype))
    if np.isnan(bad):
        assert np.isnan(out).any()


@pytest.mark.parametrize("name", CASES)
def test_large_and_tiny_values(name: str, rng: np.random.Generator) -> None:
    fn, shapes = CASES[name]
    for size in (1e38, 1e-45, -3e38):
        out, pullback = cnnmath.vjp(fn, *(np.full(s, size, np.float32) for s in shapes))
        pullback(np.ones(out.shape, np.float32))


@pytest.mark.parametrize(
    "kind", ["float16", "longdouble", "complex64", "object", "U3", "datetime64[s]", ">f8", ">f4"]
)
@pytest.mark.parametrize("name", CASES)
def test_dtypes_that_no_op_takes(name: str, kind: str) -> None:
    fn, shapes = CASES[name]
    arrays = [np.zeros(s).astype(kind) for s in shapes]
    with pytest.raises(TypeError, match=r"dtype|float32|expect"):
        fn(*arrays)
    with pytest.raises(TypeError, match=r"dtype|float32|expect"):
        fn(arrays[0], *(np.zeros(s) for s in shapes[1:]))


def test_structured_dtypes() -> None:
    with pytest.raises(TypeError, match="dtype"):
        F.relu(np.zeros(3, dtype=[("a", "f4"), ("b", "f4")]))


@pytest.mark.parametrize("name", sorted(set(CASES) - ARITHMETIC - {"mse_loss"}))
def test_whole_numbers_are_refused(name: str) -> None:
    fn, shapes = CASES[name]
    for kind in (np.int64, np.uint8, np.bool_):
        with pytest.raises(TypeError, match=rf"{name}: .*float32 or float64, got {np.dtype(kind)}"):
            fn(*(np.ones(s, kind) for s in shapes))


@pytest.mark.parametrize("name", [n for n in CASES if len(CASES[n][1]) > 1 and n not in ARITHMETIC])
def test_mixed_precision_is_refused(name: str) -> None:
    """Nothing is cast silently."""
    fn, shapes = CASES[name]
    arrays = [np.ones(s) for s in shapes]
    arrays[-1] = arrays[-1].astype(np.float32)
    with pytest.raises(TypeError, match=r"float64|float32"):
        fn(*arrays)


@pytest.mark.parametrize(
    "thing", [None, "text", {"a": 1}, {1, 2}, object(), lambda: 0, b"bytes", 1 + 2j], ids=repr
)
@pytest.mark.parametrize("name", CASES)
def test_what_is_no_array(name: str, thing: Any) -> None:
    fn, shapes = CASES[name]
    with pytest.raises((TypeError, ValueError)) as e:
        fn(thing, *(np.ones(s) for s in shapes[1:]))
    assert str(e.value)


@pytest.mark.parametrize("name", CASES)
def test_wrong_ranks(name: str, rng: np.random.Generator) -> None:
    """A rank that an op does not take is a ValueError (or it is taken); nothing else comes out."""
    fn, shapes = CASES[name]
    for rank in (0, 1, 2, 3, 5, 6, 7, 20):
        arrays = [rng.standard_normal((2,) * rank), *(rng.standard_normal(s) for s in shapes[1:])]
        try:
            out = fn(*arrays)
        except (ValueError, IndexError) as e:
            assert str(e)
        else:
            list(leaves(out))


HUGE = np.broadcast_to(np.float32(1), (1, 1, 2**30, 2**30))


@pytest.mark.parametrize(
    ("call", "errors"),
    [
        (lambda: F.relu(HUGE), (MemoryError, ValueError)),
        (lambda: F.max_pool2d(HUGE, 2), (MemoryError, ValueError)),
        (lambda: F.conv2d(HUGE, np.ones((1, 1, 3, 3), np.float32)), (MemoryError, ValueError)),
        (lambda: F.sum(HUGE), (MemoryError, ValueError)),
        (lambda: F.flatten(HUGE), (MemoryError, ValueError)),
        (lambda: F.pad(np.ones((1, 1, 2, 2)), (2**62, 2**62)), (MemoryError, ValueError)),
        (lambda: F.pad(np.ones((1, 1, 2, 2)), (2**63, 0)), (MemoryError, ValueError, OverflowError)),
        (lambda: F.pad(np.ones((1, 1, 2, 2)), (2**40, 2**40, 2**40, 2**40)), (MemoryError, ValueError)),
        (
            lambda: F.conv2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)), padding=2**62),
            (MemoryError, ValueError),
        ),
        (lambda: F.conv2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)), dilation=2**62), ValueError),
        (lambda: F.conv2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)), stride=0), ValueError),
        (lambda: F.conv2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)), groups=0), ValueError),
        (lambda: F.conv2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)), groups=-1), ValueError),
        (lambda: F.conv_transpose2d(HUGE, np.ones((1, 1, 3, 3), np.float32)), (MemoryError, ValueError)),
        (lambda: F.conv_transpose2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)), stride=2**62), ValueError),
        (lambda: F.conv_transpose2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)), padding=2**62), ValueError),
        (
            lambda: F.conv_transpose2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)), dilation=2**62),
            (MemoryError, ValueError),
        ),
        (
            lambda: F.conv_transpose2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)), output_padding=2**63),
            ValueError,
        ),
        (lambda: F.max_pool2d(np.ones((1, 1, 4, 4)), 0), ValueError),
        (lambda: F.max_pool2d(np.ones((1, 1, 4, 4)), 2**62), ValueError),
        (lambda: F.max_pool2d(np.ones((1, 1, 4, 4)), 2, stride=-1), ValueError),
        (lambda: F.avg_pool2d(np.ones((1, 1, 4, 4)), 2, padding=2**62), ValueError),
        (lambda: F.avg_pool2d(np.ones((1, 1, 4, 4)), 2, divisor_override=0), ValueError),
        (lambda: F.adaptive_avg_pool2d(np.ones((1, 1, 4, 4)), 2**40), (MemoryError, ValueError)),
        (lambda: F.adaptive_avg_pool2d(np.ones((1, 1, 4, 4)), -1), ValueError),
        (lambda: F.reshape(np.ones(6), (2**32, 2**32)), ValueError),
        (lambda: F.reshape(np.ones(6), (-1, -1)), ValueError),
        (lambda: F.reshape(np.ones(6), (4, -1)), ValueError),
        (lambda: F.reshape(np.ones(0), (0, -1)), ValueError),
        (lambda: F.cat([]), ValueError),
        (lambda: F.sum(np.ones((2, 3)), 2), (ValueError, IndexError)),
        (lambda: F.sum(np.ones((2, 3)), (0, 0)), ValueError),
        (lambda: F.softmax(np.ones((2, 3)), -3), (ValueError, IndexError)),
        (lambda: F.cross_entropy(np.ones((2, 3)), np.array([0, 3])), (ValueError, IndexError)),
        (lambda: F.cross_entropy(np.ones((2, 3)), np.array([0, -1])), (ValueError, IndexError)),
        (lambda: F.cross_entropy(np.ones((2, 3)), np.array([0, 2**62])), (ValueError, IndexError)),
        (lambda: F.dropout(np.ones(3), 1.5), ValueError),
        (lambda: F.dropout(np.ones(3), -0.5), ValueError),
        (lambda: F.dropout(np.ones(3), float("nan")), ValueError),
        (lambda: F.linear(np.ones((2, 3)), np.ones((4, 2))), ValueError),
        (lambda: F.permute(np.ones((2, 3)), (0, 0)), (ValueError, RuntimeError)),
        (lambda: F.batch_norm(np.ones((2, 3)), np.zeros(2), np.ones(3)), ValueError),
    ],
)
def test_sizes_and_arguments_that_cannot_be(call: Callable[[], Any], errors: Any) -> None:
    """Sizes that overflow 64 bits, or that no machine has; arguments out of range."""
    with pytest.raises(errors) as e:
        call()
    assert str(e.value) or isinstance(e.value, MemoryError)


def test_targets_are_checked_at_each_run() -> None:
    """A plan found again does not skip the checks of values."""
    x = np.ones((2, 3))
    F.cross_entropy(x, np.array([0, 1]))
    with pytest.raises((ValueError, IndexError)):
        F.cross_entropy(x, np.array([0, 7]))
    F.cross_entropy(x, np.array([0, 2]))


def test_an_array_that_overlaps_another(rng: np.random.Generator) -> None:
    base = rng.standard_normal(50)
    a, b = base[:40], base[10:]
    assert np.array_equal(F.add(a, b), a + b)
    assert np.array_equal(F.mul(base, base), base * base)


def test_numpy_integers_are_sizes_dims_and_classes() -> None:
    x = np.arange(6.0)
    rows = np.prod([2])
    assert F.reshape(x, (rows, np.int64(3))).shape == (2, 3)
    assert np.array_equal(F.sum(F.reshape(x, (2, 3)), np.int64(0)), [3.0, 5.0, 7.0])
    assert F.max_pool2d(np.zeros((1, 1, 4, 4)), np.int32(2)).shape == (1, 1, 2, 2)
    logits = np.array([0.0, 1.0, 2.0])
    assert F.cross_entropy(logits, np.int64(1)) == F.cross_entropy(logits, np.array(1))
