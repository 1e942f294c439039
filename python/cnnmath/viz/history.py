"""Training curves."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .canvas import matplotlib, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHARES = {"accuracy", *(f"top{k}" for k in range(2, 101))}


def curves(history: Any) -> Figure:
    """Loss and metrics over the epochs, one panel for each, training and (where there is one) validation in it.

    Args:
        history: what `Trainer.fit` returns, or its dict: from names ("loss", "val_loss", "accuracy", ...) to a number
            for each epoch. None and what is not finite leave a gap; entries that are no numbers are left out.

    Returns:
        A Figure with two panels in a row, 11 x 4.5 inches a row. Shares (accuracy, top5) are in per cent. The numbers
        of training are means over the epoch, those of validation are of its end.

    >>> from cnnmath import viz
    >>> figure = viz.curves({"loss": [1.0, 0.5], "val_loss": [1.2, 0.6]})
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['training', 'validation']
    """
    named = getattr(history, "history", history)
    if not isinstance(named, Mapping):
        raise TypeError(f"curves: expected a History or its dict, got {type(history).__name__}")
    series = {str(name): [_number(v) for v in values] for name, values in named.items() if _plain(values)}
    panels = list(dict.fromkeys(name.removeprefix("val_") for name in series))
    if not panels:
        raise ValueError(f"curves: expected numbers of at least one epoch, got {dict(named)!r}")
    count = max(map(len, series.values()))
    epochs = [epoch + 1 for epoch in getattr(history, "epoch", range(count))]

    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(5.5 * columns, 4.5 * rows)
    for i, name in enumerate(panels):
        axes = figure.add_subplot(rows, columns, i + 1)
        scale = 100 if name in _SHARES else 1
        keys = (name, f"val_{name}")
        for key, label, line in zip(keys, ("training", "validation"), ("C0o-", "C1s-")):
            if key in series:
                values = [scale * value for value in series[key]]
                # Single epochs, alone or between gaps, need marks to be seen; hundreds of marks hide the line.
                size = 5 if count <= 20 else 1.5
                axes.plot(epochs[: len(values)], values, line, markersize=size, label=label)
        if any(math.isfinite(value) for key in keys for value in series.get(key, ())):
            axes.ticklabel_format(axis="y", useOffset=False)
        else:
            axes.text(0.5, 0.5, "no finite number", transform=axes.transAxes, ha="center")
            axes.set_yticks([])
        axes.set_title(name.capitalize())
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"{name} (%)" if name in _SHARES else name)
        axes.set_xlim(epochs[0] - 0.5, epochs[count - 1] + 0.5)
        axes.xaxis.set_major_locator(matplotlib("ticker").MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        if len(axes.lines) > 1:
            axes.legend()
    return figure


def _plain(values: Any) -> bool:
    return bool(values) and all(
        v is None or (isinstance(v, numbers.Real) and not isinstance(v, bool)) for v in values
    )


def _number(value: Any) -> float:
    return math.nan if value is None or not math.isfinite(value) else float(value)
