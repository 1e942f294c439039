"""`cnnmath evaluate`: a run's model on the test part of its data."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from .. import functional as F
from .. import metrics
from . import datasets, runs
from .options import set_threads, threads, whole


def add(commands: Any) -> None:
    command = commands.add_parser(
        "evaluate",
        help="test a trained network",
        description="Tests the network of a run folder on the test part of the data that it was trained with.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    command.add_argument("folder", type=Path, metavar="RUN", help="a folder that cnnmath train wrote")
    command.add_argument(
        "--root",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="FOLDER",
        help="where the files of the data set are (default: CNNMATH_DATA)",
    )
    command.add_argument(
        "--batch-size", type=whole(1), default=256, metavar="N", help="images computed at once"
    )
    threads(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    set_threads(options)
    found = runs.read(options.folder)
    _, test, names = datasets.read(found.data, getattr(options, "root", None))
    x, size = found.preprocessing.normalized(test.images), options.batch_size
    logits = np.concatenate([found.model(x[i : i + size]) for i in range(0, len(x), size)])
    loss = float(F.cross_entropy(logits, test.target))
    counts = metrics.confusion_matrix(logits, test.target, len(names))
    print(f"Test accuracy: {100 * metrics.accuracy(logits, test.target):.2f} %, loss {loss:.4f}\n")
    print(runs.table(counts, names))
