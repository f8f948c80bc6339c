"""Ends a process whose loop stands still, so that whatever started it starts it anew.

Nothing that hangs can be trusted to notice it itself: not the Kafka client, which may spin for ever after an error, not
a call that waits for a thread that has died. A process that goes on serving old numbers is worse than one that is
restarted: its state is a checkpoint away.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)

LOOK_S = 0.5
EXIT_CODE = 1

_FROZEN = 5
"""Looks that came so many times too late: the whole process stood still (SIGSTOP, a machine asleep), not its loop."""

_HARD = 2
"""Times the limit after which the interpreter's own timer ends the process: this thread too may be kept from running.

It can't tell a process that hangs from one that was frozen so long; the latter ends when it thaws, which is safe."""


class Watchdog:
    """A thread beside the loop. `stalled_s`: the longest time without a turn; `look_s`: between two looks.

    `turned` gives when the loop last turned, on `time.monotonic`'s clock; `ailing` a reason to end at once, or None;
    `alive` hears of every look that found all well. They are called on this thread and must not wait for anything.
    """

    def __init__(
        self,
        turned: Callable[[], float],
        ailing: Callable[[], str | None],
        *,
        stalled_s: float,
        look_s: float = LOOK_S,
        alive: Callable[[], None] = lambda: None,
        end: Callable[[int], None] = os._exit,
    ) -> None:
        self._turned = turned
        self._ailing = ailing
        self._stalled_s = stalled_s
        self._look_s = look_s
        self._alive = alive
        self._end = end
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """The loop has ended as it should."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(10 * self._look_s)
        faulthandler.cancel_dump_traceback_later()

    def _watch(self) -> None:
        since = looked = time.monotonic()
        self._arm()
        while not self._over.wait(self._look_s):
            self._arm()
            now = time.monotonic()
            if now - looked > _FROZEN * self._look_s:
                since = now  # the loop could not turn either: it gets its time anew
            looked = now
            still_s = now - max(self._turned(), since)
            reason = self._ailing()
            if reason is None and still_s > self._stalled_s:
                reason = f"the loop has not turned for {still_s:.1f} seconds"
            if reason is not None:
                self._finish(reason)
                return
            self._alive()

    def _arm(self) -> None:
        """A timer of the interpreter's own, for code that never lets go of the interpreter's lock."""
        with contextlib.suppress(RuntimeError, OSError, ValueError, AttributeError):  # no thread, no stderr
            faulthandler.dump_traceback_later(_HARD * self._stalled_s, exit=True, file=sys.__stderr__ or sys.stderr)

    def _finish(self, reason: str) -> None:
        """Whoever holds the log's lock may be what hangs, so the log line has a thread of its own and a second."""
        telling = threading.Thread(target=log.critical, args=("ending the process",), kwargs={"reason": reason})
        telling.daemon = True
        with contextlib.suppress(RuntimeError):
            telling.start()
            telling.join(1.0)
        with contextlib.suppress(Exception):
            # Without going through Python's own buffers and locks.
            faulthandler.dump_traceback(sys.__stderr__ or sys.stderr, all_threads=True)
        self._end(EXIT_CODE)
