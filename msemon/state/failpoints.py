"""A hook for tests: `MSEMON_FAILPOINT=name` kills the process at that point, `name:3` the third time it is reached.

SIGKILL leaves no time for anything, like a crash of the machine as far as this process can tell. In normal use the
variable is not set, and nothing happens.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

VARIABLE = "MSEMON_FAILPOINT"

BEFORE_CHUNKS = "before_chunks"
AMID_CHUNKS = "amid_chunks"
AFTER_CHUNKS = "after_chunks"
AFTER_MANIFEST = "after_manifest"
BEFORE_COMMIT = "before_commit"
AFTER_COMMIT = "after_commit"

_reached: Counter[str] = Counter()


def reach(point: str) -> None:
    """Die here, if the environment says so."""
    wanted, _, times = os.environ.get(VARIABLE, "").partition(":")
    if wanted != point:
        return
    _reached[point] += 1
    if _reached[point] == int(times or 1):
        os.kill(os.getpid(), signal.SIGKILL)
