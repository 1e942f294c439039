"""`cnnmath evaluate`: a run's model on the test part of its data."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from .. import functional as F
from .. import metrics
from .._arguments import whole
from ..data import Images
from . import datasets, runs
from .options import set_threads, threads


def add(commands: Any) -> None:
    command = commands.add_parser(
        "evaluate",
        help="test a trained network",
        description="Tests the network of a run folder on the test part of the data that it was trained with.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    arguments(command)
    command.set_defaults(run=run)


def arguments(command: Any) -> None:
    """Adds what `tested` needs: the run folder, --root, --batch-size; and --threads."""
    command.add_argument("folder", type=Path, metavar="RUN", help="a folder that cnnmath train wrote")
    command.add_argument(
        "--root",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="FOLDER",
        help="where the files of the data set are (default: CNNMATH_DATA), or the folder of images is now",
    )
    command.add_argument(
        "--batch-size", type=whole(1), default=256, metavar="N", help="images computed at once"
    )
    threads(command)


def run(options: argparse.Namespace) -> None:
    set_threads(options)
    found = runs.read(options.folder)
    test, logits = tested(found, options)
    loss = float(F.cross_entropy(logits, test.target))
    counts = metrics.confusion_matrix(logits, test.target, len(found.classes))
    print(f"Test accuracy: {100 * metrics.accuracy(logits, test.target):.2f} %, loss {loss:.4f}\n")
    print(runs.table(counts, found.classes))


def tested(found: runs.Run, options: argparse.Namespace) -> tuple[Images, np.ndarray]:
    """The test part of a run's data, its images as the model wants them, and the model's logits."""
    test = datasets.test_part(found, getattr(options, "root", None))
    x, size = found.preprocessing.normalized(test.images), options.batch_size
    logits = np.concatenate([found.model(x[i : i + size]) for i in range(0, len(x), size)])
    return test, logits
