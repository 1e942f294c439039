"""The confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .canvas import class_names, matplotlib, new_figure, settled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WITH_COUNTS = 30  # classes; of more, the cells are too small for a number


def confusion_matrix(counts: Any, names: Sequence[Any] | None = None) -> Figure:
    """Which classes are taken for which.

    The colour of cell (i, j) is the share of class i's images that were predicted as class j, in per cent; up to 30
    classes the number of these images stands in it.

    Args:
        counts: (C, C), whole numbers: row i, column j is how many images of class i were predicted as class j, as
            `cnnmath.metrics.confusion_matrix` gives it.
        names: of the classes; their numbers if None. What is longer than 20 characters is shortened in the middle.

    Returns:
        A Figure; its first axes hold one image, the shares (C, C). A class without images has a row of zeros.

    >>> import numpy as np
    >>> from cnnmath import viz
    >>> figure = viz.confusion_matrix(np.array([[8, 2], [0, 10]]), ["cat", "dog"])
    >>> print(figure.axes[0].get_title())
    Confusion matrix
    18 of 20 images right (90.00 %)
    """
    table = np.asarray(counts)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or not table.size or table.dtype.kind not in "iu":
        raise ValueError(
            f"confusion_matrix: expected whole numbers (C, C), got {table.dtype}{list(table.shape)}"
        )
    if table.min() < 0:
        raise ValueError(f"confusion_matrix: expected counts of at least 0, got {table.min()}")
    table = table.astype(np.int64)
    classes = len(table)
    cell = max(0.55, 2 / classes) if classes <= WITH_COUNTS else min(0.3, 16 / classes)
    side = cell * classes
    labels = class_names("confusion_matrix", names, classes, 20)
    small = 10 if classes <= WITH_COUNTS else 8 if classes <= 60 else 6
    room = max(map(len, labels)) * small / 120  # of the longest label, in inches
    figure = new_figure(side + room + 2.2, side + room + 1.2)
    shares = 100 * table / np.maximum(table.sum(axis=1, keepdims=True), 1)

    axes = figure.add_subplot()
    # The square root of the share: a class taken for another in one image of a hundred is still seen.
    norm = matplotlib("colors").PowerNorm(0.5, 0, 100)
    image = axes.imshow(shares, cmap="Blues", norm=norm, interpolation="nearest")
    bar = figure.colorbar(image, ax=axes, shrink=0.8, aspect=30)
    bar.set_label("share of the true class's images (%)")
    bar.set_ticks([0, 1, 5, 10, 25, 50, 75, 100])
    step = -(-classes // 100)  # a label for every class, up to 100 of them
    wide = max(map(len, labels)) > 3
    axes.set_xticks(range(0, classes, step), labels[::step], rotation=90 if wide else 0, fontsize=small)
    axes.set_yticks(range(0, classes, step), labels[::step], fontsize=small)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    right, total = int(np.trace(table)), int(table.sum())
    share = f" ({100 * right / total:.2f} %)" if total else ""
    axes.set_title(f"Confusion matrix\n{right:,} of {total:,} images right{share}", fontsize=11)
    if classes <= WITH_COUNTS:
        for i, j in np.argwhere(table):
            colour = "white" if shares[i, j] > 40 else "black"
            size = 9 if table[i, j] < 10_000 else 7
            text = axes.text(j, i, str(table[i, j]), ha="center", va="center", color=colour, fontsize=size)
            text.set_in_layout(False)  # it lies in its cell; laying out hundreds of them is slow
    return settled(figure)
