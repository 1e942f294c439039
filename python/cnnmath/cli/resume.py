"""Trainings that were interrupted: the options that a run notes when it begins, and what `--resume` makes of them."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

from . import datasets, runs

OPTIONS = "options.json"
CHECKPOINT = "checkpoint.safetensors"

_NOT_OF_A_RUN = {"run", "error", "given", "command", "resume", "threads", "out"}
_FREE = {"resume", "threads", "root", "epochs"}  # what may be given beside --resume


def note(folder: Path, options: argparse.Namespace) -> None:
    """Writes the options of a run, all that were given or have a default; paths as whole ones."""
    found = {
        key: str(value.resolve()) if isinstance(value, Path) else value
        for key, value in vars(options).items()
        if key not in _NOT_OF_A_RUN
    }
    runs.write_json(folder / OPTIONS, found)


def same_images(options: argparse.Namespace, count: int) -> int:
    """The number of training images; ValueError where a run goes on that had another one."""
    before = getattr(options, "images", count)
    if before != count:
        raise ValueError(f"{options.resume} was trained on {before} images, but now there are {count}")
    return count


def command(folder: Path) -> str:
    """What goes on with a run."""
    return f"cnnmath train --resume {shlex.quote(str(folder))}"


def options_of(given: argparse.Namespace) -> argparse.Namespace | None:
    """The options to go on with; None, after a line that says so, where there is nothing left to do.

    Exits where another argument contradicts the run. Raises ValueError where the run cannot go on.
    """
    folder: Path = given.resume
    noted = _noted(folder)
    if "out" in given.given:
        given.error(f"--out is for a new run, --resume goes on in {folder}")
    for name in sorted(given.given - _FREE):
        value = json.loads(json.dumps(getattr(given, name), default=str))
        if value != noted.get(name):
            option = "--" + name.replace("_", "-")
            was = f"has {noted[name]}" if name in noted else "has none"
            given.error(f"argument {option}: {value} contradicts {folder}, which {was}")
    epochs = given.epochs if "epochs" in given.given else noted["epochs"]
    if epochs < noted["epochs"]:
        given.error(
            f"argument --epochs: expected at least those of {folder}, {noted['epochs']}, got {epochs}"
        )
    if epochs > noted["epochs"] and noted["schedule"] != "none":
        given.error(
            f"argument --epochs: the schedule {noted['schedule']} of {folder} ends after {noted['epochs']} epochs; "
            f"only runs with --schedule none have further ones"
        )
    if (folder / "metrics.json").exists():
        numbers = runs.read_json(folder / "metrics.json")
        if numbers.get("diverged"):
            raise ValueError(
                f"{folder} diverged: {numbers['diverged']}; it would do so again, train anew with a lower --lr"
            )
        if numbers["settings"]["epochs"] == epochs:
            further = "; --epochs N trains further" if noted["schedule"] == "none" else ""
            print(
                f"{folder} is finished: {epochs} epochs, "
                f"test accuracy {100 * numbers['test_accuracy']:.2f} %{further}"
            )
            return None
    # An option that a former version did not have is at its default.
    defaults = {key: value for key, value in vars(given).items() if key not in _NOT_OF_A_RUN | given.given}
    merged = {**defaults, **noted, "epochs": epochs}
    for name in ("root", "threads"):
        if name in given.given:
            merged[name] = getattr(given, name)
    if "root" in merged and noted["data"] not in datasets.NAMES:
        merged["data"] = str(merged.pop("root").resolve())  # where the folder of images is now
    for name, kind in (("root", Path), ("image_size", tuple)):
        if name in merged:
            merged[name] = kind(merged[name])
    return argparse.Namespace(**merged, resume=folder, given=given.given, error=given.error)


def _noted(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such run folder")
    noted = runs.read_json(folder / OPTIONS)
    if not isinstance(noted, dict) or not {"data", "epochs", "schedule"} <= set(noted):
        raise ValueError(f"{folder / OPTIONS}: not the options of a run")
    return noted
