"""The machine and the build: threads, instruction sets."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _core


def set_num_threads(n: int) -> None:
    """Sets the number of threads that all later runs use; a number above that of the CPUs is honoured.

    Results do not depend on it. Raises TypeError for what is no int, ValueError for n < 1.
    """
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise TypeError(f"set_num_threads: expected an int, got {type(n).__name__}")
    if not 1 <= n <= 1024:
        raise ValueError(f"set_num_threads: expected 1 to 1024 threads, got {n}")
    _core.set_num_threads(int(n))


def build_config() -> dict[str, Any]:
    """What was built and what runs: version, compiler, instruction sets (built, available, in use), threads."""
    return {
        "version": _core.version,
        "compiler": _core.compiler,
        "isas_built": _core.isas_built(),
        "isas_available": _core.isas_available(),
        "isa": _core.isa(),
        "num_cpus": _core.num_cpus(),
        "num_threads": _core.get_num_threads(),
    }
