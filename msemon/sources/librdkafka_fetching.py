"""Where each partition is to be read and whether it may be: kept here, and brought to librdkafka before each poll.

librdkafka gives the messages of a poll only after it has called all that it had to call within it. So those callbacks
only note, and hand it all of an assignment, paused: our positions do not know of those messages yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import structlog
from confluent_kafka import KafkaException
from confluent_kafka import TopicPartition as ClientPartition

from msemon.sources import librdkafka_config as config
from msemon.sources import librdkafka_inside as inside
from msemon.sources.base import TopicPartition
from msemon.sources.group import Note, missed_one

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class Cursor:
    """Where one topic partition is read."""

    client: Any  # the client's name of it
    position: int = 0
    wanted: bool = False  # the daemon has resumed it
    flowing: bool = False  # the client fetches it from the position on
    stood: int = -1  # where it was found standing, and since when
    stood_s: float = 0.0

    def seek(self, offset: int) -> None:
        """Read on from there, once the client has been told."""
        self.position, self.flowing = offset, False


class Fetching:
    """The cursors of all that is assigned, and what the client is told by them."""

    def __init__(self) -> None:
        self.cursors: dict[TopicPartition, Cursor] = {}
        self.notes: deque[Note] = deque()
        self._generation: tuple[int, str] | None = None  # of the last assignment

    def subscribe(self, consumer: Any, topics: Iterable[str]) -> None:
        """Take part in the group from the next poll on."""
        consumer.subscribe(list(topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)

    def move(self, consumer: Any, may: Collection[int]) -> None:
        """Pause and resume what has to be, of these partitions; what is resumed is sought first."""
        wanted = {where for where, cursor in self.cursors.items() if cursor.wanted and where.partition in may}
        stop = [cursor for where, cursor in self.cursors.items() if where not in wanted and cursor.flowing]
        begin = [self.cursors[where] for where in wanted if not self.cursors[where].flowing]
        try:
            if stop:
                consumer.pause([cursor.client for cursor in stop])
            if begin:
                consumer.pause([cursor.client for cursor in begin])
            for cursor in begin:
                consumer.seek(ClientPartition(cursor.client.topic, cursor.client.partition, cursor.position))
            if begin:
                consumer.resume([cursor.client for cursor in begin])
        except KafkaException:
            self._assign(consumer, wanted)  # one that has stopped at an error can't be sought
            return
        for cursor in (*stop, *begin):
            cursor.flowing = not cursor.flowing

    def flowing(self) -> dict[TopicPartition, Cursor]:
        """What the client reads now."""
        return {where: cursor for where, cursor in self.cursors.items() if cursor.flowing}

    def _on_assign(self, consumer: Any, assigned: list[Any]) -> None:
        now = frozenset(TopicPartition(each.topic, each.partition) for each in assigned)
        before, self._generation = self._generation, inside.generation(consumer)
        if self.cursors and missed_one(before, self._generation):
            self._lose(self.cursors)
        self.cursors = {where: self.cursors.get(where) or Cursor(ClientPartition(*where)) for where in now}
        self.notes.append(Note("assigned", now))
        self._assign(consumer, frozenset())

    def _on_revoke(self, consumer: Any, revoked: list[Any]) -> None:
        """The rebalance begins; positions and pauses of what comes back are kept."""
        self.notes.append(Note("revoked", frozenset(TopicPartition(each.topic, each.partition) for each in revoked)))
        self._unassign(consumer)

    def _on_lost(self, consumer: Any, lost: list[Any]) -> None:
        self._lose([TopicPartition(each.topic, each.partition) for each in lost])
        self._unassign(consumer)

    def _lose(self, lost: Iterable[TopicPartition]) -> None:
        gone = frozenset(lost)
        self.cursors = {where: cursor for where, cursor in self.cursors.items() if where not in gone}
        self.notes.append(Note("lost", gone))

    def _unassign(self, consumer: Any) -> None:
        for cursor in self.cursors.values():
            cursor.flowing = False
        consumer.unassign()

    def _assign(self, consumer: Any, wanted: Collection[TopicPartition]) -> None:
        """Hand the client all that was assigned, each at our position; it forgets what it had fetched."""
        places = [ClientPartition(*where, cursor.position) for where, cursor in self.cursors.items()]
        still = [cursor.client for where, cursor in self.cursors.items() if where not in wanted]
        try:
            consumer.assign(places)
            if still:
                consumer.pause(still)
            if wanted:  # a pause outlasts an assignment
                consumer.resume([self.cursors[where].client for where in wanted])
        except KafkaException as problem:
            log.warning("partitions not taken up", reason=config.reason(problem))
            wanted = ()
        for where, cursor in self.cursors.items():
            cursor.flowing = where in wanted
