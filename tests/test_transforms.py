"""Transforms against the NumPy reference: crops, mirror images, tables of bytes; their draws, threads, errors."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cnnmath
from cnnmath import data, reference
from cnnmath.data import Compose, Normalize, RandomCrop, RandomHorizontalFlip, ToDtype

DTYPES = (np.float32, np.float64, np.uint8)


def images(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """Pixels that are all different where the dtype has room."""
    return rng.permutation(np.arange(np.prod(shape)) % 251).astype(dtype).reshape(shape)


def expected(
    x: np.ndarray,
    key: tuple[int, int],
    numbers: np.ndarray,
    crop: RandomCrop | None = None,
    flip: RandomHorizontalFlip | None = None,
    places: tuple[int, int] = (0, 1),
) -> np.ndarray:
    """By the reference. `places` are those of crop and flip in their Compose."""
    if crop:
        left, right, top, bottom = crop.padding
        free = (x.shape[2] + top + bottom - crop.size[0] + 1, x.shape[3] + left + right - crop.size[1] + 1)
        words = reference.augmentation_words(*key, numbers, places[0])
        offsets = reference.crop_offsets(words, *free)
        x = reference.crop(x, offsets, crop.size, crop.padding, crop.padding_mode, crop.fill)
    if flip:
        words = reference.augmentation_words(*key, numbers, places[1])
        x = reference.horizontal_flip(x, reference.mirrored(words, flip.p))
    return x


CROPS = [
    RandomCrop((9, 7), 2),
    RandomCrop((5, 4)),
    RandomCrop((9, 7), (3, 0), fill=7),
    RandomCrop((12, 13), (1, 2, 6, 3), padding_mode="edge"),
    RandomCrop((9, 7), 3, padding_mode="reflect"),
    RandomCrop((31, 29), 20, padding_mode="reflect"),  # the border is longer than the image
    RandomCrop((30, 33), 20, padding_mode="symmetric"),
    RandomCrop((1, 1), 4),
    RandomCrop((29, 27), 10),  # size and padding leave one place
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("crop", CROPS, ids=repr)
def test_crop_and_flip(dtype: Any, channels: int, crop: RandomCrop, rng: np.random.Generator) -> None:
    x = images(rng, (11, channels, 9, 7), dtype)
    rows = rng.permutation(11)[:8]
    key = (int(rng.integers(2**63)) * 2 + 1, 2**32 + 5)
    flip = RandomHorizontalFlip(0.4)
    for memory in (x, np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2), x[:, :, ::-1]):
        found = Compose([crop, flip]).gather(memory, rows, key)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected(memory[rows], key, rows, crop, flip))
    assert found.transpose(0, 2, 3, 1).flags.c_contiguous  # as the kernels want them
    np.testing.assert_array_equal(crop.gather(x, rows, key), expected(x[rows], key, rows, crop))
    np.testing.assert_array_equal(flip.gather(x, rows, key), expected(x[rows], key, rows, None, flip, (0, 0)))


@pytest.mark.parametrize("n", [1, 6, 200])
def test_images_of_cifar(n: int, rng: np.random.Generator) -> None:
    """Several tasks, and a fill for each channel."""
    x = rng.standard_normal((n, 3, 32, 32), np.float32)
    crop, flip = RandomCrop(32, 4, fill=[-1.5, 0.25, 2]), RandomHorizontalFlip()
    rows = rng.integers(0, n, n)
    found = Compose([crop, flip]).gather(x, rows, (3, 4))
    np.testing.assert_array_equal(found, expected(x[rows], (3, 4), rows, crop, flip))


def test_nan_and_denormals_pass() -> None:
    x = np.array([np.nan, -np.inf, 1e-42, -0.0], np.float32).reshape(1, 1, 1, 4)
    y = RandomHorizontalFlip(1)(x)
    assert y.tobytes() == np.ascontiguousarray(x[..., ::-1]).tobytes()


def test_no_images() -> None:
    assert RandomCrop(4)(np.zeros((0, 3, 8, 8), np.float32)).shape == (0, 3, 4, 4)
    assert Compose([])(np.ones((2, 1, 3, 3))).shape == (2, 1, 3, 3)


def test_the_order_of_transforms(rng: np.random.Generator) -> None:
    """A flip before a crop is another thing than after it; each draws by its place."""
    x = rng.standard_normal((40, 3, 8, 8), np.float32)
    numbers, key = np.arange(40), (9, 2)
    first, second, flip = RandomCrop(8, 2), RandomCrop(6), RandomHorizontalFlip()
    found = Compose([first, second, flip]).gather(x, None, key)
    wanted = expected(expected(x, key, numbers, first), key, numbers, second, flip, (1, 2))
    np.testing.assert_array_equal(found, wanted)
    found = Compose([flip, Compose([second])]).gather(x, None, key)
    wanted = expected(expected(x, key, numbers, None, flip, (0, 0)), key, numbers, second, None, (1, 0))
    np.testing.assert_array_equal(found, wanted)
    # Any function has its turn.
    found = Compose([second, lambda y: 2 * y, flip]).gather(x, numbers[::-1], key)
    wanted = 2 * expected(x[::-1], key, numbers[::-1], second)
    np.testing.assert_array_equal(found, expected(wanted, key, numbers[::-1], None, flip, (0, 2)))


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bytes_become_normalized_numbers(channels: int, dtype: Any, rng: np.random.Generator) -> None:
    """In one pass, with the bits of one after the other."""
    x = rng.integers(0, 256, (30, channels, 9, 8), dtype=np.uint8)
    mean, std = rng.uniform(0.2, 0.8, (2, channels))
    crop, flip = RandomCrop((8, 8), 2, fill=9), RandomHorizontalFlip()
    both = Compose([crop, flip, ToDtype(dtype, scale=True), Normalize(mean.tolist(), std.tolist())])
    rows = rng.permutation(30)[:20]
    found = both.gather(x, rows, (1, 2))
    pixels = expected(x[rows], (1, 2), rows, crop, flip).astype(dtype) / dtype(255)
    wanted = (pixels - mean.astype(dtype)[:, None, None]) / std.astype(dtype)[:, None, None]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, wanted)
    # Without anything random it is the same everywhere: what evaluation wants.
    plain = Compose(both.transforms[2:])
    np.testing.assert_array_equal(plain(x), plain.gather(x, None, (7, 7)))
    np.testing.assert_array_equal(plain(x)[:1], plain.transforms[1](plain.transforms[0](x[:1])))
    np.testing.assert_array_equal(plain(x[0]), plain(x)[0])


def test_to_dtype() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    scaled = ToDtype(np.float32, scale=True)(every)
    np.testing.assert_array_equal(scaled, every.astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(ToDtype(np.uint8, scale=True)(scaled), every)
    np.testing.assert_array_equal(ToDtype(np.float64)(every), every.astype(np.float64))
    np.testing.assert_array_equal(Compose([ToDtype(np.uint8)]).gather(every, np.array([0]), (0, 0)), every)
    assert ToDtype(np.float64, scale=True)(scaled).dtype == np.float64
    assert ToDtype(np.uint8, scale=True)(np.array([-1.0, 0.5, 3.0])).tolist() == [0, 128, 255]


def test_offsets_and_flips_are_uniform() -> None:
    """Chi-square on what comes out: one bright pixel tells where an image went."""
    stats = pytest.importorskip("scipy.stats")
    n, p = 40_000, 0.3
    x = np.zeros((1, 1, 9, 12), np.uint8)
    x[0, 0, 4, 3] = 1
    both = Compose([RandomCrop((9, 12), 3), RandomHorizontalFlip(p)])
    rows = np.zeros(n, np.int64)
    y = both.gather(x, rows, (5, 6), np.arange(n))
    _, _, down, across = np.nonzero(y)
    assert len(down) == n
    # The pixel stands at column 0 ... 6 of the shifted image, mirrored at 11 ... 5: 5 and 6 belong to both.
    shift = RandomCrop((9, 12), 3).gather(x, rows, (5, 6), np.arange(n))
    _, _, top, left = np.nonzero(shift)
    np.testing.assert_array_equal(down, top)
    mirrored = across != left
    counts = np.zeros((7, 7))
    np.add.at(counts, (top - 1, left), 1)
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3  # 49 offsets, all as likely
    assert stats.binomtest(int(mirrored.sum()), n, p).pvalue > 1e-3
    # The mirror image is drawn apart from the offset, and neighbours apart from each other.
    table = np.zeros((2, 49))
    np.add.at(table, (mirrored.astype(int), (top - 1) * 7 + left), 1)
    assert stats.chi2_contingency(table).pvalue > 1e-3
    pairs = np.zeros((7, 7))
    np.add.at(pairs, (top[:-1] - 1, top[1:] - 1), 1)
    assert stats.chi2_contingency(pairs).pvalue > 1e-3


def test_draws_depend_on_seed_epoch_and_number_alone(rng: np.random.Generator) -> None:
    x = rng.standard_normal((64, 1, 16, 16), np.float32)
    both = Compose([RandomCrop(16, 4), RandomHorizontalFlip()])
    whole = both.gather(x, None, (1, 1))
    rows = rng.permutation(64)
    np.testing.assert_array_equal(both.gather(x, rows[:10], (1, 1)), whole[rows[:10]])
    np.testing.assert_array_equal(both.gather(x[rows], None, (1, 1), rows), whole[rows])
    for other in ((2, 1), (1, 2), (1 + 2**32, 1), (1, 1 + 2**32)):
        differ = (both.gather(x, None, other) != whole).any((1, 2, 3))
        assert differ.mean() > 0.9
    far = both.gather(x, None, (1, 1), np.arange(64) + 2**32)
    assert (far != whole).any((1, 2, 3)).mean() > 0.9


def test_the_reference_draws_as_documented() -> None:
    """Against the generator of NumPy's own family: the words are those of Philox4x32-10 with a known answer."""
    # Salmon et al., known-answer test: counter and key all ones.
    ones = np.full(4, 0xFFFFFFFF, np.uint32)
    assert reference.philox4x32(ones, ones[:2]).tolist() == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    words = reference.augmentation_words(5 + (7 << 32), 3 + (2 << 32), np.array([1 + (6 << 32)]), 4)
    counter = np.array([1, 6 ^ 4 << 16 ^ 1 << 31, 3, 2], np.uint32)
    np.testing.assert_array_equal(words[0], reference.philox4x32(counter, np.array([5, 7], np.uint32)))


def test_called_directly_draws_go_on_from_the_seed(rng: np.random.Generator) -> None:
    x = rng.standard_normal((8, 3, 16, 16), np.float32)
    crop = RandomCrop(16, 4)
    cnnmath.manual_seed(4)
    first, second, one = crop(x), crop(x), crop(x[0])
    assert (first != second).any()
    cnnmath.manual_seed(4)
    np.testing.assert_array_equal(crop(x), first)
    np.testing.assert_array_equal(crop(x), second)
    np.testing.assert_array_equal(crop(x[0]), one)
    assert one.shape == (3, 16, 16)
    Normalize(0, 1)(x)  # draws nothing
    np.testing.assert_array_equal(crop(x), crop.gather(x, None, (4, 3)))


@pytest.mark.parametrize("table", [False, True])
def test_threads(table: bool, threads: Callable[[int], None], rng: np.random.Generator) -> None:
    x = rng.integers(0, 256, (150, 3, 32, 32), dtype=np.uint8)
    tail = [ToDtype(np.float32, scale=True), Normalize(0.5, 0.2)] if table else []
    both = Compose([RandomCrop(32, 4, padding_mode="reflect"), RandomHorizontalFlip(), *tail])
    given = x if table else x.astype(np.float32)
    found = []
    for count in (1, 2, 3, 5):
        threads(count)
        found.append(both.gather(given, np.arange(150), (1, 2)))
        np.testing.assert_array_equal(found[0], found[-1])


def sweep() -> None:
    """Runs alone, on each instruction set; prints what must be the same on all."""
    import hashlib

    import numpy as np

    from cnnmath.data import Compose, Normalize, RandomCrop, RandomHorizontalFlip, ToDtype

    found = hashlib.sha256()
    for channels in (1, 2, 3):
        x = (np.arange(40 * channels * 13 * 11) % 251).astype(np.uint8).reshape(40, channels, 13, 11)
        steps = [RandomCrop((13, 10), 3, fill=5), RandomHorizontalFlip()]
        for dtype in (np.float32, np.float64, np.uint8):
            found.update(Compose(steps).gather(x.astype(dtype), None, (1, 2)).tobytes())
        for dtype in (np.float32, np.float64):
            whole = Compose([*steps, ToDtype(dtype, scale=True), Normalize(0.3, 0.7)])
            found.update(whole.gather(x, None, (1, 2)).tobytes())
    print(found.hexdigest())


def test_every_instruction_set_has_the_same_bits(isa: str, run_on: Callable[[str, str], str]) -> None:
    code = f"{inspect.getsource(sweep)}\nsweep()"
    assert run_on(isa, code) == run_on("baseline", code)


def test_copies_and_repr() -> None:
    both = Compose(
        [RandomCrop(8, (1, 2), fill=3, padding_mode="edge"), RandomHorizontalFlip(0.2), Normalize(1, 2)]
    )
    assert repr(both) == (
        "Compose([RandomCrop((8, 8), padding=(1, 2, 1, 2), fill=3, padding_mode='edge'), "
        "RandomHorizontalFlip(p=0.2), Normalize([1.0], [2.0])])"
    )
    assert repr(pickle.loads(pickle.dumps(both))) == repr(both)
    assert repr(ToDtype("float32", True)) == "ToDtype(float32, scale=True)"


X = np.zeros((2, 3, 8, 8), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: RandomCrop(0), ValueError, "size to be 1 or 2 whole numbers from 1, got 0"),
        (lambda: RandomCrop((4, 4, 4)), ValueError, "size to be 1 or 2 whole numbers"),
        (lambda: RandomCrop(4.5), ValueError, "size to be 1 or 2 whole numbers from 1, got 4.5"),
        (lambda: RandomCrop(4, -1), ValueError, "padding to be 1 or 2 or 4 whole numbers from 0, got -1"),
        (lambda: RandomCrop(4, padding_mode="wrap"), ValueError, "padding_mode to be one of constant, edge"),
        (lambda: RandomCrop(11, 1)(X), ValueError, r"size of at most \(10, 10\), that of the images with"),
        (lambda: RandomCrop(4, fill=(1, 2))(X), ValueError, "one for each of 3 channels"),
        (lambda: RandomCrop(4, fill="black")(X), ValueError, "fill to be a number"),
        (lambda: RandomCrop(4, fill=256)(X.astype(np.uint8)), ValueError, "fill from 0 to 255 for bytes"),
        (lambda: RandomCrop(4)(X[0, 0]), ValueError, r"RandomCrop: expected images .*got shape \(8, 8\)"),
        (lambda: RandomHorizontalFlip()(X.astype(np.int64)), TypeError, "Flip: expected images of float32, .* int64"),
        (lambda: RandomHorizontalFlip(1.5), ValueError, "a probability between 0 and 1, got 1.5"),
        (lambda: RandomHorizontalFlip("often"), TypeError, "expected p to be a number, got 'often'"),
        (lambda: Normalize(0, 0), ValueError, "expected std to be not 0"),
        (lambda: Normalize([0, 0], 1)(X), ValueError, r"images of 2 channels, got shape \(2, 3, 8, 8\)"),
        (lambda: Normalize(0, 1)(X.astype(np.uint8)), TypeError, "floating point, got uint8; ToDtype before it"),
        (lambda: ToDtype(np.int64), TypeError, "ToDtype: expected float32, float64 or uint8, got int64"),
        (lambda: Compose([RandomCrop]), TypeError, "Compose: expected transforms, functions of images"),
        (lambda: data.DataLoader((X, X), transform="crop"), TypeError, "DataLoader: expected a transform, .*'crop'"),
        (lambda: RandomCrop(4).gather(X, np.array([2]), (0, 0)), IndexError, "rows from 0 to 1, got 2 to 2"),
        (lambda: RandomCrop(4).gather(X, np.array([-1]), (0, 0)), IndexError, "rows from 0 to 1, got -1"),
        (lambda: RandomCrop(4).gather(X, None, (0, 0), np.arange(3)), ValueError, "rows and numbers of one length"),
    ],
)  # fmt: skip
def test_refused(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
