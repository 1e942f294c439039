"""Tables on the terminal, JSON in a file, and the state of the machine that belongs to every number."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def machine(threads: int) -> Row:
    """What a reader must know to judge the numbers."""
    state: Row = {"cpu": _cpu_name(), "cpus": len(os.sched_getaffinity(0)), "threads": threads}
    state |= {"python": platform.python_version(), "load": round(os.getloadavg()[0], 2)}
    try:
        import cnnmath

        state["cnnmath"] = cnnmath.build_config()
    except (ImportError, AttributeError) as error:
        state["cnnmath"] = f"not available: {error}"
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
    cells = [columns, *([_text(row.get(column, "")) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    numeric = [all(isinstance(row.get(c, 0), int | float) for row in rows) for c in columns]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in cells
    )


def _text(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    if value != 0 and abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


def report(case: str, rows: list[Row], threads: int, path: str | None) -> None:
    state = machine(threads)
    print("  ".join(f"{key}: {value}" for key, value in state.items()))
    print(table(rows))
    if path:
        Path(path).write_text(
            json.dumps({"case": case, "machine": state, "rows": rows}, indent=1, default=str) + "\n"
        )
