"""Tables on the terminal, JSON in a file, pictures in a folder; the state of the machine that belongs to them."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Draw = Callable[[list[Row]], Any]  # gives a matplotlib Figure, or None


def machine(threads: int) -> Row:
    """What a reader must know to judge the numbers."""
    state: Row = {"cpu": _cpu_name(), "cpus": len(os.sched_getaffinity(0)), "threads": threads}
    state |= {"python": platform.python_version(), "load": round(os.getloadavg()[0], 2)}
    from ..machine import build_config

    state["cnnmath"] = build_config()
    return state


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


def table(rows: list[Row]) -> str:
    """Columns in the order of their first appearance."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns, *([text(row.get(column, "")) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    numeric = [all(isinstance(row.get(c, 0), int | float) for row in rows) for c in columns]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in cells
    )


def text(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    if value != 0 and abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


def output_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the results go, besides the terminal."""
    parser.add_argument("--json", metavar="FILE", type=_writable, help="also write the rows there")
    parser.add_argument(
        "--plot", metavar="FOLDER", type=_drawable, help="also draw pictures there (needs matplotlib)"
    )


def _writable(file: str) -> Path:
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{file} is a folder")
    return path


def _drawable(folder: str) -> Path:
    from ..viz.canvas import matplotlib

    matplotlib("figure")  # a missing matplotlib is told before hours of measurements
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    return path


def report(
    case: str,
    rows: list[Row],
    threads: int,
    options: argparse.Namespace,
    summary: list[Row] | None = None,
    pictures: Mapping[str, Draw] | None = None,
    shown: list[Row] | None = None,
) -> None:
    """Prints the rows (or those `shown`) and, below them, the `summary`; writes the files that `options` asks for.

    `pictures` has a function of the rows for the name of each picture.
    """
    state = machine(threads)
    print("  ".join(f"{key}: {value}" for key, value in state.items()))
    print(table(rows if shown is None else shown))
    if summary:
        print(f"\n{table(summary)}")
    if options.json:
        content = {"case": case, "machine": state, "rows": rows, "summary": summary or []}
        options.json.write_text(json.dumps(content, indent=1, default=str) + "\n")
    if options.plot:
        for name, draw in (pictures or {}).items():
            figure, path = draw(rows), options.plot / f"{name}.png"
            if figure is None:
                print(f"{path} is not drawn: there is no other library to compare with", file=sys.stderr)
            else:
                figure.savefig(path)
                print(path)
