"""What becomes of a partition that is ours: restored, or begun anew; read; checkpointed; given up.

A partition is in one of three states before it is read: its restore is under way (in the keeper), it is not known yet
where to begin (`unplaced`), or its first checkpoint is not durable yet (`starting`): where reading begins is kept
before the first event is read, so that a crash can't begin anywhere else.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from threading import Lock

import structlog

from msemon.accounts import Accounts
from msemon.core.process import Process
from msemon.core.task import Task
from msemon.keeper import Found, Keeper, Written
from msemon.settings.values import Duration, Start
from msemon.sources.base import Source, TopicPartition, Unreachable
from msemon.sources.in_step import InStep
from msemon.state import failpoints

log = structlog.get_logger(__name__)

RESTORE_S = 0.05  # of a turn's time for restores
RETRY_S = 10.0  # after the cluster could not say where a partition begins
COMMIT_S = 2.0  # longest wait for the group's answer: meanwhile nothing is read, nor is a signal to stop seen
START_ATTEMPTS = 3  # to keep where reading begins; a store that takes nothing must not keep us from counting for ever
START_RETRY_S = 2.0

_EARLIEST = Start("earliest", "earliest")
_LATEST = Start("latest", "latest")


@dataclass(slots=True)
class _Start:
    """Where a partition without state will be read from."""

    offsets: dict[TopicPartition, int]
    failures: int = 0  # to make that durable
    again_at: float = math.inf  # while it is being written


class Ownership:
    """The partitions of this process. On the loop's thread; `lock` is around changes of what is exported."""

    def __init__(
        self,
        source: Source,
        in_step: InStep,
        process: Process,
        accounts: Accounts,
        keeper: Keeper,
        lock: Lock,
        *,
        topics: list[str],
        start: Start,
        rewind: Duration,
        interval_s: float,
        wall_us: Callable[[], int],
    ) -> None:
        """`rewind`: how far back events still matter, for a group that has read before but whose state is gone."""
        self._source = source
        self._in_step = in_step
        self._process = process
        self._accounts = accounts
        self._keeper = keeper
        self._lock = lock
        self._topics = topics
        self._start = start
        self._rewind = Start("ago", rewind.name, ago_s=float(rewind))
        self._interval_s = interval_s
        self._wall_us = wall_us
        self._restoring: set[int] = set()
        self._unplaced: set[int] = set()
        self._starting: dict[int, _Start] = {}
        self._declined: set[int] = set()  # the log does not reach to any checkpoint of these …
        self._anyway: set[int] = set()  # … which is looked at all the same
        self._born_with = 0  # partitions of the topics when the group began to read; 0 until that is known
        self._durable: dict[TopicPartition, int] = {}
        self._next_checkpoint: dict[int, float] = {}
        self._place_at = 0.0
        self._commit_at = 0.0

    @property
    def settled(self) -> bool:
        """Whether everything that is ours is being read."""
        return not (self._restoring or self._unplaced or self._starting)

    @property
    def owned(self) -> frozenset[int]:
        """All that is ours, whatever its state."""
        return frozenset(self._process.tasks) | self._restoring | self._unplaced

    def reads(self, partition: int) -> bool:
        """Whether batches of this partition may be taken."""
        return partition in self._process.tasks and partition not in self._starting

    def assigned(self, partitions: frozenset[int]) -> None:
        """A rebalance is complete: these are ours, and no others."""
        self.drop(self.owned - partitions, lost=False)
        new = partitions - self.owned
        for partition in sorted(new):
            self._restore(partition)
        self._place_at = 0.0
        log.info("partitions assigned", partitions=sorted(partitions), new=sorted(new))

    def drop(self, partitions: Collection[int], *, lost: bool) -> None:
        """These are no longer ours. Nothing more is written of them: whoever has them now reads on from what is."""
        gone = frozenset(partitions) & self.owned
        if not gone:
            return
        with self._lock:
            for partition in gone:
                self._process.drop(partition)
        self._in_step.drop(gone)
        for partition in gone:
            self._keeper.drop(partition)
            self._starting.pop(partition, None)
            self._next_checkpoint.pop(partition, None)
        for waiting in (self._restoring, self._unplaced, self._declined, self._anyway):
            waiting.difference_update(gone)
        self._durable = {where: offset for where, offset in self._durable.items() if where.partition not in gone}
        self._accounts.dropped(self._topics, gone)
        log.info("partitions gone", partitions=sorted(gone), lost=lost)

    def again(self, partition: int) -> None:
        """The log was cut back below what this task has counted: back to a checkpoint that does not know of it."""
        if not self._begun_again(partition):
            self.drop({partition}, lost=False)
            self._restore(partition)

    def remade(self) -> None:
        """A topic was deleted and made again: it is read from its beginning, the others from where they are."""
        for partition in sorted(self._process.tasks):
            self._begun_again(partition)

    def incomplete(self, partition: int) -> None:
        """Some of the log could not be read."""
        if (task := self._process.tasks.get(partition)) is not None:
            task.mark_incomplete()

    def turn(self) -> None:
        """Go on with whatever is under way."""
        for found in self._keeper.restored(RESTORE_S) if self._restoring else ():
            self._restored(found)
        self._place()
        for written in self._keeper.written():
            self._written(written)
        now = time.monotonic()
        self._start_again(now)
        if self._counted_in(now):
            self._checkpoint(now)
        if now >= self._commit_at:
            # also when there is nothing new: an accepted commit says that the group still counts us in
            self._commit_at = now + self._interval_s
            self.commit(COMMIT_S)

    def finish(self, timeout_s: float) -> None:
        """The last checkpoint of everything, and its commit, in about this time."""
        deadline = time.monotonic() + timeout_s
        if self._keeper.keeps:
            owed = set(self._next_checkpoint) & self._process.tasks.keys()
            while (owed or self._keeper.writing) and (left := deadline - time.monotonic()) > 0:
                for partition in list(owed):
                    if self._keeper.checkpoint(self._process.tasks[partition]):
                        owed.discard(partition)
                for written in self._keeper.written(min(left, 0.1)):
                    self._note(written)
            if owed or self._keeper.writing:
                log.error("the last checkpoint did not end in time", partitions=sorted(owed))
        self.commit(min(COMMIT_S, max(0.5, deadline - time.monotonic())))

    def commit(self, timeout_s: float) -> None:
        """Tell the group how far we are: for people and lag tools, and to hear that it still counts us in."""
        offsets = self._durable if self._keeper.keeps else self._accounts.offsets()
        if not offsets:
            return
        failpoints.reach(failpoints.BEFORE_COMMIT)
        if not self._source.commit(offsets, timeout_s, note=str(self._born_with or "")):
            log.warning("offsets not committed", partitions=sorted(self._process.tasks))
        failpoints.reach(failpoints.AFTER_COMMIT)

    # From ours to read.

    def _restore(self, partition: int, after_s: float = 0.0) -> None:
        self._restoring.add(partition)
        anyway = partition in self._anyway
        self._keeper.begin(partition, lambda offsets: anyway or self._reaches(partition, offsets), after_s)

    def _reaches(self, partition: int, offsets: Mapping[str, int]) -> bool:
        """Whether the log still goes as far as a checkpoint: it may have been cut back, or made anew."""
        try:
            ends = self._source.start_offsets({partition}, _LATEST)
        except Unreachable:
            return True  # found out when it is read
        beyond = [topic for topic in self._topics if offsets.get(topic, 0) > ends[TopicPartition(topic, partition)]]
        if beyond:
            log.error(
                "a checkpoint lies beyond the log's end", partition=partition, topics=beyond
            )
            self._declined.add(partition)
        return not beyond

    def _restored(self, found: Found) -> None:
        partition = found.partition
        declined, anyway = partition in self._declined, partition in self._anyway
        self._declined.discard(partition)
        self._anyway.discard(partition)
        if found.task is None and declined:
            self._anyway.add(partition)  # the log may be another one, and not cut back: its topic's id will tell
            self._restore(partition)
            return
        try:
            if found.task is not None:
                self._forget_remade(found.task, self._source.topic_ids())
                if anyway and not self._reaches(partition, found.task.offsets):
                    self._keeper.disown(partition)
                    found.task = None
            offsets = {} if found.task is None else self._offsets_of(found.task)
        except Unreachable as error:
            log.warning("where to go on is not known yet", partition=partition, error=str(error))
            self._restore(partition, RETRY_S)
            return
        self._declined.discard(partition)
        self._accounts.restored(found)
        for rejection in found.rejected:
            log.error("stored state refused", partition=partition, reason=rejection.reason, what=rejection.what)
        if found.task is None:
            self._unplaced.add(partition)
            self._restoring.discard(partition)
            return
        for text in found.dropped:
            log.warning("stored state that the settings no longer fit", partition=partition, dropped=text)
        with self._lock:
            self._process.adopt(found.task)
        self._durable.update(offsets)
        self._born_with = min({self._born_with, found.task.born_with} - {0}, default=0)
        log.info("state restored", partition=partition, store=self._keeper.source, seconds=round(found.seconds, 3))
        if declined:  # which a crash must not take for right once the log has grown beyond it
            self._starting[partition] = _Start(offsets)
            self._keeper.checkpoint(found.task)
        else:
            self._read(partition, offsets)
        self._restoring.discard(partition)  # last: readiness is asked for from other threads

    def _forget_remade(self, task: Task, now: Mapping[str, str]) -> list[str]:
        """Topics that are not those this task has read, but new ones of their names (ids `now`): they begin anew."""
        remade = [topic for topic, name in now.items() if task.topic_ids.get(topic, name) != name]
        for topic in remade:
            log.error("a topic was made again: reading it begins anew", topic=topic, partition=task.partition)
            task.begin_again(topic)
        task.topic_ids |= now
        return remade

    def _begun_again(self, partition: int) -> bool:
        """Go on with the task at hand where a topic of its was made again; False where none was."""
        if (task := self._process.tasks.get(partition)) is None or partition in self._starting:
            return False
        try:
            now = self._source.topic_ids()
            with self._lock:
                remade = self._forget_remade(task, now)
            if not remade:
                return False
            offsets = self._offsets_of(task)
        except Unreachable as error:
            log.warning("where to go on is not known", partition=partition, error=str(error))
            self.drop({partition}, lost=False)
            self._restore(partition)  # which asks until there is an answer
            return True
        self._in_step.drop({partition})  # with what waits of the other topics, which is fetched again
        self._durable.update({where: offset for where, offset in offsets.items() if where.topic in remade})
        self._read(partition, offsets)
        return True

    def _offsets_of(self, task: Task) -> dict[TopicPartition, int]:
        """Where to go on: the snapshot's offsets; what is new since it begins at its beginning."""
        if set(task.offsets) < set(self._topics):
            first = self._source.start_offsets({task.partition}, _EARLIEST)
            task.offsets = {where.topic: offset for where, offset in first.items()} | task.offsets
        return {TopicPartition(topic, task.partition): offset for topic, offset in task.offsets.items()}

    def _place(self) -> None:
        """Begin what has no state, once the cluster has said where that is."""
        if not self._unplaced or self._restoring or time.monotonic() < self._place_at:
            return  # what is restored tells how old the group is
        try:
            ids = self._source.topic_ids()
            self._learn_birth()
            placed = {partition: self._beginning(partition) for partition in sorted(self._unplaced)}
        except Unreachable as error:
            log.warning("where to begin is not known yet", partitions=sorted(self._unplaced), error=str(error))
            self._place_at = time.monotonic() + RETRY_S
            return
        for partition, offsets in placed.items():
            with self._lock:
                task = self._process.start(partition)
            task.offsets = {where.topic: offset for where, offset in offsets.items()}
            task.topic_ids, task.born_with = dict(ids), self._born_with
            if partition < self._born_with or any(offsets.values()):
                task.mark_incomplete()
            if self._keeper.keeps:
                self._starting[partition] = _Start(offsets)
                self._keeper.checkpoint(task)
            else:
                self._read(partition, offsets)
            self._unplaced.discard(partition)

    def _beginning(self, partition: int) -> dict[TopicPartition, int]:
        """Where a partition without state begins: by the settings; where it was read before, as far back as matters."""
        before = self._source.committed({partition}) if self._keeper.keeps else {}
        if not before and 0 < self._born_with <= partition:
            log.info("a partition that the group did not begin with: from its beginning", partition=partition)
            return self._source.start_offsets({partition}, _EARLIEST)
        if not before:
            return self._source.start_offsets({partition}, self._start)
        log.warning("no state of a partition that was read before: rebuilding it from the log", partition=partition)
        rewound = self._source.start_offsets({partition}, self._rewind)
        # never later than where reading had come to: what followed was never counted
        return {where: min(offset, before.get(where, offset)) for where, offset in rewound.items()}

    def _learn_birth(self) -> None:
        """How many partitions were there when the group began: from its tasks, from its commits, or as of now.

        By this, what has been added since is told from what another member is about to begin. Raises Unreachable.
        """
        known = {task.born_with for task in self._process.tasks.values()} | {self._born_with}
        if not any(known) and self._keeper.keeps and (note := self._source.committed_note(0)).isdecimal():
            known.add(int(note))
        if not any(known):
            known = {count or 0 for count in self._source.partition_counts().values()}
        self._born_with = min(known - {0}, default=0)

    def _read(self, partition: int, offsets: Mapping[TopicPartition, int]) -> None:
        now = time.monotonic()
        self._in_step.add({partition}, now)
        for where, offset in offsets.items():
            self._source.seek(where, offset)
            self._accounts.started(where, offset)
        self._source.resume(offsets)
        if self._keeper.keeps:
            # spread over the interval, so that their pauses do not add up
            spread = (partition % 16) / 16
            self._next_checkpoint[partition] = now + self._interval_s * (0.5 + 0.5 * spread)

    # Checkpoints.

    def _counted_in(self, now: float) -> bool:
        """Whether the group has not given our partitions to others, as far as we can know."""
        return now - self._source.last_heard_s() < self._source.session_timeout_s

    def _checkpoint(self, now: float) -> None:
        """One a turn, so that none pauses it long: of what is due for longest and not being written."""
        for partition in sorted(self._next_checkpoint, key=self._next_checkpoint.__getitem__):
            if self._next_checkpoint[partition] > now:
                return
            if self._keeper.checkpoint(self._process.tasks[partition]):
                self._next_checkpoint[partition] = now + self._interval_s
                return

    def _written(self, written: Written) -> None:
        self._note(written)
        if written.error is None:
            self._commit_at = min(self._commit_at, time.monotonic())
        partition = written.partition
        if (start := self._starting.get(partition)) is None:
            return
        if written.error is not None:
            start.failures += 1
            if start.failures < START_ATTEMPTS:
                start.again_at = time.monotonic() + START_RETRY_S
                return
            log.error("reading begins although where it begins could not be kept", partition=partition)
        self._read(partition, start.offsets)
        del self._starting[partition]

    def _note(self, written: Written) -> None:
        """What a checkpoint's end means for what may be committed."""
        self._accounts.written(written, self._wall_us())
        partition = written.partition
        if written.error is None:
            self._durable.update({TopicPartition(topic, partition): o for topic, o in written.offsets.items()})
        else:
            log.error("checkpoint failed, nothing is committed", partition=partition, error=written.error)

    def _start_again(self, now: float) -> None:
        """Keep where reading begins, where that did not work."""
        for partition, start in self._starting.items():
            if start.again_at <= now and self._keeper.checkpoint(self._process.tasks[partition]):
                start.again_at = math.inf
