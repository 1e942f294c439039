"""The command line: runs, run folders, errors in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cnnmath
from cnnmath import cli

QUICK = ["train", "--epochs", "1", "--batch-size", "200"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_train_reaches_its_accuracy(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--seed", "1"]) == 0
    out = capsys.readouterr().out
    run = here / "runs" / "digits"
    numbers = json.loads((run / "metrics.json").read_text())
    assert numbers["test_accuracy"] >= 0.98 and numbers["seconds"] < 60
    assert f"Test accuracy: {100 * numbers['test_accuracy']:.2f} %" in out
    rows = [line.split() for line in out.splitlines() if line[:1].isdigit()]
    assert [row[0] for row in rows] == list("0123456789") and sum(int(row[1]) for row in rows) == 360
    assert sum(int(row[2]) for row in rows) == round(360 * numbers["test_accuracy"])
    assert len(numbers["history"]["loss"]) == numbers["settings"]["epochs"]
    # The folder is enough to use the model again.
    model = cnnmath.models.small_cnn()
    model.load_state_dict(cnnmath.load(run / "model.safetensors"))
    x, y = cnnmath.data.load_digits().split()[1]
    classes = json.loads((run / "classes.json").read_text())
    scale = json.loads((run / "preprocessing.json").read_text())["scale"]
    pixels, _ = cnnmath.data.load_digits(dtype=np.uint8)
    np.testing.assert_array_equal(pixels[::5] * np.float32(scale), x)
    found = np.array([int(classes[i]) for i in model.eval()(x).argmax(axis=1)])
    assert np.mean(found == y) == numbers["test_accuracy"]


def test_runs_are_never_overwritten(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(QUICK) == cli.main(QUICK) == cli.main([*QUICK, "--out", "mine/first"]) == 0
    assert sorted(p.name for p in (here / "runs").iterdir()) == ["digits", "digits-2"]
    before = (here / "mine" / "first" / "metrics.json").read_bytes()
    capsys.readouterr()
    assert cli.main([*QUICK, "--out", "mine/first"]) == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "cnnmath: error: mine/first exists already; choose another --out, or remove it"
    ]
    assert captured.out == ""
    assert (here / "mine" / "first" / "metrics.json").read_bytes() == before
    (here / "empty").mkdir()
    assert cli.main([*QUICK, "--out", "empty"]) == 0


def test_same_seed_same_weights(here: Path, threads: object) -> None:
    for name, seed, n in (("a", "3", "1"), ("b", "3", "2"), ("c", "4", "2")):
        assert cli.main([*QUICK, "--seed", seed, "--threads", n, "--out", name]) == 0
        assert cnnmath.get_num_threads() == int(n)
    a, b, c = ((here / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b != c


def test_a_batch_larger_than_the_data(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    remark = "A batch of 1438 is more than there are: an epoch is one step of 1437 images\n"
    for size in ("1437", "1438"):
        assert cli.main(["train", "--epochs", "1", "--batch-size", size, "--out", size]) == 0
        assert (remark in capsys.readouterr().out) == (size == "1438")


def test_names_of_data(here: Path) -> None:
    spelled = {
        "MNIST": "mnist",
        "CIFAR10": "cifar10",
        "cifar-10": "cifar10",
        "fashion_mnist": "fashion-mnist",
    }
    spelled |= {"FashionMNIST": "fashion-mnist", "Digits": "digits"}
    for text, name in spelled.items():
        assert cli.parser().parse_args(["train", "--data", text]).data == name
    (here / "MNIST").mkdir()  # a folder of one's own
    (here / "mnist").mkdir()
    found = [
        cli.parser().parse_args(["train", "--data", text]).data for text in ("MNIST", "mnist", "./mnist")
    ]
    assert found == [str(here.resolve() / "MNIST"), "mnist", str(here.resolve() / "mnist")]


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    for key in cnnmath.build_config():
        assert any(line.startswith(key) for line in out.splitlines())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fly"], "invalid choice: 'fly'"),
        (["train", "--epochs", "0"], "argument --epochs: expected a whole number from 1, got 0"),
        (["train", "--epochs", "many"], "argument --epochs: invalid whole number value: 'many'"),
        (["train", "--batch-size", "-3"], "argument --batch-size"),
        (["train", "--lr", "nan"], "argument --lr: expected a number above 0, got nan"),
        (
            ["train", "--threads", "5000"],
            "argument --threads: expected a whole number from 1 to 1024, got 5000",
        ),
        (
            ["train", "--sede", "1"],
            "unrecognized arguments: --sede 1; the nearest option is --seed (see cnnmath train --help)",
        ),
        (["predict", "a", "b", "--topp=1"], "--topp=1; the nearest option is --top (see cnnmath predict"),
        (["info", "--xyz"], "unrecognized arguments: --xyz (see cnnmath info --help)"),
        (["--fly", "info"], "unrecognized arguments: --fly (see cnnmath --help)"),
        (
            ["train", "--data", "letters"],
            "argument --data: letters: no such folder (expected a folder of images, or digits, ",
        ),
        (["train", "--data", __file__], "test_cli.py: is a file (expected a folder of images"),
        (["train", "--model", "lenet6"], "argument --model: invalid choice: 'lenet6'"),
        (
            ["train", "--momentum", "1"],
            "argument --momentum: expected a number of at least 0 and below 1, got 1",
        ),
        (["train", "--l2", "-1"], "argument --l2: expected a number of at least 0, got -1"),
        (
            ["train", "--model", "resnet20", "--dropout", "0.1"],
            "--dropout is for lenet5, small_cnn, vgg_small, not for resnet20",
        ),
        (["train", "--model", "lenet5", "--width", "8"], "--width is for small_cnn, not for lenet5"),
        (["train", "--dropout", "1"], "argument --dropout: expected a number of at least 0 and below 1"),
        (["train", "--augment", "twist"], "argument --augment: invalid choice: 'twist'"),
        (["train", "--image-size", "32"], "--image-size is for folders of images, got --data digits"),
        (
            ["train", "--data", ".", "--image-size", "4x4x3"],
            "argument --image-size: expected a size such as 32 or 24x32 (height, width), got 4x4x3",
        ),
        (["train", "--data", ".", "--root", "."], "--root is for data sets by name"),
        (["train", "--nesterov"], "--nesterov needs --optimizer momentum, got adamw"),
        (["predict", "runs/digits"], "the following arguments are required: IMAGE"),
        (["summary", "lenet6"], "expected a run folder or one of lenet5, "),
    ],
)
def test_wrong_arguments(
    arguments: list[str], message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    captured = capsys.readouterr()
    assert end.value.code == 2 and captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("cnnmath") and message in line and line.endswith("--help)")
    assert not list(here.iterdir())


def test_a_folder_that_cannot_be_made(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "file").write_text("")
    assert cli.main([*QUICK, "--out", "file/run"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cnnmath: error: ") and "file" in line


def test_interruption(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cnnmath.Trainer, "fit", interrupt)
    assert cli.main(QUICK) == 130
    assert capsys.readouterr().err == "cnnmath: interrupted\n"
    assert not list((here / "runs").iterdir())


@pytest.mark.parametrize(
    "command", [["--help"], ["train", "--help"], ["info", "--help"], ["predict", "--help"], ["--version"]]
)
def test_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(command)
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert "cnnmath" in out and all(len(line) <= 100 for line in out.splitlines())
    if command[0] == "train":
        for option in (
            "--data",
            "--model",
            "--optimizer",
            "--schedule",
            "--l2",
            "--label-smoothing",
            "--augment",
            "--validation",
            "--image-size",
            "--dropout",
            "--width",
            "--epochs",
            "--batch-size",
            "--lr",
            "--seed",
            "--threads",
            "--out",
        ):
            assert option in out


def test_no_command_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    captured = capsys.readouterr()
    assert captured.err == "" and captured.out.startswith("usage: cnnmath") and "evaluate" in captured.out


def test_options_know_what_was_given() -> None:
    options = cli.parser().parse_args(["train", "--lr", "0.01", "--nesterov"])
    assert options.given == {"lr", "nesterov"} and options.lr == 0.01 and options.epochs == 15
    assert not hasattr(options, "momentum")  # without a default


def test_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cnnmath", "info"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stderr == "" and "num_threads" in done.stdout
    done = subprocess.run(
        [sys.executable, "-m", "cnnmath", "fly"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
