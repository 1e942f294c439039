"""Single kernels of the C++ core, called without the planner."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

DTYPES = {"f32": np.float32, "f64": np.float64}


class KernelCall:
    """A program of one kernel call on fixed arrays; None stands for an optional argument left out."""

    def __init__(self, name: str, dtype: str, fields: dict[str, int], arrays: list[Array | None]) -> None:
        from .. import _core

        kernel = _core.find_kernel(name, dtype)
        params = [fields[field] for field in kernel.fields.split()]
        workspace = len(arrays)
        args = [(-1, 0) if array is None else (slot, 0) for slot, array in enumerate(arrays)]
        self.program = _core.Program(workspace + 1)
        self.program.add(kernel, params, args, (workspace, 0))
        self.slots = [*arrays, _core.Arena(max(64, kernel.workspace(params)))]

    def __call__(self) -> None:
        self.program.run(self.slots)


def build() -> str:
    """The build that runs, in one word or two."""
    from ..machine import build_config

    config = build_config()
    return f"cnnmath {config['version']} {config['isa']}"


def aligned(shape: tuple[int, ...], dtype: str = "f32") -> Array:
    from .. import _core

    array: Array = _core.aligned_zeros(shape, np.dtype(DTYPES[dtype]))
    return array
