"""The values of a module's variables, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..graph.variable import Variable


class LoadedKeys(NamedTuple):
    """What `load_state_dict(strict=False)` found: names that the state lacks, and names that the model lacks."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def load_into(
    what: str, variables: Sequence[tuple[str, Variable, bool]], state: Mapping[str, Any], strict: bool
) -> LoadedKeys:
    """`Module.load_state_dict`, of variables given as (name, variable, whether a state may lack it)."""
    if not isinstance(state, Mapping):
        raise TypeError(
            f"load_state_dict: expected a mapping from names to arrays, got {type(state).__name__}"
        )
    wanted = {name: (variable, optional) for name, variable, optional in variables}
    missing = [name for name, (_, optional) in wanted.items() if name not in state and not optional]
    unexpected = [name for name in state if name not in wanted]
    problems, casts = [], []
    if strict and missing:
        problems.append("missing: " + ", ".join(missing))
    if strict and unexpected:
        problems.append("unexpected: " + ", ".join(map(str, unexpected)))
    found: list[tuple[Variable, np.ndarray]] = []
    for name, (variable, _) in wanted.items():
        if name not in state:
            continue
        array = np.asarray(state[name])
        if array.shape != variable.shape:
            problems.append(f"{name}: expected shape {variable.shape}, got {array.shape}")
        elif not np.can_cast(array.dtype, variable.dtype, "safe"):
            casts.append(f"{name}: expected {variable.dtype}, got {array.dtype}; cast it with .astype")
        else:
            found.append((variable, array))
    if problems or casts:
        error = ValueError if problems else TypeError
        raise error("\n  ".join([f"{what}:", *problems, *casts]))
    for variable, array in found:
        variable[...] = array
    return LoadedKeys(missing, unexpected)
