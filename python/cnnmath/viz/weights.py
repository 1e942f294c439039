"""The filters of a convolution."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .canvas import new_figure, settled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 256  # filters drawn
SIDE = 32  # filters, and input channels, drawn of those with a panel for each channel


def filters(weight: Any) -> Figure:
    """The filters of a convolution as small images.

    Filters of one input channel are drawn in two colours, red above 0 and blue below; those of three channels as colour
    images, where grey is 0: each channel is 1/2 + w / (2 max|w|). Of other filters each channel is an image of its own,
    in two colours: a row for each filter, a column for each input channel. What is too much for one picture is left
    out, and the title says so: beyond 256 filters, or beyond 32 filters and 32 channels.

    Args:
        weight: (out_channels, in_channels, height, width), such as `model[0].weight` of a Conv2d.

    Returns:
        A Figure; its first axes hold one image, all filters with a gap of one pixel between them.

    >>> from cnnmath import nn, viz
    >>> viz.filters(nn.Conv2d(3, 16, 5).weight).axes[0].get_title()
    '16 filters of 5 x 5 pixels, 3 input channels'
    """
    array = np.asarray(weight)
    if array.ndim != 4 or not array.size or array.dtype.kind != "f":
        raise ValueError(
            "filters: expected weights (out_channels, in_channels, height, width), "
            f"got {array.dtype}{list(array.shape)}"
        )
    count, channels, height, width = array.shape
    apart = channels not in (1, 3)
    shown = (array[:SIDE, :SIDE] if apart else array[:MOST]).astype(np.float64)
    if apart:
        rows, columns = shown.shape[:2]
        tiles = shown.reshape(rows * columns, height, width, 1)
    else:
        columns = _columns(len(shown))
        rows = -(-len(shown) // columns)
        tiles = shown.transpose(0, 2, 3, 1)
    grid = _grid(tiles, rows, columns)
    most = float(np.abs(grid[np.isfinite(grid)]).max(initial=0)) or 1.0

    # A quarter of an inch for a pixel of a filter, as long as the whole has a sensible size.
    longest = max(grid.shape[:2])
    inches = min(max(0.25 * longest, 3.5), 12) / longest
    figure = new_figure(max(inches * grid.shape[1], 3.0) + 2.5, max(inches * grid.shape[0], 1.0) + 1.7)
    axes = figure.add_subplot()
    note = ""
    if channels == 3:
        colours = np.clip(0.5 + grid / (2 * most), 0, 1)
        axes.imshow(np.where(np.isfinite(grid), colours, 1), interpolation="nearest")  # gaps are white
        note = f"\ngrey is 0; a channel is dark at -{most:.3g}, bright at {most:.3g}"
    else:
        image = axes.imshow(grid[..., 0], cmap="RdBu_r", vmin=-most, vmax=most, interpolation="nearest")
        figure.colorbar(image, ax=axes, label="weight", shrink=0.9)
    title = f"{count} filters of {height} x {width} pixels, {channels} input channel{'s' * (channels > 1)}"
    if shown.shape[:2] != (count, channels):
        left = f" and {shown.shape[1]} channels" if shown.shape[1] < channels else ""
        title += f"\nshown: the first {len(shown)} filters{left}"
    axes.set_title(title, fontsize=10)
    axes.set_xticks((width + 1) * np.arange(columns) + (width - 1) / 2, [str(c) for c in range(columns)])
    starts = [str(r if apart else r * columns) for r in range(rows)]
    axes.set_yticks((height + 1) * np.arange(rows) + (height - 1) / 2, starts)
    axes.tick_params(length=0, labelsize=9 if max(rows, columns) <= 16 else 7)
    axes.spines[:].set_visible(False)
    across, down = "filter: number of its row + number of its column", "first filter of the row"
    if apart:
        across, down = "input channel", "filter"
    elif rows == 1:
        across, down = "filter", ""
        axes.set_yticks([])
    axes.set_xlabel(across + note)
    axes.set_ylabel(down)
    return settled(figure)


def _columns(count: int) -> int:
    """Of a grid that is wide rather than high, without a gap at its end if possible."""
    root = math.isqrt(count - 1) + 1
    return next((c for c in range(root, 2 * root + 1) if count % c == 0), root)


def _grid(tiles: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Images (n, height, width, channels) in rows, one after the other, with a pixel of NaN between them."""
    count, height, width, channels = tiles.shape
    cells = np.full((rows * columns, height + 1, width + 1, channels), np.nan)
    cells[:count, :height, :width] = tiles
    cells = cells.reshape(rows, columns, height + 1, width + 1, channels).transpose(0, 2, 1, 3, 4)
    return cells.reshape(rows * (height + 1), columns * (width + 1), channels)[:-1, :-1]
