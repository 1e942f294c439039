"""Pictures: what is in them, read from the figures; that they are legible; that pyplot stays out of it."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cnnmath
from cnnmath import nn, optim, viz
from cnnmath.losses import CrossEntropyLoss

LONG = "Acanthoscurria geniculata, female {}"


def written(figure: Any) -> np.ndarray:
    """The pixels of the figure's PNG, which has the size of the figure; nothing in it is cut off."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    with Image.open(file) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    width, height = (round(inches * 100) for inches in figure.get_size_inches())
    assert pixels.shape == (height, width, 3)
    box = figure.get_tightbbox()
    if figure.axes:
        assert min(box.x0, box.y0) > -0.02 and 100 * box.x1 < width + 2 and 100 * box.y1 < height + 2
    assert pixels.min() < 100 and pixels.max() == 255
    return pixels


def shown(axes: Any) -> np.ndarray:
    (image,) = axes.images
    return np.asarray(np.ma.filled(image.get_array(), np.nan))


def labels(axis: Any) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


# Curves.


def test_curves() -> None:
    history = {
        "loss": [2.0, 1.0, 0.5],
        "accuracy": [0.25, 0.5, 0.75],
        "val_loss": [2.5, 1.5, 1.0],
        "val_accuracy": [0.2, 0.4, 0.6],
        "top5": [0.5, 0.5, 1.0],
        "mae": [3, 2, 1],
        "per_class": [[1.0, 2.0]] * 3,
    }
    figure = viz.curves(history)
    assert written(figure).shape == (900, 1100, 3)
    assert [axes.get_title() for axes in figure.axes] == ["Loss", "Accuracy", "Top5", "Mae"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "accuracy (%)", "top5 (%)", "mae"]
    for axes, name in zip(figure.axes, ["loss", "accuracy", "top5", "mae"]):
        assert axes.get_xlabel() == "epoch"
        scale = 1 if name in ("loss", "mae") else 100
        want = [history[key] for key in (name, f"val_{name}") if key in history]
        assert [line.get_xdata().tolist() for line in axes.lines] == [[1, 2, 3]] * len(want)
        for line, values in zip(axes.lines, want):
            np.testing.assert_allclose(line.get_ydata(), np.multiply(scale, values))
        if len(want) == 1:  # nothing to tell apart
            assert axes.get_legend() is None
        else:
            assert [text.get_text() for text in axes.get_legend().get_texts()] == ["training", "validation"]


def test_one_epoch_is_a_mark() -> None:
    figure = viz.curves({"loss": [0.3], "accuracy": [0.9]})
    written(figure)
    for axes in figure.axes:
        (line,) = axes.lines
        assert line.get_marker() == "o" and line.get_markersize() >= 4
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]


@pytest.mark.parametrize("epochs", [2, 15, 300])
def test_epochs_are_whole_numbers(epochs: int) -> None:
    figure = viz.curves({"loss": np.linspace(1, 0, epochs).tolist()})
    written(figure)
    ticks = figure.axes[0].get_xticks()
    assert len(ticks) >= 2 and all(tick == int(tick) for tick in ticks)


def test_a_training_that_diverged() -> None:
    figure = viz.curves({"loss": [1.0, None, math.inf, 2.0], "mae": [None, math.nan, None, None]})
    written(figure)
    first, second = figure.axes
    np.testing.assert_array_equal(first.lines[0].get_ydata(), [1, np.nan, np.nan, 2])
    assert [text.get_text() for text in first.texts] == []
    assert [text.get_text() for text in second.texts] == ["no finite number"]


def test_curves_of_a_trainer(rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((20, 3)).astype(np.float32), np.arange(20) % 2
    model = nn.Linear(3, 2)
    trainer = cnnmath.Trainer(model, optim.SGD(model, lr=0.1), CrossEntropyLoss(), metrics="accuracy")
    history = trainer.fit(x, y, epochs=3, verbose=0, validation_data=(x, y))
    figure = viz.curves(history)
    loss, accuracy = figure.axes
    assert loss.lines[0].get_xdata().tolist() == [1, 2, 3]
    np.testing.assert_array_equal(loss.lines[1].get_ydata(), history.history["val_loss"])
    np.testing.assert_allclose(accuracy.lines[0].get_ydata(), [100 * a for a in history.history["accuracy"]])


# The confusion matrix.


def test_confusion_matrix(rng: np.random.Generator) -> None:
    counts = rng.integers(0, 50, (4, 4))
    counts[1, 2], counts[3] = 0, 0
    figure = viz.confusion_matrix(counts, ["cat", "dog", "a horse", "x"])
    written(figure)
    axes, bar = figure.axes
    want = np.zeros((4, 4))
    for i in range(3):
        for j in range(4):
            want[i, j] = 100 * counts[i, j] / sum(counts[i])
    np.testing.assert_allclose(shown(axes), want, rtol=1e-12)
    cells = {(*map(int, text.get_position()),): text.get_text() for text in axes.texts}
    assert cells == {(j, i): str(counts[i, j]) for i in range(4) for j in range(4) if counts[i, j]}
    assert labels(axes.xaxis) == labels(axes.yaxis) == ["cat", "dog", "a horse", "x"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert bar.get_ylabel() == "share of the true class's images (%)" and bar.get_ylim() == (0, 100)
    right, total = sum(counts[i, i] for i in range(4)), counts.sum()
    assert axes.get_title() == (
        f"Confusion matrix\n{right} of {total} images right ({100 * right / total:.2f} %)"
    )


def test_colours_of_the_matrix() -> None:
    """Rows are true classes: in the picture as well, the mistake lies to the right of the diagonal's first cell."""
    figure = viz.confusion_matrix(np.array([[0, 9], [0, 9]]))
    pixels = written(figure)
    axes = figure.axes[0]

    def colour(row: float, column: float) -> int:
        x, y = axes.transData.transform((column, row))
        return int(pixels[len(pixels) - round(y), round(x)].sum())

    assert colour(0.3, 0.3) > 700 > 300 > colour(0.3, 0.7)


@pytest.mark.parametrize(
    ("classes", "named"),
    [(1, False), (2, True), (10, True), (30, False), (31, True), (60, True), (100, True), (250, False)],
)
def test_sizes_of_matrices(classes: int, named: bool, rng: np.random.Generator) -> None:
    counts = rng.poisson(2, (classes, classes))
    names = [LONG.format(i) for i in range(classes)] if named else None
    figure = viz.confusion_matrix(counts, names)
    pixels = written(figure)
    assert min(pixels.shape[:2]) > 300 and max(pixels.shape[:2]) < 2200
    axes = figure.axes[0]
    np.testing.assert_array_equal(shown(axes) > 0, counts > 0)
    assert len(axes.texts) == (np.count_nonzero(counts) if classes <= 30 else 0)
    step = 3 if classes == 250 else 1
    found = labels(axes.yaxis)
    assert len(found) == len(range(0, classes, step)) and len(set(found)) == len(found)
    # Labels do not run into each other.
    boxes = [label.get_window_extent() for label in axes.yaxis.get_ticklabels()]
    assert all(upper.y0 >= lower.y1 - 1 for upper, lower in pairwise(boxes))
    boxes = [label.get_window_extent() for label in axes.xaxis.get_ticklabels()]
    assert all(left.x1 <= right.x0 + 1 for left, right in pairwise(boxes))


def test_names_that_are_hard_to_draw() -> None:
    names = ["$5 or $6", "two\nlines", "猫", "", LONG.format(7), "\udcff", "été"]
    figure = viz.confusion_matrix(np.eye(7, dtype=int), names)
    written(figure)
    assert labels(figure.axes[0].xaxis) == [
        r"\$5 or \$6",
        "two lines",
        "class 2",
        "class 3",
        "Acanthoscurri…male 7",
        "class 5",
        "été",
    ]


def test_long_names_stay_apart() -> None:
    names = [f"class number {i} with a very long name" for i in (1, 2, 11)]
    names += ["a" * 30, "short", "b" * 40 + " left", "b" * 40 + " right"]
    figure = viz.confusion_matrix(np.eye(7, dtype=int), names)
    written(figure)
    shown = labels(figure.axes[0].xaxis)
    assert shown[:3] == ["…mber 1 with a very…", "…mber 2 with a very…", "…mber 11 with a ver…"]
    assert shown[3:5] == ["aaaaaaaaaaaaa…aaaaaa", "short"]
    assert shown[5:] == ["bbbbbbbbbbbbb…b left", "bbbbbbbbbbbbb… right"]


def test_no_images_at_all() -> None:
    figure = viz.confusion_matrix(np.zeros((3, 3), int))
    written(figure)
    assert figure.axes[0].get_title() == "Confusion matrix\n0 of 0 images right"


# Filters.


def test_filters_of_one_channel(rng: np.random.Generator) -> None:
    w = rng.standard_normal((6, 1, 5, 4)).astype(np.float32)
    figure = viz.filters(w)
    written(figure)
    axes, bar = figure.axes
    grid = shown(axes)
    assert grid.shape == (2 * 5 + 1, 3 * 4 + 2)
    seen = np.zeros(grid.shape, bool)
    for f in range(6):
        top, left = 6 * (f // 3), 5 * (f % 3)
        np.testing.assert_array_equal(grid[top : top + 5, left : left + 4], w[f, 0])
        seen[top : top + 5, left : left + 4] = True
    assert np.isnan(grid[~seen]).all()
    assert axes.images[0].get_clim() == (-np.abs(w).max(), np.abs(w).max())
    assert axes.get_title() == "6 filters of 5 x 4 pixels, 1 input channel"
    assert bar.get_ylabel() == "weight"
    assert axes.get_ylabel() == "first filter of the row" and labels(axes.yaxis) == ["0", "3"]
    assert labels(axes.xaxis) == ["0", "1", "2"] and "column" in axes.get_xlabel()


def test_filters_of_three_channels(rng: np.random.Generator) -> None:
    w = rng.standard_normal((4, 3, 3, 3))
    figure = viz.filters(w)
    written(figure)
    (axes,) = figure.axes
    grid = shown(axes)
    assert grid.shape == (7, 7, 3)
    most = np.abs(w).max()
    for f in range(4):
        tile = grid[4 * (f // 2) : 4 * (f // 2) + 3, 4 * (f % 2) : 4 * (f % 2) + 3]
        for channel in range(3):
            np.testing.assert_allclose(tile[..., channel], (1 + w[f, channel] / most) / 2)
    assert (grid[3] == 1).all() and (grid[:, 3] == 1).all()
    assert f"bright at {most:.3g}" in axes.get_xlabel()


def test_filters_of_many_channels(rng: np.random.Generator) -> None:
    w = rng.standard_normal((40, 5, 3, 2))
    figure = viz.filters(w)
    written(figure)
    axes, _ = figure.axes
    grid = shown(axes)
    assert grid.shape == (32 * 4 - 1, 5 * 3 - 1)
    for f in range(32):
        for c in range(5):
            np.testing.assert_array_equal(grid[4 * f : 4 * f + 3, 3 * c : 3 * c + 2], w[f, c])
    assert axes.get_title().endswith("5 input channels\nshown: the first 32 filters")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("input channel", "filter")
    assert labels(axes.xaxis) == list("01234")
    assert (
        viz.filters(w.transpose(1, 0, 2, 3)).axes[0].get_title().endswith("first 5 filters and 32 channels")
    )
    many = viz.filters(rng.standard_normal((300, 1, 1, 1)))
    assert many.axes[0].get_title().endswith("shown: the first 256 filters")
    assert np.count_nonzero(np.isfinite(shown(many.axes[0]))) == 256


@pytest.mark.parametrize(
    "shape",
    [
        *[
            (1, 1, 1, 1),
            (7, 1, 3, 3),
            (3, 1, 3, 3),
            (1, 1, 31, 3),
            (1, 3, 3, 31),
            (2, 3, 3, 3),
            (64, 3, 7, 7),
        ],
        *[(1, 64, 1, 1), (64, 2, 3, 3), (16, 32, 5, 5)],
    ],
)
def test_sizes_of_filters(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    figure = viz.filters(rng.standard_normal(shape))
    pixels = written(figure)
    assert min(pixels.shape[:2]) > 250 and max(pixels.shape[:2]) < 1600


def test_filters_that_are_zero_or_diverged() -> None:
    for channels in (1, 3):
        w = np.zeros((4, channels, 3, 3))
        figure = viz.filters(w)
        written(figure)
        assert np.nanmedian(shown(figure.axes[0])) == (0 if channels == 1 else 0.5)
        w[0], w[1] = np.nan, np.inf
        written(viz.filters(w))


def test_filters_of_a_layer() -> None:
    layer = nn.Conv2d(3, 8, 3)
    grid = shown(viz.filters(layer.weight).axes[0])
    np.testing.assert_array_equal(grid, shown(viz.filters(layer.weight.numpy()).axes[0]))


# Mistakes.


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_mistakes(channels: int, dtype: Any, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (40, channels, 6, 5), dtype=np.uint8)
    images = pixels if dtype == np.uint8 else pixels / np.float32(255)
    p = rng.dirichlet(np.ones(3), 40)
    target = rng.integers(0, 3, 40)
    names = ["cat", "dog", "emu"]
    figure = viz.mistakes(images, target, p, names, most=7)
    written(figure)
    wrong = [i for i in range(40) if max(range(3), key=lambda c: p[i, c]) != target[i]]
    worst = sorted(wrong, key=lambda i: -math.log(p[i, target[i]]), reverse=True)[:7]
    assert len(wrong) > 7 and len(figure.axes) == 7
    assert (
        figure.get_suptitle() == f"Worst mistakes: {len(wrong)} wrong of 40 images, the 7 of the highest loss"
    )
    for axes, i in zip(figure.axes, worst):
        first, second = axes.get_title().split("\n")
        best = int(np.argmax(p[i]))
        assert first == f"predicted: {names[best]} ({100 * p[i, best]:.1f} %)"
        small = p[i, target[i]] < 0.001
        own = "< 0.1 %" if small else f"{100 * p[i, target[i]]:.1f} %"
        assert second == f"true: {names[target[i]]} ({own})"
        assert axes.get_xlabel() == f"image {i}, loss {-math.log(p[i, target[i]]):.3g}"
        real = pixels[i] / 255
        want = np.moveaxis(real, 0, -1) if channels == 3 else sum(real) / channels
        np.testing.assert_allclose(shown(axes), want, atol=1e-6)
        assert channels == 3 or axes.images[0].get_clim() == (0, 1)


@pytest.mark.parametrize(
    ("mean", "std"), [([0.4, 0.5, 0.6], [0.2, 0.3, 0.25]), (0.5, 0.2), (np.array([0.1, 0.2, 0.3]), 2)]
)
def test_normalization_is_undone(mean: Any, std: Any, rng: np.random.Generator) -> None:
    pixels = rng.random((2, 3, 4, 4))
    x = (pixels - np.reshape(mean, (-1, 1, 1))) / np.reshape(std, (-1, 1, 1))
    figure = viz.mistakes(x, [1, 1], np.array([[0.9, 0.1], [0.8, 0.2]]), mean=mean, std=std)
    for axes, image in zip(figure.axes, pixels):
        np.testing.assert_allclose(shown(axes), np.moveaxis(image, 0, -1))


def test_images_beyond_0_to_1_are_stretched(rng: np.random.Generator) -> None:
    images = 3 * rng.standard_normal((2, 3, 4, 4))
    figure = viz.mistakes(images, [1, 1], np.array([[0.9, 0.1], [0.8, 0.2]]))
    for axes, image in zip(figure.axes, images):
        drawn = shown(axes)
        assert drawn.min() == 0 and drawn.max() == 1
        np.testing.assert_allclose(
            drawn, np.moveaxis((image - image.min()) / (image.max() - image.min()), 0, -1)
        )


def test_no_mistakes() -> None:
    figure = viz.mistakes(np.zeros((3, 1, 8, 8)), [0, 1, 2], np.eye(3))
    written(figure)
    assert figure.get_suptitle() == "No mistakes: all 3 images right" and not figure.axes
    figure = viz.mistakes(np.zeros((0, 1, 8, 8)), np.zeros(0, int), np.zeros((0, 3)))
    assert figure.get_suptitle() == "No images"


def test_a_network_that_gives_nan() -> None:
    p = np.full((30, 2), np.nan, np.float32)
    images = np.full((30, 1, 4, 4), np.nan)
    images[:, 0, 0] = np.inf, -np.inf, 0.5, 0.25
    figure = viz.mistakes(images, np.ones(30, int), p)
    assert shown(figure.axes[0])[:2].tolist() == [[1, 0, 0.5, 0.25], [0] * 4]
    written(figure)
    assert len(figure.axes) == 20 and figure.axes[0].get_title() == "predicted: 0 (nan)\ntrue: 1 (nan)"


def test_mistakes_of_files() -> None:
    files = ["a.png", "b.png", "IMG_20240817_120301_by_the_sea.jpeg", "猫.png"]
    p = np.array([[0.9, 0.1], [0.1, 0.9], [0.8, 0.2], [0.7, 0.3]])
    figure = viz.mistakes(np.zeros((4, 1, 4, 4)), [1] * 4, p, files=files)
    written(figure)
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "a.png, loss 2.3",
        "IMG_20240817_12…sea.jpeg, loss 1.61",
        "image 3, loss 1.2",
    ]


def test_a_certain_mistake_comes_first() -> None:
    p = np.array([[0.9, 0.1], [1.0, 0.0], [0.6, 0.4]])
    figure = viz.mistakes(np.zeros((3, 1, 4, 4)), [1, 1, 1], p)
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "image 1, loss inf",
        "image 0, loss 2.3",
        "image 2, loss 0.916",
    ]


@pytest.mark.parametrize("shape", [(1, 8, 80), (3, 80, 8), (3, 224, 224)])
def test_long_names_above_mistakes(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    names = [LONG.format(i) for i in range(2)]
    figure = viz.mistakes(rng.random((20, *shape)), np.ones(20, int), np.tile([0.999, 0.001], (20, 1)), names)
    written(figure)
    boxes = [axes.title.get_window_extent() for axes in figure.axes]
    for row in range(4):
        for left, right in zip(boxes[5 * row : 5 * row + 4], boxes[5 * row + 1 : 5 * row + 5]):
            assert left.x1 < right.x0
    for above, below in zip(figure.axes[:15], boxes[5:]):
        assert above.xaxis.label.get_window_extent().y0 > below.y1


# What is refused.

ONES = np.ones((2, 1, 3, 3))
HALVES = np.full((2, 2), 0.5)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: viz.curves([1.0, 2.0]), TypeError, "curves: expected a History or its dict, got list"),
        (lambda: viz.curves({}), ValueError, "curves: expected numbers of at least one epoch, got {}"),
        (lambda: viz.curves({"loss": []}), ValueError, "curves: expected numbers of at least one epoch"),
        (
            lambda: viz.confusion_matrix(np.ones((2, 2))),
            ValueError,
            r"whole numbers \(C, C\), got float64\[2, 2\]",
        ),
        (lambda: viz.confusion_matrix(np.ones((2, 3), int)), ValueError, r"got int64\[2, 3\]"),
        (lambda: viz.confusion_matrix(np.zeros((0, 0), int)), ValueError, r"got int64\[0, 0\]"),
        (lambda: viz.confusion_matrix(np.array([[-1]])), ValueError, "counts of at least 0, got -1"),
        (
            lambda: viz.confusion_matrix(np.eye(2, dtype=int), ["a"]),
            ValueError,
            r"confusion_matrix: expected the names of 2 classes, got \['a'\]",
        ),
        (lambda: viz.confusion_matrix(np.eye(2, dtype=int), "ab"), ValueError, "of 2 classes, got 'ab'"),
        (
            lambda: viz.filters(np.ones((2, 3, 3))),
            ValueError,
            r"filters: expected weights .*float64\[2, 3, 3\]",
        ),
        (lambda: viz.filters(np.ones((0, 3, 3, 3))), ValueError, r"got float64\[0, 3, 3, 3\]"),
        (
            lambda: viz.mistakes(ONES[0], [0, 1], HALVES),
            ValueError,
            r"expected images .* got float64\[1, 3, 3\]",
        ),
        (
            lambda: viz.mistakes(ONES, [0, 1], [0.5, 0.5]),
            ValueError,
            r"probabilities \(n, C\), got float64\[2\]",
        ),
        (lambda: viz.mistakes(ONES, [0], HALVES), ValueError, "as many images, .* got 2, 1 and 2"),
        (lambda: viz.mistakes(ONES, [0, 2], HALVES), ValueError, r"classes in \[0, 1\], got 2"),
        (
            lambda: viz.mistakes(ONES, [0.0, 1.0], HALVES),
            ValueError,
            r"classes, integers \(n,\), got float64",
        ),
        (lambda: viz.mistakes(ONES, [0, 1], 3 * HALVES), ValueError, "softmax makes them of logits"),
        (
            lambda: viz.mistakes(ONES, [0, 1], HALVES, mean=[0, 0]),
            ValueError,
            r"mean and std as numbers or one for each of 1 channels, got \[0, 0\] and 1.0",
        ),
        (
            lambda: viz.mistakes(ONES, [0, 1], HALVES, files=["a"]),
            ValueError,
            r"names of 2 files, got \['a'\]",
        ),
        (lambda: viz.mistakes(ONES, [0, 1], HALVES, most=0), ValueError, "most of at least 1, got 0"),
    ],
)
def test_wrong_arguments(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [m for m in sys.modules if m.split(".")[0] == "matplotlib"] + ["matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    for call in (
        lambda: viz.curves({"loss": [1.0]}),
        lambda: viz.confusion_matrix(np.eye(2, dtype=int), ["a", "b"]),
        lambda: viz.filters(np.ones((1, 1, 3, 3))),
        lambda: viz.mistakes(ONES, [0, 1], HALVES, ["a", "b"]),
    ):
        with pytest.raises(ImportError, match=r'^pictures need matplotlib: pip install "cnnmath\[viz\]"$'):
            call()


def test_pyplot_stays_out_of_it(run_python: Callable[..., Any]) -> None:
    """No display, no backend, no global figure; matplotlib itself is imported by the first picture."""
    run_python(
        "import io, sys, numpy as np, cnnmath\n"
        "viz = cnnmath.viz\n"
        "assert 'matplotlib' not in sys.modules\n"
        "viz.curves({'loss': [1.0, 0.5]}).savefig(io.BytesIO())\n"
        "viz.confusion_matrix(np.eye(3, dtype=int), list('abc'))\n"
        "viz.filters(np.ones((2, 3, 3, 3)))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n",
        MPLBACKEND="tkagg",
        DISPLAY="",
    )
