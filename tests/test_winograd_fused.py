"""What Winograd's kernels do besides: normalise as they read; moments, max-pools and a ReLU's gradient as they write.

The oracle is the same plan without that fusion: to the bit, but where sums are taken in another order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cnnmath
import cnnmath.functional as F
from cnnmath import nn
from cnnmath.planner import fusion
from cnnmath.planner.eager import function

from .checks import Array, close, same_bits_on_any_threads

# images, channels in, between and out, height, width, padding
SHAPES: list[tuple[Any, ...]] = [
    (2, 16, 16, 16, 16, 16, 1),
    (3, 16, 37, 20, 13, 10, 1),
    (5, 33, 16, 48, 12, 15, 0),
    (2, 16, 17, 16, 11, 12, 2),
    (1, 64, 64, 64, 8, 8, 1),
    (40, 16, 16, 16, 8, 8, 1),
    (4, 16, 64, 64, 9, 9, 1),
    (16, 16, 64, 64, 5, 5, 1),
    (2, 16, 16, 20, 12, 14, (0, 1, 1, 2)),
    (2, 16, 20, 16, 13, 12, (1, 0, 2, 0)),
]


def weights(rng: np.random.Generator, outs: int, ins: int) -> Array:
    return rng.normal(0, (9 * ins) ** -0.5, (outs, ins, 3, 3)).astype(np.float32)


def normed(padding: Any) -> Callable[..., Any]:
    """Convolution, batch norm, ReLU, convolution."""

    def fn(x: Any, w1: Any, gamma: Any, beta: Any, w2: Any) -> Any:
        y = F.conv2d(x, w1, padding=padding)
        y = F.relu(F.batch_norm(y, None, None, gamma, beta, training=True))
        return F.conv2d(y, w2, padding=1)

    return fn


def pooled(padding: Any, pool: bool) -> Callable[..., Any]:
    """Convolution, ReLU, convolution, ReLU, perhaps max-pool, convolution."""

    def fn(x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any) -> Any:
        y = F.relu(F.conv2d(x, w1, b1, padding=padding))
        y = F.relu(F.conv2d(y, w2, b2, padding=padding))
        return F.conv2d(F.max_pool2d(y, 2) if pool else y, w3, padding=1)

    return fn


def arrays_of(fn: str, shape: tuple[Any, ...], rng: np.random.Generator) -> list[Array]:
    n, c, d, e, h, w, _ = shape
    x = rng.standard_normal((n, c, h, w), np.float32)
    if fn == "normed":
        gamma, beta = rng.uniform(-1, 1.5, d).astype(np.float32), rng.uniform(-1, 1, d).astype(np.float32)
        gamma[:2] = 0
        return [x, weights(rng, d, c), gamma, beta, weights(rng, e, d)]
    b1, b2 = (rng.uniform(-0.5, 0.5, k).astype(np.float32) for k in (d, e))
    return [x, weights(rng, d, c), b1, weights(rng, e, d), b2, weights(rng, 16, e)]


def results(fn: Callable[..., Any], arrays: list[Array]) -> list[Array]:
    """The value and all gradients, in one plan, for weights that a fixed generator draws."""
    v = np.random.default_rng(5).standard_normal(fn(*arrays).shape).astype(np.float32)
    (_, y), grads = cnnmath.value_and_grad(
        lambda *a: (F.sum(F.mul(y := fn(*a), v)), y), tuple(range(len(arrays)))
    )(*arrays)
    return [y, *grads]


def without(monkeypatch: pytest.MonkeyPatch, *passes: str) -> None:
    for name in passes:
        assert callable(getattr(fusion, name))
        monkeypatch.setattr(fusion, name, lambda graph: None)


def nodes(fn: Callable[..., Any], arrays: list[Array]) -> list[Any]:
    found = []

    def traced(*a: Any) -> Any:
        y = fn(*a)
        found.append(y.graph)
        return F.sum(y)

    cnnmath.value_and_grad(traced, tuple(range(len(arrays))))(*arrays)
    return list(found[0].nodes)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_normalised_as_read(
    shape: tuple[Any, ...], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = arrays_of("normed", shape, rng)
    fused = results(normed(shape[-1]), arrays)
    without(monkeypatch, "normalise_as_read")
    for mine, apart in zip(fused, results(normed(shape[-1]), arrays), strict=True):
        np.testing.assert_array_equal(mine, apart)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e38, -1e38])
def test_normalised_as_read_with_wild_numbers(
    value: float, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the second convolution reads is wild in one channel, by a bias of the batch norm."""
    arrays = arrays_of("normed", SHAPES[1], rng)
    arrays[3][4] = value
    arrays[2][5] = 1e38
    fused = results(normed(1), arrays)
    assert not (np.abs(fused[0]) < 1e35).all()
    without(monkeypatch, "normalise_as_read")
    for mine, apart in zip(fused, results(normed(1), arrays), strict=True):
        np.testing.assert_array_equal(mine, apart)


@pytest.mark.parametrize("shift", [0.0, 100.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_moments_as_written(shape: tuple[Any, ...], shift: float, rng: np.random.Generator) -> None:
    """The running statistics are those of what the convolution gives, also far from zero."""
    _, _, d, *_, padding = shape
    x, w, *_ = arrays_of("normed", shape, rng)
    b = (shift + rng.uniform(-1, 1, d)).astype(np.float32)

    def fn(x: Any, w: Any, b: Any, mean: Any, var: Any) -> Any:
        return F.batch_norm(F.conv2d(x, w, b, padding=padding), mean, var, training=True, momentum=1.0)

    mean, var = np.zeros(d, np.float32), np.ones(d, np.float32)
    out = fn(x, w, b, mean, var)
    z = F.conv2d(x, w, b, padding=padding).astype(np.float64)
    expected = z.mean((0, 2, 3)), z.var((0, 2, 3), ddof=1)
    close(mean, expected[0].astype(np.float32), ulps=8)
    np.testing.assert_allclose(var, expected[1], rtol=2e-6 if shift == 0 else 2e-5)
    scale = np.sqrt(z.var((0, 2, 3)) + 1e-5)
    normal = (z - expected[0][:, None, None]) / scale[:, None, None]
    np.testing.assert_allclose(out, normal, atol=1e-5 if shift == 0 else 1e-4)


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_relu_and_max_pool_as_written(
    shape: tuple[Any, ...], pool: bool, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = arrays_of("pooled", shape, rng)
    fn = pooled(shape[-1], pool)
    fused = results(fn, arrays)
    without(monkeypatch, "mask_as_written", "fuse_max_pool")
    for i, (mine, apart) in enumerate(zip(fused, results(fn, arrays), strict=True)):
        if i in (3, 5):  # sums for a bias
            close(mine, apart, ulps=512)
        else:
            np.testing.assert_array_equal(mine, apart)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_wild_maxima(value: float, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = arrays_of("pooled", SHAPES[1], rng)
    arrays[0][0, 3, 5, 5] = value
    fused = results(pooled(1, True), arrays)
    assert not all(np.isfinite(a).all() for a in fused)
    without(monkeypatch, "mask_as_written", "fuse_max_pool")
    for i, (mine, apart) in enumerate(zip(fused, results(pooled(1, True), arrays), strict=True)):
        if i not in (3, 5):
            np.testing.assert_array_equal(mine, apart)


def test_wild_gradients_through_a_max_pool(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the last weights one is huge: products with it overflow, and the sums around are taken one by one."""
    arrays = arrays_of("pooled", SHAPES[1], rng)
    arrays[5][0, 0, 1, 1] = 3e38
    fused = results(pooled(1, True), arrays)
    assert any((~(np.abs(a) < 1e30)).any() for a in fused[1:])
    without(monkeypatch, "mask_as_written", "fuse_max_pool")
    for i, (mine, apart) in enumerate(zip(fused, results(pooled(1, True), arrays), strict=True)):
        if i not in (3, 5):
            np.testing.assert_array_equal(mine, apart)


@pytest.mark.parametrize("shape", SHAPES[:3], ids=str)
def test_max_pool_in_evaluation(
    shape: tuple[Any, ...], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packed weights are kept, and packed anew when a weight was changed."""
    _, c, d, *_, padding = shape
    x = arrays_of("pooled", shape, rng)[0]
    model = nn.Sequential(nn.Conv2d(c, d, 3, padding=padding), nn.ReLU(), nn.MaxPool2d(2)).eval()
    first = model(x)
    model[0].weight.assign(-model[0].weight.numpy())
    second = model(x)
    without(monkeypatch, "fuse_max_pool")
    apart = nn.Sequential(*model)
    np.testing.assert_array_equal(apart(x), second)
    model[0].weight.assign(-model[0].weight.numpy())
    np.testing.assert_array_equal(apart(x), first)


def test_what_is_fused(rng: np.random.Generator) -> None:
    arrays = arrays_of("normed", SHAPES[0], rng)
    found = nodes(normed(1), arrays)
    names = [node.op.name for node in found]
    assert "relu_grad" not in names
    readers = [
        node for node in found if node.op.affine_input and node.input(node.op.affine_input) is not None
    ]
    assert [node.op.name for node in readers] == ["conv2d", "conv2d_grad_weight"]
    norm = found[names.index("batch_norm")]
    assert norm.input(6) in found[names.index("conv2d")].outputs
    assert all(norm.output not in node.inputs for node in found)
    arrays = arrays_of("pooled", SHAPES[0], rng)
    names = [node.op.name for node in nodes(pooled(1, True), arrays)]
    assert not {"max_pool2d", "max_pool2d_grad"}.intersection(names)
    assert "conv2d_max_pool" in names
    assert names.count("relu_grad") == 1  # of what was pooled
    assert names.count("column_sums") == 1


@pytest.mark.parametrize("wrt", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("ins, outs", [(16, 16), (80, 16), (2, 4)])
def test_max_pool_behind_a_transposed_convolution(
    ins: int, outs: int, wrt: tuple[int, ...], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its gradients read the gradient of the pool where those of a convolution read their input."""
    x = rng.standard_normal((4, ins, 16, 16), np.float32)
    w = rng.standard_normal((ins, outs, 3, 3), np.float32)
    v = rng.standard_normal((4, outs, 8, 8), np.float32)

    def loss(x: Any, w: Any) -> Any:
        return F.sum(F.mul(F.max_pool2d(F.conv_transpose2d(x, w, padding=1), 2), v))

    _, fused = cnnmath.value_and_grad(loss, wrt)(x, w)
    without(monkeypatch, "fuse_max_pool")
    _, apart = cnnmath.value_and_grad(lambda *a: loss(*a), wrt)(x, w)
    for mine, other in zip(fused, apart, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_what_is_written_before_it_would_be_read(rng: np.random.Generator) -> None:
    """A batch norm of a parameter that an update moves before the convolution."""
    start = rng.standard_normal((4, 16, 12, 12), np.float32)
    w = weights(rng, 16, 16)

    def step(p: Any, moves: bool) -> Any:
        y = F.relu(F.batch_norm(p, None, None, training=True))
        if moves:
            graph = y.graph
            optimizer.update(graph, {p: F.mul(graph.variable(p), 3.0)})
        return F.conv2d(y, w, padding=1)

    found = []
    for moves in (False, True):
        p = nn.Parameter(start.copy())
        optimizer = cnnmath.optim.SGD([p], lr=1.0)
        found.append(function(step)(p, moves))
    assert not np.array_equal(p.numpy(), start)
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize("fn", ["direct", "double"])
def test_other_convolutions_stay_apart(fn: str, rng: np.random.Generator) -> None:
    arrays = arrays_of("normed", SHAPES[0], rng)
    if fn == "double":
        arrays = [a.astype(np.float64) for a in arrays]
    else:
        cnnmath.set_conv_algorithm("direct")
    try:
        found = nodes(normed(1), arrays)
    finally:
        cnnmath.set_conv_algorithm("auto")
    assert all(node.input(node.op.affine_input) is None for node in found if node.op.affine_input)
    assert all(len(node.outputs) == 1 for node in found if node.op.name == "conv2d")


@pytest.mark.parametrize("which", ["normed", "pooled"])
def test_any_threads(which: str, threads: Callable[[int], None], rng: np.random.Generator) -> None:
    shape = (9, 16, 32, 16, 30, 30, 1)
    arrays = arrays_of(which, shape, rng)
    fn = normed(1) if which == "normed" else pooled(1, True)
    same_bits_on_any_threads(threads, fn, *arrays)
    threads(1)
    first = results(fn, arrays)
    for count in (2, 3):
        threads(count)
        for mine, other in zip(results(fn, arrays), first, strict=True):
            np.testing.assert_array_equal(mine, other)
