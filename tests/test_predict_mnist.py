"""`cnnmath predict` on image files made of MNIST's test images, and the frame of its digits."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnmath
from cnnmath import Trainer, cli, data, losses, models, optim
from cnnmath.cli import runs

Image = pytest.importorskip("PIL.Image")
COUNT = 250


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LeNet-5 after one epoch on two thirds of MNIST, as a run folder."""
    if not os.environ.get("CNNMATH_DATA"):
        pytest.skip("CNNMATH_DATA is not set")
    (x, y), _ = data.mnist(dtype=np.uint8)
    x, y = x[:40000].astype(np.float32) / np.float32(255), y[:40000]
    how = runs.Preprocessing(1, 28, 28, 1 / 255, [float(x.mean())], [float(x.std())])
    settings: dict[str, Any] = {"name": "lenet5", "num_classes": 10, "in_channels": 1, "image_size": 28}
    cnnmath.manual_seed(0)
    model = models.create(**settings)
    optimizer = optim.AdamW(model, lr=0.01)
    schedule = optim.schedules.OneCycleLR(optimizer, 0.01, total_steps=-(-len(x) // 64))
    trainer = Trainer(model, optimizer, losses.CrossEntropyLoss(), seed=0)
    trainer.fit(how.normalized(x), y, batch_size=64, epochs=1, verbose=0, callbacks=[schedule])
    folder = tmp_path_factory.mktemp("run")
    runs.write(folder, model, settings, how, list("0123456789"), {"data": "mnist"})
    return folder


def canvas(size: tuple[int, int], image: Any, place: tuple[int, int]) -> Any:
    whole = Image.new("L", size)
    whole.paste(image, place)
    return whole


def coloured(image: Any) -> Any:
    """Yellow digits on dark blue paper."""
    bright = np.asarray(image)[..., None] / 255
    return Image.fromarray(np.uint8([0, 0, 40] + bright * [255, 255, 60]))


def see_through(image: Any) -> Any:
    """White everywhere; the strokes are what one cannot look through."""
    whole = Image.new("RGBA", image.size, (255, 255, 255, 0))
    whole.putalpha(image)
    return whole


KINDS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "grey": (lambda i: i, "png"),
    "grey jpeg": (lambda i: i, "jpg"),
    "colours": (coloured, "png"),
    "colours jpeg": (lambda i: coloured(i.resize((56, 56))), "jpg"),
    "palette": (lambda i: i.quantize(32), "png"),
    "16 bits": (lambda i: Image.fromarray(np.asarray(i).astype(np.uint16) * 257), "png"),
    "RGBA": (see_through, "png"),
    "56x56": (lambda i: i.resize((56, 56), Image.Resampling.BICUBIC), "png"),
    "56x56 jpeg": (lambda i: i.resize((56, 56), Image.Resampling.BICUBIC), "jpg"),
    "56x56 nearest": (lambda i: i.resize((56, 56), Image.Resampling.NEAREST), "png"),
    "20x30, the digit in its middle": (lambda i: canvas((20, 30), i, (-4, 1)), "png"),
    "20x30, the digit in its middle, jpeg": (
        lambda i: canvas((20, 30), i, (-4, 1)),
        "jpg",
    ),
    "20x30, the image in its middle": (
        lambda i: canvas((20, 30), i.resize((20, 20), Image.Resampling.BILINEAR), (0, 5)),
        "png",
    ),
    "40x30": (lambda i: canvas((40, 30), i, (1, 0)), "png"),
    "in a corner of 100x80": (lambda i: canvas((100, 80), i, (60, 5)), "png"),
    "black on white": (lambda i: Image.fromarray(255 - np.asarray(i.resize((100, 100)))), "jpg"),
}


def test_predict(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, (pixels, target) = data.mnist(dtype=np.uint8)
    pixels, target = pixels[:COUNT], target[:COUNT]
    found = runs.read(run)
    x = found.preprocessing.normalized(pixels.astype(np.float32) / np.float32(255))
    wanted = found.model(x).argmax(1)
    right = wanted == target
    assert right.mean() > 0.95
    agreed = {}
    for kind, (change, suffix) in KINDS.items():
        paths = [tmp_path / f"{kind} {i}.{suffix}" for i in range(COUNT)]
        for path, image in zip(paths, pixels[:, 0]):
            change(Image.fromarray(image)).save(path)
        capsys.readouterr()
        assert cli.main(["predict", str(run), "--top", "1", *map(str, paths)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.rpartition(": ")[0] for line in lines] == list(map(str, paths))
        digits = np.array([int(line.rpartition(": ")[2].split()[0]) for line in lines])
        agreed[kind] = float((digits == wanted)[right].mean())
        if kind in ("grey", "palette", "16 bits", "RGBA"):  # the same pixels
            np.testing.assert_array_equal(digits, wanted)
    assert min(agreed.values()) >= 0.98, agreed

    # What is said with --invert is seen without it, too.
    paper = tmp_path / "paper.png"
    Image.fromarray(255 - pixels[0, 0]).save(paper)
    shown = []
    for more in ([], ["--invert"]):
        assert cli.main(["predict", str(run), str(paper), *more]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1] and int(shown[0].rpartition(": ")[2].split()[0]) == wanted[0]


def digit() -> np.ndarray:
    """A seven in MNIST's frame: 20 pixels high, its centre of mass in the pixel (14, 14)."""
    image = np.zeros((28, 28), np.float32)
    image[5:7, 8:21] = 1
    for i in range(18):
        image[7 + i, 18 - i // 3 : 21 - i // 3] = 0.9
    for axis in (0, 1):
        mass = image.sum(1 - axis) @ np.arange(28) / image.sum()
        image = np.roll(image, 14 - round(mass), axis)
    return image


def test_frame_of_mnist() -> None:
    image = digit()
    np.testing.assert_array_equal(data.framed_as_mnist(image), image)
    np.testing.assert_array_equal(data.framed_as_mnist(1 - image), 1 - (1 - image))
    np.testing.assert_allclose(data.framed_as_mnist(image.repeat(2, 0).repeat(2, 1)), image, atol=0.26)
    for shape, (top, left) in {(70, 40): (40, 3), (28, 60): (0, 0), (48, 48): (20, 0)}.items():
        whole = np.full(shape, 0.2, np.float32)
        whole[top : top + 28, left : left + 28] += 0.5 * image
        # Where it lies on the canvas, and how bright the paper is, is no matter.
        np.testing.assert_allclose(data.framed_as_mnist(whole), 0.5 * image, atol=1e-6)
    for blank in (np.zeros((9, 5), np.float32), np.ones((60, 60), np.float32)):
        np.testing.assert_array_equal(data.framed_as_mnist(blank), np.zeros((28, 28)))
    dot = np.zeros((300, 200), np.float32)
    dot[299, 0] = 1
    assert data.framed_as_mnist(dot).sum() == pytest.approx(400)  # a box of 20 x 20
