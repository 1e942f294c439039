"""Loads the C++ core. Imported before everything else of the package.

A waiting thread of GCC's OpenMP runtime spins some 300,000 times, 5 to 15 ms, before it sleeps. On a machine that is
busy with other work it takes that time from those that it waits for, and a small step becomes many times slower than
on one thread. The runtime reads how long to spin from the environment, once, when it is loaded. What was asked for
there stays as it is; and nothing stays behind for the processes that this one starts.
"""

from __future__ import annotations

import os

SPINS = "8000"  # 100 to 300 us: longer than Python takes from one step to the next

if "GOMP_SPINCOUNT" in os.environ or "OMP_WAIT_POLICY" in os.environ:
    from . import _core as _core
else:
    os.environ["GOMP_SPINCOUNT"] = SPINS
    try:
        from . import _core as _core
    finally:
        del os.environ["GOMP_SPINCOUNT"]
