"""What a checkpoint holds, and how a Trainer takes it over."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ..io import load
from ..io.tree import is_numeric
from ..planner.random import Generator, generator
from .callbacks import History

if TYPE_CHECKING:
    from .fitting import Fit
    from .trainer import Trainer

VERSION = 1


def gathered(trainer: Trainer, fit: Fit | None) -> dict[str, Any]:
    """The state of a trainer, for `cnnmath.save`."""
    own = trainer.generator
    names = {p: name for name, p in trainer.model.named_parameters()}
    return {
        "checkpoint": VERSION,
        "fit": None if fit is None else fit.state_dict(),  # first: it refuses what is between two states
        "model": trainer.model.state_dict(),
        "optimizer": {"type": type(trainer.optimizer).__name__, **trainer.optimizer.state_dict()},
        "random": {
            "process": (generator.seed, generator.counter),
            "trainer": None if own is None else (own.seed, own.counter),
        },
        "epochs_done": trainer.epochs_done,
        "pending": trainer._pending.state_dict(names),
    }


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A checkpoint. Raises ValueError that names the file where it is something else."""
    path = os.fspath(path)
    state = load(path)
    if state.get("checkpoint") != VERSION:
        raise ValueError(
            f"{path}: expected a checkpoint that Trainer.save_checkpoint wrote, got "
            + (f"one of version {state['checkpoint']}" if "checkpoint" in state else "other arrays")
            + "; weights alone are loaded with model.load_state_dict(cnnmath.load(path))"
        )
    state["path"] = path
    return state


def restore(trainer: Trainer, state: dict[str, Any]) -> None:
    """Takes over all but random numbers. Raises ValueError that names the file, with nothing changed."""
    model, optimizer = trainer.model, trainer.optimizer
    before = model.state_dict()
    try:
        kind = state["optimizer"]["type"]
        if kind != type(optimizer).__name__:
            raise ValueError(f"expected the state of a {type(optimizer).__name__}, got that of a {kind}")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        trainer._pending.load_state_dict(state["pending"], dict(model.named_parameters()))
        trainer.epochs_done = state["epochs_done"]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        model.load_state_dict(before)
        raise ValueError(f"{state['path']} does not fit this trainer: {error}") from error


def restore_random(trainer: Trainer, state: dict[str, Any]) -> None:
    """Random numbers go on where they were: those of the process, and those of a trainer with a seed."""
    process, own = state["random"]["process"], state["random"]["trainer"]
    generator.seed, generator.counter = process
    if own is None:
        trainer.seed = trainer.generator = None
        return
    if trainer.generator is None or trainer.generator.seed != own[0]:
        trainer.seed, trainer.generator = own[0], Generator(own[0])
    trainer.generator.counter = own[1]


def history_of(state: dict[str, Any]) -> History:
    """The numbers of the epochs before."""
    history = History()
    if state["fit"] is not None:
        history.load_state_dict(state["fit"]["callbacks"][-1]["state"])
    return history


def state_of(metric: Any) -> Any:
    """What a metric has gathered: its `state_dict()`, or else its attributes."""
    if hasattr(metric, "state_dict"):
        return metric.state_dict()
    return {name: value for name, value in vars(metric).items() if _plain(value)}


def restore_state(metric: Any, state: Any) -> None:
    """The opposite."""
    if hasattr(metric, "load_state_dict"):
        metric.load_state_dict(state)
    else:
        vars(metric).update(state)


def _plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_plain, value))
    if isinstance(value, dict):
        return all(map(_plain, (*value, *value.values())))
    if hasattr(value, "dtype"):
        return is_numeric(value.dtype)
    return value is None or isinstance(value, (bool, int, float, str))
