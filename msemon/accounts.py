"""Keeps the daemon's own metrics true: what each batch did, and how far reading is behind."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from msemon.core.process import Process
from msemon.core.task import NEVER, Outcome
from msemon.events import Batch, Decoded, Reason
from msemon.export.pipeline import Pipeline
from msemon.keeper import Found, Written
from msemon.sources.base import ErrorKind, TopicPartition, Trouble

_MILLISECOND_US = 1_000

SAY_AGAIN_S = 60.0
"""How long the same trouble is not said again: a right that is missing is missed at every poll."""


@dataclass(slots=True)
class _Progress:
    """How far one topic partition is."""

    fetched: int  # next offset to come from the source
    done: int  # next offset to be processed
    record_time_us: int = 0  # of the newest record processed, or before that of the first that has come; 0: unknown


class Accounts:
    """Turns what happens into metrics. Times in µs."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._progress: dict[TopicPartition, _Progress] = {}
        self._durable_us: dict[int, int] = {}  # by partition: when its last checkpoint became durable
        self._newest_prediction = self._newest_label = NEVER
        self._said: dict[Trouble, float] = {}  # and when last
        for kind in ErrorKind:
            pipeline.kafka_errors.labels(kind)

    def troubled(self, trouble: Trouble, now_s: float) -> bool:
        """Something went wrong with the cluster; whether it should be said, or has just been."""
        self._pipeline.kafka_errors.labels(trouble.kind).inc()
        if now_s < self._said.get(trouble, -math.inf) + SAY_AGAIN_S:
            return False
        self._said = {told: at for told, at in self._said.items() if now_s < at + SAY_AGAIN_S} | {trouble: now_s}
        return True

    def started(self, where: TopicPartition, offset: int) -> None:
        """Reading of a topic partition begins at this offset."""
        self._progress[where] = _Progress(offset, offset)

    def dropped(self, topics: list[str], partitions: frozenset[int]) -> None:
        """These partitions are no longer ours."""
        self._progress = {where: p for where, p in self._progress.items() if where.partition not in partitions}
        self._durable_us = {p: at for p, at in self._durable_us.items() if p not in partitions}
        self._pipeline.forget(topics, partitions)
        self._show_oldest_checkpoint()

    def fetched(self, batch: Batch) -> None:
        """A batch has come and waits its turn."""
        if (progress := self._progress.get(TopicPartition(batch.topic, batch.partition))) is not None:
            progress.fetched = batch.next_offset
            if not progress.record_time_us:
                progress.record_time_us = max(min(batch.timestamps_ms, default=0), 0) * _MILLISECOND_US

    def processed(self, batch: Batch, decoded: Decoded, outcome: Outcome) -> None:
        """A batch has been applied."""
        p = self._pipeline
        for kind, count in decoded.kinds.items():
            p.events.labels(batch.topic, kind).inc(count)
        self._rejected(batch.topic, decoded.rejections)
        self._rejected(batch.topic, outcome.rejections)
        p.join_matched.inc(outcome.matched)
        p.join_conflicting_labels.inc(outcome.conflicting_labels)
        p.join_duplicates.labels("prediction").inc(outcome.duplicate_predictions)
        p.join_duplicates.labels("label").inc(outcome.duplicate_labels)
        p.join_expired.labels("prediction").inc(outcome.expired_predictions)
        p.join_expired.labels("label").inc(outcome.expired_labels)
        self.evicted(outcome.dropped, 0)
        self._newest_prediction = max(self._newest_prediction, outcome.newest_prediction)
        self._newest_label = max(self._newest_label, outcome.newest_label)
        if (progress := self._progress.get(TopicPartition(batch.topic, batch.partition))) is not None:
            progress.done = batch.next_offset
            newest = max(batch.timestamps_ms, default=0) * _MILLISECOND_US
            progress.record_time_us = max(progress.record_time_us, newest)

    def restored(self, found: Found) -> None:
        """A partition has been taken over."""
        p = self._pipeline
        p.restores.labels("none" if found.task is None else "store").inc()
        p.restore_duration_seconds.set(found.seconds)
        for rejection in found.rejected:
            p.snapshots_rejected.labels(rejection.reason).inc()

    def written(self, written: Written, wall_us: int) -> None:
        """A checkpoint has become durable, or failed."""
        p = self._pipeline
        if written.error is not None:
            p.checkpoint_failures.inc()
            return
        self._durable_us[written.partition] = wall_us
        self._show_oldest_checkpoint()
        p.checkpoint_duration_seconds.set(written.seconds)
        p.checkpoint_bytes.set(written.bytes)

    def _show_oldest_checkpoint(self) -> None:
        self._pipeline.checkpoint_timestamp_seconds.set(min(self._durable_us.values(), default=math.nan) / 1e6)

    def evicted(self, waited: int, remembered: int) -> None:
        self._pipeline.join_evicted.labels("waiting").inc(waited)
        self._pipeline.join_evicted.labels("remembered").inc(remembered)

    def offsets(self) -> dict[TopicPartition, int]:
        """The next offset to process of everything that is read."""
        return {where: progress.done for where, progress in self._progress.items()}

    def refresh(self, process: Process, lag: Mapping[TopicPartition, int], wall_us: int, settled: bool) -> None:
        """Bring the gauges up to date. `lag` is the source's: from what it has fetched to the end.

        Until it has `settled` what is ours, and where to read it from, there may be partitions unheard of here.
        """
        p = self._pipeline
        waiting = process.waiting()
        p.join_pending.labels("prediction").set(waiting[0])
        p.join_pending.labels("label").set(waiting[1])
        p.partitions_assigned.set(len(process.tasks))
        for partition, task in process.tasks.items():
            p.state_incomplete.labels(str(partition)).set(task.incomplete)
        for gauge, newest in (
            (p.last_prediction_timestamp_seconds, self._newest_prediction),
            (p.last_label_timestamp_seconds, self._newest_label),
        ):
            gauge.set(math.nan if newest == NEVER else newest / 1e6)
        self._refresh_lag(lag, wall_us, settled)

    def _refresh_lag(self, lag: Mapping[TopicPartition, int], wall_us: int, settled: bool) -> None:
        behind, known = 0, settled
        reached: list[int] = []  # record times, where something waits
        for where, progress in self._progress.items():
            if (ahead := lag.get(where)) is None:
                known = False
                continue
            records = ahead + progress.fetched - progress.done
            self._pipeline.consumer_lag.labels(where.topic, str(where.partition)).set(records)
            behind += records
            if records and progress.record_time_us:
                reached.append(progress.record_time_us)
        # A sum that leaves out what nobody has told yet would say 0 where there may be a backlog. So would the seconds
        # before anything of a backlog has come.
        seconds = max(0.0, (wall_us - min(reached)) / 1e6) if reached else math.nan if behind else 0.0
        self._pipeline.consumer_lag_sum.set(behind if known else math.nan)
        self._pipeline.consumer_lag_seconds.set(seconds if known else math.nan)

    def _rejected(self, topic: str, rejections: list[tuple[int, Reason]]) -> None:
        for reason, count in Counter(reason for _, reason in rejections).items():
            self._pipeline.events_rejected.labels(topic, reason).inc(count)
