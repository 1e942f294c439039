"""A process that holds one session at a time and times it on demand. Started by race.py; speaks JSON lines.

{"load": "module:function", "arguments": {...}} makes a session in the place of the former one; the reply has its
answers, its work and the library's build. {"steps": n} runs n steps; the reply has the median seconds of one (a step
that the system interrupts must not count). {"call": "module:function", "arguments": {...}} replies with what that
function gives. A reply {"unavailable": reason} says that the library cannot do it here.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import statistics
import sys
import time
from importlib import import_module
from typing import Any

from .session import Session, Unavailable


def main() -> None:
    replies = os.fdopen(os.dup(1), "w")  # what libraries print must not mix with the answers
    os.dup2(2, 1)
    session: Session | None = None
    for line in sys.stdin:
        command = json.loads(line)
        reply: dict[str, Any]
        try:
            if "load" in command:
                session = None
                gc.collect()
                session = _function(command["load"])(**command["arguments"])
                reply = {"answers": session.answers, "work": session.work, "build": session.build}
                session.step()
            elif "call" in command:
                reply = _function(command["call"])(**command["arguments"])
            else:
                assert session is not None
                reply = _timed(session, command["steps"])
        except Unavailable as error:
            reply = {"unavailable": str(error)}
        print(json.dumps(reply), file=replies, flush=True)


def _function(name: str) -> Any:
    module, function = name.split(":")
    return getattr(import_module(module), function)


def _timed(session: Session, steps: int) -> dict[str, float]:
    clock, step = time.perf_counter, session.step
    times = [clock()]
    for _ in range(steps):
        step()
        times.append(clock())
    seconds = [after - before for before, after in itertools.pairwise(times)]
    return {"seconds": statistics.median(seconds)}
