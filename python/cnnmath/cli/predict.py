"""`cnnmath predict`: the classes of image files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from .. import functional as F
from .._arguments import whole
from ..data.files import read_image
from ..data.framing import framed_as_mnist
from . import runs
from .options import set_threads, threads, told


def add(commands: Any) -> None:
    command = commands.add_parser(
        "predict",
        help="name the classes of image files",
        description="Prints the likeliest classes of image files and their probabilities. Images of another size are "
        "resized, colours made grey or grey made colours as the network wants them; for a network trained on mnist, "
        "digits are cut out and centred as there. A file that is no image is named on the standard error, the others "
        "are still predicted, and the exit code is 1.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    command.add_argument("folder", type=Path, metavar="RUN", help="a folder that cnnmath train wrote")
    command.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="PNG, JPEG, ...")
    command.add_argument("--top", type=whole(1), default=3, metavar="N", help="classes shown of each image")
    command.add_argument(
        "--invert",
        action="store_true",
        help="swap dark and bright: for dark digits on white paper, where the network knows bright ones on black "
        "(of one trained on mnist that is seen without it)",
    )
    threads(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    set_threads(options)
    found = runs.read(options.folder)
    how = found.preprocessing
    failed = 0
    for path in options.images:
        try:
            pixels = _pixels(path, found, options.invert)
        except (OSError, ValueError) as error:
            failed = 1
            print(f"cnnmath: error: {told(error)}", file=sys.stderr)
            continue
        # One image at a time: the answer on one does not depend on the others, to the bit.
        logits = found.model(how.normalized(pixels[None]))
        likely = F.softmax(logits.astype(np.float64), 1)[0]
        best = np.argsort(-likely, kind="stable")[: options.top]
        print(f"{path}: " + ", ".join(f"{found.classes[i]} ({100 * likely[i]:.1f} %)" for i in best))
    return failed


def _pixels(path: Path, found: runs.Run, invert: bool) -> np.ndarray:
    """An image as the network's training images were, before normalisation: (channels, height, width) of 0 to 1."""
    how = found.preprocessing
    framed = found.data == "mnist" and (how.channels, how.height, how.width) == (1, 28, 28)
    pixels = read_image(path, 1) if framed else read_image(path, how.channels, (how.height, how.width))
    if not np.ptp(pixels, axis=(1, 2)).any():
        print(f"cnnmath: warning: {path}: the image is of one colour", file=sys.stderr)
    if invert:
        pixels = 1 - pixels
    return framed_as_mnist(pixels[0])[None] if framed else pixels
