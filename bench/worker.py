"""A process that holds one session and times it on demand. Started by race.py; speaks JSON lines.

First it says {"answers": [...], "work": ..., "build": ...}. Then for each line "n" it reads, it runs n steps
and says {"seconds": of one step}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module


def main(factory: str, arguments: str) -> None:
    replies = os.fdopen(os.dup(1), "w")  # what libraries print must not mix with the answers
    os.dup2(2, 1)

    def say(reply: dict[str, object]) -> None:
        print(json.dumps(reply), file=replies, flush=True)

    module, name = factory.split(":")
    session = getattr(import_module(module), name)(**json.loads(arguments))
    say({"answers": session.answers, "work": session.work, "build": session.build})
    session.step()
    for line in sys.stdin:
        count = int(line)
        start = time.perf_counter()
        for _ in range(count):
            session.step()
        say({"seconds": (time.perf_counter() - start) / count})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
