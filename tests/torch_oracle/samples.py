"""PyTorch's own samples (op_db) for the operations that cnnmath has, and how one of them is run.

The rule for error inputs: where PyTorch raises RuntimeError, IndexError, TypeError or ValueError, cnnmath
raises ValueError or TypeError (or a subclass of these) with a message that names the operation; nothing
else counts. Three of cat's are about `out=`, which cnnmath does not have: they pass because Python refuses
the argument.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
import torch

import cnnmath

from .convert import Tolerance, describe, difference, leaves, map_tree, quiet, to_numpy

with quiet():
    from torch.testing._internal.common_methods_invocations import op_db

# The names are op_db's, without "nn.functional."; they are cnnmath.functional's names as well.
SCOPE = {
    *(
        "conv2d",
        "conv_transpose2d",
        "max_pool2d",
        "avg_pool2d",
        "adaptive_avg_pool2d",
        "adaptive_max_pool2d",
        "linear",
        "batch_norm",
    ),
    *(
        "relu",
        "leaky_relu",
        "sigmoid",
        "tanh",
        "softmax",
        "log_softmax",
        "dropout",
        "add",
        "sub",
        "mul",
        "cat",
    ),
    *("flatten", "reshape", "pad", "mean", "sum", "cross_entropy", "mse_loss"),
}
# op_db's entries with one of these last names that are another operation.
OTHER_OPERATIONS = {
    "masked.sum": "reduces under a mask argument; cnnmath has no masked operations",
    "masked.mean": "reduces under a mask argument; cnnmath has no masked operations",
    "masked.softmax": "normalises under a mask argument; cnnmath has no masked operations",
    "masked.log_softmax": "normalises under a mask argument; cnnmath has no masked operations",
}
OPS = {
    f"{op.name.removeprefix('nn.functional.')}{'-' if op.variant_test_name else ''}{op.variant_test_name}": op
    for op in op_db
    if op.name.split(".")[-1] in SCOPE and op.name not in OTHER_OPERATIONS
}

# PyTorch converts operands of different dtypes to a common one; cnnmath never casts silently and raises
# TypeError: the samples (of reference_inputs alone) that mix dtypes are run and must raise. This is how many
# there are, so that no other sample hides among them.
MIXED_DTYPES = {"cat": 1}

FORWARD = {torch.float64: Tolerance(1e-9, 1e-9), torch.float32: Tolerance(2e-4, 2e-5)}
GRADIENT = {torch.float64: Tolerance(1e-8, 1e-8), torch.float32: Tolerance(2e-4, 2e-5)}

tally: Counter[tuple[str, str]] = Counter()
"""How many samples of which kind each operation has run: printed at the end of the session."""


def name_of(op: Any) -> str:
    return str(op.name.split(".")[-1])


def generate(op: Any, dtype: torch.dtype, seed: int, kind: str = "sample_inputs") -> list[Any]:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (PyTorch's generators draw from it)
    with quiet():
        return list(getattr(op, kind)("cpu", dtype, requires_grad=True))


def problems_of_mixed_dtypes(op: Any, sample: Any) -> list[str]:
    args, kwargs = map_tree(to_numpy, ((sample.input, *sample.args), sample.kwargs))
    try:
        getattr(cnnmath.functional, name_of(op))(*args, **kwargs)
    except TypeError:
        return []
    return ["operands of different dtypes must raise TypeError"]


def mixes_dtypes(sample: Any) -> bool:
    """Whether tensors of several floating dtypes are operands of one call."""
    tensors = [t for t in leaves((sample.input, sample.args, sample.kwargs)) if isinstance(t, torch.Tensor)]
    return len({t.dtype for t in tensors if t.dtype.is_floating_point}) > 1


def text_of(op: Any, sample: Any) -> str:
    parts = [describe(sample.input), *map(describe, sample.args)]
    if sample.kwargs:
        parts.append(describe(sample.kwargs))
    return f"{name_of(op)}({', '.join(parts)})"


def problems_of_sample(op: Any, sample: Any, dtype: torch.dtype, rng: np.random.Generator) -> list[str]:
    """Run one sample through both libraries, forward and backward; the list of what differs."""
    ours = getattr(cnnmath.functional, name_of(op))
    tree = ((sample.input, *sample.args), sample.kwargs)
    # PyTorch runs on copies, cnnmath on the sample's own memory with its strides: a write to an operand is
    # seen below.
    theirs = map_tree(_copy, tree)
    arrays = map_tree(to_numpy, tree)
    before = map_tree(lambda a: a.copy() if isinstance(a, np.ndarray) else a, arrays)

    with quiet():
        expected = op.op(*theirs[0], **theirs[1])
    actual = ours(*arrays[0], **arrays[1])
    found: list[str] = []
    if isinstance(expected, tuple) != isinstance(actual, tuple):
        return [f"expected {type(expected).__name__}, got {type(actual).__name__}"]
    for part, (e, a) in enumerate(zip(_as_tuple(expected), _as_tuple(actual), strict=True)):
        if (problem := difference(a, to_numpy(e), FORWARD[dtype])) is not None:
            found.append(f"output {part}: {problem}")

    # Operands are as they were, but for what PyTorch itself writes: the running statistics of batch_norm.
    for position, (a, t) in enumerate(zip(leaves(arrays), leaves(theirs), strict=True)):
        if isinstance(a, np.ndarray) and (problem := difference(a, to_numpy(t), FORWARD[dtype])) is not None:
            found.append(f"operand {position} after the call: {problem}")
    for a, b in zip(leaves(arrays), leaves(before), strict=True):
        if isinstance(a, np.ndarray):
            a[...] = b

    inputs = [t for t in leaves(theirs) if isinstance(t, torch.Tensor) and t.requires_grad]
    if inputs:
        found += _problems_of_gradients(ours, arrays, theirs, _as_tuple(expected)[0], inputs, dtype, rng)
    return found


def _problems_of_gradients(
    ours: Any,
    arrays: Any,
    theirs: Any,
    expected: torch.Tensor,
    inputs: list[torch.Tensor],
    dtype: torch.dtype,
    rng: np.random.Generator,
) -> list[str]:
    flags = [isinstance(t, torch.Tensor) and t.requires_grad for t in leaves(theirs)]

    def fn(*symbols: Any) -> Any:
        """The call as a function of the operands that PyTorch differentiates; the others are constants."""
        rest = iter(symbols)
        position = iter(flags)
        args, kwargs = map_tree(lambda a: next(rest) if next(position) else a, arrays)
        return _as_tuple(ours(*args, **kwargs))[0]

    out, pullback = cnnmath.vjp(fn, *[a for a, flag in zip(leaves(arrays), flags, strict=True) if flag])
    found = []
    if (problem := difference(out, to_numpy(expected), FORWARD[dtype])) is not None:
        found.append(f"output of vjp: {problem}")
    cotangent = np.asarray(rng.standard_normal(tuple(expected.shape)), dtype=to_numpy(expected.dtype))
    with quiet():
        wanted = torch.autograd.grad(expected, inputs, torch.from_numpy(cotangent), allow_unused=True)
    gradients = pullback(cotangent)
    if not isinstance(gradients, tuple) or len(gradients) != len(inputs):
        return [*found, f"expected a tuple of {len(inputs)} gradients, got {gradients!r}"]
    for i, (tensor, e, a) in enumerate(zip(inputs, wanted, gradients, strict=True)):
        reference = to_numpy(torch.zeros_like(tensor) if e is None else e)
        if (problem := difference(a, reference, GRADIENT[dtype])) is not None:
            found.append(f"gradient {i}: {problem}")
    return found


def problems_of_dropout(sample: Any, rng: np.random.Generator) -> list[str]:
    """Dropout draws its own mask: values are 0 or x/(1-p), the gradient has the mask of the forward pass."""
    x = to_numpy(sample.input)
    p, training = sample.kwargs.get("p", 0.5), sample.kwargs.get("training", True)
    out, pullback = cnnmath.vjp(lambda x: cnnmath.functional.dropout(x, **sample.kwargs), x)
    cotangent = np.asarray(rng.uniform(1, 2, x.shape), dtype=x.dtype)
    (gradient,) = pullback(cotangent)
    exact = Tolerance(4 * np.finfo(x.dtype).eps, 0.0)
    scale = x.dtype.type(1.0 if not training or p == 0 else 0.0 if p == 1 else 1 / (1 - p))
    kept = gradient != 0 if training and p > 0 else np.full(x.shape, True)
    found = []
    for what, actual, value in (("output", out, x), ("gradient", gradient, cotangent)):
        expected = np.where(kept, value * scale, value.dtype.type(0))
        if (problem := difference(actual, expected, exact)) is not None:
            found.append(f"{what}: {problem}")
    eager = cnnmath.functional.dropout(x, **sample.kwargs)
    if eager.shape != x.shape or eager.dtype != x.dtype:
        found.append(f"eager call: got {eager.dtype}{eager.shape}")
    return found


def problem_of_error_input(op: Any, error: Any) -> str | None:
    """What is wrong with how ours takes a call that PyTorch refuses, or None."""
    sample = error.sample_input
    args, kwargs = map_tree(to_numpy, ((sample.input, *sample.args), sample.kwargs))
    name = name_of(op)
    try:
        getattr(cnnmath.functional, name)(*args, **kwargs)
    except (ValueError, TypeError) as e:
        return None if name in str(e) else f"the message does not name the operation: {e}"
    except Exception as e:
        return f"raised {type(e).__name__} ({e}); ValueError or TypeError expected"
    return f"did not raise (PyTorch: {error.error_regex})"


def _copy(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    return value


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
