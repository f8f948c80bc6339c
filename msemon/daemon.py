"""The daemon: start, turn, stop.

One thread reads, joins and counts; the HTTP server's threads ask for a view under a lock that is held for the time of
one batch. A turn polls the source, applies what the group decided, and works off what has come, topics in step.
"""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import structlog

from msemon import __version__
from msemon.accounts import Accounts
from msemon.core.process import Process
from msemon.core.task import Outcome
from msemon.core.view import View
from msemon.dead_letters import DeadLetters
from msemon.events import Batch, Decoded
from msemon.export.families import Selection, select
from msemon.export.pipeline import Pipeline
from msemon.export.server import Server
from msemon.settings import Settings
from msemon.sources.base import Fatal, Polled, Source, UnequalPartitions, Unreachable
from msemon.sources.in_step import InStep
from msemon.sources.kafka_python import KafkaPythonSource
from msemon.wiring import decoder_of, shape_of

log = structlog.get_logger(__name__)

POLL_S = 0.2  # longest wait for records, so that signals and timers are seen
WORK_S = 1.0  # longest work between two polls
REFRESH_S = 1.0  # of the gauges
RETRY_S = (0.5, 10.0)  # first and longest wait before another attempt to reach the cluster
TOPIC_WAIT_S = 2.0  # between looks for a topic that does not exist yet
STALLED_S = 60.0  # without a turn of the loop, health fails
COMMIT_S = 5.0  # longest wait for the group's answer
CLOSE_S = 5.0


def run(settings: Settings) -> int:
    """The command `msemon run`: until SIGTERM or SIGINT. Exit code 0: stopped as asked; 1: failed."""
    return Daemon(settings, install_signals=True).run()


class Daemon:
    """One process of the monitor. It is also the `Site` that the HTTP server shows."""

    def __init__(
        self,
        settings: Settings,
        *,
        install_signals: bool,
        make_source: Callable[[Settings], Source] = KafkaPythonSource,
    ) -> None:
        self._settings = settings
        self._topics = list(settings.kafka.topics)
        self._install_signals = install_signals
        self._source = make_source(settings)
        self._decoder = decoder_of(settings)
        self._pipeline = Pipeline(settings.kafka.client, self._topics)
        self._accounts = Accounts(self._pipeline)
        self._in_step = InStep(self._topics, lambda batch: self._decoder.decode(batch, _wall_us()))
        self._lock = threading.Lock()  # around the process's state: held for one batch, or one view
        self._process = Process(self._topics, shape_of(settings), lambda: secrets.token_bytes(16))
        self._dead_letters: DeadLetters | None = None
        if settings.kafka.dead_letter_topic is not None:
            self._dead_letters = DeadLetters(settings, self._pipeline.dead_letter_failures.inc)
        self._stopping = threading.Event()
        self._started = time.monotonic()
        self._turned = self._started
        self._joined = False  # the group has told us what is ours
        self._unplaced: set[int] = set()  # ours, but not known yet where to begin
        self._retry_at = self._refresh_at = self._commit_at = 0.0
        self._unequal = False
        self._more = False  # work was left at the end of the last turn
        self.selection: Selection = select(settings.export.metrics, settings.export.segment_metrics)
        self.server = Server(settings.web.address, settings.web.health_address, self)

    # What the HTTP server asks, in its threads.

    @property
    def registry(self) -> Any:
        return self._pipeline.registry

    def view(self) -> View | None:
        """What is to be exported now. Without the group's lease the partitions may be another's: none of them."""
        with self._lock:
            return self._process.view(_wall_us(), owned=self._lease_holds())

    def healthy(self) -> bool:
        return time.monotonic() - self._turned < STALLED_S

    def ready(self) -> bool:
        return self._joined and not self._unplaced and not self._stopping.is_set()

    def status(self) -> dict[str, Any]:
        with self._lock:
            waiting = self._process.waiting()
            partitions = sorted(self._process.tasks)
        return {
            "version": __version__,
            "healthy": self.healthy(),
            "ready": self.ready(),
            "uptime_seconds": round(time.monotonic() - self._started, 3),
            "topics": self._topics,
            "group": self._settings.kafka.group_id,
            "partitions": partitions,
            "lease": self._lease_holds(),
            "waiting": {"predictions": waiting[0], "labels": waiting[1]},
        }

    # Start, turn, stop.

    def run(self) -> int:
        """Blocks until `stop`, a signal, or a failure. Exit code as for the process."""
        if self._install_signals:
            signal.signal(signal.SIGTERM, self._signalled)
            signal.signal(signal.SIGINT, self._signalled)
        try:
            self.server.start()
        except OSError as error:
            log.error(  # noqa: TRY400 - the message says it all
                "can't listen", address=self._settings.web.address, error=str(error)
            )
            return 1
        log.info("serving", address=self._settings.web.address, port=self.server.port)
        if self._settings.state.store != "none":
            log.warning(
                "state is not kept in this version: a restart begins at kafka.start",
                start=str(self._settings.kafka.start),
            )
        try:
            self._connect()
            while not self._stopping.is_set():
                self._turn()
        except (Fatal, UnequalPartitions) as error:
            log.error("can't go on", error=str(error))  # noqa: TRY400 - nothing unexpected: no traceback
            return 1
        except Exception:
            log.exception("failed")
            return 1
        finally:
            self._stop()
        return 0

    def stop(self) -> None:
        """Ask the loop to end; from any thread."""
        self._stopping.set()

    def _signalled(self, _number: int, _frame: FrameType | None) -> None:
        if self._stopping.is_set():
            os._exit(1)  # asked twice: at once, whatever still waits
        self._stopping.set()

    def _connect(self) -> None:
        """Reach the cluster and wait for the topics, however long it takes. Raises Fatal and UnequalPartitions."""
        wait = RETRY_S[0]
        while not self._stopping.is_set():
            self._turned = time.monotonic()
            try:
                self._source.connect()
                counts = self._source.partition_counts()
            except Unreachable as error:
                log.warning("no broker answers", error=str(error), retry_seconds=wait)
                self._stopping.wait(wait)
                wait = min(2 * wait, RETRY_S[1])
                continue
            self._show_partitions(counts)
            missing = [topic for topic, count in counts.items() if count is None]
            if not missing:
                self._source.subscribe()
                return
            log.warning("waiting for topics that do not exist yet", topics=missing)
            self._stopping.wait(TOPIC_WAIT_S)

    def _turn(self) -> None:
        """Poll once, work for a while."""
        polled = self._source.poll(0.0 if self._more else POLL_S)
        self._follow_group(polled)
        self._take_in(polled)
        self._refuse(polled.unequal)
        self._more = not polled.unequal and self._work()
        self._housekeeping()
        self._turned = time.monotonic()

    def _stop(self) -> None:
        """Readiness is off already: no more polls; tell the group where we are, leave it, HTTP last."""
        if self._joined:
            self._commit()
        if self._dead_letters is not None:
            self._dead_letters.close(CLOSE_S)
        self._source.close(CLOSE_S)
        self.server.stop()
        log.info("stopped")

    # The parts of a turn.

    def _work(self) -> bool:
        """Apply what has come, in step; False once nothing more may be taken now."""
        until = time.monotonic() + WORK_S
        while time.monotonic() < until and not self._stopping.is_set():
            at_limit = self._process.pending >= self._settings.join.max_pending
            item = self._in_step.next(time.monotonic(), self._source.lag(), at_limit)
            if item is None:
                return False
            self._apply(*item)
        return True

    def _follow_group(self, polled: Polled) -> None:
        gone = polled.lost | polled.revoked
        if gone:
            self._drop(gone, lost=bool(polled.lost))
        if polled.assigned is None:
            self._place()
            return
        self._pipeline.rebalances.inc()
        self._drop(frozenset(self._process.tasks) - polled.assigned, lost=False)
        new = polled.assigned - self._process.tasks.keys()
        self._unplaced |= new
        with self._lock:
            for partition in new:
                self._process.start(partition)
        self._joined = True
        self._show_partitions(self._counts())
        log.info("partitions assigned", partitions=sorted(polled.assigned), new=sorted(new))
        self._retry_at = 0.0
        self._place()

    def _drop(self, partitions: frozenset[int], *, lost: bool) -> None:
        if not partitions:
            return
        with self._lock:
            for partition in partitions:
                self._process.drop(partition)
        self._in_step.drop(partitions)
        self._unplaced -= partitions
        self._accounts.dropped(self._topics, partitions)
        log.info("partitions gone", partitions=sorted(partitions), lost=lost)

    def _place(self) -> None:
        """Begin to read what is new, once the cluster has said where that is."""
        if not self._unplaced or time.monotonic() < self._retry_at:
            return
        try:
            offsets = self._source.start_offsets(self._unplaced, self._settings.kafka.start)
        except Unreachable as error:
            log.warning("where to begin is not known yet", partitions=sorted(self._unplaced), error=str(error))
            self._retry_at = time.monotonic() + RETRY_S[1]
            return
        self._in_step.add(self._unplaced, time.monotonic())
        for where, offset in offsets.items():
            self._source.seek(where, offset)
            self._accounts.started(where, offset)
        for partition in self._unplaced:
            # state before the start is not to be had: the windows fill from here on
            self._pipeline.state_incomplete.labels(str(partition)).set(1)
        self._source.resume(offsets)
        self._unplaced.clear()

    def _take_in(self, polled: Polled) -> None:
        now = time.monotonic()
        for batch in polled.batches:
            if batch.partition in self._process.tasks and batch.partition not in self._unplaced:
                self._in_step.put(batch, now)
                self._accounts.fetched(batch)
        for gap in polled.gaps:
            self._pipeline.offset_gap_records.labels(gap.where.topic, str(gap.where.partition)).inc(gap.records)
            log.error("the log no longer has what was to be read", **gap._asdict())
        for cut in polled.truncated:
            log.error("the log was cut back", **cut._asdict())
        for skip in polled.skipped:
            self._pipeline.offset_gap_records.labels(skip.where.topic, str(skip.where.partition)).inc(skip.records)
            log.error("unreadable records passed over", **skip._asdict())
        for error in polled.errors:
            log.warning("kafka", error=error)
        if pause := self._in_step.to_pause():
            self._source.pause(pause)
        if resume := self._in_step.to_resume():
            self._source.resume(resume)

    def _apply(self, batch: Batch, decoded: Decoded) -> None:
        with self._lock:
            outcome = self._process.apply(batch.partition, batch.topic, decoded, batch.next_offset, _wall_us())
        self._accounts.processed(batch, decoded, outcome)
        self._send_dead_letters(batch, decoded, outcome)
        excess = self._process.pending - self._settings.join.max_pending
        if excess > 0:
            with self._lock:
                gone = self._process.evict(excess)
            self._accounts.evicted(*gone)

    def _send_dead_letters(self, batch: Batch, decoded: Decoded, outcome: Outcome) -> None:
        if self._dead_letters is not None:
            for row, reason in (*decoded.rejections, *outcome.rejections):
                self._dead_letters.send(batch, row, reason)

    def _housekeeping(self) -> None:
        now = time.monotonic()
        if now >= self._refresh_at:
            self._refresh_at = now + REFRESH_S
            self._accounts.refresh(self._process, self._source.lag(), _wall_us())
        if self._joined and now >= self._commit_at:
            self._commit_at = now + self._settings.state.interval
            self._commit()

    def _commit(self) -> None:
        """Tell the group how far we are: for people and lag tools, and to hear that it still counts us in."""
        offsets = self._accounts.offsets()
        if offsets and not self._source.commit(offsets, COMMIT_S):
            log.warning("offsets not committed", partitions=sorted(self._process.tasks))

    def _refuse(self, unequal: UnequalPartitions | None) -> None:
        """While partition counts differ, events of one id do not meet: nothing is joined, serving goes on."""
        if unequal is not None and not self._unequal:
            log.error("not joining", error=str(unequal))
            self._show_partitions(unequal.counts)
        self._unequal = unequal is not None

    def _counts(self) -> dict[str, int | None]:
        try:
            return self._source.partition_counts()
        except Unreachable as error:
            log.warning("partition counts not known", error=str(error))
            return {}

    def _show_partitions(self, counts: dict[str, int | None]) -> None:
        for topic, count in counts.items():
            self._pipeline.partitions.labels(topic).set(count or 0)

    def _lease_holds(self) -> bool:
        return self._joined and time.monotonic() - self._source.last_heard_s() < self._source.session_timeout_s


def _wall_us() -> int:
    return time.time_ns() // 1_000
