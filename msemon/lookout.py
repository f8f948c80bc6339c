"""Looking out for drift now and then, and saying what was seen; taking the baseline file up where it has changed."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Any

import structlog

from msemon.baseline_file import BadFile, BaselineFile
from msemon.core.alarms import Change
from msemon.core.process import Process
from msemon.settings import Settings

log = structlog.get_logger(__name__)

EVERY_S = 1.0
SHARE = 0.05  # of the time is spent at most on looking: with very many series it is done more rarely


class Lookout:
    """The loop's part of drift detection."""

    def __init__(self, settings: Settings, process: Process, lock: threading.Lock) -> None:
        """`lock` is around the process's state. Raises BadFile."""
        self._process = process
        self._lock = lock
        self._due = 0.0
        self._file = None
        if settings.baseline.file is not None:
            self._file = BaselineFile(settings.baseline.file, settings.drift.tolerated_ratio)
            process.give(self._file.changed() or {})

    def turn(self, wall_us: int) -> None:
        """Look, where it is time to."""
        begun = time.monotonic()
        if begun < self._due:
            return
        self._take_up()
        with self._lock:
            changes = self._process.look(wall_us)
        for change in changes:
            tell(change)
        now = time.monotonic()
        self._due = max(begun + EVERY_S, now + (now - begun) / SHARE)

    def _take_up(self) -> None:
        if self._file is None:
            return
        try:
            given = self._file.changed()
        except BadFile as error:
            log.error(  # noqa: TRY400 - the message says it all
                "the baseline file can't be used; the baselines stay as they were", error=str(error)
            )
            return
        if given is not None:
            with self._lock:
                anew = self._process.give(given)
            log.info("baseline file read", entries=len(given), detectors_begun_anew=len(anew))


def tell(change: Change) -> None:
    """The numbers that matter, as a line."""
    numbers: dict[str, Any] = {
        name: value for name, value in change.key._asdict().items() if value or name in ("model", "version")
    }
    numbers |= {
        "baseline_mse": change.baseline_mse,
        "baseline_upper_mse": change.baseline_upper_mse,
        "mse": change.mse,
        "mse_lower": change.mse_lower,
        "mse_upper": change.mse_upper,
        "pairs": change.pairs,
        "max_absolute_error": change.max_absolute_error,
        "evidence": round(change.evidence, 2),
        "threshold": round(change.threshold, 2),
        "since": datetime.fromtimestamp(change.since_us / 1e6, UTC).isoformat(timespec="seconds"),
    }
    if change.active:
        log.warning("drift", **numbers)
    else:
        log.info("drift is over", why=change.why, **numbers)
