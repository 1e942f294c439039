"""Prints at the end how many of PyTorch's samples ran, per operation."""

from __future__ import annotations

import sys

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    samples = sys.modules.get(
        f"{__package__}.samples"
    )  # absent: nothing has run, or PyTorch is not installed
    tally = getattr(samples, "tally", None)
    if not tally:
        return
    terminalreporter.section("PyTorch's samples")
    kinds: dict[str, dict[str, int]] = {}
    for (op, kind), count in sorted(tally.items()):
        kinds.setdefault(op, {})[kind] = count
    for op, counts in kinds.items():
        terminalreporter.write_line(f"{op}: " + ", ".join(f"{n} {kind}" for kind, n in counts.items()))
    total = sum(n for (_, kind), n in tally.items() if "failed" not in kind)
    failed = sum(n for (_, kind), n in tally.items() if "failed" in kind)
    terminalreporter.write_line(f"in all: {total} run, {failed} failed")
