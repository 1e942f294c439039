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
    ("MultiStepLR", {"milestones": [3, 4, 9, 9]}),
    ("MultiStepLR", {"milestones": (0, 20), "gamma": 0.3}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 0.1, "end_factor": 0.7, "total_iters": 11}),
    ("LinearLR", {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 7}),
    ("LinearLR", {"total_iters": 0}),
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


CHAINS: list[tuple[list[tuple[str, dict[str, Any]]], list[int]]] = [
    ([("LinearLR", {"total_iters": 4}), ("CosineAnnealingLR", {"T_max": 10})], [4]),
    ([("LinearLR", {}), ("StepLR", {"step_size": 2}), ("ExponentialLR", {"gamma": 0.9})], [3, 12]),
    ([("ExponentialLR", {"gamma": 0.5}), ("MultiStepLR", {"milestones": [2, 5]})], [8]),
    ([("StepLR", {"step_size": 2}), ("LinearLR", {})], [0]),
    ([("CosineAnnealingLR", {"T_max": 3})], []),
]


def chain(module: Any, o: Any, parts: list[tuple[str, dict[str, Any]]], milestones: list[int]) -> Any:
    return module.SequentialLR(
        o, [getattr(module, name)(o, **options) for name, options in parts], milestones
    )


def lrs_of(schedule: Any, o: Any, steps: int) -> list[list[float]]:
    seen = []
    for _ in range(steps):
        seen.append([g["lr"] for g in o.param_groups])
        assert schedule.get_last_lr() == seen[-1]
        schedule.step()
    return seen


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step:UserWarning")
@pytest.mark.parametrize(("parts", "milestones"), CHAINS)
def test_sequences_are_those_of_pytorch(parts: Any, milestones: list[int]) -> None:
    torch = pytest.importorskip("torch")
    groups = [{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)], "lr": 0.03}]
    theirs = torch.optim.SGD(groups, lr=0.1)
    want = lrs_of(chain(torch.optim.lr_scheduler, theirs, parts, milestones), theirs, 25)
    ours = optimizer()
    schedule = chain(schedules, ours, parts, milestones)
    assert lrs_of(schedule, ours, 9) == want[:9]
    saved, state = schedule.state_dict(), ours.state_dict()
    other = optimizer()
    resumed = chain(schedules, other, parts, milestones)
    other.load_state_dict(state)
    resumed.load_state_dict(saved)
    assert lrs_of(resumed, other, 16) == lrs_of(schedule, ours, 16) == want[9:]


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step:UserWarning")
def test_two_schedules_of_one_optimizer() -> None:
    """Their factors multiply, as PyTorch chains them."""
    torch = pytest.importorskip("torch")
    theirs, ours = torch.optim.SGD([torch.zeros(1)], lr=0.1), optim.SGD([nn.Parameter([1.0])], lr=0.1)
    seen = []
    for o, module in ((theirs, torch.optim.lr_scheduler), (ours, schedules)):
        both = [module.LinearLR(o), module.ExponentialLR(o, 0.9)]
        seen.append([])
        for _ in range(8):
            seen[-1].append(o.param_groups[0]["lr"])
            for schedule in both:
                schedule.step()
    assert seen[0] == seen[1]


def test_sequences_within_sequences() -> None:
    o = optimizer()
    inner = schedules.SequentialLR(
        o, [schedules.LinearLR(o, 0.5, total_iters=2), schedules.ExponentialLR(o, 0.1)], [2]
    )
    outer = schedules.SequentialLR(o, [schedules.StepLR(o, 1, 0.5), inner], [3])
    lrs = [lr for lr, _ in lrs_of(outer, o, 7)]
    np.testing.assert_allclose(lrs, [0.1, 0.05, 0.025, 0.05, 0.075, 0.1, 0.01], rtol=1e-12)


PLATEAUS: list[dict[str, Any]] = [
    {"patience": 2},
    {"patience": 0, "factor": 0.5, "min_lr": 0.004},
    {"patience": 1, "cooldown": 2, "min_lr": [0.02, 0.0]},
    {"patience": 1, "mode": "max", "threshold": 0.1},
    {"patience": 1, "mode": "max", "threshold_mode": "abs", "threshold": 0.2},
    {"patience": 1, "mode": "min", "threshold_mode": "abs", "threshold": 0.2, "eps": 0.005},
]


@pytest.mark.parametrize("options", PLATEAUS, ids=lambda o: "-".join(o))
def test_plateaus_are_those_of_pytorch(options: dict[str, Any], rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    groups = [{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)], "lr": 0.03}]
    theirs, ours = torch.optim.SGD(groups, lr=0.1), optimizer()
    want = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **options)
    schedule = schedules.ReduceLROnPlateau(ours, **options)
    values = [*rng.uniform(0.5, 1.5, 30), float("nan"), *rng.uniform(0.3, 1.0, 10)]
    for t, value in enumerate(values):
        want.step(value)
        schedule.step(value)
        assert [g["lr"] for g in ours.param_groups] == [g["lr"] for g in theirs.param_groups]
        assert schedule.get_last_lr() == want.get_last_lr()
        if t == 20:  # go on from the state
            saved, state = schedule.state_dict(), ours.state_dict()
            ours = optimizer()
            schedule = schedules.ReduceLROnPlateau(ours, monitor="another")
            ours.load_state_dict(state)
            schedule.load_state_dict(saved)
    assert schedule.num_bad_epochs == want.num_bad_epochs and schedule.best == want.best


def test_plateau_as_a_callback() -> None:
    o = optimizer()
    schedule = schedules.ReduceLROnPlateau(o, patience=0)
    schedule.on_train_batch_end(0, {"loss": 1.0})
    for epoch in range(2):
        schedule.on_epoch_end(epoch, {"loss": 9.0, "val_loss": 1.0})
    assert schedule.last_epoch == 2 and o.param_groups[0]["lr"] == pytest.approx(0.01)
    with pytest.warns(UserWarning, match="no 'val_loss' to monitor; there is loss"):
        schedule.on_epoch_end(2, {"loss": 1.0})
    schedule.interval, schedule.monitor = "step", "loss"
    schedule.on_train_batch_end(0, {"loss": 2.0})
    schedule.on_epoch_end(3, {})
    assert schedule.last_epoch == 3


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
    warm_up, rest = (schedules.LinearLR(each_epoch.optimizer), schedules.StepLR(each_epoch.optimizer, 1))
    assert schedules.SequentialLR(each_epoch.optimizer, [warm_up, rest], [5]).interval == "epoch"
    warm_up.interval = "step"
    assert schedules.SequentialLR(each_epoch.optimizer, [warm_up, rest], [5]).interval == "step"
    each_epoch.interval = "step"
    each_epoch.on_train_batch_end(0, {})
    each_epoch.on_epoch_end(0, {})
    assert each_epoch.last_epoch == 2


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda o: schedules.StepLR(o, 0), ValueError, "a step_size of at least 1, got 0"),
        (lambda o: schedules.StepLR(3, 1), TypeError, "expected an Optimizer, got int"),
        (lambda o: schedules.LinearLR(o, 0.0), ValueError, "0 < start_factor <= 1, got 0.0"),
        (lambda o: schedules.LinearLR(o, 0.5, 1.5), ValueError, "0 <= end_factor <= 1, got 1.5"),
        (
            lambda o: schedules.LinearLR(o, 0.5, total_iters=-1),
            ValueError,
            "total_iters of at least 0, got -1",
        ),
        (lambda o: schedules.SequentialLR(o, [], []), ValueError, "at least one schedule"),
        (lambda o: schedules.SequentialLR(o, [3], []), TypeError, "got int at 0"),
        (
            lambda o: schedules.SequentialLR(o, [schedules.ReduceLROnPlateau(o)], []),
            TypeError,
            "no measured value, got ReduceLROnPlateau at 0",
        ),
        (
            lambda o: schedules.SequentialLR(o, [schedules.StepLR(optimizer(), 1)], []),
            ValueError,
            "the schedule at 0 is of another optimizer",
        ),
        (
            lambda o: schedules.SequentialLR(o, [schedules.StepLR(o, 1)], [3]),
            ValueError,
            "expected 0 milestones for 1 schedules, got 1",
        ),
        (
            lambda o: schedules.SequentialLR(o, [schedules.StepLR(o, 1) for _ in range(3)], [3, 2]),
            ValueError,
            r"rising milestones, got \[3, 2\]",
        ),
        (lambda o: schedules.ReduceLROnPlateau(3), TypeError, "expected an Optimizer, got int"),
        (lambda o: schedules.ReduceLROnPlateau(o, factor=1.0), ValueError, "a factor below 1, got 1.0"),
        (lambda o: schedules.ReduceLROnPlateau(o, "auto"), ValueError, "'min' or 'max', got 'auto'"),
        (lambda o: schedules.ReduceLROnPlateau(o, threshold_mode="x"), ValueError, "'rel' or 'abs', got 'x'"),
        (lambda o: schedules.ReduceLROnPlateau(o, min_lr=[0]), ValueError, "2 values of min_lr, got 1"),
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
