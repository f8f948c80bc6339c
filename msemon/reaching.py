"""Reaching the cluster without waiting for it on the loop's thread, and noticing that only a new client would.

A Kafka client asks its bootstrap servers once. Later it knows the brokers by the addresses they gave, and where all of
those have changed it looks for them at the old ones for ever. A new client costs a rebalance, though, and after a mere
outage the old one is back by itself; so one takes over only where the cluster answers it and still not the old one.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

import structlog

from msemon.sources.apart import apart
from msemon.sources.base import Source, UnequalPartitions

log = structlog.get_logger(__name__)

SILENT_SESSIONS = 2
"""Session timeouts without a word from the group before a new client is tried: its lease is over after one."""

REBALANCE_S = 300.0
"""How much longer a rebalance may last: the group waits so long for members to come back, and is silent meanwhile."""

SETTLE_S = 10.0
"""How long after a new client was answered the old one may still come back: longer than it waits between attempts."""

RETRY_S = (1.0, 30.0)  # first and longest wait between two tries
CLOSE_S = 2.0


class Renewal:
    """Says when a new client should take over. Called once a turn; the clock is an argument, in seconds."""

    def __init__(self, make_source: Callable[[], Source], settle_s: float = SETTLE_S) -> None:
        self._make_source = make_source
        self._settle_s = settle_s
        self._trying: Future[object] | None = None
        self._answered_s: float | None = None
        self._try_at_s = 0.0
        self._wait_s = RETRY_S[0]

    def due(self, now_s: float, silent_s: float, session_s: float, *, rebalancing: bool) -> bool:
        """Whether the old client, silent for so long, should be given up."""
        if silent_s < SILENT_SESSIONS * session_s + (REBALANCE_S if rebalancing else 0.0):
            self._trying = self._answered_s = None
            self._try_at_s, self._wait_s = 0.0, RETRY_S[0]
            return False
        if self._answered_s is not None:
            return now_s - self._answered_s >= self._settle_s
        if self._trying is not None:
            self._look(now_s)
        elif now_s >= self._try_at_s:
            self._trying = apart(self._try, "renewal")
        return False

    def _look(self, now_s: float) -> None:
        if self._trying is None or not self._trying.done():
            return
        problem, self._trying = self._trying.exception(), None
        if problem is None or isinstance(problem, UnequalPartitions):
            log.warning("the cluster answers a new client, but not the old one", seconds_left=self._settle_s)
            self._answered_s = now_s
            return
        log.warning("no broker answers a new client either", error=str(problem), retry_seconds=self._wait_s)
        self._try_at_s = now_s + self._wait_s
        self._wait_s = min(2 * self._wait_s, RETRY_S[1])

    def _try(self) -> None:
        source = self._make_source()
        try:
            source.connect()
        finally:
            source.close(CLOSE_S)
