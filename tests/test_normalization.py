"""Batch normalisation: statistics, values, gradients, running arrays, refused calls."""

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
from cnnmath.graph.variable import Variable
from cnnmath.planner import eager
from cnnmath.planner.plan import Plan

from .checks import FLOATS, close, same_bits_on_any_threads, strided

channels = st.sampled_from([1, 2, 3, 6, 8, 15, 16, 17, 33, 64, 65, 130])
shapes = st.one_of(
    st.tuples(st.integers(2, 40), channels),
    st.tuples(st.integers(2, 5), channels, st.integers(1, 9)),
    st.tuples(st.integers(2, 5), channels, st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(2, 3), channels, st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", FLOATS)
@given(shape=shapes, given_arrays=st.tuples(*[st.booleans()] * 3), seed=st.integers(0, 2**32 - 1))
def test_values_gradients_and_running_arrays(
    training: bool, dtype: Any, shape: tuple[int, ...], given_arrays: tuple[bool, ...], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(1, 2, shape).astype(dtype)
    c = shape[1]
    weight = rng.normal(1, 1, c).astype(dtype) if given_arrays[0] else None
    bias = rng.normal(0, 1, c).astype(dtype) if given_arrays[1] else None
    running = (None, None)
    if given_arrays[2] or not training:
        running = (rng.normal(0, 1, c).astype(dtype), rng.uniform(0.5, 2, c).astype(dtype))
    options = {"training": training, "eps": 1e-3}
    wide = [None if a is None else a.astype(np.float64) for a in (x, *running, weight, bias)]
    y, mean, var = reference.batch_norm(*wide, **options, momentum=0.3)
    eps = float(np.finfo(dtype).eps)

    mine = [None if a is None else a.copy() for a in running]
    out = F.batch_norm(strided(x), *mine, weight, bias, **options, momentum=0.3)
    np.testing.assert_allclose(out, y, rtol=500 * eps, atol=500 * eps)
    assert out.dtype == dtype
    for now, expected in zip(mine, (mean, var)):
        if now is not None:
            np.testing.assert_allclose(now, expected, rtol=100 * eps, atol=100 * eps)

    v = rng.standard_normal(shape).astype(dtype)
    arrays = [a for a in (x, weight, bias) if a is not None]

    def fn(x: Any, *rest: Any) -> Any:
        parts = iter(rest)
        w, b = (None if a is None else next(parts) for a in (weight, bias))
        return F.batch_norm(x, *running, w, b, **options)

    pullback = cnnmath.vjp(fn, *arrays)[1]
    grads = pullback(v)
    expected = reference.batch_norm_backward(v.astype(np.float64), *wide[:4], **options)
    # with few values a channel its variance can be close to 0, and the gradient large
    scale = float(np.abs(expected[0]).max())
    np.testing.assert_allclose(grads[0], expected[0], rtol=1e3 * eps, atol=1e3 * eps * max(scale, 1))
    wanted = [e for e, a in zip(expected[1:], (weight, bias)) if a is not None]
    for grad, e in zip(grads[1:], wanted):
        np.testing.assert_allclose(grad, e, rtol=1e3 * eps, atol=1e3 * eps * v.size**0.5)


def sweep() -> None:
    """Whole statistics, finite differences and a mean far from 0; runs alone, on each instruction set."""
    from functools import partial

    import numpy as np

    import cnnmath
    import cnnmath.functional as F
    from cnnmath import reference

    rng = np.random.default_rng(0)
    for c in (1, 3, 4, 8, 9, 16, 17, 40, 64, 70, 130):
        # half of each channel's values are m - 1, half m + 1: mean m and variance 1 exactly
        signs = np.where(np.arange(64)[:, None] % 2 == 0, -1.0, 1.0)
        m = rng.integers(-5, 6, c)
        for dtype in (np.float32, np.float64):
            x = (m + signs * np.ones(c)).astype(dtype)
            y = F.batch_norm(x, None, None, training=True, eps=0.0)
            np.testing.assert_array_equal(y, np.broadcast_to(signs, x.shape).astype(dtype))
            # several chunks of rows and a large offset: the variance keeps its digits
            x = (rng.standard_normal((70000 // c, c)) + 1000).astype(dtype)
            rv = np.zeros(c, dtype)
            F.batch_norm(x, np.zeros(c, dtype), rv, training=True, momentum=1.0)
            expected = x.astype(np.float64).var(0, ddof=1)
            np.testing.assert_allclose(rv, expected, rtol=2e-4 if dtype == np.float32 else 1e-11)
    x, w, b = rng.standard_normal((3, 5, 2, 3)), rng.standard_normal(5), rng.standard_normal(5)
    rm, rv = rng.standard_normal(5), rng.uniform(0.5, 2, 5)
    rm2, rv2, w2 = np.zeros(40), np.ones(40), rng.standard_normal(40)
    for training in (True, False):
        fn = partial(F.batch_norm, training=training)
        assert cnnmath.gradcheck(lambda x, w, b, fn=fn: fn(x, rm.copy(), rv.copy(), w, b), [x, w, b])
        # x and its gradient are large enough for several tasks
        x2, v2 = rng.standard_normal((7, 40, 20, 9)), rng.standard_normal((7, 40, 20, 9))
        _, pullback = cnnmath.vjp(lambda x, w, fn=fn: fn(x, rm2.copy(), rv2.copy(), w), x2, w2)
        expected = reference.batch_norm_backward(v2, x2, rm2, rv2, w2, training)
        for a, e in zip(pullback(v2), expected):
            np.testing.assert_allclose(a, e, rtol=1e-9, atol=1e-9)


def test_every_instruction_set(isa: str, run_on: Callable[[str, str], str]) -> None:
    run_on(isa, f"{inspect.getsource(sweep)}\nsweep()")


@pytest.mark.parametrize("shape", [(7, 20, 33, 34), (5000, 16), (3, 300, 20, 20)])
@pytest.mark.parametrize("training", [True, False])
def test_threads(
    training: bool, shape: tuple[int, ...], threads: Callable[[int], None], rng: np.random.Generator
) -> None:
    c = shape[1]
    x, w, b = (rng.standard_normal(s, np.float32) for s in (shape, c, c))
    zeros, ones = np.zeros(c, np.float32), np.ones(c, np.float32)
    same_bits_on_any_threads(
        threads, lambda x, w, b: F.batch_norm(x, zeros.copy(), ones.copy(), w, b, training), x, w, b
    )


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("shape", [(3, 17, 5, 6), (6, 64, 20, 20), (40, 3)])
@pytest.mark.parametrize("dtype", FLOATS)
def test_where_a_relu_let_through_is_computed_anew(
    dtype: Any, shape: tuple[int, ...], affine: bool, rng: np.random.Generator
) -> None:
    """Forward and backward in one plan: the gradients' bits are those with y read from memory."""
    x, v = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    x[:, 0] = 0.5  # its outputs are exactly the bias, which is 0
    w, b = (rng.uniform(-1, 1, shape[1]).astype(dtype) for _ in range(2))
    b[0] = 0

    def normed(x: Any, w: Any, b: Any) -> Any:
        return F.relu(F.batch_norm(x, None, None, *((w, b) if affine else ()), training=True))

    _, pullback = cnnmath.vjp(normed, x, w, b)
    apart = pullback(v)
    _, together = cnnmath.value_and_grad(lambda *a: F.sum(F.mul(normed(*a), v)), wrt=(0, 1, 2))(x, w, b)
    for mine, expected in zip(together, apart, strict=True):
        np.testing.assert_array_equal(mine, expected)


def test_a_bias_that_others_read_later(rng: np.random.Generator) -> None:
    """The last of them may compute in its place."""
    x, v = rng.standard_normal((8, 3, 5, 5)), rng.standard_normal((8, 3, 5, 5))
    w, b = rng.uniform(-1, 1, 3), rng.uniform(-1, 1, 3)

    def loss(x: Any, w: Any, b: Any) -> Any:
        shift = F.mul(b, 2.0)
        y = F.relu(F.batch_norm(x, None, None, w, shift, training=True))
        return F.add(F.sum(F.mul(y, v)), F.sum(F.sigmoid(shift)))

    _, pullback = cnnmath.vjp(loss, x, w, b)
    _, grads = cnnmath.value_and_grad(loss, wrt=(0, 1, 2))(x, w, b)
    for mine, expected in zip(grads, pullback(np.array(1.0)), strict=True):
        close(mine, expected)


@pytest.mark.parametrize("shortcut", [False, True])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(3, 17, 5, 6), (6, 64, 20, 20)])
def test_relu_and_shortcut_are_taken_over(
    shape: tuple[int, ...], training: bool, shortcut: bool, rng: np.random.Generator
) -> None:
    """max(bn(x) + r, 0) is one call, and so is its gradient; the same bits as one op after the other."""
    x, r, v = (rng.standard_normal(shape, np.float32) for _ in range(3))
    c = shape[1]
    w, b, mean, var = (rng.uniform(0.5, 2, c).astype(np.float32) for _ in range(4))

    def norm(x: Any, w: Any, b: Any) -> Any:
        return F.batch_norm(x, mean, var, w, b, training)

    def whole(x: Any, w: Any, b: Any, r: Any) -> Any:
        z = norm(x, w, b)
        return F.relu(F.add(z, r) if shortcut else z)

    out, pullback = cnnmath.vjp(whole, x, w, b, r)
    z, pull_norm = cnnmath.vjp(norm, x, w, b)
    y = np.maximum(z + r if shortcut else z, 0)
    np.testing.assert_array_equal(out, y)
    dz = np.where(y > 0, v, np.float32(0))
    *grads, dr = pullback(v)
    for mine, alone in zip(grads, pull_norm(dz)):
        np.testing.assert_array_equal(mine, alone)
    np.testing.assert_array_equal(dr, dz if shortcut else 0 * dz)
    plan = make_plan(lambda x, r: whole(x, w, b, r), x, r)
    assert [n.op.name for n in plan.graph.nodes if n.op.name != "relayout"] == [
        "batch_norm" if training else "batch_norm_eval"
    ]


@pytest.mark.parametrize("training", [True, False])
def test_fusion_keeps_the_order_of_writes(training: bool, rng: np.random.Generator) -> None:
    """Two calls share running arrays; the ReLU of the second comes first."""
    x, y = rng.standard_normal((2, 8, 3))

    def moved(act: Callable[[Any], Any]) -> tuple[Any, Any]:
        kept, var = Variable(np.zeros(3)), Variable(np.ones(3))

        def fn(x: Any, y: Any) -> Any:
            p = F.batch_norm(x, kept, var, training=training, momentum=0.5)
            q = F.batch_norm(y, kept, var, training=True, momentum=0.5)
            return act(q), act(p)

        return make_plan(fn, x, y)(x, y)[1], kept.data

    (with_relu, kept), (without, expected) = moved(F.relu), moved(lambda z: z)
    np.testing.assert_array_equal(kept, expected)
    np.testing.assert_array_equal(with_relu, np.maximum(without, 0))


def make_plan(fn: Callable[..., Any], *arrays: Any) -> Plan:
    return Plan(eager.trace(fn, arrays, {})[0])


def test_running_arrays_move_once_a_call() -> None:
    """Arrays, strided arrays and variables; a traced function that calls it twice moves them twice."""
    x = np.array([[0.0, 1.0], [2.0, 5.0]])
    mean, var = np.zeros(2), np.ones(2)
    F.batch_norm(x, mean, var, training=True, momentum=0.5)
    np.testing.assert_allclose(mean, [0.5, 1.5])
    np.testing.assert_allclose(var, [0.5 + 0.5 * 2, 0.5 + 0.5 * 8])
    gaps = np.zeros(4)[::2]
    F.batch_norm(x, gaps, None, training=True, momentum=0.5)
    np.testing.assert_allclose(gaps, [0.5, 1.5])
    kept = Variable(np.zeros(2))
    F.batch_norm(x, kept, None, training=True, momentum=0.5)
    np.testing.assert_allclose(kept.data, [0.5, 1.5])
    assert kept.version == 1
    kept = Variable(np.zeros(2))

    def twice(x: Any) -> Any:
        return F.batch_norm(F.batch_norm(x, kept, None, training=True), kept, None, training=True)

    cnnmath.vjp(twice, x)
    np.testing.assert_allclose(kept.data, 0.9 * 0.1 * np.array([1.0, 3.0]))
    F.batch_norm(x, mean.copy(), var.copy(), training=False)
    fixed = mean.copy()
    F.batch_norm(x, mean, var, training=False)
    np.testing.assert_array_equal(mean, fixed)


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 2, 2), (3, 0, 2, 2), (2, 3, 0)])
@pytest.mark.parametrize("training", [True, False])
def test_empty(training: bool, shape: tuple[int, ...]) -> None:
    mean, var = np.full(shape[1], 2.0), np.full(shape[1], 3.0)
    weight = np.ones(shape[1])
    out, pullback = cnnmath.vjp(
        lambda x, w: F.batch_norm(x, mean, var, w, None, training), np.zeros(shape), weight
    )
    assert out.shape == shape
    assert (mean == 2).all() and (var == 3).all()
    dx, dw = pullback(out)
    assert dx.shape == shape and not dw.any()


def test_nan_stays_in_its_channel() -> None:
    x = np.random.default_rng(0).standard_normal((4, 3, 2, 2))
    x[1, 1, 0, 0] = np.nan
    y = F.batch_norm(x, None, None, training=True)
    assert np.isnan(y[:, 1]).all() and np.isfinite(y[:, [0, 2]]).all()


def test_against_pytorch(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    for shape in [(5, 4), (5, 4, 3), (2, 17, 6, 5), (2, 4, 3, 2, 2)]:
        x, c = rng.standard_normal(shape), shape[1]
        mean, var = rng.standard_normal(c), rng.uniform(0.5, 2, c)
        theirs = torch.from_numpy(mean.copy()), torch.from_numpy(var.copy())
        for training in (True, False):
            expected = torch.nn.functional.batch_norm(torch.from_numpy(x), *theirs, training=training)
            close(F.batch_norm(x, mean, var, training=training), expected.numpy(), 1000)
            close(mean, theirs[0].numpy())
            close(var, theirs[1].numpy())


def test_refused() -> None:
    x = np.zeros((2, 3, 4, 4), np.float32)
    c = np.ones(3, np.float32)
    for call, error, message in (
        (lambda: F.batch_norm(x[0, 0, 0], c, c), ValueError, "at least 2 dims"),
        (lambda: F.batch_norm(x, None, None), ValueError, "are needed with training=False"),
        (lambda: F.batch_norm(x, c[:2], c), ValueError, "running_mean expects 2 channels, x has 3 "),
        (
            lambda: F.batch_norm(x[:1, :, 0, 0], c, c, training=True),
            ValueError,
            "more than one value per channel",
        ),
        (lambda: F.batch_norm(x, c, c, c.astype(np.float64)), TypeError, "batch_norm: weight is float64"),
        (
            lambda: F.batch_norm(x.astype(np.int64), c, c),
            TypeError,
            "batch_norm: x expects float32 or float64",
        ),
    ):
        with pytest.raises(error, match=message):
            call()
