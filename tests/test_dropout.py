"""Dropout: its mask is that of the generator, the same in the gradient, on any threads and instruction set."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cnnmath
import cnnmath.functional as F
from cnnmath import reference

from .checks import FLOATS, same_bits_on_any_threads


def mask(size: int, seed: int, step: int, number: int, p: float) -> np.ndarray:
    """1 where an element is kept: word w of counter 16 b + j belongs to element 64 b + 16 w + j."""
    at = np.arange(-(-size // 64) * 16, dtype=np.uint64)
    counter = np.stack([at, np.full_like(at, number << 16), np.full_like(at, step), np.zeros_like(at)], -1)
    key = np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32)
    words = reference.philox4x32(counter.astype(np.uint32), key).reshape(-1, 16, 4).transpose(0, 2, 1)
    return words.reshape(-1)[:size] >= int(p * 2**32)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", [1, 3, 63, 64, 65, 1000, 20481, 50000])
@pytest.mark.parametrize("p", [0.1, 0.5, 1.0])
def test_the_mask_is_that_of_the_generator(dtype: Any, size: int, p: float, rng: np.random.Generator) -> None:
    x = rng.standard_normal(size).astype(dtype)
    for seed in (0, 5 + (7 << 40)):
        cnnmath.manual_seed(seed)
        for step in range(3):
            np.testing.assert_array_equal(
                F.dropout(x, p), reference.dropout(x, mask(size, seed, step, 0, p), p)
            )


def test_two_ops_of_a_program_draw_different_masks() -> None:
    x = np.ones(1000)
    cnnmath.manual_seed(3)
    both, _ = cnnmath.vjp(lambda x: (F.dropout(x), F.dropout(x)), x)
    np.testing.assert_array_equal(both[0], 2 * mask(1000, 3, 0, 0, 0.5))
    np.testing.assert_array_equal(both[1], 2 * mask(1000, 3, 0, 1, 0.5))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(), (7,), (5, 3, 4, 6), (3, 50, 300)])
def test_the_gradient_has_the_mask_of_the_value(
    dtype: Any, shape: tuple[int, ...], rng: np.random.Generator
) -> None:
    x = np.asarray(rng.uniform(1, 2, shape), dtype)
    out, pullback = cnnmath.vjp(F.dropout, x)
    F.dropout(x)  # another run in between draws other numbers
    for _ in range(2):
        v = np.asarray(rng.uniform(1, 2, shape), dtype)
        np.testing.assert_array_equal(pullback(v)[0], np.where(out != 0, 2 * v, 0))
    both = cnnmath.value_and_grad(lambda x: F.sum(F.dropout(x)))
    loss, grad = both(x)
    np.testing.assert_allclose(loss, np.sum(grad * x), rtol=1e-5)


def test_training_off_and_p_0_and_1(rng: np.random.Generator) -> None:
    x = rng.standard_normal((4, 5))
    np.testing.assert_array_equal(F.dropout(x, 0.5, False), x)
    np.testing.assert_array_equal(F.dropout(x, 0.0), x)
    assert not np.shares_memory(F.dropout(x, 0.0), x)
    np.testing.assert_array_equal(F.dropout(x, 1.0), 0 * x)
    x[0, 0] = np.nan
    assert np.isnan(F.dropout(x, 1.0)[0, 0])


def test_mean_and_share_stay(rng: np.random.Generator) -> None:
    x = np.ones(1 << 20, np.float32)
    for p in (0.1, 0.5, 0.9):
        y = F.dropout(x, p)
        assert abs((y == 0).mean() - p) < 3e-3
        assert abs(y.mean(dtype=np.float64) - 1) < 1e-2


def test_a_seed_repeats_the_numbers(rng: np.random.Generator) -> None:
    x = rng.standard_normal(500)
    cnnmath.manual_seed(1)
    first = [F.dropout(x) for _ in range(3)]
    assert not np.array_equal(first[0], first[1])
    cnnmath.manual_seed(1)
    for y in first:
        np.testing.assert_array_equal(F.dropout(x), y)


def sweep() -> None:
    """Runs alone, on each instruction set; prints what must be the same on all."""
    import hashlib

    import numpy as np

    import cnnmath
    import cnnmath.functional as F

    cnnmath.manual_seed(11)
    found = hashlib.sha256()
    for dtype in (np.float32, np.float64):
        for size in (1, 5, 64, 100, 30000):
            x = np.arange(1, size + 1, dtype=dtype)
            out, pullback = cnnmath.vjp(F.dropout, x)
            found.update(out.tobytes())
            np.testing.assert_array_equal(pullback(x)[0], out)
    print(found.hexdigest())


def test_every_instruction_set_has_the_same_bits(isa: str, run_on: Callable[[str, str], str]) -> None:
    code = f"{inspect.getsource(sweep)}\nsweep()"
    assert run_on(isa, code) == run_on("baseline", code)


def test_threads(threads: Callable[[int], None], rng: np.random.Generator) -> None:
    def fn(x: Any) -> Any:
        cnnmath.manual_seed(5)
        return F.dropout(x, 0.3)

    same_bits_on_any_threads(threads, fn, rng.standard_normal((70, 1000), np.float32))


def test_refused() -> None:
    x = np.ones(3)
    for call, error, message in (
        (lambda: F.dropout(x, 1.5), ValueError, "dropout: p expects a probability between 0 and 1, got 1.5"),
        (lambda: F.dropout(x, -0.1), ValueError, "between 0 and 1"),
        (lambda: F.dropout(x, "a lot"), TypeError, "dropout: p expects a number"),
        (lambda: F.dropout(np.ones(3, np.int64)), TypeError, "dropout: x expects float32 or float64"),
    ):
        with pytest.raises(error, match=message):
            call()
