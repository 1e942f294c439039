"""Pictures of rows, with matplotlib (the extra `viz`)."""

from __future__ import annotations

from typing import Any

from .report import Draw, Row, text

HEIGHT = 0.16  # of a bar, in inches


def bars(keys: tuple[str, ...], value: str, title: str, origin: float = 0) -> Draw:
    """For each workload, told by the columns `keys`, a bar of `value` for each library, from `origin` on."""

    def draw(rows: list[Row]) -> Any:
        from ..viz.canvas import new_figure

        workloads = list(dict.fromkeys(_name(row, keys) for row in rows))
        libraries = list(dict.fromkeys(row["library"] for row in rows))
        step = len(libraries) + 1
        figure = new_figure(9, 1.2 + HEIGHT * step * len(workloads))
        axes = figure.add_subplot()
        most = max(row[value] for row in rows)
        for i, library in enumerate(libraries):
            own = [row for row in rows if row["library"] == library]
            places = [step * workloads.index(_name(row, keys)) + i for row in own]
            lengths = [row[value] - origin for row in own]
            axes.barh(places, lengths, 0.9, left=origin, label=library, color=f"C{i}")
            for place, row in zip(places, own):
                at = (max(row[value], origin), place)
                shown = text(float(row[value]))
                axes.annotate(shown, at, (3, 0), textcoords="offset points", va="center", fontsize=7)
        centre = (len(libraries) - 1) / 2
        axes.set_yticks([step * j + centre for j in range(len(workloads))], workloads)
        axes.set_ylim(step * len(workloads) - 1, -1)
        axes.set_xlim(0, 1.1 * most)
        axes.set_xlabel(value)
        axes.set_title(title)
        axes.grid(axis="x", alpha=0.3)
        figure.legend(loc="outside lower center", ncols=3)
        return figure

    return draw


def advantage(rows: list[Row], keys: tuple[str, ...], title: str) -> Any:
    """How many times as fast as each other library the first one is; None where there is no other."""
    from ..viz.canvas import matplotlib

    others = [
        row | {"times as fast": row["time / first"]} for row in rows if row["library"] != rows[0]["library"]
    ]
    if not others:
        return None
    figure = bars(keys, "times as fast", title, origin=1)(others)
    (axes,) = figure.axes
    axes.set_xscale("log")
    ratios = [row["time / first"] for row in rows]
    axes.set_xlim(min(0.7, 0.8 * min(ratios)), max(1.4, 1.3 * max(ratios)))  # room for the numbers
    ticker = matplotlib("ticker")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.axvline(1, color="black", linewidth=0.8)
    return figure


def _name(row: Row, keys: tuple[str, ...]) -> str:
    return " ".join(str(row[key]) for key in keys)
