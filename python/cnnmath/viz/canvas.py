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
    """The names of `count` classes as they can be drawn, as `drawable` has them; without names, their numbers."""
    if names is None:
        return [str(i) for i in range(count)]
    if isinstance(names, str) or len(names) != count:
        raise ValueError(f"{op}: expected the names of {count} classes, got {names!r}")
    return drawable(names, most, [f"class {i}" for i in range(count)])


def drawable(names: Sequence[Any], most: int, instead: Sequence[str]) -> list[str]:
    """Names on one line, of at most `most` characters; `instead` of those that the font has no letters for."""
    letters = _letters()
    lines = [" ".join(str(name).split()) for name in names]
    lines = [
        line if line and letters.issuperset(map(ord, line)) else other for line, other in zip(lines, instead)
    ]
    # Between two dollars matplotlib reads a formula.
    return [line.replace("$", r"\$") for line in _shortened(lines, most)]


def _shortened(lines: list[str], most: int) -> list[str]:
    """Long names without their middle; those that would then read the same from about where they begin to differ."""
    tail = most // 3
    cut = {line: f"{line[: most - tail - 1]}…{line[-tail:]}" for line in lines if len(line) > most}
    groups = _alike(cut)
    for same in groups:  # grows by those that are alike again
        one, other = min(same), max(same)
        differ = next((i for i, (a, b) in enumerate(zip(one, other)) if a != b), len(one))
        anew = {line: _from(line, differ - most // 4, most) for line in same}
        cut |= anew
        groups += [group for group in _alike(anew) if len(group) < len(same)]
    return [cut.get(line, line) for line in lines]


def _alike(cut: dict[str, str]) -> list[list[str]]:
    """The names that are cut to the same."""
    groups: dict[str, list[str]] = {}
    for line, short in cut.items():
        groups.setdefault(short, []).append(line)
    return [group for group in groups.values() if len(group) > 1]


def _from(line: str, start: int, most: int) -> str:
    """`most` characters of a name, from `start` or, near its end, from before."""
    rest = line[min(start, len(line) - most + 1) :]
    return f"…{rest}" if len(rest) < most else f"…{rest[: most - 2]}…"


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
