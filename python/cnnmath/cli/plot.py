"""`cnnmath plot`: the pictures of a run. `cnnmath train` draws them too, where matplotlib is installed."""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import functional as F
from .. import nn, viz
from ..data import Images
from ..io import write_bytes
from . import evaluate, runs
from .options import set_threads

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def add(commands: Any) -> None:
    command = commands.add_parser(
        "plot",
        help="draw the pictures of a run",
        description="Draws the pictures of a run folder into it, as cnnmath train does where matplotlib is installed: "
        "curves.png, confusion_matrix.png, filters.png (of the first convolution), mistakes.png (test images that were "
        "predicted wrongly, those of the highest loss; it needs the data).",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    evaluate.arguments(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    set_threads(options)
    found = runs.read(options.folder)
    print(", ".join(_of_run(options.folder, found)), flush=True)
    test, logits = evaluate.tested(found, options)
    print(_of_test(options.folder, found, test, logits))


def after_training(folder: Path, test: Images, logits: np.ndarray) -> None:
    """Draws all pictures of a run that was just written; says in one line how to get them without matplotlib.

    Args:
        test: the test part, its images as the model wants them.
        logits: what the model makes of them, (n, C).
    """
    found = runs.read(folder)
    try:
        drawn = [*_of_run(folder, found), _of_test(folder, found, test, logits)]
    except ImportError as error:
        print(f"Not drawn: {error}")
    else:
        print(f"Drawn: {', '.join(drawn)}")


def _of_run(folder: Path, found: runs.Run) -> list[str]:
    """Draws what the run folder is enough for; gives the names of the files."""
    try:
        history, counts = found.numbers["history"], np.array(found.numbers["confusion_matrix"])
    except KeyError as error:
        raise ValueError(f"{folder}: metrics.json has no {error}") from error
    drawn = [
        _write(folder, "curves.png", viz.curves(history)),
        _write(folder, "confusion_matrix.png", viz.confusion_matrix(counts, found.classes)),
    ]
    first = next((m for m in found.model.modules() if isinstance(m, nn.Conv2d)), None)
    if first is not None:
        drawn.append(_write(folder, "filters.png", viz.filters(first.weight)))
    return drawn


def _of_test(folder: Path, found: runs.Run, test: Images, logits: np.ndarray) -> str:
    likely = F.softmax(logits.astype(np.float64), 1)
    how = found.preprocessing
    files = getattr(test, "files", None)  # of a folder of images
    figure = viz.mistakes(
        test.images, test.target, likely, found.classes, mean=how.mean, std=how.std, files=files
    )
    return _write(folder, "mistakes.png", figure)


def _write(folder: Path, name: str, figure: Figure) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    write_bytes(folder / name, file.getvalue())
    return name
