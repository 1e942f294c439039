"""The command line on folders of images, and its augmentation."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnmath
from cnnmath import cli, viz
from cnnmath.cli import datasets, folders, plot, runs
from cnnmath.data import files

Image = pytest.importorskip("PIL.Image")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plot, "after_training", lambda *_: None)  # which takes its time
    return tmp_path


def draw(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def make(
    root: Path,
    rng: np.random.Generator,
    counts: dict[str, int],
    shape: tuple[int, ...] = (12, 10, 3),
) -> None:
    """Images of each class, the first class the darkest."""
    for i, (name, count) in enumerate(counts.items()):
        for j in range(count):
            pixels = rng.integers(0, 60, shape) + 255 // len(counts) * i
            draw(root / name / f"{j:02}.png", np.clip(pixels, 0, 255).astype(np.uint8))


def train(*arguments: str, out: str = "run") -> dict[str, Any]:
    """metrics.json of a run."""
    assert cli.main(["train", "--epochs", "3", "--batch-size", "8", "--out", out, *arguments]) == 0
    found: dict[str, Any] = json.loads(Path(out, "metrics.json").read_text())
    return found


def load(path: Path | str) -> Any:
    return json.loads(Path(path).read_text())


def test_a_folder_without_parts(
    here: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    make(here / "photos", rng, {"night": 22, "day": 14})
    found = train("--data", "photos", "--augment")
    assert found["data"] == str(here / "photos") and found["settings"]["augment"] == "crop-flip"
    assert load("run/classes.json") == ["day", "night"]
    assert np.sum(found["confusion_matrix"], axis=1).tolist() == [2, 4]  # every fifth
    assert found["test_accuracy"] > 0.8  # dark or bright
    assert "Training on 30 colour images of 2 classes, 12 x 10, testing on 6" in capsys.readouterr().out

    how = load("run/preprocessing.json")
    assert (how["channels"], how["height"], how["width"]) == (3, 12, 10)
    parts, _ = folders.parts(here / "photos")
    assert [p.name for p, _ in parts.samples[:5]] == ["00.png", "01.png", "02.png", "03.png", "05.png"]
    pixels = np.stack([np.asarray(Image.open(p)) for p, _ in parts.samples]) / 255
    np.testing.assert_allclose(how["mean"], pixels.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(how["std"], pixels.std((0, 1, 2)), rtol=1e-5)

    accuracy = f"Test accuracy: {100 * found['test_accuracy']:.2f} %, loss {found['test_loss']:.4f}"
    assert cli.main(["evaluate", "run"]) == 0
    assert accuracy in capsys.readouterr().out
    (here / "photos").rename(here / "moved")
    assert cli.main(["evaluate", "run"]) == 1
    assert f"the folder {here / 'photos'} does not exist; --root says where" in capsys.readouterr().err
    assert cli.main(["evaluate", "run", "--root", "moved"]) == 0
    assert accuracy in capsys.readouterr().out
    assert cli.main(["predict", "run", "moved/day/04.png", "moved/night/04.png"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["day", "night"]
    pytest.importorskip("matplotlib")
    assert cli.main(["plot", "run", "--root", "moved"]) == 0
    assert (here / "run" / "mistakes.png").exists()


@pytest.mark.parametrize("name", ["test", "val"])
def test_a_folder_with_parts(name: str, here: Path, rng: np.random.Generator) -> None:
    make(here / "photos" / "train", rng, {"a": 9, "b": 8, "c": 7}, (6, 8))
    make(here / "photos" / name, rng, {"b": 2, "c": 3}, (6, 8))  # no class need be in the test part
    make(here / "photos" / "other", rng, {"d": 1})
    found = train("--data", "photos/")
    assert np.sum(found["confusion_matrix"], axis=1).tolist() == [0, 2, 3]
    assert load("run/classes.json") == ["a", "b", "c"] and load("run/preprocessing.json")["channels"] == 1
    assert found["settings"]["augment"] == "none"


def test_only_a_training_part(here: Path, rng: np.random.Generator) -> None:
    make(here / "train", rng, {"a": 10, "b": 6})
    train_part, test_part = folders.parts(here)
    assert Counter(train_part.targets) == {0: 8, 1: 5} and Counter(test_part.targets) == {0: 2, 1: 1}
    assert not {p for p, _ in train_part.samples} & {p for p, _ in test_part.samples}
    make(here / "car", rng, {".": 6})  # beside another class, train is one
    assert folders.parts(here)[0].classes == ["car", "train"]


def test_a_run_has_a_name_and_never_reads_more_than_it_needs(
    here: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(here / "photos" / "train", rng, {"a": 5, "b": 5})
    make(here / "photos" / "test", rng, {"a": 1, "b": 1})
    assert cli.main(["train", "--data", "photos", "--epochs", "1"]) == 0
    read = []
    original = files.read_image
    monkeypatch.setattr(files, "read_image", lambda *a: (read.append(a[0]), original(*a))[1])
    assert cli.main(["evaluate", "runs/photos"]) == 0
    assert [p.relative_to(here / "photos").parts[0] for p in read] == ["test", "test"]


def test_size_and_colours(here: Path, rng: np.random.Generator) -> None:
    make(here / "grey", rng, {"a": 5}, (9, 7))
    folder = files.ImageFolder(here / "grey")
    assert folders.shape_of(folder, None, None) == (1, 9, 7)
    assert folders.shape_of(folder, 3, (5, 6)) == (3, 5, 6)
    draw(here / "grey" / "a" / "other.png", np.zeros((9, 8, 3), np.uint8))  # of another size, in colours
    folder = files.ImageFolder(here / "grey")
    assert folders.shape_of(folder, None, None) == (3, 64, 64)
    assert folders.shape_of(folder, 1, None) == (1, 64, 64)
    assert folders.shape_of(folder, None, (5, 6)) == (3, 5, 6)
    make(here / "large", rng, {"a": 2}, (65, 30))
    assert folders.shape_of(files.ImageFolder(here / "large"), None, None) == (1, 64, 64)
    found = folders.images(files.ImageFolder(here / "large"), (3, 8, 16))
    assert found.images.shape == (2, 3, 8, 16) and found.images.transpose(0, 2, 3, 1).flags.c_contiguous
    make(here / "wide", rng, {"a": 6, "b": 6}, (5, 9))
    train("--data", "wide", "--image-size", "8x12", "--channels", "3")
    how = load("run/preprocessing.json")
    assert (how["channels"], how["height"], how["width"]) == (3, 8, 12)


def test_shapes_of_files(here: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(np.zeros((8, 2), np.uint8)).save("turned.png", exif=turned)
    Image.fromarray(np.zeros((3, 4), np.uint16)).save("wide.png")
    Image.fromarray(np.zeros((3, 4), bool)).save("bits.png")
    Image.fromarray(np.zeros((3, 4, 3), np.uint8)).quantize(4).save("palette.png")
    (here / "text.png").write_text("no image")
    assert files.image_shape("turned.png") == (1, *files.read_image("turned.png").shape[1:]) == (1, 2, 8)
    assert files.image_shape("wide.png") == files.image_shape("bits.png") == (1, 3, 4)
    assert files.image_shape("palette.png") == (3, 3, 4)
    with pytest.raises(ValueError, match=r"text\.png: cannot be read as an image \(its kind is unknown\)"):
        files.image_shape("text.png")


def test_folders_that_do_not_fit(
    here: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: str) -> str:
        capsys.readouterr()
        assert cli.main(list(arguments)) == 1
        (line,) = capsys.readouterr().err.splitlines()
        return line

    make(here / "few", rng, {"a": 4, "b": 3})
    assert "no class has five images" in refused("train", "--data", "few")
    make(here / "photos" / "train", rng, {"a": 6, "b": 6})
    make(here / "photos" / "test", rng, {"a": 2, "z": 2})
    assert "photos/test: expected the classes a, b, got also z" in refused("train", "--data", "photos")
    shutil.rmtree(here / "photos" / "test")
    train("--data", "photos")
    make(here / "other", rng, {"b": 5, "y": 5})
    message = "other: expected the classes a, b, got also y"
    assert message in refused("evaluate", "run", "--root", "other")
    (here / "photos" / "train" / "b" / "03.png").write_text("no image")
    assert "03.png: cannot be read as an image" in refused("train", "--data", "photos")
    make(here / "one", rng, {"a": 6})
    message = "one: expected a folder for each of at least two classes, got one, a"
    assert message in refused("train", "--data", "one")
    assert "has no folders, one for each class" in refused("train", "--data", "few/a")
    assert not (here / "runs").exists() or not list((here / "runs").iterdir())
    with pytest.raises(SystemExit) as end:
        cli.main(["train", "--data", "nowhere"])
    assert end.value.code == 2
    message = (
        "nowhere: no such folder (expected a folder of images, or digits, mnist, fashion-mnist or cifar10)"
    )
    assert message in capsys.readouterr().err


def test_inverted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Dark digits on white paper."""
    assert cli.main(["train", "--epochs", "3", "--out", "run"]) == 0
    x, _ = cnnmath.data.load_digits()
    for i in range(6):
        draw(here / f"{i}.png", np.rint(255 * x[i, 0]).astype(np.uint8))
        draw(here / f"paper{i}.png", np.rint(255 - 255 * x[i, 0]).astype(np.uint8))
    capsys.readouterr()
    assert cli.main(["predict", "run", *(f"{i}.png" for i in range(6))]) == 0
    plain = capsys.readouterr().out
    assert cli.main(["predict", "run", "--invert", *(f"paper{i}.png" for i in range(6))]) == 0
    assert capsys.readouterr().out.replace("paper", "") == plain
    assert [int(line.split()[1]) for line in plain.splitlines()][:5] == list(range(5))


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], "none"),
        (["--augment", "none"], "none"),
        (["--augment"], "crop"),
        (["--augment", "auto"], "crop"),
        (["--augment", "flip"], "flip"),
        (["--augment", "crop-flip"], "crop-flip"),
    ],
)
def test_augmentation_of_the_digits(
    arguments: list[str], wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Digits are shifted by a pixel, and mirrored only where that is asked for."""
    given = []
    fit = cnnmath.Trainer.fit

    def noted(self: cnnmath.Trainer, *args: Any, augment: Any, **kwargs: Any) -> Any:
        given.append(augment)
        return fit(self, *args, augment=augment, **kwargs)

    monkeypatch.setattr(cnnmath.Trainer, "fit", noted)
    found = train(*arguments, "--batch-size", "300")
    assert found["settings"]["augment"] == wanted
    (augment,) = given
    steps = [] if augment is None else augment.transforms
    names = {"none": [], "crop": ["RandomCrop"], "flip": ["RandomHorizontalFlip"]}
    assert [type(s).__name__ for s in steps] == [n for part in wanted.split("-") for n in names[part]]
    if "crop" in wanted:
        assert (steps[0].size, steps[0].padding) == ((8, 8), (1, 1, 1, 1))


def test_augmentation_by_data() -> None:
    found = {name: datasets.augmentation(name, "auto") for name in (*datasets.NAMES, "/some/folder")}
    assert found == {
        "digits": "crop",
        "mnist": "crop",
        "fashion-mnist": "flip",
        "cifar10": "crop-flip",
        "/some/folder": "crop-flip",
    }


def test_the_border_of_a_crop_is_black() -> None:
    how = runs.Preprocessing(3, 32, 20, 1 / 255, [0.5, 0.4, 0.3], [0.25, 0.2, 0.1])
    augment = datasets.transform("crop", how)
    assert augment is not None
    black = how.normalized(np.zeros((1, 3, 32, 20), np.float32))
    found = augment.gather(np.full((50, 3, 32, 20), 9, np.float32), None, (0, 0))
    border = (found != 9).any(1)
    assert 0.05 < border.mean() < 0.3  # shifts of up to 4 of 32 rows, 2 of 20 columns
    assert not border[:, 4:-4, 2:-2].any()
    wanted = np.broadcast_to(black, found.shape).transpose(0, 2, 3, 1)[border]
    np.testing.assert_allclose(found.transpose(0, 2, 3, 1)[border], wanted, rtol=1e-6)
    assert datasets.transform("none", how) is None


def test_validation(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A part of the training images, the same for every seed; neither trained on nor augmented."""
    given = []
    fit = cnnmath.Trainer.fit

    def noted(self: cnnmath.Trainer, x: Any, y: Any, *, validation_data: Any, **kwargs: Any) -> Any:
        given.append((x, y, *validation_data))
        return fit(self, x, y, validation_data=validation_data, **kwargs)

    monkeypatch.setattr(cnnmath.Trainer, "fit", noted)
    for seed in ("1", "2"):
        found = train("--validation", "0.2", "--seed", seed, "--augment", out=seed)
    assert found["settings"]["validation"] == 0.2
    assert found["validation_accuracy"] == found["history"]["val_accuracy"][-1] > 0.5
    for first, second in zip(*given):
        np.testing.assert_array_equal(first, second)
    x, y, x_val, y_val = given[0]
    assert (len(x), len(x_val)) == (1437 - 287, 287)
    images, target = cnnmath.data.load_digits().split()[0]
    for part, labels in ((x, y), (x_val, y_val)):  # in the order of the data, each image once
        at = [int(np.flatnonzero((images == image).all((1, 2, 3)))[0]) for image in part[:40]]
        assert at == sorted(at)
        np.testing.assert_array_equal(target[at], labels[:40])
    both = np.concatenate([x, x_val]).reshape(1437, -1)
    np.testing.assert_array_equal(
        both[np.lexsort(both.T)], images.reshape(1437, -1)[np.lexsort(images.reshape(1437, -1).T)]
    )
    capsys.readouterr()
    assert cli.main(["train", "--validation", "0.0001"]) == 1
    assert "--validation 0.0001 of 1437 images leaves one part empty" in capsys.readouterr().err


def test_same_bits_on_any_threads_with_everything(threads: object) -> None:
    for name, count in (("a", "1"), ("b", "2"), ("c", "3")):
        train("--augment", "crop-flip", "--dropout", "0.4", "--threads", count, out=name)
    a, b, c = (Path(name, "model.safetensors").read_bytes() for name in "abc")
    assert a == b == c


def test_mistakes_are_told_by_their_files(
    here: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    make(here / "photos", rng, {"cat": 10, "dog": 5})
    train("--data", "photos", "--epochs", "1")
    drawn: list[Any] = []
    mistakes = viz.mistakes
    monkeypatch.setattr(
        viz, "mistakes", lambda *given, **more: drawn.append(more["files"]) or mistakes(*given, **more)
    )
    assert cli.main(["plot", "run"]) == 0
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert drawn == [["04.png", "09.png", "04.png"]]  # every fifth of a class
