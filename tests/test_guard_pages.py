"""No kernel reads beyond its inputs: they end where memory that may not be touched begins."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cnnmath.functional as F
from cnnmath import _core
from cnnmath.data import Compose, RandomCrop, RandomHorizontalFlip, ToDtype

from .checks import FLOATS, Array

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs mprotect")


@pytest.fixture
def guarded() -> Any:
    """`guarded(array)` is a copy whose last byte is the last before a forbidden page."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.mprotect.restype = ctypes.c_int
    page = mmap.PAGESIZE
    open_pages = []

    def make(array: Array) -> Array:
        size = -(-array.nbytes // page) * page
        memory = mmap.mmap(-1, size + page)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        assert libc.mprotect(start + size, page, 0) == 0
        open_pages.append((memory, start + size))
        copy = np.frombuffer(memory, array.dtype, array.size, size - array.nbytes).reshape(array.shape)
        copy[...] = array
        return copy

    yield make
    for _, address in open_pages:
        libc.mprotect(address, page, mmap.PROT_READ | mmap.PROT_WRITE)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("columns", [1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 64, 67])
def test_inputs_end_at_a_guard_page(
    guarded: Callable[[Array], Array], dtype: Any, columns: int, rng: np.random.Generator
) -> None:
    for rows in (1, 3, 63, 65, 130):
        x = guarded(rng.normal(0, 1, (rows, columns)).astype(dtype))
        p = guarded(rng.uniform(0, 1, (rows, columns)).astype(dtype))
        w = guarded(rng.uniform(1, 2, columns).astype(dtype))
        t = guarded(rng.integers(0, columns, rows))
        deep = guarded(rng.normal(0, 1, (2, columns, rows)).astype(dtype))
        deep_t = guarded(rng.integers(0, columns, (2, rows)))
        planes = guarded(rng.normal(0, 1, (2, 3, rows, columns)).astype(dtype))
        found = [
            F.relu(x),
            F.sigmoid(x),
            F.tanh(x),
            F.add(x, w),
            F.mul(x, p),
            F.sum(x, 0),
            F.sum(x, 1),
            F.sum(x),
        ]
        found += [
            F.softmax(x, 1),
            F.log_softmax(x, 0),
            F.permute(x, (1, 0)),
            F.pad(x, (1, 2)),
            F.cat([x, x], 1),
        ]
        found += [F.cross_entropy(x, t, w, label_smoothing=0.1), F.cross_entropy(x, p, w), F.mse_loss(x, p)]
        found += [
            F.cross_entropy(deep, deep_t, w),
            F.sum(deep, (0, 2)),
            F.softmax(deep, 1),
            F.flatten(planes, 1),
        ]
        found += [F.relu(planes), F.sum(planes, (0, 2, 3)), F.sum(planes, 1)]
        assert all(np.isfinite(a).all() for a in found)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_images_to_augment_end_at_a_guard_page(
    guarded: Callable[[Array], Array], channels: int, mode: str, rng: np.random.Generator
) -> None:
    """The last image, in each place; as they lie and read through a table."""
    for height, width in ((1, 1), (2, 3), (7, 5), (8, 33)):
        x = guarded(rng.integers(0, 256, (3, height, width, channels), dtype=np.uint8)).transpose(0, 3, 1, 2)
        crop = RandomCrop((height, width), 3, padding_mode=mode)
        rows = np.full(60, 2)
        for tail in ([], [ToDtype(np.float32, scale=True)]):
            both = Compose([crop, RandomHorizontalFlip(), *tail])
            found = both.gather(x, rows, (1, 2), np.arange(60))
            np.testing.assert_array_equal(found, both.gather(x.copy(), rows, (1, 2), np.arange(60)))
        floats = guarded(rng.normal(size=(3, height, width, channels))).transpose(0, 3, 1, 2)
        assert np.isfinite(crop.gather(floats, rows, (1, 2))).all()


def run_guarded(
    guarded: Callable[[Array], Array], name: str, params: list[int], inputs: list[Array], shape: Any
) -> Array:
    """The output of a kernel whose inputs, output and workspace end at guard pages; no temporary holds a number."""
    kernel = _core.find_kernel(name, "f32")
    out = guarded(np.full(shape, np.nan, np.float32))
    size = -(-kernel.workspace(params) // 64) * 64
    slots: list[Any] = [
        *(guarded(a) for a in inputs),
        out,
        guarded(np.full(size, 255, np.uint8)) if size else None,
    ]
    args = [(i, 0) for i in range(len(slots))]
    if name in ("matmul", "conv2d"):  # without a bias
        args.insert(2, (-1, 0))
    program = _core.Program(len(slots))
    program.add(kernel, params, args[:-1], args[-1])
    program.run(slots)
    return out


def call_guarded(
    guarded: Callable[[Array], Array], name: str, params: list[int], args: list[Array | None], outputs: int
) -> list[Array]:
    """The last `outputs` arguments of a kernel, all of whose arrays end at guard pages."""
    kernel = _core.find_kernel(name, "f32")
    assert kernel.takes(params)
    size = -(-kernel.workspace(params) // 64) * 64
    slots = [guarded(a) for a in args if a is not None]
    numbers = iter(range(len(slots)))
    places = [(-1, 0) if a is None else (next(numbers), 0) for a in args]
    program = _core.Program(len(slots) + 1)
    program.add(kernel, params, places, (len(slots), 0))
    program.run([*slots, guarded(np.full(size, 255, np.uint8))])
    return slots[len(slots) - outputs :]


@pytest.mark.parametrize(
    "n, size, c, oc, pad",
    [
        (3, 11, 17, 33, 1),
        (3, 12, 16, 16, 0),
        (2, 19, 40, 20, 2),
        (33, 8, 16, 16, 1),
        (9, 12, 112, 144, 1),
        (1, 16, 40, 600, 1),
        (40, 16, 64, 128, 1),
        (4, 14, 288, 288, 1),
    ],
)
def test_fused_convolutions_end_at_guard_pages(
    guarded: Callable[[Array], Array], n: int, size: int, c: int, oc: int, pad: int, rng: np.random.Generator
) -> None:
    """What they do besides is compared with the plain kernels, which others check."""
    out = size + 2 * pad - 2
    half = out // 2
    params = [n, size, size, c, oc, out, out, 3, 3, 1, 1, 1, 1, pad, pad, 1, 0, 0, 0]

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(np.float32)

    def empty(*shape: int) -> Array:
        return np.full(shape, np.nan, np.float32)

    def plain(name: str, inputs: list[Array], *shape: int) -> Array:
        return run_guarded(guarded, name, params, inputs, shape)

    def same(mine: Array, expected: Array) -> None:
        np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())

    x, norm, w, bias = normal(n, size, size, c), normal(3, c), normal(3, 3, c, oc), normal(oc)
    read = np.maximum((x - norm[0]) * norm[1] + norm[2], 0)
    y, mean, m2 = call_guarded(
        guarded,
        "conv2d_winograd",
        params,
        [x, norm, w, bias, empty(n, out, out, oc), empty(oc), empty(oc)],
        3,
    )
    same(y, plain("conv2d", [read, w], n, out, out, oc) + bias)
    rows = y.reshape(-1, oc).astype(np.float64)
    np.testing.assert_allclose(mean, rows.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(m2, ((rows - rows.mean(0)) ** 2).sum(0), rtol=1e-5)

    bytes_ = np.full(n * half * half * oc + 64, 9, np.uint8)
    pooled, codes = call_guarded(
        guarded, "conv2d_winograd_max_pool", params, [x, norm, w, bias, empty(n, half, half, oc), bytes_], 2
    )
    windows = y[:, : 2 * half, : 2 * half].reshape(n, half, 2, half, 2, oc).transpose(0, 1, 3, 5, 2, 4)
    windows = windows.reshape(n, half, half, oc, 4)
    same(pooled, windows.max(-1))
    places = codes[:-64].reshape(n, half, half, oc)
    np.testing.assert_array_equal(places, windows.argmax(-1))
    assert (codes[-64:] == 9).all()

    dp = normal(n, half, half, oc)
    spread = (dp[..., None] * (places[..., None] == np.arange(4))).reshape(n, half, half, oc, 2, 2)
    dy = np.zeros_like(y)
    dy[:, : 2 * half, : 2 * half] = spread.transpose(0, 1, 4, 2, 5, 3).reshape(n, 2 * half, 2 * half, oc)
    dx, total = call_guarded(
        guarded,
        "conv2d_winograd_grad_input",
        params,
        [dp, codes, w, read, empty(n, size, size, c), empty(c)],
        2,
    )
    same(dx, plain("conv2d_grad_input", [dy, w], n, size, size, c) * (read > 0))
    same(total, dx.reshape(-1, c).sum(0, dtype=np.float64))
    (dw,) = call_guarded(
        guarded, "conv2d_winograd_grad_weight", params, [x, norm, dp, codes, empty(3, 3, c, oc)], 1
    )
    same(dw, plain("conv2d_grad_weight", [read, dy], 3, 3, c, oc))


@pytest.mark.parametrize("m, n, k", [(1, 257, 300), (129, 300, 257), (256, 256, 1057), (17, 33, 65)])
@pytest.mark.parametrize("ta, tb, lasting", [(0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 1, 1)])
def test_products_end_at_guard_pages(
    guarded: Callable[[Array], Array],
    m: int,
    n: int,
    k: int,
    ta: int,
    tb: int,
    lasting: int,
    rng: np.random.Generator,
) -> None:
    a, b = rng.integers(-3, 4, (m, k)).astype(np.float32), rng.integers(-3, 4, (k, n)).astype(np.float32)
    inputs = [np.ascontiguousarray(a.T) if ta else a, np.ascontiguousarray(b.T) if tb else b]
    out = run_guarded(guarded, "matmul", [m, n, k, ta, tb, 0, 0, lasting], inputs, (m, n))
    np.testing.assert_array_equal(out, a @ b)


@pytest.mark.parametrize(
    "n, size, c, oc, kernel, stride, pad",
    [
        (1, 17, 17, 33, 3, 1, 1),
        (3, 7, 33, 49, 3, 1, 1),
        (1, 31, 48, 64, 1, 1, 0),
        (2, 33, 65, 48, 3, 2, 2),
        (2, 40, 6, 33, 5, 1, 0),
        (2, 37, 2, 3, 1, 1, 0),
        (2, 33, 3, 1, 3, 1, 1),
        (1, 35, 4, 4, 3, 1, 0),
        (2, 19, 41, 30, 2, 1, 0),
        (1, 26, 75, 13, 4, 2, 1),
        (3, 30, 49, 66, 3, 2, 1),
        (1, 7, 512, 512, 3, 1, 1),
        (2, 7, 504, 504, 3, 1, 1),
    ],
)
def test_convolutions_end_at_guard_pages(
    guarded: Callable[[Array], Array], n: int, size: int, c: int, oc: int, kernel: int, stride: int, pad: int,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """Small whole numbers: every kernel and the sums over taps give the same bits, or nearly so by Winograd."""
    out = (size + 2 * pad - kernel) // stride + 1
    params = [n, size, size, c, oc, out, out, kernel, kernel, stride, stride, 1, 1, pad, pad, 1, 0]
    x, w, dy = (
        rng.integers(-2, 3, shape).astype(np.float32)
        for shape in ((n, size, size, c), (kernel, kernel, c, oc), (n, out, out, oc))
    )
    wide = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    y, dx, dw = np.zeros_like(dy), np.zeros_like(wide), np.zeros_like(w)
    for i in range(kernel):
        for j in range(kernel):
            taps = (slice(None), *(slice(t, t + (out - 1) * stride + 1, stride) for t in (i, j)))
            y += wide[taps] @ w[i, j]
            dx[taps] += dy @ w[i, j].T
            dw[i, j] = np.einsum("nhwc,nhwo->co", wide[taps], dy, optimize=True)
    dx = dx[:, pad : pad + size, pad : pad + size]
    for name, inputs, want in (
        ("conv2d", [x, w], y),
        ("conv2d_grad_input", [dy, w], dx),
        ("conv2d_grad_weight", [x, dy], dw),
    ):
        np.testing.assert_array_equal(
            run_guarded(guarded, name, [*params, 1, 0], inputs, want.shape), want, name
        )
        for lasting in (0, 1):
            any_way = run_guarded(guarded, name, [*params, 0, lasting], inputs, want.shape)
            np.testing.assert_allclose(any_way, want, rtol=1e-5, atol=1e-5 * np.abs(want).max(), err_msg=name)
