"""The command line: `cnnmath train`, `evaluate`, `predict`, `plot`, `summary`, `info`, `bench`; one file for each.

Exit codes: 0; 1 where something went wrong, 2 for wrong arguments, both with one line on the standard error; 130 after
Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ..machine import build_config
from . import bench, evaluate, info, plot, predict, summary, train
from .options import Parser, told


def parser() -> Parser:
    """The arguments of all commands."""
    top = Parser(prog="cnnmath", description="Convolutional neural networks on CPUs.")
    top.add_argument("--version", action="version", version=f"cnnmath {build_config()['version']}")
    commands = top.add_subparsers(dest="command", metavar="command")
    for command in (train, evaluate, predict, plot, summary, info, bench):
        command.add(commands)
    top.set_defaults(run=lambda options: top.print_help())
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; gives its exit code."""
    try:
        options = parser().parse_args(arguments)
        code = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt as interruption:
        print(": ".join(filter(None, ("cnnmath: interrupted", str(interruption)))), file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone; nothing more can be said there, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, ValueError, TypeError, ImportError, MemoryError) as error:
        print(f"cnnmath: error: {told(error)}", file=sys.stderr)
        return 1
    return int(code or 0)
