"""The pictures of runs: cnnmath train draws them, cnnmath plot draws them again."""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cnnmath
from cnnmath import cli, nn, viz
from cnnmath.cli import plot, runs

FILES = [
    "classes.json", "metrics.json", "model.json", "model.safetensors", "options.json", "preprocessing.json",
]  # fmt: skip
PICTURES = ["confusion_matrix.png", "curves.png", "filters.png", "mistakes.png"]
QUICK = ["train", "--epochs", "1", "--batch-size", "200"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    assert cli.main([*QUICK, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def run(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a run, below the current directory."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(drawn, tmp_path / "run")).relative_to(tmp_path)


@pytest.fixture
def no_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ["matplotlib", *(m for m in sys.modules if m.startswith("matplotlib."))]:
        monkeypatch.setitem(sys.modules, name, None)


def test_train_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main([*QUICK, "--epochs", "2"]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[-2:] == [
        "Written to runs/digits",
        "Drawn: curves.png, confusion_matrix.png, filters.png, mistakes.png",
    ]
    folder = Path("runs/digits")
    assert sorted(p.name for p in folder.iterdir()) == sorted([*FILES, *PICTURES])
    for name in PICTURES:
        data = (folder / name).read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR"
        width, height = struct.unpack(">II", data[16:24])
        with Image.open(folder / name) as image:
            image.load()  # all of it is there
            assert image.size == (width, height) and 200 < height < 2200 and 400 < width < 2200
            assert len(np.unique(np.asarray(image.convert("L")))) > 20
    with Image.open(folder / "curves.png") as image:
        assert image.size == (1100, 450)


def test_plot_draws_them_again(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {name: (run / name).read_bytes() for name in [*FILES, *PICTURES]}
    for name in PICTURES:
        (run / name).unlink()
    assert cli.main(["plot", str(run)]) == 0
    assert (
        capsys.readouterr().out.replace("\n", ", ")
        == "curves.png, confusion_matrix.png, filters.png, mistakes.png, "
    )
    assert {p.name: p.read_bytes() for p in run.iterdir()} == before


def test_what_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers of metrics.json, the model's first convolution, the images as they were before normalization."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for part, n in (("train", 40), ("t10k", 12)):
        target = (np.arange(n) % 2).astype(np.uint8)
        images = (rng.integers(0, 200, (n, 28, 28)) + 40 * target[:, None, None]).astype(np.uint8)
        for stem, array in (("images-idx3", images), ("labels-idx1", target)):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (tmp_path / f"{part}-{stem}-ubyte").write_bytes(header + array.tobytes())
    calls: dict[str, list[Any]] = {}
    functions = {name: getattr(viz, name) for name in viz.__all__}
    for name in functions:

        def noted(*args: Any, name: str = name, function: Any = functions[name], **more: Any) -> Any:
            calls.setdefault(name, []).append((*args, more))
            return function(*args, **more)

        monkeypatch.setattr(viz, name, noted)
    command = [
        "train",
        "--data",
        "mnist",
        "--root",
        ".",
        "--model",
        "lenet5",
        "--epochs",
        "2",
        "--out",
        "run",
    ]
    assert cli.main(command) == 0
    assert cli.main(["plot", "run", "--root", "."]) == 0
    numbers = json.loads(Path("run/metrics.json").read_text())
    weights = cnnmath.load("run/model.safetensors")
    test = cnnmath.data.mnist(".")[1]
    for i in range(2):
        assert calls["curves"][i][0] == numbers["history"]
        counts, names, _ = calls["confusion_matrix"][i]
        assert counts.tolist() == numbers["confusion_matrix"] and names == list("0123456789")
        np.testing.assert_array_equal(np.asarray(calls["filters"][i][0]), weights["0.weight"])
        x, target, probabilities, names, how = calls["mistakes"][i]
        np.testing.assert_allclose(x * how["std"][0] + how["mean"][0], test.images, atol=1e-6)
        assert len(how["std"]) == 1 and how["std"] != [1]
        np.testing.assert_array_equal(target, test.target)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)
        right = (probabilities.argmax(axis=1) == target).mean()
        assert right == pytest.approx(numbers["test_accuracy"]) and names == list("0123456789")


def test_without_matplotlib(
    tmp_path: Path, no_matplotlib: None, drawn: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert cli.main([*QUICK, "--out", str(folder)]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-2:] == [
        f"Written to {folder}",
        'Not drawn: pictures need matplotlib: pip install "cnnmath[viz]"',
    ]
    assert captured.err == ""
    assert sorted(p.name for p in folder.iterdir()) == FILES
    assert (folder / "model.safetensors").read_bytes() == (drawn / "model.safetensors").read_bytes()
    assert cli.main(["plot", str(folder)]) == 1
    assert capsys.readouterr().err.splitlines() == [
        'cnnmath: error: pictures need matplotlib: pip install "cnnmath[viz]"'
    ]


def test_without_the_data(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All but the mistakes is drawn."""
    monkeypatch.delenv("CNNMATH_DATA", raising=False)
    numbers = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps({**numbers, "data": "mnist"}))
    for name in PICTURES:
        (run / name).unlink()
    assert cli.main(["plot", str(run)]) == 1
    captured = capsys.readouterr()
    assert captured.out == "curves.png, confusion_matrix.png, filters.png\n"
    (line,) = captured.err.splitlines()
    assert line.startswith("cnnmath: error: mnist: no data folder.")
    assert sorted(p.name for p in run.glob("*.png")) == PICTURES[:3]


@pytest.mark.parametrize("missing", ["history", "confusion_matrix"])
def test_numbers_that_are_missing(missing: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = json.loads((run / "metrics.json").read_text())
    del numbers[missing]
    (run / "metrics.json").write_text(json.dumps(numbers))
    assert cli.main(["plot", str(run)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"cnnmath: error: run: metrics.json has no {missing!r}"


def test_a_training_that_diverged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    # Weights grow by a factor of 20 with each step.
    command = ["train", "--epochs", "3", "--optimizer", "sgd", "--lr", "1", "--weight-decay", "21"]
    assert cli.main([*command, "--schedule", "none", "--batch-size", "200"]) == 1
    assert "Drawn: curves.png" in capsys.readouterr().out
    assert json.loads(Path("runs/digits/metrics.json").read_text())["diverged"]
    assert sorted(p.name for p in Path("runs/digits").glob("*.png")) == PICTURES


def test_a_full_disk_leaves_no_half_pictures(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p.name: p.read_bytes() for p in run.iterdir()}

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    assert cli.main(["plot", str(run)]) == 1
    assert capsys.readouterr().err == "cnnmath: error: no space left\n"
    assert {p.name: p.read_bytes() for p in run.iterdir()} == before


def test_a_model_without_convolutions(run: Path) -> None:
    for name in PICTURES:
        (run / name).unlink()
    found = runs.read(run)
    plain = runs.Run(**{**vars(found), "model": nn.Sequential(nn.Flatten(), nn.Linear(64, 10))})
    assert plot._of_run(run, plain) == ["curves.png", "confusion_matrix.png"]
    assert sorted(p.name for p in run.glob("*.png")) == ["confusion_matrix.png", "curves.png"]
