"""Arguments: what they may be, and what is said where they are not."""

from __future__ import annotations

import argparse
from difflib import get_close_matches
from typing import Any, NoReturn

from .._arguments import whole
from ..machine import set_num_threads

_UNSET: Any = object()


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line. Of a command, `options.given` are the names of the arguments that were given."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        # argparse sets a default only where the namespace has nothing yet.
        namespace = namespace or argparse.Namespace()
        for action in self._actions:
            if action.dest != argparse.SUPPRESS and not hasattr(namespace, action.dest):
                setattr(namespace, action.dest, _UNSET)
        namespace, rest = super().parse_known_args(args, namespace)
        given = set()
        for action in self._actions:
            if getattr(namespace, action.dest, None) is not _UNSET:
                given.add(action.dest)
            elif action.default is argparse.SUPPRESS:
                delattr(namespace, action.dest)
            else:
                setattr(namespace, action.dest, action.default)
        if rest and self._subparsers is None:  # said by the command, not by all of them
            option = next((text.split("=")[0] for text in rest if text.startswith("-")), "")
            near = get_close_matches(option, self._option_string_actions, 1)
            hint = f"; the nearest option is {near[0]}" if near else ""
            self.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
        if not hasattr(namespace, "given"):  # the parser of the command comes first
            namespace.given = given
        return namespace, rest

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def told(error: BaseException) -> str:
    """What an error says, in one line; of one of the system, the file before the reason, and no number."""
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None and text.startswith("[Errno"):
        text = f"{error.filename}: {error.strerror}"
    return " ".join(text.split()) or type(error).__name__


def size(text: str) -> tuple[int, int]:
    """The type of a size of images, N or HEIGHTxWIDTH: (height, width)."""
    try:
        sides = tuple(int(side) for side in text.lower().split("x"))
    except ValueError:
        sides = ()
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise argparse.ArgumentTypeError(f"expected a size such as 32 or 24x32 (height, width), got {text}")
    return sides[0], sides[-1]


def threads(command: Any) -> None:
    """Adds --threads; see `set_threads`."""
    command.add_argument(
        "--threads",
        type=whole(1, 1024),
        default=argparse.SUPPRESS,
        metavar="N",
        help="threads (default: all CPUs)",
    )


def set_threads(options: argparse.Namespace) -> None:
    """Heeds --threads."""
    if hasattr(options, "threads"):
        set_num_threads(options.threads)
