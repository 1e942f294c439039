"""Data sets: the embedded digits, IDX and CIFAR files, whole and damaged."""

from __future__ import annotations

import gzip
import lzma
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from cnnmath import data
from cnnmath.data.idx import read_idx


def test_digits() -> None:
    digits = data.load_digits()
    images, target = digits
    assert images.shape == (1797, 1, 8, 8) and images.dtype == np.float32
    assert target.shape == (1797,) and target.dtype == np.int64
    assert images.min() == 0 and images.max() == 1
    assert digits.images is images and digits.target is target
    assert digits.data.shape == (1797, 64)
    assert digits.target_names == list("0123456789")
    assert "10.24432/C50P49" in digits.DESCR and "CC BY 4.0" in digits.DESCR


def test_digits_are_those_of_scikit_learn() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    theirs = datasets.load_digits()
    ours = data.load_digits(dtype=np.uint8)
    np.testing.assert_array_equal(ours.data, theirs.data)
    np.testing.assert_array_equal(ours.target, theirs.target)
    np.testing.assert_array_equal(data.load_digits(dtype=np.float64).data, theirs.data / 16)


def test_split_of_digits() -> None:
    digits = data.load_digits()
    (x_train, y_train), (x_test, y_test) = digits.split()
    assert len(x_train) == len(y_train) == 1437 and len(x_test) == len(y_test) == 360
    np.testing.assert_array_equal(x_test, digits.images[::5])
    np.testing.assert_array_equal(y_test, digits.target[::5])
    np.testing.assert_array_equal(x_train[:4], digits.images[1:5])


def test_dtype() -> None:
    with pytest.raises(TypeError, match="float32, float64 or uint8, got int64"):
        data.load_digits(dtype=np.int64)


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape) + array.tobytes()


def write_mnist(where: Path, rng: np.random.Generator) -> dict[str, np.ndarray]:
    where.mkdir()
    made = {}
    for part, n in (("train", 7), ("t10k", 3)):
        made[part] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        (where / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(made[part])))
        (where / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(n, dtype=np.uint8)))
    return made


def test_mnist(tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    made = write_mnist(tmp_path / "mnist", rng)
    for root in (tmp_path, tmp_path / "mnist", str(tmp_path), None):
        monkeypatch.setenv("CNNMATH_DATA", str(tmp_path))
        (x, y), (x_test, y_test) = data.mnist(root)
        np.testing.assert_array_equal(x[:, 0], made["train"].astype(np.float32) / np.float32(255))
        np.testing.assert_array_equal(x_test[:, 0], made["t10k"].astype(np.float32) / np.float32(255))
        np.testing.assert_array_equal(y, np.arange(7))
        assert y.dtype == np.int64 and len(y_test) == 3
    train, _ = data.mnist(tmp_path, dtype=np.uint8)
    np.testing.assert_array_equal(train.images[:, 0], made["train"])


def test_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CNNMATH_DATA", raising=False)
    with pytest.raises(
        FileNotFoundError, match=r"mnist: no data folder\. Give root=\.\.\., or set CNNMATH_DATA"
    ):
        data.mnist()
    with pytest.raises(FileNotFoundError, match="does not exist"):
        data.cifar10(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"expected the file train-images-idx3-ubyte\.gz or"):
        data.fashion_mnist(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"expected the file data_batch_1\.bin or"):
        data.cifar10(tmp_path)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "not an IDX file"),
        (b"\x89PNG\r\n", "not an IDX file"),
        (idx(np.zeros(4, np.uint8), kind=13), "type 8"),
        (idx(np.zeros((2, 3), np.uint8))[:9], "cut short"),
        (idx(np.zeros((2, 3), np.uint8))[:-1], "promises 6 bytes"),
        (idx(np.zeros((2, 3), np.uint8)) + b"x", "promises 6 bytes"),
        (struct.pack(">HBB4I", 0, 8, 4, *[2**32 - 1] * 4), "promises"),
    ],
)
def test_damaged_idx(raw: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "images"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=message):
        read_idx(path)


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_damaged_packing(suffix: str, tmp_path: Path) -> None:
    whole = gzip.compress(idx(np.zeros(99, np.uint8))) if suffix == ".gz" else lzma.compress(b"x" * 99)
    path = tmp_path / f"images{suffix}"
    for raw in (whole[: len(whole) // 2], b"no archive"):
        path.write_bytes(raw)
        with pytest.raises(ValueError, match="cannot be unpacked"):
            read_idx(path)


def test_cifar10(tmp_path: Path, rng: np.random.Generator) -> None:
    records = rng.integers(0, 256, (12, 3073), dtype=np.uint8)
    records[:, 0] %= 10
    for i in range(5):
        (tmp_path / f"data_batch_{i + 1}.bin.xz").write_bytes(
            lzma.compress(records[2 * i : 2 * i + 2].tobytes())
        )
    (tmp_path / "test_batch.bin").write_bytes(records[10:].tobytes())
    train, test = data.cifar10(tmp_path)
    assert train.images.shape == (10, 3, 32, 32) and test.images.shape == (2, 3, 32, 32)
    images = records[:, 1:].reshape(-1, 3, 32, 32)
    np.testing.assert_array_equal(train.images, images[:10].astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(test.target, records[10:, 0])
    assert train.images.transpose(0, 2, 3, 1).flags.c_contiguous  # as the kernels want them
    assert train.target_names[0] == "airplane" and len(train.target_names) == 10
    (tmp_path / "test_batch.bin").write_bytes(records[10:].tobytes()[:-1])
    with pytest.raises(ValueError, match="records of 3073 bytes, got 6145"):
        data.cifar10(tmp_path)
    (tmp_path / "test_batch.bin").write_bytes(b"\x0a" * 3073)
    with pytest.raises(ValueError, match="labels of 0 to 9, got 10"):
        data.cifar10(tmp_path)


def test_the_real_files() -> None:
    root = os.environ.get("CNNMATH_DATA")
    if not root:
        pytest.skip("CNNMATH_DATA is not set")
    for read in (data.mnist, data.fashion_mnist):
        train, test = read(dtype=np.uint8)
        assert train.images.shape == (60000, 1, 28, 28) and test.images.shape == (10000, 1, 28, 28)
        assert len(train.target_names) == 10
        if read is data.mnist:
            assert abs(train.images.mean() / 255 - 0.1307) < 1e-4
            assert train.target[:5].tolist() == [5, 0, 4, 1, 9]
