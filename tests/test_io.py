"""Saving and loading weights."""

from __future__ import annotations

import os
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


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        cnnmath.load(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"save: the folder .* does not exist"):
        cnnmath.save({}, tmp_path / "no" / "folder")
    for wrong in (3, [np.zeros(2)]):
        with pytest.raises(TypeError, match="a Module or a dict of arrays"):
            cnnmath.save(wrong, tmp_path / "x")
    for bad in ({"w": "text"}, {3: np.zeros(2)}, {"w": np.array([1j])}):
        with pytest.raises(TypeError, match="names and numeric arrays"):
            cnnmath.save(bad, tmp_path / "x")
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
