"""The daemon: start, turn, stop.

One thread reads, joins and counts. The HTTP server's threads make views of what they hold of one moment, and take the
lock only to take hold of it. A turn polls the source, applies what the group decided, and works off what has come,
topics in step.
"""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import wait
from types import FrameType
from typing import Any

import structlog

from msemon import __version__, collector
from msemon.accounts import Accounts
from msemon.core.process import Process
from msemon.core.shape import Shape
from msemon.core.task import Outcome
from msemon.core.view import Choose, View
from msemon.dead_letters import DeadLetters
from msemon.decoding.portions import portions
from msemon.events import Batch, Decoded
from msemon.export import access
from msemon.export.families import Selection, select
from msemon.export.pipeline import Pipeline
from msemon.export.server import Server
from msemon.keeper import Keeper
from msemon.lookout import Lookout
from msemon.ownership import Ownership
from msemon.reaching import Renewal
from msemon.settings import Settings
from msemon.settings.values import Duration
from msemon.sources import retention
from msemon.sources.apart import apart
from msemon.sources.base import ErrorKind, Fatal, Polled, Source, Trouble, UnequalPartitions, Unreachable
from msemon.sources.in_step import InStep
from msemon.sources.opening import open_source
from msemon.state import Unavailable, Unusable, open_store
from msemon.systemd import Supervisor
from msemon.watchdog import Watchdog
from msemon.wiring import decoder_of, shape_of

log = structlog.get_logger(__name__)

POLL_S = 0.2  # longest wait for records, so that signals and timers are seen
WORK_S = 1.0  # longest work between two polls
REFRESH_S = 1.0  # of the gauges
RETRY_S = (0.5, 10.0)  # first and longest wait before another attempt to reach the cluster
TOPIC_WAIT_S = 2.0  # between looks for a topic that does not exist yet
STALLED_S = 60.0  # without a turn of the loop, health fails and the watchdog ends the process
STOP_S = 8.0  # from being asked to stop to the end, all of what follows together
OVERDUE_S = 9.3  # after which the watchdog ends what should have stopped
FINISH_S = 4.5  # for the last checkpoint and its commit
CLOSE_S = 1.5


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
        make_source: Callable[[Settings], Source] = open_source,
        stalled_s: float = STALLED_S,
    ) -> None:
        self._settings = settings
        self._stalled_s = stalled_s
        self._topics = list(settings.kafka.topics)
        self._install_signals = install_signals
        self._source = make_source(settings)
        self._renewal = Renewal(lambda: make_source(settings))
        self._pipeline = Pipeline(settings.kafka.client, self._topics)
        self._decoder = decoder_of(
            settings, self._pipeline.schema_registry_errors.inc, self._pipeline.schemas_awaited.set
        )
        self._accounts = Accounts(self._pipeline)
        self._in_step = InStep(self._topics, lambda batch: self._decoder.decode(batch, _wall_us()))
        self._lock = threading.Lock()  # around the process's state: held for one batch, or to take hold of a moment
        self._viewing = threading.Lock()  # around the making of a view
        self._process = Process(self._topics, shape_of(settings), lambda: secrets.token_bytes(16))
        self._lookout = Lookout(settings, self._process, self._lock)
        self._dead_letters: DeadLetters | None = None
        if settings.kafka.dead_letter_topic is not None:
            self._dead_letters = DeadLetters(settings, self._pipeline.dead_letter_failures.inc)
        self._supervisor = Supervisor(os.environ if install_signals else {})  # the process is ours, or another's
        self._stopping = threading.Event()
        self._asked: float | None = None  # when we were asked to stop
        self._started = time.monotonic()
        self._turned = self._started
        self._subscribed = self._started
        self._reaching = False  # the source is in the hands of another thread
        self._joined = False  # the group has told us what is ours
        self._refresh_at = 0.0
        self._keeper: Keeper | None = None
        self._ownership: Ownership | None = None  # from the connection on
        self._unequal = False
        self._more = False  # work was left at the end of the last turn
        self.selection: Selection = select(settings.export.metrics, settings.export.segment_metrics)
        self.server = Server(
            settings.web.address, settings.web.health_address, self, access.of(settings.web.config_file)
        )

    # What the HTTP server asks, in its threads.

    @property
    def registry(self) -> Any:
        return self._pipeline.registry

    def view(self, choose: Choose | None = None) -> View | None:
        """What is to be exported now. Without the group's lease the partitions may be another's: none of them."""
        with self._viewing:
            with self._lock:
                held = self._process.hold(_wall_us(), owned=self._lease_holds())
            try:
                return held.view(choose)
            finally:
                with self._lock:
                    held.let_go()

    def stands(self, view: View) -> bool:
        """Whether nothing that this view shows has become another's since it was made."""
        with self._lock:
            ours = view.partitions <= self._process.tasks.keys()
        return ours and (self._lease_holds() or not view.partitions)

    def healthy(self) -> bool:
        return time.monotonic() - self._turned < self._stalled_s

    def ready(self) -> bool:
        return self._settled() and not self._stopping.is_set()

    def status(self) -> dict[str, Any]:
        with self._lock:
            waiting = self._process.waiting()
            past = self._process.waiting_for_the_past()
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
            "labels_for_the_past": past,
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
        self._supervisor.ready()
        self._supervisor.status("reaching the cluster")
        watchdog = Watchdog(self._last_turn, self._overdue, stalled_s=self._stalled_s, alive=self._supervisor.alive)
        if self._install_signals:  # the process is ours: to end, and to set up
            watchdog.start()
            collector.settle()
        try:
            return self._live()
        finally:
            self._stop()
            watchdog.stop()

    def _live(self) -> int:
        try:
            self._connect()
            while not self._stopping.is_set():
                self._turn()
        except (Fatal, UnequalPartitions, Unusable) as error:
            log.error("can't go on", error=str(error))  # noqa: TRY400 - nothing unexpected: no traceback
            self._give_up()
            return 1
        except Exception:
            log.exception("failed")
            self._give_up()
            return 1
        return 0

    def stop(self) -> None:
        """Ask the loop to end; from any thread."""
        self._asked = self._asked or time.monotonic()
        self._stopping.set()

    def _signalled(self, _number: int, _frame: FrameType | None) -> None:
        if self._stopping.is_set():
            os._exit(1)  # asked twice: at once, whatever still waits
        self.stop()

    def _last_turn(self) -> float:
        """For the watchdog; stopping, which does not turn, has a limit of its own."""
        return self._turned if self._asked is None else time.monotonic()

    def _overdue(self) -> str | None:
        """Why the watchdog should end the process now."""
        if self._asked is not None and time.monotonic() - self._asked > OVERDUE_S:
            return "stopping takes too long"
        return None

    def _connect(self) -> None:
        """Reach the cluster and wait for the topics, however long it takes. Raises Fatal, UnequalPartitions, Unusable.

        An attempt may block for many seconds, so it has a thread of its own; if we are asked to stop it is left alone.
        """
        retry = RETRY_S[0]
        if self._settings.state.store != "kafka":  # what is wrong with a directory is said at once
            self._open_store(0)
        while not self._stopping.is_set():
            self._reaching = True
            attempt = apart(self._reach, "reaching")
            while not attempt.done() and not self._stopping.is_set():
                self._turned = time.monotonic()
                wait([attempt], POLL_S)
            if not attempt.done():
                return
            self._reaching = False
            try:
                missing = attempt.result()
            except (Unreachable, Unavailable) as error:
                kind = error.kind if isinstance(error, Unreachable) else ErrorKind.OTHER
                self._accounts.troubled(Trouble(kind, str(error)), time.monotonic())
                event = "not let in" if kind == ErrorKind.AUTHENTICATION else "no broker answers"
                log.warning(event, error=str(error), kind=kind, retry_seconds=retry)
                self._supervisor.status(event)
                self._stopping.wait(retry)
                retry = min(2 * retry, RETRY_S[1])
                continue
            if not missing:
                self._source.subscribe()
                retention.look(self._settings, _matters_us(self._process.shape) / 1e6)
                self._subscribed = self._turned = time.monotonic()
                return
            log.warning("waiting for topics that do not exist yet", topics=missing)
            self._supervisor.status("waiting for topics that do not exist yet")
            self._stopping.wait(TOPIC_WAIT_S)

    def _reach(self) -> list[str]:
        """One attempt: connect, and open the store where it needs the cluster; gives the topics that are not there."""
        self._source.connect()
        counts = self._source.partition_counts()
        self._show_partitions(counts)
        missing = [topic for topic, count in counts.items() if count is None]
        if not missing:
            self._open_store(max(count or 0 for count in counts.values()))
        return missing

    def _open_store(self, partitions: int) -> None:
        """Where state is kept, and who keeps it. Raises Unusable and Unavailable."""
        if self._ownership is not None:
            return
        settings = self._settings
        shape = self._process.shape
        self._keeper = Keeper(open_store(settings, partitions), self._topics, shape)
        self._ownership = Ownership(
            self._source,
            self._in_step,
            self._process,
            self._accounts,
            self._keeper,
            self._lock,
            topics=self._topics,
            start=settings.kafka.start,
            rewind=Duration(f"{-(-_matters_us(shape) // 1_000_000)}s"),
            interval_s=settings.state.interval,
            wall_us=_wall_us,
        )

    def _turn(self) -> None:
        """Poll once, work for a while."""
        assert self._ownership is not None
        polled = self._source.poll(0.0 if self._more else POLL_S)
        if self._stopping.is_set():
            return  # what came is read again by whoever comes next; nothing that may block is begun
        self._follow_group(polled, self._ownership)
        self._take_in(polled, self._ownership)
        self._refuse(polled.unequal)
        self._ownership.turn()  # before the work: now we know what is ours, after long work it may be another's
        self._more = not polled.unequal and self._work()
        self._refresh()
        self._lookout.turn(_wall_us())
        self._renew(polled, self._ownership)
        self._turned = time.monotonic()

    def _give_up(self) -> None:
        """Nothing more is shown, written or committed: it may be another's by now, or half of a batch is counted."""
        if self._ownership is not None:
            self._ownership.drop(self._ownership.owned, lost=True)

    def _stop(self) -> None:
        """Readiness is off already: no more polls; keep what we have, tell the group, leave it, HTTP last."""
        self.stop()
        self._supervisor.stopping()
        by = (self._asked or 0.0) + STOP_S
        if self._joined and self._ownership is not None:
            try:
                self._ownership.finish(_left(by, FINISH_S))
            except Fatal as error:
                log.error("the group took no last commit", error=str(error))  # noqa: TRY400 - as above
        if self._dead_letters is not None:
            self._dead_letters.close(_left(by, CLOSE_S))
        if self._keeper is not None:
            self._keeper.close(_left(by, CLOSE_S))
        if not self._reaching:
            self._source.close(_left(by, CLOSE_S))
        self.server.stop(_left(by, CLOSE_S))
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

    def _follow_group(self, polled: Polled, ownership: Ownership) -> None:
        if polled.lost:
            ownership.drop(polled.lost, lost=True)
        if polled.revoked:
            ownership.drop(polled.revoked, lost=False)
        if polled.assigned is not None:
            self._pipeline.rebalances.inc()
            ownership.assigned(polled.assigned)
            self._joined = True
            self._show_partitions(self._counts())

    def _take_in(self, polled: Polled, ownership: Ownership) -> None:
        now = time.monotonic()
        self._in_step.polled(bool(polled.batches))
        for batch in polled.batches:
            if ownership.reads(batch.partition):
                for portion in portions(batch, self._decoder.most_events(batch)):
                    self._in_step.put(portion, now)
                self._accounts.fetched(batch)
        for gap in polled.gaps:
            self._pipeline.offset_gap_records.labels(gap.where.topic, str(gap.where.partition)).inc(gap.records)
            ownership.incomplete(gap.where.partition)
            log.error("the log no longer has what was to be read", **gap._asdict())
        if polled.remade:
            ownership.remade()
        for cut in (cut for cut in polled.truncated if cut.where.topic not in polled.remade):
            log.error("the log was cut back", **cut._asdict())
            ownership.again(cut.where.partition)
        for skip in polled.skipped:
            self._pipeline.offset_gap_records.labels(skip.where.topic, str(skip.where.partition)).inc(skip.records)
            ownership.incomplete(skip.where.partition)
            log.error("unreadable records passed over", **skip._asdict())
        self._complain(polled.errors, now)
        if pause := self._in_step.to_pause():
            self._source.pause(pause)
        if resume := self._in_step.to_resume():
            self._source.resume(resume)

    def _complain(self, troubles: list[Trouble], now_s: float) -> None:
        for trouble in troubles:
            if self._accounts.troubled(trouble, now_s):
                log.warning("kafka", error=trouble.text, kind=trouble.kind)

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
            rejections = ((decoded.record(row), why) for row, why in (*decoded.rejections, *outcome.rejections))
            for record, why in dict.fromkeys(rejections):  # a letter once
                self._dead_letters.send(batch, record, why)

    def _refresh(self) -> None:
        now = time.monotonic()
        if now >= self._refresh_at:
            self._refresh_at = now + REFRESH_S
            self._accounts.refresh(self._process, self._source.lag(), _wall_us(), self._settled())
            tasks = len(self._process.tasks)
            self._supervisor.status(f"reading {tasks} partition numbers" if self._joined else "joining the group")

    def _refuse(self, unequal: UnequalPartitions | None) -> None:
        """While partition counts differ, events of one id do not meet: nothing is joined, serving goes on."""
        if unequal is not None and not self._unequal:
            log.error("not joining", error=str(unequal))
            self._show_partitions(unequal.counts)
        self._unequal = unequal is not None

    def _renew(self, polled: Polled, ownership: Ownership) -> None:
        """A new client, where the group has been silent for long and this one will not find it again."""
        if not self._source.alive():
            raise Fatal("the Kafka client's network thread has died")
        now = time.monotonic()
        silent_s = now - max(self._subscribed, self._source.last_heard_s())
        outdated = self._source.outdated()
        session_s = self._source.session_timeout_s
        if not outdated and not self._renewal.due(now, silent_s, session_s, rebalancing=polled.rebalancing):
            return
        why = {"reason": "other certificates"} if outdated else {"silent_seconds": round(silent_s, 1)}
        log.warning("the client is made anew", **why)
        self._joined = self._more = False
        ownership.drop(ownership.owned, lost=True)  # by now they may be another's
        self._source.close(CLOSE_S)
        self._connect()

    def _settled(self) -> bool:
        """Whether the group has told us what is ours, and all of it is restored."""
        return self._joined and self._ownership is not None and self._ownership.settled

    def _counts(self) -> dict[str, int | None]:
        try:
            return self._source.partition_counts()
        except Unreachable as error:
            log.warning("partition counts not known", error=str(error))
            return {}

    def _show_partitions(self, counts: dict[str, int | None]) -> None:
        for topic, count in counts.items():
            self._pipeline.partitions.labels(topic).set(count or 0)
            self._process.partitions = max(self._process.partitions, count or 0)

    def _lease_holds(self) -> bool:
        return self._joined and time.monotonic() - self._source.last_heard_s() < self._source.session_timeout_s


def _left(by: float, most: float) -> float:
    """Seconds that a step of stopping may take: never none at all."""
    return max(0.1, min(most, by - time.monotonic()))


def _matters_us(shape: Shape) -> int:
    """How far back events still matter: to a window, or to a join that ends in one."""
    return shape.timeout_us + max(window.pane_us * (window.panes + 1) for window in shape.windows)


def _wall_us() -> int:
    return time.time_ns() // 1_000
