"""Run folders: what `cnnmath train` leaves, and how the other commands find the model in it.

options.json         the options of the command, written first
checkpoint.safetensors  where the training stands, until it is over (with --schedule none it stays)
model.safetensors    the weights
model.json           which constructor of cnnmath.models made the model, and with which arguments
preprocessing.json   the images' channels, height and width; x = (pixels * scale - mean) / std, by channel
classes.json         the names of the classes
metrics.json         the numbers of the training and the test, settings, data
*.png                pictures, see plot.py
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import models
from ..io import load, save, write_bytes
from ..nn import Module


@dataclass(frozen=True)
class Preprocessing:
    """How pixels become the input of a model: x = (pixels * scale - mean) / std, mean and std by channel."""

    channels: int
    height: int
    width: int
    scale: float
    mean: list[float]
    std: list[float]

    def normalized(self, x: np.ndarray) -> np.ndarray:
        """Images (n, channels, height, width) of 0 to 1, as the model wants them; changes the array."""
        if any(self.mean) or any(s != 1 for s in self.std):
            x -= np.array(self.mean, x.dtype)[:, None, None]
            x /= np.array(self.std, x.dtype)[:, None, None]
        return x


@dataclass(frozen=True)
class Run:
    """A run folder, read."""

    model: Module
    settings: dict[str, Any]  # the arguments of models.create
    preprocessing: Preprocessing
    classes: list[str]
    data: str
    numbers: dict[str, Any]  # all of metrics.json


def new_folder(out: Path | None, name: str) -> Path:
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


def write(
    folder: Path,
    model: Module,
    settings: dict[str, Any],
    preprocessing: Preprocessing,
    classes: Sequence[str],
    numbers: dict[str, Any],
) -> None:
    """Writes all files of a run; metrics.json comes last."""
    write_json(folder / "model.json", settings)
    write_json(folder / "classes.json", list(classes))
    write_json(folder / "preprocessing.json", asdict(preprocessing))
    save(model, folder / "model.safetensors")
    write_json(folder / "metrics.json", numbers)


def read(folder: Path) -> Run:
    """The model of a run folder, in evaluation mode, and what belongs to it."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such run folder")
    if (folder / "options.json").exists() and not (folder / "metrics.json").exists():
        raise FileNotFoundError(f"{folder} is not finished: go on with cnnmath train --resume {folder}")
    settings, classes = read_json(folder / "model.json"), read_json(folder / "classes.json")
    try:
        preprocessing = Preprocessing(**read_json(folder / "preprocessing.json"))
        model = models.create(**settings)
        numbers = read_json(folder / "metrics.json")
        data = str(numbers["data"])
    except (TypeError, KeyError) as error:
        raise ValueError(f"{folder}: not the files of a run ({error})") from error
    if not isinstance(classes, list) or len(classes) != settings.get("num_classes"):
        raise ValueError(f"{folder}: classes.json does not have the classes of model.json")
    model.load_state_dict(load(folder / "model.safetensors"))
    return Run(model.eval(), settings, preprocessing, [str(c) for c in classes], data, numbers)


def read_json(path: Path) -> Any:
    """Reads a file of a run; the error says that the folder is none where it is missing."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path.parent} is no run folder: it has no {path.name}") from error
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error})") from error


def write_json(path: Path, content: Any) -> None:
    """Writes a file of a run."""

    # NaN is no JSON: a diverged run has null there.
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(v) for key, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        return value if not isinstance(value, float) or np.isfinite(value) else None

    write_bytes(path, (json.dumps(plain(content), indent=2) + "\n").encode())


def table(counts: np.ndarray, names: Sequence[str]) -> str:
    """Per class: how many images, how many of them right, and what the others were taken for."""
    width = max(5, *map(len, names))
    lines = [f"{'class':<{width}}  images  correct  accuracy  taken for"]
    for i, row in enumerate(counts):
        total, right = int(row.sum()), int(row[i])
        others = ", ".join(f"{names[j]} ({n})" for j, n in enumerate(row) if n and j != i)
        share = f"{100 * right / total:6.2f} %" if total else "     - "
        lines.append(f"{names[i]:<{width}}  {total:6d}  {right:7d}  {share}  {others}".rstrip())
    return "\n".join(lines)
