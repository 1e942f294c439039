"""`cnnmath info`: what was built and what runs."""

from __future__ import annotations

import argparse
from typing import Any

from ..machine import build_config


def add(commands: Any) -> None:
    command = commands.add_parser(
        "info",
        help="print version, instruction sets and threads",
        description="Prints what was built and what runs.",
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    config = build_config()
    width = max(map(len, config))
    for key, value in config.items():
        shown = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
        print(f"{key:<{width}}  {shown}")
