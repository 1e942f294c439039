"""What all pictures have in common: a figure without pyplot, names that can be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 100  # pixels of an inch


def matplotlib(module: str) -> Any:
    """A module of matplotlib; ImportError that names the extra where it is missing."""
    try:
        return import_module(f"matplotlib.{module}")
    except ImportError as error:
        raise ImportError('pictures need matplotlib: pip install "cnnmath[viz]"') from error


def new_figure(width: float, height: float, gap: float = 0.04) -> Figure:
    """An empty figure of so many inches, with a canvas in memory; `gap` is the room around its axes, in inches."""
    size = (round(width * DPI) / DPI, round(height * DPI) / DPI)
    layout = matplotlib("layout_engine").ConstrainedLayoutEngine(h_pad=gap, w_pad=gap)
    figure: Figure = matplotlib("figure").Figure(figsize=size, dpi=DPI, layout=layout)
    matplotlib("backends.backend_agg").FigureCanvasAgg(figure)
    return figure


def settled(figure: Figure) -> Figure:
    """The figure, laid out once ahead: where images keep their proportions, labels find their place the second time."""
    engine = figure.get_layout_engine()
    if engine is not None and figure.axes:
        engine.execute(figure)
    return figure


def class_names(op: str, names: Sequence[Any] | None, count: int, most: int) -> list[str]:
    """The names of `count` classes as they can be drawn: on one line, of at most `most` characters.

    Without names, the numbers of the classes. A name that the font has no letters for is replaced by its number.
    """
    if names is None:
        return [str(i) for i in range(count)]
    if isinstance(names, str) or len(names) != count:
        raise ValueError(f"{op}: expected the names of {count} classes, got {names!r}")
    letters = _letters()
    drawn = []
    for i, name in enumerate(names):
        line = " ".join(str(name).split())
        if not line or not letters.issuperset(map(ord, line)):
            line = f"class {i}"
        if len(line) > most:  # what tells names apart stands at their ends
            line = f"{line[: most - most // 3 - 1]}…{line[-(most // 3) :]}"
        drawn.append(line.replace("$", r"\$"))  # between two of them matplotlib reads a formula
    return drawn


def _letters() -> set[int]:
    """The characters that matplotlib's present fonts have."""
    fonts = matplotlib("font_manager")
    found: set[int] = set()
    for family in fonts.FontProperties().get_family():
        path = fonts.findfont(fonts.FontProperties(family=[family]))
        found |= set(fonts.get_font(path).get_charmap())
    return found


def class_indices(op: str, target: Any, classes: int) -> np.ndarray:
    """Classes (n,) as int64, checked."""
    array = np.asarray(target)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"{op}: expected classes, integers (n,), got {array.dtype}{list(array.shape)}")
    array = array.astype(np.int64)
    wrong = array[(array < 0) | (array >= classes)]
    if wrong.size:
        raise ValueError(f"{op}: expected classes in [0, {classes - 1}], got {wrong[0]}")
    return array
