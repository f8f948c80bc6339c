"""What librdkafka logs, heard no more often than it says something new.

It tries a broker that is down some twenty times a second, over several connections, and logs each attempt as an error.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable

INTERVAL_S = 30.0
"""How long after a line others that say the same are only counted."""

_MOST = 256  # different lines that are remembered

_THREAD = re.compile(r"^\[thrd:[^\]]*\]: ")
_SINCE = re.compile(r"\s*\((?:after \d+ms|\d+ identical).*$", re.DOTALL)


class Bundled(logging.Filter):
    """One line a connection, reason and interval, as a warning, with the number of those that were left out since."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock_s = clock_s
        self._said: dict[str, tuple[float, int]] = {}  # when, and how often not since

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is to be heard; what is changes its text to its reason alone."""
        if not isinstance(record.args, tuple) or len(record.args) != 3 or record.args[0] != "FAIL":
            return True
        text = plain(_THREAD.sub("", str(record.args[2])))
        now_s = self._clock_s()
        at_s, left_out = self._said.get(text, (-INTERVAL_S, 0))
        if now_s - at_s < INTERVAL_S:
            self._said[text] = at_s, left_out + 1
            return False
        if len(self._said) >= _MOST:
            self._said = {each: when for each, when in self._said.items() if now_s - when[0] < INTERVAL_S}
        self._said[text] = now_s, 0
        record.msg, record.args = text, ()
        if record.levelno > logging.WARNING:  # it tries again by itself
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        if left_out:
            record.left_out = left_out
        return True


def plain(text: str) -> str:
    """What went wrong, without how long that took and how often: what is the same reads the same."""
    return _SINCE.sub("", text)


def logger() -> logging.Logger:
    """What librdkafka's clients are to log with."""
    found = logging.getLogger("kafka.librdkafka")
    if not found.filters:
        found.addFilter(Bundled())
    return found
