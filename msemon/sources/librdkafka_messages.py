"""librdkafka's messages, mixed over partitions, as batches and as the words in between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, Message

from msemon.events import Batch, Headers
from msemon.sources.base import TopicPartition

# `map` with the type's own methods: a message costs no Python code.
_errors, _topics, _partitions, _offsets = Message.error, Message.topic, Message.partition, Message.offset


class Complaint(NamedTuple):
    """What the client says of a partition instead of its records, or of itself, where that is None."""

    where: TopicPartition | None
    offset: int | None
    error: Any


class Sorted(NamedTuple):
    """What one call to the client brought."""

    records: dict[TopicPartition, list[Message]]
    """Of each partition in order; where there is trouble with it, what came before."""

    ends: dict[TopicPartition, int]
    """Where reading has come to the log's end."""

    complaints: list[Complaint]


def sort(messages: list[Message]) -> Sorted:
    """Take the messages apart by topic and partition."""
    ends: dict[TopicPartition, int] = {}
    complaints: dict[TopicPartition | None, Complaint] = {}
    if any(map(_errors, messages)):
        sound = []
        for message in messages:
            error = message.error()
            where = None if message.topic() is None else TopicPartition(message.topic(), message.partition())
            if error is None:
                if where not in complaints:  # what follows is fetched again, once the trouble is over
                    sound.append(message)
            elif error.code() == KafkaError._PARTITION_EOF and where is not None:  # noqa: SLF001 (its public name)
                ends[where] = message.offset()
            else:
                complaints.setdefault(where, Complaint(where, message.offset(), error))
        messages = sound
    records: dict[TopicPartition, list[Message]] = {}
    for where, run in _runs(messages):
        records.setdefault(where, []).extend(run)
    return Sorted(records, ends, list(complaints.values()))


def _runs(messages: Iterable[Message]) -> Iterator[tuple[TopicPartition, Iterator[Message]]]:
    """Neighbours of one partition: what one fetch brought lies together, so there are few of them."""
    for partition, neighbours in groupby(messages, _partitions):
        for topic, run in groupby(neighbours, _topics):
            yield TopicPartition(topic, partition), run


def batch(where: TopicPartition, rows: list[Message], next_offset: int) -> Batch:
    """The records as columns; there may be none, where reading went on over offsets without one."""
    values = list(map(Message.value, rows))
    return Batch(
        topic=where.topic,
        partition=where.partition,
        offsets=_ascending(rows),
        timestamps_ms=list(map(itemgetter(1), map(Message.timestamp, rows))),
        values=values,
        next_offset=next_offset,
        size=sum(map(len, filter(None, values))),
        origin=_Origins(rows),
    )


def _ascending(rows: Sequence[Message]) -> Sequence[int]:
    """Offsets, which ascend: where as many as there are records lie from the first to the last, it is all of these."""
    if rows and (last := rows[-1].offset()) - (first := rows[0].offset()) == len(rows) - 1:
        return range(first, last + 1)
    return list(map(_offsets, rows))


class _Origins:
    """Key and headers of a record; no headers where the name of one is not UTF-8.

    Asked for those confluent-kafka raises, and asked again it ends the process.
    """

    def __init__(self, rows: Sequence[Message]) -> None:
        self._rows = rows
        self._nameless: set[int] = set()

    def __call__(self, row: int) -> tuple[bytes | None, Headers]:
        message = self._rows[row]
        headers: Headers = ()
        if row not in self._nameless:
            try:
                headers = message.headers() or ()
            except (SystemError, UnicodeDecodeError):
                self._nameless.add(row)
        return message.key(), headers
