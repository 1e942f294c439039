"""The command line beyond the digits: models, optimizers and data by name; evaluate, predict, summary."""

from __future__ import annotations

import json
import lzma
import shutil
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnmath
from cnnmath import cli
from cnnmath.cli import runs
from cnnmath.data import files


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    assert cli.main(["train", "--epochs", "3", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def numbers(folder: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(folder) / "metrics.json").read_text())
    return found


def write_mnist(folder: Path, rng: np.random.Generator) -> None:
    """Two kinds of images, dark and bright ones."""
    folder.mkdir()
    for part, n in (("train", 40), ("t10k", 10)):
        labels = (np.arange(n) % 2).astype(np.uint8)
        images = (rng.integers(0, 80, (n, 28, 28)) + 150 * labels[:, None, None]).astype(np.uint8)
        for stem, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (folder / f"{part}-{stem}-ubyte").write_bytes(header + array.tobytes())


OPTIMIZERS = {
    "sgd": ["--schedule", "onecycle", "--weight-decay", "0.001"],
    "momentum": ["--schedule", "step", "--nesterov", "--momentum", "0.8", "--l2", "0.0001"],
    "adam": ["--schedule", "cosine"],
    "adamw": ["--schedule", "none"],
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_mnist(
    optimizer: str, here: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mnist(here / "mnist", rng)
    command = ["train", "--data", "mnist", "--root", ".", "--model", "lenet5", "--optimizer", optimizer]
    rates = ["--lr", "0.1" if optimizer in ("sgd", "momentum") else "0.002"]
    assert cli.main([*command, "--epochs", "4", "--batch-size", "8", *rates, *OPTIMIZERS[optimizer]]) == 0
    run = here / "runs" / "mnist"
    found = numbers(run)
    settings = found["settings"]
    assert settings["optimizer"] == optimizer and settings["model"] == "lenet5" and found["data"] == "mnist"
    assert settings["weight_decay"] == {"sgd": 0.001, "adamw": 0.01}.get(optimizer, 0)
    assert settings.get("momentum") == {"sgd": 0, "momentum": 0.8}.get(optimizer)
    assert found["history"]["loss"][-1] < found["history"]["loss"][0]
    how = json.loads((run / "preprocessing.json").read_text())
    pixels = cnnmath.data.mnist(here)[0].images.astype(np.float64)
    assert how["mean"] == pytest.approx([pixels.mean()]) and how["std"] == pytest.approx([pixels.std()])
    assert (how["channels"], how["height"], how["width"], how["scale"]) == (1, 28, 28, 1 / 255)
    capsys.readouterr()
    assert cli.main(["evaluate", str(run), "--root", "."]) == 0
    out = capsys.readouterr().out
    assert f"Test accuracy: {100 * found['test_accuracy']:.2f} %, loss" in out
    if not settings["l2"]:  # the loss of a trainer has its penalties
        assert f"loss {found['test_loss']:.4f}" in out
    assert cli.main(["evaluate", str(run), "--root", "nowhere"]) == 1
    assert "the folder nowhere does not exist" in capsys.readouterr().err


def test_step_schedule_and_l2(here: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the options make of the Trainer."""
    write_mnist(here / "mnist", rng)
    rates, trainers = [], []
    fit = cnnmath.Trainer.fit

    def noted(self: cnnmath.Trainer, *args: Any, callbacks: Any, **kwargs: Any) -> Any:
        trainers.append(self)

        def note(epoch: int, logs: Any) -> None:
            rates.append(self.optimizer.param_groups[0]["lr"])

        return fit(
            self,
            *args,
            callbacks=[*callbacks, cnnmath.callbacks.LambdaCallback(on_epoch_begin=note)],
            **kwargs,
        )

    monkeypatch.setattr(cnnmath.Trainer, "fit", noted)
    command = ["train", "--data", "mnist", "--root", ".", "--epochs", "6", "--optimizer", "momentum"]
    assert cli.main([*command, "--schedule", "step", "--l2", "0.01", "--nesterov"]) == 0
    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001])
    (penalty,) = trainers[0].regularizers
    assert penalty.strength == 0.01
    assert trainers[0].optimizer.defaults["nesterov"] and trainers[0].optimizer.defaults["momentum"] == 0.9


def test_options_of_model_and_loss(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked for reaches the model, the loss and the groups of the optimizer, and the run folder."""
    trainers = []
    fit = cnnmath.Trainer.fit

    def noted(self: cnnmath.Trainer, *args: Any, **kwargs: Any) -> Any:
        trainers.append(self)
        return fit(self, *args, **kwargs)

    monkeypatch.setattr(cnnmath.Trainer, "fit", noted)
    command = ["train", "--epochs", "1", "--batch-size", "200", "--weight-decay", "0.3", "--out", "run"]
    assert cli.main([*command, "--width", "6", "--dropout", "0.4", "--label-smoothing", "0.1"]) == 0
    (trainer,) = trainers
    assert trainer.loss.label_smoothing == 0.1
    decayed, others = trainer.optimizer.param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.3, 0)
    shapes = [[p.shape for p in group["params"]] for group in (decayed, others)]
    assert shapes == [
        [(6, 1, 3, 3), (6, 6, 3, 3), (12, 6, 3, 3), (10, 48)],
        [(6,)] * 6 + [(12,)] * 3 + [(10,)],
    ]
    assert [m.p for m in trainer.model.modules() if isinstance(m, cnnmath.nn.Dropout)] == [0.4]
    settings = numbers(here / "run")["settings"]
    assert settings["label_smoothing"] == 0.1 and settings["weight_decay"] == 0.3
    again = runs.read(here / "run")  # the weights fit: the width is in model.json
    assert again.settings["width"] == 6 and again.settings["dropout"] == 0.4


def test_cifar10_with_a_residual_network(
    here: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    records = rng.integers(0, 256, (24, 3073), dtype=np.uint8)
    records[:, 0] = np.arange(24) % 10
    for i, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        (here / f"{name}.bin.xz").write_bytes(lzma.compress(records[4 * i : 4 * i + 4].tobytes()))
    command = ["train", "--data", "cifar10", "--root", ".", "--model", "resnet20", "--epochs", "1"]
    assert cli.main([*command, "--out", "run"]) == 0
    how = json.loads((here / "run" / "preprocessing.json").read_text())
    assert len(how["mean"]) == len(how["std"]) == 3
    assert json.loads((here / "run" / "classes.json").read_text())[9] == "truck"
    capsys.readouterr()
    assert cli.main(["summary", "run"]) == 0
    out = capsys.readouterr().out
    assert "Parameters: 269,722" in out and "Input (1, 3, 32, 32)" in out


def test_missing_data(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CNNMATH_DATA", raising=False)
    assert cli.main(["train", "--data", "mnist"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "cnnmath: error: mnist: no data folder. Give root=... (on the command line --root)"
    )
    assert "train-images-idx3-ubyte" in line and "t10k-labels-idx1-ubyte" in line
    assert not list((here / "runs").iterdir())


def test_evaluate(digits_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", str(digits_run), "--batch-size", "100"]) == 0
    out = capsys.readouterr().out
    assert f"Test accuracy: {100 * numbers(digits_run)['test_accuracy']:.2f} %" in out
    assert sum(line[:1].isdigit() for line in out.splitlines()) == 10


def test_folders_that_are_no_runs(here: Path, digits_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "empty").mkdir()
    damaged, other, few = here / "damaged", here / "other", here / "few"
    for copy in (damaged, other, few):
        shutil.copytree(digits_run, copy)
    (damaged / "model.json").write_text("{")
    (other / "model.json").write_text(
        '{"name": "lenet5", "num_classes": 10, "in_channels": 1, "image_size": 8}'
    )
    (few / "classes.json").write_text('["cat", "dog"]')
    for folder, message in (
        ("few", "few: classes.json does not have the classes of model.json"),
        ("nowhere", "nowhere: no such run folder"),
        ("empty", "empty is no run folder: it has no model.json"),
        ("damaged", "model.json: damaged"),
        ("other", "load_state_dict of Sequential: missing: "),
    ):
        assert cli.main(["evaluate", folder]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("cnnmath: error: ") and message in line


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["lenet5"], ["Input (1, 1, 28, 28)", "Parameters: 61,706"]),
        (["resnet18"], ["Input (1, 3, 224, 224)", "Parameters: 11,689,512"]),
        (["resnet20", "--classes", "5", "--channels", "1", "--size", "28"], ["Input (1, 1, 28, 28)"]),
    ],
)
def test_summary(arguments: list[str], wanted: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["summary", *arguments]) == 0
    out = capsys.readouterr().out
    assert all(text in out for text in wanted)


def test_predict(digits_run: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = pytest.importorskip("PIL.Image")
    digits = cnnmath.data.load_digits(dtype=np.uint8)
    wanted = []
    for i in range(4):  # 0 to 16 becomes 0 to 255
        pixels = np.minimum(digits.images[i, 0].astype(int) * 16, 255).astype(np.uint8)
        drawn = image.fromarray(pixels)
        if i == 3:
            drawn = drawn.resize((80, 80), image.Resampling.BICUBIC)
        (drawn if i % 2 else drawn.convert("RGB")).save(here / f"{i}.{'png' if i < 3 else 'jpg'}")
        model = runs.read(digits_run).model
        wanted.append(int(model(pixels[None, None].astype(np.float32) / np.float32(255)).argmax()))
    (here / "text.png").write_text("no image")
    (here / "empty.png").touch()
    whole = (here / "0.png").read_bytes()
    (here / "cut.png").write_bytes(whole[: len(whole) // 2])
    (here / "folder.png").mkdir()
    names = [
        "0.png",
        "text.png",
        "1.png",
        "cut.png",
        "2.png",
        "missing.png",
        "folder.png",
        "3.jpg",
        "empty.png",
    ]
    assert cli.main(["predict", str(digits_run), *names, "--top", "2"]) == 1
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["0.png", "1.png", "2.png", "3.jpg"]
    assert [int(line.split()[1]) for line in lines] == wanted
    assert all(line.count("%") == 2 for line in lines)
    errors = captured.err.splitlines()
    assert len(errors) == 5 and all(line.startswith("cnnmath: error: ") for line in errors)
    assert "text.png: cannot be read as an image (its kind is unknown)" in errors[0]
    assert "cut.png" in errors[1]
    assert errors[2:] == [
        "cnnmath: error: missing.png: No such file or directory",
        "cnnmath: error: folder.png: Is a directory",
        "cnnmath: error: empty.png: cannot be read as an image (it is empty)",
    ]
    assert cli.main(["predict", str(digits_run), "0.png"]) == 0


def test_predict_warns_of_one_colour(
    digits_run: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = pytest.importorskip("PIL.Image")
    image.new("RGBA", (20, 30), (0, 0, 0, 0)).save("blank.png")
    image.new("RGB", (20, 30), (200, 10, 90)).save("red.png")
    drawn = image.new("RGBA", (20, 30), (0, 0, 0, 0))
    drawn.putpixel((9, 9), (0, 0, 0, 255))
    drawn.save("drawn.png")
    assert cli.main(["predict", str(digits_run), "blank.png", "red.png", "drawn.png"]) == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        f"cnnmath: warning: {name}.png: the image is of one colour" for name in ("blank", "red")
    ]
    assert len(captured.out.splitlines()) == 3


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("ink", [0, 60, 200, 255])
def test_transparent_images(mode: str, ink: int, here: Path) -> None:
    """Dark ink lies on white, bright ink on black; what is half transparent is half the one, half the other."""
    image = pytest.importorskip("PIL.Image")
    if mode == "P":
        drawn = image.fromarray(np.array([[0, 1]], np.uint8), "P")
        drawn.putpalette([255 - ink] * 3 + [ink] * 3)
        drawn.save("ink.png", transparency=0)
    else:
        drawn = image.fromarray(np.array([[ink] * 3], np.uint8)).convert(mode)
        drawn.putalpha(image.fromarray(np.array([[0, 255, 128]], np.uint8)))
        drawn.save("ink.png")
    ground = 255 if ink < 128 else 0
    wanted = np.array([ground, ink, (ink + ground) / 2][: drawn.width]) / 255
    for channels in (1, 3):
        for plane in files.read_image("ink.png", channels):
            np.testing.assert_allclose(plane[0], wanted, atol=1.1 / 255)


def test_predict_without_pillow(
    digits_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("PIL", "PIL.Image", "PIL.ImageOps"):
        monkeypatch.setitem(sys.modules, name, None)
    assert cli.main(["predict", str(digits_run), "a.png"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        'cnnmath: error: image files need Pillow: pip install "cnnmath[images]"'
    ]


def test_read_image(here: Path, rng: np.random.Generator) -> None:
    image = pytest.importorskip("PIL.Image")
    colours = rng.integers(0, 256, (6, 9, 3), dtype=np.uint8)
    image.fromarray(colours).save("colours.png")
    x = files.read_image("colours.png")
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, colours.transpose(2, 0, 1).astype(np.float32) / np.float32(255))
    grey = files.read_image("colours.png", 1)
    luma = colours @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(grey[0], luma / 255, atol=1.1 / 255)
    assert files.read_image("colours.png", 1, (4, 5)).shape == (1, 4, 5)
    wide = rng.integers(0, 65536, (5, 4), dtype=np.uint16)
    image.fromarray(wide).save("wide.png")
    np.testing.assert_allclose(files.read_image("wide.png", 1)[0], wide / 65535, atol=0.6 / 255)
    clear = np.full((2, 2, 4), 255, np.uint8)
    clear[0, :, 3] = 0
    image.fromarray(clear).save("clear.png")
    np.testing.assert_array_equal(files.read_image("clear.png", 1)[0], [[0, 0], [1, 1]])
    turned = image.Exif()
    turned[0x0112] = 6  # turn by 90 degrees to show
    image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 8, 0)).save("turned.png", exif=turned)
    assert files.read_image("turned.png", 1).shape == (1, 2, 8)
    image.fromarray(np.full((2, 3), 0.5, np.float32)).save("real.tif")
    with pytest.raises(ValueError, match=r"real\.tif: .* floating-point numbers of an unknown range"):
        files.read_image("real.tif")
    with pytest.raises(ValueError, match="channels expects 1 or 3, got 4"):
        files.read_image("colours.png", 4)
