"""Every operation against PyTorch on PyTorch's own samples: values, gradients and refused calls."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from . import samples  # noqa: E402

DTYPES = [pytest.param(torch.float64, id="float64"), pytest.param(torch.float32, id="float32")]
WITH_ERRORS = [key for key, op in samples.OPS.items() if op.error_inputs_func is not None]
# These have a longer list, with strides of all kinds, extremes and Python scalars.
WITH_REFERENCE_INPUTS = ["add", "sub", "mul", "relu", "sigmoid", "tanh", "reshape", "flatten", "cat"]


def run(key: str, dtype: Any, seed: int, rng: np.random.Generator, kind: str) -> None:
    op = samples.OPS[key]
    short = str(dtype).removeprefix("torch.")
    label = f"{'samples' if kind == 'sample_inputs' else 'reference inputs'} {short}"
    failures, mixed = [], 0
    for index, sample in enumerate(samples.generate(op, dtype, seed, kind)):
        samples.tally[key, label] += 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # ours never warns
                if samples.mixes_dtypes(sample):
                    mixed += 1
                    problems = samples.problems_of_mixed_dtypes(op, sample)
                elif key == "dropout":
                    problems = samples.problems_of_dropout(sample, rng)
                else:
                    problems = samples.problems_of_sample(op, sample, dtype, rng)
        except Exception as e:
            problems = [f"raised {type(e).__name__}: {e}"]
        if problems:
            samples.tally[key, f"{label} failed"] += 1
            failures.append(f"sample {index}: {samples.text_of(op, sample)}\n    " + "\n    ".join(problems))
    assert mixed == (samples.MIXED_DTYPES.get(key, 0) if kind == "reference_inputs" else 0)
    assert not failures, f"{len(failures)} samples of {key} differ\n" + "\n".join(failures[:20])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("key", samples.OPS)
def test_samples(key: str, dtype: Any, seed: int, rng: np.random.Generator) -> None:
    run(key, dtype, seed, rng, "sample_inputs")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("key", WITH_REFERENCE_INPUTS)
def test_reference_inputs(key: str, dtype: Any, seed: int, rng: np.random.Generator) -> None:
    run(key, dtype, seed, rng, "reference_inputs")


@pytest.mark.parametrize("key", WITH_ERRORS)
def test_error_inputs(key: str) -> None:
    op = samples.OPS[key]
    failures = []
    for index, error in enumerate(op.error_inputs("cpu")):
        samples.tally[key, "error inputs"] += 1
        if (problem := samples.problem_of_error_input(op, error)) is not None:
            samples.tally[key, "error inputs failed"] += 1
            failures.append(f"error input {index}: {samples.text_of(op, error.sample_input)}\n    {problem}")
    assert not failures, f"{len(failures)} calls of {key}\n" + "\n".join(failures)


def test_every_operation_of_the_scope_is_covered() -> None:
    """An entry of op_db that is renamed or dropped is noticed, and one that is added under a known name."""
    assert {samples.name_of(op) for op in samples.OPS.values()} == samples.SCOPE
    others = {op.name for op in samples.op_db if op.name.split(".")[-1] in samples.SCOPE}
    assert others - {op.name for op in samples.OPS.values()} == set(samples.OTHER_OPERATIONS)


def test_cat_refuses_a_bare_array() -> None:
    """PyTorch's sample for this has an `out=` as well, which hides it."""
    with pytest.raises(TypeError, match="cat"):
        samples.cnnmath.functional.cat(np.zeros((2, 3)))


def test_a_wrong_result_is_noticed(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    """The oracle itself: an operation that is slightly wrong, in value or in gradient, does not pass."""
    op = samples.OPS["tanh"]
    (sample,) = samples.generate(op, torch.float64, 0)
    functional = samples.cnnmath.functional
    right = functional.tanh
    monkeypatch.setattr(functional, "tanh", lambda x: functional.mul(right(x), 1 + 1e-7))
    problems = samples.problems_of_sample(op, sample, torch.float64, rng)
    assert any(p.startswith("output") for p in problems)
    assert any(p.startswith("gradient") for p in problems)
