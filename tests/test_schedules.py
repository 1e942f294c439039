"""Schedules: the closed formulas, PyTorch's sequences, state, and stepping by Trainer.fit's hooks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from cnnmath import nn, optim
from cnnmath.optim import schedules

CASES: list[tuple[str, dict[str, Any]]] = [
    ("StepLR", {"step_size": 3}),
    ("StepLR", {"step_size": 1, "gamma": 0.5}),
    ("CosineAnnealingLR", {"T_max": 10}),
    ("CosineAnnealingLR", {"T_max": 7, "eta_min": 0.01}),
    ("CosineAnnealingLR", {"T_max": 1}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 25}),
    (
        "OneCycleLR",
        {"max_lr": [0.5, 0.1], "epochs": 5, "steps_per_epoch": 5, "pct_start": 0.1, "div_factor": 10.0},
    ),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 25, "anneal_strategy": "linear", "three_phase": True}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 25, "final_div_factor": 100.0, "cycle_momentum": False}),
]
ids = [f"{name}-{'-'.join(o)}" for name, o in CASES]


def optimizer(kind: str = "SGD") -> optim.Optimizer:
    groups = [{"params": [nn.Parameter([1.0])]}, {"params": [nn.Parameter([1.0])], "lr": 0.03}]
    return optim.SGD(groups, lr=0.1, momentum=0.9) if kind == "SGD" else optim.Adam(groups, lr=0.1)


def sequence(kind: str, name: str, options: dict[str, Any], count: int = 25) -> list[Any]:
    o = optimizer(kind)
    schedule = getattr(schedules, name)(o, **options)
    seen = []
    for _ in range(count):
        seen.append([(g["lr"], g.get("momentum"), g.get("betas")) for g in o.param_groups])
        assert schedule.get_last_lr() == [g["lr"] for g in o.param_groups]
        schedule.step()
    return seen


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step:UserWarning")
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize(("name", "options"), CASES, ids=ids)
def test_the_doubles_are_those_of_pytorch(kind: str, name: str, options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    groups = [{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)], "lr": 0.03}]
    o = torch.optim.SGD(groups, lr=0.1, momentum=0.9) if kind == "SGD" else torch.optim.Adam(groups, lr=0.1)
    theirs = getattr(torch.optim.lr_scheduler, name)(o, **options)
    seen = []
    for _ in range(25):
        seen.append([(g["lr"], g.get("momentum"), g.get("betas")) for g in o.param_groups])
        theirs.step()
    assert sequence(kind, name, options) == seen


def test_step_lr() -> None:
    lrs = [groups[0][0] for groups in sequence("SGD", "StepLR", {"step_size": 3, "gamma": 0.5}, 12)]
    np.testing.assert_allclose(lrs, [0.1 * 0.5 ** (t // 3) for t in range(12)], rtol=1e-12)


def test_cosine() -> None:
    lrs = [groups[0][0] for groups in sequence("SGD", "CosineAnnealingLR", {"T_max": 8, "eta_min": 0.02}, 24)]
    want = [0.02 + 0.08 * (1 + math.cos(math.pi * t / 8)) / 2 for t in range(24)]
    np.testing.assert_allclose(lrs, want, rtol=1e-9)


def test_one_cycle() -> None:
    seen = sequence("SGD", "OneCycleLR", {"max_lr": 0.5, "total_steps": 20, "pct_start": 0.25}, 20)
    lrs, momenta = ([groups[0][i] for groups in seen] for i in (0, 1))
    assert lrs[0] == pytest.approx(0.02) and lrs[4] == 0.5 and lrs[-1] == pytest.approx(0.02 / 1e4)
    assert momenta[0] == 0.95 and momenta[4] == 0.85 and momenta[-1] == pytest.approx(0.95)
    assert np.argmax(lrs) == 4 and np.all(np.diff(lrs[4:]) < 0)


@pytest.mark.parametrize(("name", "options"), CASES, ids=ids)
def test_resume(name: str, options: dict[str, Any]) -> None:
    whole = sequence("SGD", name, options)
    o = optimizer()
    schedule = getattr(schedules, name)(o, **options)
    for _ in range(9):
        schedule.step()
    saved, state = schedule.state_dict(), o.state_dict()
    other = optimizer()
    resumed = getattr(schedules, name)(other, **options)
    other.load_state_dict(state)
    resumed.load_state_dict(saved)
    for t in range(9, 25):
        assert [(g["lr"], g["momentum"], None) for g in other.param_groups] == whole[t]
        resumed.step()


def test_hooks_of_fit() -> None:
    o = optimizer()
    each_epoch, each_step = schedules.StepLR(o, 1), schedules.OneCycleLR(optimizer(), 0.5, 10)
    for schedule in (each_epoch, each_step):
        schedule.on_train_batch_end(0, {})
        schedule.on_train_batch_end(1, {})
        schedule.on_epoch_end(0, {})
    assert each_epoch.last_epoch == 1 and each_step.last_epoch == 2
    each_epoch.interval = "step"
    each_epoch.on_train_batch_end(0, {})
    each_epoch.on_epoch_end(0, {})
    assert each_epoch.last_epoch == 2


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda o: schedules.StepLR(o, 0), ValueError, "a step_size of at least 1, got 0"),
        (lambda o: schedules.StepLR(3, 1), TypeError, "expected an Optimizer, got int"),
        (lambda o: schedules.CosineAnnealingLR(o, 0), ValueError, "a T_max of at least 1"),
        (
            lambda o: schedules.OneCycleLR(o, 0.1),
            ValueError,
            "total_steps, or both epochs and steps_per_epoch",
        ),
        (lambda o: schedules.OneCycleLR(o, 0.1, 10, pct_start=2.0), ValueError, "pct_start between 0 and 1"),
        (
            lambda o: schedules.OneCycleLR(o, 0.1, 10, anneal_strategy="x"),
            ValueError,
            "'cos' or 'linear', got 'x'",
        ),
        (lambda o: schedules.OneCycleLR(o, [0.1], 10), ValueError, "expected 2 values of max_lr, got 1"),
        (lambda o: schedules.StepLR(o, 1, last_epoch=3), KeyError, "no initial_lr to resume from"),
    ],
)
def test_wrong_arguments(make: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        make(optimizer())


def test_a_cycle_ends() -> None:
    schedule = schedules.OneCycleLR(optimizer(), 0.5, 2)
    schedule.step()
    schedule.step()
    with pytest.raises(ValueError, match="step 3 of 2: the cycle is over"):
        schedule.step()
