"""Pictures: what is in them, read from the figures; that they are legible; that pyplot stays out of it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import cnnmath
from cnnmath import nn, optim, viz
from cnnmath.losses import CrossEntropyLoss

from .pictures import labels, shown, written

LONG = "Acanthoscurria geniculata, female {}"


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
