"""Data sets: the embedded digits, IDX and CIFAR files, whole and damaged."""

from __future__ import annotations

import dataclasses
import gzip
import lzma
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from cnnmath import data
from cnnmath.data.cifar import cifar10_test
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
    monkeypatch.setenv("CNNMATH_DATA", str(tmp_path))
    for root in (tmp_path, tmp_path / "mnist", str(tmp_path), None):
        (x, y), (x_test, y_test) = data.mnist(root)
        np.testing.assert_array_equal(x[:, 0], made["train"].astype(np.float32) / np.float32(255))
        np.testing.assert_array_equal(x_test[:, 0], made["t10k"].astype(np.float32) / np.float32(255))
        np.testing.assert_array_equal(y, np.arange(7))
        assert y.dtype == np.int64 and len(y_test) == 3
    (tmp_path / "MNIST").mkdir()
    (tmp_path / "mnist").rename(tmp_path / "MNIST" / "raw")  # as torchvision has it
    train, _ = data.mnist(tmp_path, dtype=np.uint8)
    np.testing.assert_array_equal(train.images[:, 0], made["train"])


def test_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CNNMATH_DATA", raising=False)
    stems = (
        r"train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte"
    )
    for root, message in (
        (
            None,
            r"mnist: no data folder\. Give root=\.\.\. .*, or set CNNMATH_DATA to the folder that holds mnist/",
        ),
        (
            tmp_path / "nowhere",
            r"mnist: the folder .*nowhere does not exist\. Expected a folder that holds mnist/",
        ),
        (__file__, r"mnist: .*test_data\.py is a file\. Expected a folder that holds mnist/"),
    ):
        wanted = (
            rf"^{message} with the files {stems} \(plain, \.gz or \.xz\)\. The originals: http://yann.*ossci"
        )
        with pytest.raises(FileNotFoundError, match=wanted):
            data.mnist(root)
    with pytest.raises(FileNotFoundError, match=r"with the files data_batch_1\.bin, .*, test_batch\.bin \("):
        data.cifar10(tmp_path / "nowhere")
    (tmp_path / "fashion-mnist").mkdir()
    (tmp_path / "fashion-mnist" / "train-images-idx3-ubyte.xz").touch()
    with pytest.raises(FileNotFoundError) as caught:
        data.fashion_mnist(tmp_path)
    inner = tmp_path / "fashion-mnist"
    assert str(caught.value) == (
        "fashion-mnist: train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte not found "
        f"(plain, .gz or .xz). Searched: {inner}, {tmp_path}. "
        "The originals: https://github.com/zalandoresearch/fashion-mnist"
    )
    with pytest.raises(FileNotFoundError, match=r"data_batch_1\.bin, data_batch_2\.bin, .* not found"):
        data.cifar10(tmp_path)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "not an IDX file"),
        (b"\x89PNG\r\n", "not an IDX file"),
        (idx(np.zeros(4, np.uint8), kind=10), "type of 8, 9, 11, 12, 13, 14, got 10"),
        (idx(np.zeros(4, np.uint8), kind=13), "promises 16 bytes"),
        (struct.pack(">HBB", 0, 8, 0), "cut short"),
        (struct.pack(">HBB4I", 0, 8, 4, 0, *[2**32 - 1] * 3), "no array has the shape"),
        (struct.pack(">HBB70I", 0, 8, 70, *[1] * 70) + b"x", "no array has the shape"),
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


def test_idx_of_every_type(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "array"
    for kind, code in {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}.items():
        array = (rng.normal(size=(2, 3, 5)) * 100).astype(code)
        path.write_bytes(idx(array, kind))
        found = data.read_idx(path)
        assert found.dtype == np.dtype(code).newbyteorder("=") and found.flags.writeable
        np.testing.assert_array_equal(found, array)


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
    alone = cifar10_test(tmp_path)
    np.testing.assert_array_equal(alone.images, test.images)
    np.testing.assert_array_equal(alone.target, test.target)
    (tmp_path / "test_batch.bin").write_bytes(records[10:].tobytes()[:-1])
    with pytest.raises(ValueError, match="records of 3073 bytes, got 6145"):
        data.cifar10(tmp_path)
    (tmp_path / "test_batch.bin").write_bytes(b"\x0a" * 3073)
    with pytest.raises(ValueError, match="labels of 0 to 9, got 10"):
        data.cifar10(tmp_path)


def test_mnist_files_that_do_not_fit(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = tmp_path / "mnist"
    write_mnist(folder, rng)
    labels, images = folder / "t10k-labels-idx1-ubyte", folder / "t10k-images-idx3-ubyte"
    for path, array, message in (
        (labels, np.zeros(4, np.uint8), r"ubyte: expected 3 labels, got shape \(4,\)"),
        (labels, np.array([0, 11, 9], np.uint8), "ubyte: expected labels of 0 to 9, got 11"),
        (images, np.zeros((3, 28), np.uint8), r"ubyte: expected \(n, height, width\) images, got \(3, 28\)"),
        (images, np.zeros((0, 28, 28), np.uint8), r"images, got \(0, 28, 28\)"),
    ):
        before = path.read_bytes() if path.exists() else None
        path.write_bytes(idx(array))
        with pytest.raises(ValueError, match=message):
            data.mnist(tmp_path)
        path.unlink() if before is None else path.write_bytes(before)
    images.write_bytes(idx(np.zeros((3, 28, 28), np.int8), 9))
    with pytest.raises(ValueError, match=r"expected unsigned bytes \(IDX type 8\), got int8"):
        data.mnist(tmp_path)


def test_originals_are_found_out_when_damaged(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small files stand in for the originals: their sizes and checksums are put in the table."""
    import hashlib

    from cnnmath.data import cifar, originals

    records = rng.integers(0, 256, (18, 3073), dtype=np.uint8)
    records[:, 0] %= 10
    contents = {stem: records[3 * i : 3 * i + 3].tobytes() for i, stem in enumerate(originals.CIFAR10.files)}

    def digest(content: bytes) -> str:
        return hashlib.sha256(content).hexdigest()

    table = {s: originals.Original(len(c), digest(c), digest(c[:3073])) for s, c in contents.items()}
    monkeypatch.setattr(cifar, "CIFAR10", dataclasses.replace(originals.CIFAR10, files=table))
    for stem, content in contents.items():
        (tmp_path / stem).write_bytes(content)
    assert len(data.cifar10(tmp_path)[0].images) == 15
    path = tmp_path / "data_batch_3.bin"
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[4000] ^= 1
    for raw in (flipped, whole[:-3073], whole[:3073], whole + whole[:3073]):
        path.write_bytes(raw)
        with pytest.raises(
            ValueError, match=rf"data_batch_3\.bin: damaged.* got {len(raw)} bytes .*toronto.*read_cifar"
        ):
            data.cifar10(tmp_path)
        assert len(data.read_cifar(path).images) == len(raw) // 3073
    path.write_bytes(contents["test_batch.bin"])
    with pytest.raises(
        ValueError, match=r"3\.bin: expected data_batch_3\.bin of cifar-10, got the contents of test_b"
    ):
        data.cifar10(tmp_path)
    path.write_bytes(whole[3073:])  # somebody's own data
    assert len(data.cifar10(tmp_path)[0].images) == 14


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
    train, test = data.cifar10(dtype=np.uint8)
    assert train.images.shape == (50000, 3, 32, 32) and test.images.shape == (10000, 3, 32, 32)
    assert (
        np.bincount(train.target).tolist() == [5000] * 10 and np.bincount(test.target).tolist() == [1000] * 10
    )
    assert test.target[:5].tolist() == [3, 8, 8, 0, 6]  # cat, ship, ship, plane, frog
    means = [train.images[:, c].mean() / 255 for c in range(3)]
    np.testing.assert_allclose(means, [0.4914, 0.4822, 0.4465], atol=5e-5)


def test_a_damaged_original_of_the_real_files(tmp_path: Path) -> None:
    root = os.environ.get("CNNMATH_DATA")
    if not root:
        pytest.skip("CNNMATH_DATA is not set")
    for path in (Path(root) / "mnist").glob("*.gz"):
        (tmp_path / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    assert len(data.mnist(tmp_path, dtype=np.uint8)[0].images) == 60000
    path = tmp_path / "train-images-idx3-ubyte"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 4
    path.write_bytes(raw)
    with pytest.raises(
        ValueError, match=r"damaged, or other data\. Expected train-images-idx3-ubyte of mnist, 47040016"
    ):
        data.mnist(tmp_path)
    assert data.read_idx(path).shape == (60000, 28, 28)
