"""Numbers as arguments of the command line: what they may be, and what is said where they are not."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """The type of a whole number."""

    def parse(text: str) -> int:
        number = int(text)
        if number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(
                f"expected a whole number from {least}{'' if most is None else f' to {most}'}, got {text}"
            )
        return number

    parse.__name__ = "whole number"  # argparse names it where int() fails
    return parse


def real(above: bool, below: float = float("inf")) -> Callable[[str], float]:
    """The type of a number above 0, or also 0, and smaller than `below`."""

    def parse(text: str) -> float:
        number = float(text)
        if not (0 < number < below or (number == 0 and not above)):
            least = "above 0" if above else "of at least 0"
            most = "" if below == float("inf") else f" and below {below:g}"
            raise argparse.ArgumentTypeError(f"expected a number {least}{most}, got {text}")
        return number

    parse.__name__ = "number"
    return parse
