"""Optimizers against their equations in NumPy; groups, names of gradients, state, clipping."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest

import cnnmath
from cnnmath import nn, optim
from cnnmath import reference as ref

HWIO = (2, 3, 1, 0)


class Model(nn.Module):
    """Parameters of several ranks, one in the order of convolution weights."""

    def __init__(self, rng: np.random.Generator, dtype: Any = np.float64) -> None:
        super().__init__()
        self.kernel = nn.Parameter(rng.standard_normal((5, 4, 3, 2)).astype(dtype), order=HWIO)
        self.weight = nn.Parameter(rng.standard_normal((300, 77)).astype(dtype))
        self.inner = nn.Module()
        self.inner.bias = nn.Parameter(rng.standard_normal(7).astype(dtype))
        self.inner.scale = nn.Parameter(rng.standard_normal(()).astype(dtype))

    def forward(self, x: Any) -> Any:
        F = cnnmath.functional
        return sum((F.sum(F.mul(p, p) * x) for p in self.parameters()), start=0.0)


def gradients(model: nn.Module, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {n: rng.standard_normal(p.shape).astype(p.dtype) for n, p in model.named_parameters()}


SGD = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "dampening": 0.3},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    {"weight_decay": 0.1},
]
ADAM = [{}, {"betas": (0.7, 0.9), "eps": 1e-3}, {"weight_decay": 0.1}, {"amsgrad": True, "weight_decay": 0.1}]
CASES = [("SGD", o) for o in SGD] + [(name, o) for name in ("Adam", "AdamW") for o in ADAM]


def expected(name: str, options: dict[str, Any], w: np.ndarray, grads: list[np.ndarray]) -> np.ndarray:
    """The trajectory by the reference equations."""
    options = dict(options)
    velocity = None
    m, v = np.zeros_like(w), np.zeros_like(w)
    highest = np.zeros_like(w) if options.pop("amsgrad", False) else None
    for step, g in enumerate(grads, start=1):
        if name == "SGD":
            w, velocity = ref.updates.sgd(w, g, velocity, lr=0.05, **options)
        else:
            fn = ref.updates.adam if name == "Adam" else ref.updates.adamw
            w, m, v, highest = fn(w, g, m, v, step, highest, lr=0.05, **options)
    return w


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda v: v if isinstance(v, str) else "-".join(v))
def test_equations(name: str, options: dict[str, Any], dtype: Any, rng: np.random.Generator) -> None:
    model = Model(rng, dtype)
    before = model.state_dict()
    optimizer = getattr(optim, name)(model.parameters(), lr=0.05, **options)
    steps = [gradients(model, rng) for _ in range(6)]
    for grads in steps:
        optimizer.step(grads)
    tolerance = 1e-12 if dtype is np.float64 else 3e-6
    for key, w in before.items():
        want = expected(name, options, w.astype(np.float64), [g[key].astype(np.float64) for g in steps])
        np.testing.assert_allclose(model.state_dict()[key], want, rtol=tolerance, atol=tolerance, err_msg=key)


@pytest.mark.parametrize(("name", "options"), [("SGD", {"momentum": 0.9}), ("Adam", {})])
def test_threads_do_not_matter(
    name: str, options: dict[str, Any], rng: np.random.Generator, threads: Any
) -> None:
    model = Model(rng, np.float32)
    steps = [gradients(model, rng) for _ in range(3)]
    results = []
    for n in (1, 2, 3, 5):
        threads(n)
        one = copy.deepcopy(model)
        optimizer = getattr(optim, name)(one, **options)
        for grads in steps:
            optimizer.step(grads)
        results.append({k: v.tobytes() for k, v in one.state_dict().items()})
    assert all(r == results[0] for r in results)


def changed(before: dict[str, np.ndarray], model: nn.Module) -> set[str]:
    return {k for k, v in model.state_dict().items() if not np.array_equal(v, before[k])}


EVERYTHING = {"kernel", "weight", "inner.bias", "inner.scale"}


@pytest.mark.parametrize(
    "params",
    [
        lambda m: m,
        lambda m: m.parameters(),
        lambda m: list(m.parameters()),
        lambda m: m.named_parameters(),
        lambda m: [{"params": m.inner.parameters()}, {"params": [m.weight, m.kernel], "lr": 0.5}],
        lambda m: [{"params": m.inner}, {"params": m.weight}, {"params": m.kernel}],
    ],
)
def test_what_to_optimize(params: Any, rng: np.random.Generator) -> None:
    """Whatever the optimizer was made of, it finds the gradients, those of value_and_grad and those in a plain dict."""
    model = Model(rng)
    optimizer = optim.SGD(params(model), lr=0.1)
    _, grads = cnnmath.value_and_grad(model, model)(np.array(1.0))
    assert set(grads) == EVERYTHING
    before = model.state_dict()
    optimizer.step(grads)
    assert changed(before, model) == EVERYTHING
    after = model.state_dict()
    model.load_state_dict(before)
    optimizer.step({name: 1.0 * g for name, g in reversed(grads.items())})
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, after[name])


def test_parameters_without_gradient_rest(rng: np.random.Generator) -> None:
    model = Model(rng)
    optimizer = optim.Adam(model)
    before = model.state_dict()
    grads = gradients(model, rng)
    optimizer.step({"weight": grads["weight"], "kernel": None})
    assert changed(before, model) == {"weight"}
    optimizer.step({model.kernel: grads["kernel"]})  # keys may be parameters
    assert changed(before, model) == {"weight", "kernel"}
    # Each parameter counts its own steps: the first of `kernel` was a first step, the bias of moments corrected.
    want = expected("Adam", {}, before["kernel"], [grads["kernel"]])  # at lr 0.05
    moved = model.kernel.numpy() - before["kernel"]
    np.testing.assert_allclose(moved, (want - before["kernel"]) / 50, rtol=1e-9)
    state = optimizer.state_dict()["state"]
    assert state[0]["step"] == 1 and state[1]["step"] == 1 and 2 not in state


def test_part_of_a_model(rng: np.random.Generator) -> None:
    model = Model(rng)
    optimizer = optim.SGD(model.inner.parameters(), lr=1.0)
    _, grads = cnnmath.value_and_grad(model, model)(np.array(1.0))
    before = model.state_dict()
    optimizer.step(grads)
    assert changed(before, model) == {"inner.bias", "inner.scale"}


def test_frozen_and_thawed(rng: np.random.Generator) -> None:
    """Parameters that paused go on from the state that they had, as in the reference."""
    model = Model(rng)
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    steps = [gradients(model, rng) for _ in range(5)]
    before = model.state_dict()
    for i, grads in enumerate(steps):
        optimizer.step({n: g for n, g in grads.items() if n != "weight" or i not in (1, 2)})
    for key, w in before.items():
        seen = [g[key] for i, g in enumerate(steps) if key != "weight" or i not in (1, 2)]
        np.testing.assert_allclose(model.state_dict()[key], expected("Adam", {}, w, seen), rtol=1e-9)


def test_options_change_between_steps(rng: np.random.Generator) -> None:
    model = Model(rng)
    optimizer = optim.SGD(model, lr=0.05)
    before = model.weight.numpy()
    grads = gradients(model, rng)
    optimizer.step(grads)
    (group,) = optimizer.param_groups
    group["lr"] = 0.0
    optimizer.step(grads)
    np.testing.assert_allclose(model.weight.numpy(), before - 0.05 * grads["weight"], rtol=1e-12)
    group["lr"], group["momentum"] = 0.1, 0.5  # a new plan, with velocities
    optimizer.step(grads)
    optimizer.step(grads)
    want = before - 0.05 * grads["weight"] - 0.1 * grads["weight"] - 0.1 * 1.5 * grads["weight"]
    np.testing.assert_allclose(model.weight.numpy(), want, rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "options"), [("SGD", {"momentum": 0.9}), ("Adam", {"amsgrad": True}), ("AdamW", {})]
)
def test_state_resumes_bit_for_bit(name: str, options: dict[str, Any], rng: np.random.Generator) -> None:
    model = Model(rng, np.float32)
    optimizer = getattr(optim, name)(model, lr=0.03, **options)
    steps = [gradients(model, rng) for _ in range(6)]
    for grads in steps[:3]:
        optimizer.step(grads)
    other = copy.deepcopy(model)
    resumed = getattr(optim, name)(other, lr=9.0, **options)
    resumed.load_state_dict(pickle.loads(pickle.dumps(optimizer.state_dict())))
    assert resumed.param_groups[0]["lr"] == 0.03
    for grads in steps[3:]:
        optimizer.step(grads)
        resumed.step(grads)
    for key, array in model.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[key], array)
    assert str(optimizer.state_dict()) == str(resumed.state_dict())


def test_state_of_other_groups_is_refused(rng: np.random.Generator) -> None:
    model = Model(rng)
    state = optim.SGD(model).state_dict()
    split = optim.SGD([{"params": model.inner}, {"params": [model.kernel, model.weight]}])
    with pytest.raises(ValueError, match=r"expected groups of \[2, 2\] parameters, got \[4\]"):
        split.load_state_dict(state)


def test_state_follows_a_cast(rng: np.random.Generator) -> None:
    model = Model(rng, np.float32)
    optimizer = optim.SGD(model, momentum=0.9)
    optimizer.step(gradients(model, rng))
    model.double()
    optimizer.step(gradients(model, rng))
    assert optimizer.state_dict()["state"][0]["momentum_buffer"].dtype == np.float64


def test_copy_and_pickle(rng: np.random.Generator) -> None:
    model = Model(rng)
    optimizer = optim.Adam(model)
    optimizer.step(gradients(model, rng))
    pairs = [
        (model, optimizer),
        pickle.loads(pickle.dumps((model, optimizer))),
        copy.deepcopy((model, optimizer)),
    ]
    grads = gradients(model, rng)
    for _, o in pairs:
        o.step(grads)
    for other, _ in pairs[1:]:
        for key, array in model.state_dict().items():
            np.testing.assert_array_equal(other.state_dict()[key], array)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: optim.SGD(p, lr=-1.0), ValueError, "SGD: expected lr >= 0, got -1.0"),
        (lambda p: optim.SGD(p, lr="0.1"), TypeError, "SGD: expected lr to be a number, got '0.1'"),
        (lambda p: optim.Adam(p, lr=None), TypeError, "Adam: expected lr to be a number, got None"),
        (lambda p: optim.Adam(p, betas=0.9), ValueError, "expected two betas, .* got 0.9"),
        (lambda p: optim.SGD(p, momentum=-1.0), ValueError, "expected momentum >= 0"),
        (lambda p: optim.SGD(p, nesterov=True), ValueError, "nesterov needs momentum > 0 and dampening 0"),
        (
            lambda p: optim.Adam(p, betas=(1.0, 0.9)),
            ValueError,
            r"Adam: expected two betas, each 0 <= beta < 1",
        ),
        (lambda p: optim.AdamW(p, weight_decay=-1), ValueError, "AdamW: expected weight_decay >= 0"),
        (lambda p: optim.Adam(p, lr=math.nan), ValueError, "expected lr >= 0, got nan"),
        (lambda p: optim.SGD([]), ValueError, "at least one parameter"),
        (lambda p: optim.SGD([*p, p[0]]), ValueError, "more than once"),
        (lambda p: optim.SGD([{"params": p}, {"params": p[:1]}]), ValueError, "more than once"),
        (lambda p: optim.SGD(p[0]), TypeError, "a model, its parameters or a list of groups, got Parameter"),
        (lambda p: optim.SGD(3), TypeError, "got int"),
        (lambda p: optim.SGD([np.zeros(3)]), TypeError, "expected Parameters, got ndarray"),
        (lambda p: optim.SGD([nn.Buffer(np.arange(3))]), TypeError, "float32 or float64, got int64"),
    ],
)
def test_wrong_arguments(make: Any, error: Any, message: str, rng: np.random.Generator) -> None:
    with pytest.raises(error, match=message):
        make(list(Model(rng).parameters()))


def test_wrong_gradients(rng: np.random.Generator) -> None:
    model = Model(rng)
    optimizer = optim.SGD(model)
    before = model.state_dict()
    with pytest.raises(ValueError, match=r"a gradient of shape \(300, 77\) for weight, got \(77, 300\)"):
        optimizer.step({"weight": np.zeros((77, 300))})
    with pytest.raises(TypeError, match="an array of float64 for the gradient of weight, got float32"):
        optimizer.step({"weight": np.zeros((300, 77), np.float32)})
    with pytest.raises(TypeError, match="a dict of gradients by parameter name, got list"):
        optimizer.step([np.zeros(3)])  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="none of the gradients"):
        optimizer.step({"wieght": np.zeros((300, 77))})
    assert not changed(before, model)


def test_ambiguous_names(rng: np.random.Generator) -> None:
    one, two = Model(rng), Model(rng)
    optimizer = optim.SGD([*one.parameters(), *two.parameters()], lr=1.0)
    with pytest.raises(ValueError, match="two parameters are named 'weight'"):
        optimizer.step({"weight": np.ones((300, 77))})
    before = two.state_dict()
    optimizer.step(cnnmath.value_and_grad(two, two)(np.array(1.0))[1])  # these know whose they are
    assert changed(before, two) == EVERYTHING
    named = [*one.named_parameters("one"), *two.named_parameters("two")]
    before = one.state_dict()
    optim.SGD(named).step({"one.weight": np.ones((300, 77))})
    assert changed(before, one) == {"weight"}


def test_nan_spreads_and_nothing_hangs(rng: np.random.Generator) -> None:
    model = Model(rng)
    optimizer = optim.Adam(model)
    optimizer.step({n: np.full_like(g, np.nan) for n, g in gradients(model, rng).items()})
    assert all(np.isnan(a).all() for a in model.state_dict().values())


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, math.inf])
def test_clip_grad_norm(norm_type: float, rng: np.random.Generator) -> None:
    grads = gradients(Model(rng), rng)
    whole = np.concatenate([g.ravel() for g in grads.values()])
    before = {n: g.copy() for n, g in grads.items()}
    norm = optim.clip_grad_norm(grads, 0.5, norm_type)
    assert norm == pytest.approx(np.linalg.norm(whole, norm_type))
    for name, g in grads.items():
        np.testing.assert_allclose(g, before[name] * 0.5 / norm, rtol=1e-5)
    assert optim.clip_grad_norm(grads, 1.0, norm_type) == pytest.approx(
        0.5, rel=1e-5
    )  # within: left as it is


def test_clip_grad_norm_wrong() -> None:
    with pytest.raises(ValueError, match="max_norm >= 0, got -1"):
        optim.clip_grad_norm({}, -1)
    with pytest.raises(ValueError, match="norm of the gradients is nan"):
        optim.clip_grad_norm([np.array([np.nan])], 1.0, error_if_nonfinite=True)
    assert optim.clip_grad_norm({}, 1.0) == 0
