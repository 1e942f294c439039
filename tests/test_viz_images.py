"""Pictures of images: filters and mistakes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from cnnmath import nn, viz

from .pictures import labels, shown, written

LONG = "Acanthoscurria geniculata, female {}"


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
