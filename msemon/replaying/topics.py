"""Ranges of topics, read without belonging to a group: partition number p of all of them is one task, as ever."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import structlog
from kafka import TopicPartition
from kafka.errors import KafkaError

from msemon.events import Batch, Decoded
from msemon.logs import one_line
from msemon.replaying.streams import BadSource
from msemon.settings import Settings
from msemon.settings.values import Start
from msemon.sources.kafka_inside import positions, topic_partitions
from msemon.sources.kafka_records import install
from msemon.sources.reading import CONNECT_S, groupless
from msemon.sources.record_format import batch_of
from msemon.wiring import SchemasMissing, decoded_in_time, decoder_of

log = structlog.get_logger(__name__)

SILENCE_S = 60.0
"""So long may a partition that has more bring nothing."""

_FULL = 8 * 1024 * 1024  # bytes of one partition that wait for their turn


@dataclass(frozen=True, slots=True)
class Range:
    """What of a topic is read: records from one time on and before another, by their own timestamps."""

    topic: str
    begin: Start
    end: Start


@dataclass(slots=True)
class _Waiting:
    """What has come of a partition."""

    begin: int
    end: int
    position: int
    batches: deque[Batch] = field(default_factory=deque)
    size: int = 0

    @property
    def done(self) -> bool:
        return self.position >= self.end


class _Reader:
    """One consumer for all partitions; what is not asked for yet waits, and is paused where it is much."""

    def __init__(self, consumer: Any, wanted: dict[TopicPartition, tuple[int, int]]) -> None:
        self._consumer = consumer
        self._unpacking = install(consumer)
        self.waiting = {where: _Waiting(begin, end, begin) for where, (begin, end) in wanted.items()}
        consumer.assign(list(wanted))
        for where, (begin, _) in wanted.items():
            consumer.seek(where, begin)

    def next(self, where: TopicPartition) -> Batch | None:
        """The next batch of a partition; None at its end. Raises BadSource."""
        mine, deadline_s = self.waiting[where], time.monotonic() + SILENCE_S
        while not mine.batches and not mine.done:
            if time.monotonic() > deadline_s:
                raise BadSource(f"{where.topic}: partition {where.partition} has brought nothing for {SILENCE_S:.0f} s")
            self._poll(where)
        if not mine.batches:
            return None
        batch = mine.batches.popleft()
        mine.size -= batch.size
        return batch

    def _poll(self, needed: TopicPartition) -> None:
        for where, each in self.waiting.items():
            enough = each.done or (where != needed and each.size >= _FULL)
            (self._consumer.pause if enough else self._consumer.resume)(where)
        self._unpacking.begin()
        try:
            polled = self._consumer.poll(timeout_ms=200)
        except KafkaError as problem:
            raise BadSource(f"{needed.topic}: {one_line(problem)}") from None
        for skipped in self._unpacking.skipped:
            log.warning("unreadable records passed over", **skipped._asdict())
        for where, records in polled.items():
            each = self.waiting[where]
            if within := [record for record in records if record[0] < each.end]:
                each.batches.append(batch_of(where.topic, where.partition, within))
                each.size += each.batches[-1].size
        for where, position in positions(self._consumer).items():
            self.waiting[where].position = max(self.waiting[where].position, position)


class _Partition:
    """The stream of one partition."""

    def __init__(self, where: TopicPartition, reader: _Reader, settings: Settings) -> None:
        self.topic, self.partition = where.topic, where.partition
        self._where = where
        self._reader = reader
        self._decoder = decoder_of(settings)

    def progress(self) -> float:
        mine = self._reader.waiting[self._where]
        return min(1.0, (mine.position - mine.begin) / max(mine.end - mine.begin, 1))

    def __iter__(self) -> Iterator[Decoded]:
        while (batch := self._reader.next(self._where)) is not None:
            try:
                for _, decoded in decoded_in_time(self._decoder, batch, SILENCE_S):
                    yield decoded
            except SchemasMissing as problem:
                raise BadSource(str(problem)) from None


def streams_of(ranges: Sequence[Range], settings: Settings, closing: ExitStack) -> list[_Partition]:
    """A stream for each partition of each topic; `closing` ends the client. Raises BadSource."""
    servers = settings.kafka.bootstrap_servers
    try:
        consumer = closing.enter_context(groupless(settings))
        wanted = _offsets(consumer, ranges)
    except (KafkaError, OSError) as problem:
        raise BadSource(f"{servers}: unreachable: {one_line(problem)}") from None
    reader = _Reader(consumer, wanted)
    return [_Partition(where, reader, settings) for where in wanted]


def _offsets(consumer: Any, ranges: Sequence[Range]) -> dict[TopicPartition, tuple[int, int]]:
    counts = topic_partitions(consumer, [each.topic for each in ranges], CONNECT_S)
    for topic, count in counts.items():
        if not count:
            raise BadSource(f"{topic}: there is no such topic")
    if len(set(counts.values())) > 1:
        described = ", ".join(f"{topic} has {count}" for topic, count in counts.items())
        raise BadSource(f"the topics must have the same number of partitions: {described}")
    now_us = time.time_ns() // 1_000
    wanted: dict[TopicPartition, tuple[int, int]] = {}
    for each in ranges:
        where = [TopicPartition(each.topic, number) for number in range(counts[each.topic] or 0)]
        first = consumer.beginning_offsets(where, timeout_ms=int(CONNECT_S * 1e3))
        last = consumer.end_offsets(where, timeout_ms=int(CONNECT_S * 1e3))
        begin = _offsets_at(consumer, where, each.begin, now_us, first, last)
        end = _offsets_at(consumer, where, each.end, now_us, first, last)
        wanted |= {one: (begin[one], max(begin[one], end[one])) for one in where}
    return wanted


def _offsets_at(
    consumer: Any,
    where: Sequence[TopicPartition],
    at: Start,
    now_us: int,
    first: dict[TopicPartition, int],
    last: dict[TopicPartition, int],
) -> dict[TopicPartition, int]:
    """The first offset of that time or later in each partition; its end where there is none."""
    time_us = at.timestamp_us(now_us)
    if time_us is None:
        return first if at.policy == "earliest" else last
    asked = dict.fromkeys(where, time_us // 1_000)  # a fresh one: the client changes it
    found = consumer.offsets_for_times(asked, timeout_ms=int(CONNECT_S * 1e3))
    return last | {one: at.offset for one, at in found.items() if at is not None and at.timestamp >= 0}
