"""`cnnmath bench`: measurements, against NumPy and against other libraries. The cases are in `cnnmath.bench`."""

from __future__ import annotations

import argparse
from typing import Any

from ..bench.__main__ import CASES, main


def add(commands: Any) -> None:
    listed = "\n".join(f"  {name:10}{text}" for name, text in CASES.items())
    command = commands.add_parser(
        "bench",
        help="measure the speed, against NumPy and other libraries",
        description="Measures one case. Answers are checked before anything is timed. Without a case: training steps\n"
        f"of some networks, in a minute.\n\n{listed}\n\n"
        "`cnnmath bench CASE --help` lists the options of a case.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("case", nargs="?", choices=CASES, metavar="CASE", help="one of the above")
    command.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="its options")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    main([options.case, *options.arguments] if options.case else [])
