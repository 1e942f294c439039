"""Thousands of damaged data and image files: each is read as it stands, or refused with an error that names it.

What a file holds is decided by small parsers of the tests' own.
"""

from __future__ import annotations

import gzip
import io
import lzma
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnmath
from cnnmath import cli, data
from cnnmath.cli import runs
from cnnmath.data.files import read_image

MUTATIONS = 1000
PACKERS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}
SIZES = (0, 1, 2, 255, 256, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def damaged(raw: bytes, rng: np.random.Generator, header: int, others: list[bytes]) -> bytes:
    """The bytes of a file, damaged in one of eight ways."""
    out = bytearray(raw)
    header = min(header, len(out))
    kind = rng.integers(8)
    if kind == 0:  # bytes anywhere
        for _ in range(rng.integers(1, 9)):
            out[rng.integers(len(out))] ^= rng.integers(1, 256)
    elif kind == 1:  # bytes of the header
        out[rng.integers(header)] = rng.integers(256)
    elif kind == 2:
        out = out[: rng.integers(len(out))]
    elif kind == 3:
        out += rng.bytes(int(rng.integers(1, 40)))
    elif kind == 4:
        out += bytes(out) if rng.integers(2) else bytes(int(rng.integers(1, 5000)))
    elif kind == 5:  # a size that overflows, or nearly fits
        place = int(rng.integers(0, max(1, header - 3)))
        size = (
            int(rng.choice(SIZES)) if rng.integers(2) else out[place] * 256 + int(rng.integers(-2, 3)) % 256
        )
        out[place : place + 4] = struct.pack(">I", size)
    elif kind == 6:  # a piece is missing, or stands elsewhere
        start, stop = sorted(rng.integers(0, len(out), 2))
        piece, out[start:stop] = out[start:stop], b""
        if rng.integers(2):
            out += piece
    else:
        out = bytearray(others[rng.integers(len(others))])
    return bytes(out)


def unpacked(raw: bytes, suffix: str) -> bytes | None:
    try:
        if suffix == ".gz":
            return gzip.decompress(raw)
        return lzma.decompress(raw, lzma.FORMAT_XZ) if suffix == ".xz" else raw
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        return None


def parsed_idx(raw: bytes | None, rank: int) -> np.ndarray | None:
    """The array of unsigned bytes of an IDX file of that rank; None where it is none."""
    if raw is None or raw[:4] != bytes([0, 0, 8, rank]) or len(raw) < 4 + 4 * rank:
        return None
    shape = struct.unpack(f">{rank}I", raw[4 : 4 + 4 * rank])
    body = raw[4 + 4 * rank :]
    count = 1
    for n in shape:
        count *= n
    return np.array(list(body), np.uint8).reshape(shape) if 0 < count == len(body) else None


def parsed_cifar(raw: bytes | None) -> np.ndarray | None:
    if not raw or len(raw) % 3073 or max(raw[::3073]) > 9:
        return None
    return np.array(list(raw), np.uint8).reshape(-1, 3073)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def test_idx(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = {
        "train-images-idx3-ubyte": rng.integers(0, 256, (5, 7, 6), dtype=np.uint8),
        "train-labels-idx1-ubyte": rng.integers(0, 10, 5, dtype=np.uint8),
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (3, 7, 6), dtype=np.uint8),
        "t10k-labels-idx1-ubyte": rng.integers(0, 10, 3, dtype=np.uint8),
    }
    stems, loaded = list(arrays), 0
    for i in range(MUTATIONS):
        suffix = list(PACKERS)[i % 3]
        raws = {stem: PACKERS[suffix](idx(array)) for stem, array in arrays.items()}
        hit = stems[rng.integers(4)]
        broken = damaged(raws[hit], rng, 16, list(raws.values()))
        where = tmp_path / str(i)
        where.mkdir()
        for stem, raw in raws.items():
            (where / (stem + suffix)).write_bytes(broken if stem == hit else raw)
        wanted = dict(arrays)
        rank = arrays[hit].ndim
        found = parsed_idx(unpacked(broken, suffix), rank)
        part = hit.split("-")[0]
        if found is not None:
            wanted[hit] = found
        images, labels = wanted[f"{part}-images-idx3-ubyte"], wanted[f"{part}-labels-idx1-ubyte"]
        try:
            train, test = data.mnist(where, dtype=np.uint8)
        except ValueError as error:
            good = found is not None and len(images) == len(labels) and labels.max() <= 9
            assert not good, f"mutation {i}: {error}"
            assert f"{where}/{part}-" in str(error), f"mutation {i}: {error}"
            continue
        assert found is not None, f"mutation {i} was read"
        loaded += 1
        for name, (x, y) in (("train", train), ("t10k", test)):
            np.testing.assert_array_equal(x[:, 0], wanted[f"{name}-images-idx3-ubyte"])
            np.testing.assert_array_equal(y, wanted[f"{name}-labels-idx1-ubyte"])
    assert MUTATIONS * 0.02 < loaded < MUTATIONS * 0.5  # both outcomes occur


def test_cifar(tmp_path: Path, rng: np.random.Generator) -> None:
    records = rng.integers(0, 256, (7, 3073), dtype=np.uint8)
    records[:, 0] %= 10
    plain = [records[i : i + 1 + (i == 5)].tobytes() for i in range(6)]
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    for name, raw in zip(names, plain):
        (tmp_path / name).write_bytes(raw)
    loaded = 0
    for i in range(MUTATIONS):
        suffix = list(PACKERS)[i % 3]
        hit = int(rng.integers(6))
        broken = damaged(PACKERS[suffix](plain[hit]), rng, 16, [*plain, gzip.compress(plain[0])])
        path = tmp_path / (names[hit] + suffix)
        (tmp_path / names[hit]).unlink()
        path.write_bytes(broken)
        wanted = [parsed_cifar(raw) for raw in plain]
        wanted[hit] = parsed_cifar(unpacked(broken, suffix))
        try:
            train, test = data.cifar10(tmp_path, dtype=np.uint8)
        except ValueError as error:
            assert wanted[hit] is None and str(path) in str(error), f"mutation {i}: {error}"
        else:
            assert wanted[hit] is not None, f"mutation {i} was read"
            loaded += 1
            images = np.concatenate([train.images, test.images]).reshape(-1, 3072)
            labels = np.concatenate([train.target, test.target])
            every = np.concatenate([w for w in wanted if w is not None])
            np.testing.assert_array_equal(images, every[:, 1:])
            np.testing.assert_array_equal(labels, every[:, 0])
        path.unlink()
        (tmp_path / names[hit]).write_bytes(plain[hit])
    assert MUTATIONS * 0.02 < loaded < MUTATIONS * 0.5


def drawn(rng: np.random.Generator) -> dict[str, bytes]:
    """Small images of all kinds, packed as files; by their name."""
    image = pytest.importorskip("PIL.Image")
    grey = rng.integers(0, 256, (20, 24), dtype=np.uint8)
    colours = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
    made = {
        "grey.png": image.fromarray(grey),
        "colours.png": image.fromarray(colours),
        "clear.png": image.fromarray(np.dstack([colours, grey])),
        "palette.png": image.fromarray(colours).quantize(8),
        "wide.png": image.fromarray(grey.astype(np.uint16) * 257),
        "bits.png": image.fromarray(grey > 99),
        "grey.jpg": image.fromarray(grey),
        "colours.jpg": image.fromarray(colours),
    }
    files = {}
    for name, picture in made.items():
        with io.BytesIO() as file:
            picture.save(file, "PNG" if name.endswith("png") else "JPEG")
            files[name] = file.getvalue()
    return files


def resized(raw: bytes, name: str, rng: np.random.Generator) -> bytes:
    """The same file with another width or height in its header, and a checksum that fits."""
    out = bytearray(raw)
    if name.endswith("png"):
        place = 16 + 4 * int(rng.integers(2))
        out[place : place + 4] = struct.pack(">I", int(rng.choice(SIZES)))
        out[29:33] = struct.pack(">I", zlib.crc32(out[12:29]))
    else:
        place = raw.index(b"\xff\xc0") + 5 + 2 * int(rng.integers(2))
        out[place : place + 2] = struct.pack(">H", int(rng.choice(SIZES)) % 65536)
    return bytes(out)


def mutations(rng: np.random.Generator) -> list[tuple[str, bytes]]:
    files = drawn(rng)
    names = list(files)
    made = []
    for i in range(MUTATIONS):
        name = names[i % len(names)]
        if rng.integers(8) == 0:
            raw = resized(files[name], name, rng)
        else:
            raw = damaged(files[name], rng, 60, [*files.values(), b"", b"GIF89a", b"no image"])
        made.append((f"{i}-{name}", raw))
    return made


@pytest.mark.parametrize("channels", [1, 3])
def test_images(channels: int, tmp_path: Path, rng: np.random.Generator) -> None:
    image = pytest.importorskip("PIL.Image")
    made = mutations(rng)
    for name, raw in made:
        path = tmp_path / "class" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(raw)
    own, fixed = (data.ImageFolder(tmp_path, channels=channels, size=size) for size in (None, 16))
    loaded = 0
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # Pillow warns of large images and odd headers; to users that is no error
        for i, (path, _) in enumerate(own.samples):
            try:
                x, _ = own[i]
            except ValueError as error:
                assert str(path) in str(error)
                with pytest.raises(ValueError, match="cannot be read as an image"):
                    fixed[i]
                continue
            loaded += 1
            with image.open(path) as opened:
                assert x.shape == (channels, opened.height, opened.width)
            assert x.dtype == np.float32 and x.min() >= 0 and x.max() <= 1
            assert fixed[i][0].shape == (channels, 16, 16)
    assert MUTATIONS * 0.1 < loaded < MUTATIONS * 0.9


def test_predict(tmp_path: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    cnnmath.manual_seed(0)
    settings: dict[str, Any] = {"name": "lenet5", "num_classes": 10, "in_channels": 1, "image_size": 28}
    how = runs.Preprocessing(1, 28, 28, 1 / 255, [0.5], [0.5])
    model = cnnmath.models.create(**settings)
    runs.write(run, model, settings, how, list("0123456789"), {"data": "mnist"})
    paths = []
    for name, raw in mutations(rng):
        paths.append(str(tmp_path / name))
        Path(paths[-1]).write_bytes(raw)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert cli.main(["predict", str(run), *paths, "--top", "1"]) == 1
    captured = capsys.readouterr()
    right = [line.partition(": ")[0] for line in captured.out.splitlines()]
    wrong = [line.removeprefix("cnnmath: error: ").partition(": ")[0] for line in captured.err.splitlines()]
    assert sorted(right + wrong) == sorted(paths)
    assert right == [p for p in paths if p in set(right)] and len(right) > 100 < len(wrong)
    for path in right[:20]:
        assert read_image(path, 1, (28, 28)).shape == (1, 28, 28)
