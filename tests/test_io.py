"""Saving and loading weights."""

from __future__ import annotations

import itertools
import json
import os
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnmath


def arrays(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        "weight": rng.standard_normal((4, 3, 2, 5)).astype(np.float32).transpose(3, 2, 0, 1),  # not row-major
        "double": rng.standard_normal(3),
        "count": np.array(7),
        "big_endian": np.arange(3, dtype=">i8"),
        "mask": np.array([True, False]),
        "bytes": np.arange(4, dtype=np.uint8),
        "empty": np.zeros((0, 3), np.float32),
    }


def test_round_trip(tmp_path: Path, rng: np.random.Generator) -> None:
    state = arrays(rng)
    cnnmath.save(state, tmp_path / "a.safetensors")
    found = cnnmath.load(tmp_path / "a.safetensors")
    assert set(found) == set(state)
    for name, array in state.items():
        np.testing.assert_array_equal(found[name], array, strict=name != "big_endian")
        assert found[name].flags.writeable and found[name].flags.c_contiguous
    assert found["count"].dtype == np.int64 and found["count"].shape == ()


def test_model(tmp_path: Path) -> None:
    model = cnnmath.nn.Linear(3, 2)
    cnnmath.save(model, str(tmp_path / "model.safetensors"))
    other = cnnmath.nn.Linear(3, 2)
    other.load_state_dict(cnnmath.load(tmp_path / "model.safetensors"))
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], array, strict=True)


def test_states(tmp_path: Path, rng: np.random.Generator) -> None:
    """What optimizers and schedules are made of comes back with its types and to the bit."""
    first, second = rng.standard_normal((2, 3)), np.array(5)
    state = {
        "model": {"0.weight": first, "0": {"weight": second}},  # one dotted name, twice
        "groups": [
            {"lr": 0.1 + 0.2, "betas": (0.9, 0.999), "nesterov": False, "params": [0, 1], "max": None}
        ],
        "counts": {3: 1, (1, 2): "x"},
        "numbers": [float("nan"), float("inf"), -0.0, 2**70, np.float32(0.1), np.int64(3), np.bool_(True)],
        "text": "ä\ud800\n",
        "empty": {},
    }
    cnnmath.save(state, tmp_path / "state.safetensors")
    found = cnnmath.load(tmp_path / "state.safetensors")
    model = found.pop("model")
    np.testing.assert_array_equal(model["0.weight"], first, strict=True)
    np.testing.assert_array_equal(model["0"]["weight"], second, strict=True)
    assert repr(found) == repr({key: value for key, value in state.items() if key != "model"})
    plain = pytest.importorskip("safetensors.numpy").load_file(tmp_path / "state.safetensors")
    np.testing.assert_array_equal(plain["model.0.weight"], first)


def test_state_of_an_optimizer(tmp_path: Path) -> None:
    models = [cnnmath.nn.Linear(3, 2) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [cnnmath.optim.AdamW(model, lr=0.1) for model in models]
    grads = {"weight": np.ones((2, 3), np.float32), "bias": np.ones(2, np.float32)}
    optimizers[0].step(grads)
    cnnmath.save({"model": models[0].state_dict(), "optimizer": optimizers[0].state_dict()}, tmp_path / "a")
    found = cnnmath.load(tmp_path / "a")
    models[1].load_state_dict(found["model"])
    optimizers[1].load_state_dict(found["optimizer"])
    for optimizer in optimizers:
        optimizer.step(grads)
    np.testing.assert_array_equal(models[0].weight.numpy(), models[1].weight.numpy())


def write(path: Path, header: Any, data: bytes = b"") -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_bfloat16_becomes_float32(tmp_path: Path) -> None:
    """All 65,536 of its numbers, beside another array. The oracle: sign, exponent and mantissa by hand."""
    path = tmp_path / "narrow.safetensors"
    bits = np.arange(65536, dtype="<u2")
    header = {
        "other": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "narrow": {"dtype": "BF16", "shape": [256, 256], "data_offsets": [8, 8 + 2 * 65536]},
    }
    write(path, header, np.array([1, 2], "<f4").tobytes() + bits.tobytes())
    found = cnnmath.load(path)
    np.testing.assert_array_equal(found["other"], np.array([1, 2], np.float32), strict=True)
    narrow = found["narrow"]
    assert narrow.dtype == np.float32 and narrow.shape == (256, 256) and narrow.flags.writeable
    sign, exponent, mantissa = bits >> 15, (bits >> 7) & 0xFF, (bits & 0x7F).astype(np.float64)
    normal = np.ldexp(1 + mantissa / 128, exponent.astype(int) - 127)
    magnitude = np.where(exponent == 0, np.ldexp(mantissa / 128, -126), normal)
    magnitude = np.where(exponent == 255, np.where(mantissa == 0, np.inf, np.nan), magnitude)
    np.testing.assert_array_equal(narrow.ravel(), np.where(sign == 1, -magnitude, magnitude))


def test_types_that_numpy_lacks_are_named(tmp_path: Path) -> None:
    write(tmp_path / "w", {"w": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}, b"0")
    with pytest.raises(ValueError, match=r"load: .*/w holds 'w' as F8_E4M3, which NumPy does not have"):
        cnnmath.load(tmp_path / "w")


def test_loading_makes_no_second_copy(tmp_path: Path, run_python: Any) -> None:
    path = tmp_path / "large"
    cnnmath.save({"a": np.ones(20_000_000, np.float32)}, path)
    code = f"""
import resource, cnnmath.io, safetensors.numpy
before = int(open("/proc/self/statm").read().split()[5]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_DATA, (before + 120_000_000,) * 2)
assert cnnmath.load({str(path)!r})["a"].sum() == 20_000_000
"""
    run_python(code)


def mutations(whole: bytes, rng: np.random.Generator) -> Iterator[bytes]:
    """Damaged copies of a safetensors file, without an end."""
    size = int.from_bytes(whole[:8], "little")
    header, data = whole[8 : 8 + size], whole[8 + size :]
    lengths = [0, 1, size - 1, size + 1, len(whole), 2**31, 2**32 + size, 2**63 - 1, 2**63, 2**64 - 1]
    words = [
        b"-1",
        b"1e9",
        b"4611686018427387904",
        b"null",
        b"[]",
        b"{}",
        b'"F64"',
        b'"BF16"',
        b'"I9"',
        b"NaN",
    ]
    while True:
        changed = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            changed[rng.integers(0, 8 + size)] ^= 1 << rng.integers(0, 8)
        yield bytes(changed)
        yield whole[: rng.integers(0, len(whole))]
        yield whole + rng.bytes(rng.integers(1, 50))
        yield struct.pack("<Q", int(rng.choice(np.array(lengths, np.uint64)))) + whole[8:]
        # A number or a text of the header becomes something else.
        tokens = list(re.finditer(rb'"[^"]*"|\d+', header))
        token = tokens[rng.integers(0, len(tokens))]
        edited = header[: token.start()] + words[rng.integers(0, len(words))] + header[token.end() :]
        yield struct.pack("<Q", len(edited)) + edited + data
        at, count = rng.integers(0, size), rng.integers(1, 30)
        cut = header[:at] + header[at + count :]
        yield struct.pack("<Q", len(cut)) + cut + data
        double = header[:at] + header[at : at + count] * 2 + header[at + count :]
        yield struct.pack("<Q", len(double)) + double + data


@pytest.mark.parametrize("kind", ["weights", "state"])
def test_damaged_files_are_refused_or_read(kind: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """A ValueError that names the file, or a dict; nothing else, ever."""
    path = tmp_path / "a.safetensors"
    state: dict[str, Any] = arrays(rng)
    if kind == "state":
        state = {
            "model": state,
            "groups": [{"betas": (0.9, np.float32(0.99)), "params": [0, 1]}],
            "n": {3: 4},
        }
    cnnmath.save(state, path)
    whole, before, refused = path.read_bytes(), repr(cnnmath.load(path)), 0
    for content in itertools.islice(mutations(whole, rng), 1000):
        path.write_bytes(content)
        try:
            found = cnnmath.load(path)
        except ValueError as error:
            refused += 1
            assert str(path) in str(error) and len(str(error)) < 1000
        else:
            assert isinstance(found, dict)
            # Arrays alone: the mark of a state is gone, and it is a file like any other.
            assert repr(found) == before or all(isinstance(a, np.ndarray) for a in found.values())
    assert (500 if kind == "weights" else 950) < refused < 1000
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize(
    "text", ["", "{", "3", "[" * 100_000, '{"dict": 3}', '{"array": "b"}', '{"number": ["O", 1]}']
)
def test_damaged_states(text: str, tmp_path: Path) -> None:
    content = text.encode() + b"a |u1 (1,)" + b"0"
    header = {
        "__metadata__": {"cnnmath": text, "crc32": f"{zlib.crc32(content):08x}"},
        "a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
    }
    write(tmp_path / "a", header, b"0")
    with pytest.raises(
        ValueError, match=r"load: .*a is no safetensors file, or it is damaged \((?!its checksum).+\)"
    ):
        cnnmath.load(tmp_path / "a")


def test_every_bit_of_a_state_counts(tmp_path: Path) -> None:
    """A weight that is another one after a fault of the disk is a number as good as any: the checksum finds it."""
    cnnmath.save({"model": {"a": np.arange(3.0), "b": np.array(7)}, "epoch": 3}, tmp_path / "a")
    whole = (tmp_path / "a").read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    assert len(whole) == start + 32
    for bit in range(8 * start, 8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        (tmp_path / "a").write_bytes(damaged)
        with pytest.raises(ValueError, match="its checksum is another"):
            cnnmath.load(tmp_path / "a")


def test_others_read_it(tmp_path: Path, rng: np.random.Generator) -> None:
    numpy_reader = pytest.importorskip("safetensors.numpy")
    state = {"w": rng.standard_normal((2, 3))}
    cnnmath.save(state, tmp_path / "w")
    np.testing.assert_array_equal(numpy_reader.load_file(tmp_path / "w")["w"], state["w"])


@pytest.mark.parametrize("cut", [0, 4, 30, -1])
def test_damaged(cut: int, tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "a.safetensors"
    cnnmath.save({"w": rng.standard_normal(5)}, path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"load: .*a\.safetensors is no safetensors file, or it is damaged"):
        cnnmath.load(path)


def test_noise_is_no_file(tmp_path: Path, rng: np.random.Generator) -> None:
    for n in (1, 7, 8, 9, 100, 4000):
        (tmp_path / "noise").write_bytes(rng.bytes(n))
        with pytest.raises(ValueError, match="damaged"):
            cnnmath.load(tmp_path / "noise")


@pytest.mark.parametrize("legacy", [False, True])
def test_files_of_pytorch_are_named(legacy: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "x.th"
    torch.save({"w": torch.ones(2)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(
        ValueError, match=r"x\.th is a PyTorch file, expected safetensors; examples/convert_resnet"
    ):
        cnnmath.load(path)
    np.savez(tmp_path / "x.npz", w=np.ones(2))
    with pytest.raises(ValueError, match="is no safetensors file"):
        cnnmath.load(tmp_path / "x.npz")


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        cnnmath.load(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"save: the folder .* does not exist"):
        cnnmath.save({}, tmp_path / "no" / "folder")
    for wrong in (3, [np.zeros(2)]):
        with pytest.raises(TypeError, match="a Module or a dict of arrays"):
            cnnmath.save(wrong, tmp_path / "x")
    wrong_arrays = ({"w": np.array([1j])}, {"w": np.array(["text"])}, {"__metadata__": np.zeros(2)})
    for bad in wrong_arrays:
        with pytest.raises(TypeError, match="names and numeric arrays"):
            cnnmath.save(bad, tmp_path / "x")
    with pytest.raises(
        TypeError, match=r"expected numeric arrays, numbers, text, .* got function at a\.1\.b$"
    ):
        cnnmath.save({"a": [1, {"b": lambda: None}]}, tmp_path / "x")
    with pytest.raises(TypeError, match=r"got an array of complex128 at a\.b$"):
        cnnmath.save({"a": {"b": np.array([1j])}}, tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_an_interrupted_write_leaves_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.safetensors"
    cnnmath.save({"w": np.ones(3)}, path)

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        cnnmath.save({"w": np.zeros(3)}, path)
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]
    np.testing.assert_array_equal(cnnmath.load(path)["w"], np.ones(3))


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    cnnmath.save({"a": np.zeros(2)}, tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
