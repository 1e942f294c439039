"""The command line: `cnnmath train`, `cnnmath info`.

Exit codes: 0; 1 where something went wrong, 2 for wrong arguments, both with one line on the standard error; 130 after
Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from . import data, losses, metrics, nn, optim
from .io import save
from .machine import build_config, set_num_threads
from .planner.random import manual_seed
from .training import Trainer


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _whole(least: int, most: int | None = None) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text)
        if number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(
                f"expected a whole number from {least}{'' if most is None else f' to {most}'}, got {text}"
            )
        return number

    parse.__name__ = "whole number"  # argparse names it where int() fails
    return parse


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return number


_positive.__name__ = "number"


def parser() -> argparse.ArgumentParser:
    """The arguments of all commands."""
    main = _Parser(prog="cnnmath", description="Convolutional neural networks on CPUs.")
    main.add_argument("--version", action="version", version=f"cnnmath {build_config()['version']}")
    commands = main.add_subparsers(dest="command", metavar="command", required=True)

    train = commands.add_parser(
        "train",
        help="train a small network on handwritten digits",
        description="Trains a small convolutional network on the 1,797 handwritten digits that come with the package "
        "(every fifth one is kept for the test), and writes a run folder: metrics.json, model.safetensors, "
        "classes.json, preprocessing.json.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    train.add_argument(
        "--epochs", type=_whole(1), default=15, metavar="N", help="passes over the training images"
    )
    train.add_argument("--batch-size", type=_whole(1), default=32, metavar="N", help="images of a step")
    train.add_argument("--lr", type=_positive, default=0.01, metavar="X", help="the highest learning rate")
    train.add_argument(
        "--seed",
        type=_whole(0, 2**64 - 1),
        default=0,
        metavar="N",
        help="of initial weights, order and dropout",
    )
    train.add_argument(
        "--threads",
        type=_whole(1, 1024),
        default=argparse.SUPPRESS,
        metavar="N",
        help="threads (default: all CPUs)",
    )
    train.add_argument(
        "--out",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="FOLDER",
        help="the run folder, new or empty (default: runs/digits, runs/digits-2, ...)",
    )
    train.set_defaults(run=_train)

    info = commands.add_parser(
        "info",
        help="print version, instruction sets and threads",
        description="Prints what was built and what runs.",
    )
    info.set_defaults(run=_info)
    return main


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; gives its exit code."""
    try:
        options = parser().parse_args(arguments)
        options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("cnnmath: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone; nothing more can be said there, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, ValueError, TypeError, ImportError, MemoryError) as error:
        print(f"cnnmath: error: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
        return 1
    return 0


def _info(options: argparse.Namespace) -> None:
    config = build_config()
    width = max(map(len, config))
    for key, value in config.items():
        shown = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
        print(f"{key:<{width}}  {shown}")


# Training.


def digits_network() -> nn.Sequential:
    """A network for 8 x 8 images in 10 classes: three convolutions, 8,538 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.25),
        nn.Linear(128, 10),
    )


def _train(options: argparse.Namespace) -> None:
    if hasattr(options, "threads"):
        set_num_threads(options.threads)
    folder = _run_folder(getattr(options, "out", None), "digits")
    try:
        _train_digits(options, folder)
    except BaseException:
        if not any(folder.iterdir()):
            folder.rmdir()  # nothing was achieved: leave no trace
        raise


def _train_digits(options: argparse.Namespace, folder: Path) -> None:
    digits = data.load_digits()
    (x, y), (x_test, y_test) = digits.split()
    names = digits.target_names
    manual_seed(options.seed)
    model = digits_network()
    optimizer = optim.AdamW(model, lr=options.lr)
    trainer = Trainer(model, optimizer, losses.CrossEntropyLoss(), metrics=["accuracy"])
    steps_per_epoch = -(-len(x) // options.batch_size)
    schedule = optim.schedules.OneCycleLR(
        optimizer, options.lr, epochs=options.epochs, steps_per_epoch=steps_per_epoch
    )
    print(f"Training on {len(x)} images of {len(names)} classes, testing on {len(x_test)}", flush=True)
    start = time.perf_counter()
    history = trainer.fit(x, y, batch_size=options.batch_size, epochs=options.epochs, callbacks=[schedule])
    seconds = time.perf_counter() - start
    test = trainer.evaluate(x_test, y_test)
    counts = metrics.confusion_matrix(trainer.predict(x_test), y_test)
    print(f"\nTest accuracy: {100 * test['accuracy']:.2f} %  (trained in {seconds:.1f} s)\n")
    print(_table(counts, names))

    settings = {key: getattr(options, key) for key in ("epochs", "batch_size", "lr", "seed")}
    save(model, folder / "model.safetensors")
    _write(folder / "classes.json", names)
    _write(
        folder / "preprocessing.json",
        {"channels": 1, "height": 8, "width": 8, "scale": 1 / 16, "mean": [0.0], "std": [1.0]},
    )
    numbers = {
        "test_accuracy": test["accuracy"],
        "test_loss": test["loss"],
        "train_accuracy": history.history["accuracy"][-1],
        "train_loss": history.history["loss"][-1],
        "seconds": seconds,
        "data": "digits",
        "settings": settings,
        "history": history.history,
        "confusion_matrix": counts.tolist(),
    }
    _write(folder / "metrics.json", numbers)
    print(f"\nWritten to {folder}")


def _run_folder(out: Path | None, name: str) -> Path:
    """A folder for a run, made now: one that exists and holds something is never written to."""
    if out is not None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise FileExistsError(f"{out} exists already; choose another --out, or remove it")
        out.mkdir(parents=True, exist_ok=True)
        return out
    number = 1
    while True:
        folder = Path("runs") / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def _write(path: Path, content: Any) -> None:
    # NaN is no JSON: a diverged run has null there.
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(v) for key, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        return value if not isinstance(value, float) or np.isfinite(value) else None

    beside = path.with_name(path.name + ".part")
    beside.write_text(json.dumps(plain(content), indent=2) + "\n", encoding="utf-8")
    os.replace(beside, path)


def _table(counts: np.ndarray, names: Sequence[str]) -> str:
    """Per class: how many images, how many of them right, and what the others were taken for."""
    width = max(5, *map(len, names))
    lines = [f"{'class':<{width}}  images  correct  accuracy  taken for"]
    for i, row in enumerate(counts):
        total, right = int(row.sum()), int(row[i])
        others = ", ".join(f"{names[j]} ({n})" for j, n in enumerate(row) if n and j != i)
        share = f"{100 * right / total:6.2f} %" if total else "     - "
        lines.append(f"{names[i]:<{width}}  {total:6d}  {right:7d}  {share}  {others}".rstrip())
    return "\n".join(lines)
