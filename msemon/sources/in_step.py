"""Keeps the topics of each partition in step in event time. Pure: no I/O, time is an argument.

What a join must remember is what one topic has brought and the other not yet. Therefore a topic that runs ahead waits
here, in bounded buffers, as long as another one of its partition is known to have something older to come. The join's
result does not depend on this order; only its memory does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from msemon.events import Batch, Decoded
from msemon.sources.base import TopicPartition

BUFFER_BYTES = 64 * 1024 * 1024
SILENCE_S = 5.0

CHANCES = 8
"""How often every topic partition must have had its turn with the client before one that brought nothing is silent. A
poll brings what one of them has: where all have a backlog, and working it off takes seconds, each must wait for the
others, and is not silent for that.
"""

AGAIN_S = 0.1
"""How long until what could not be decoded yet is tried again: even that takes looking at every record."""

_NOTHING_KNOWN = 1
"""The lag of a topic partition whose end nobody has told yet: it may have something."""


@dataclass(slots=True)
class _Queue:
    """What has come of one topic partition and not been taken."""

    heard_s: float  # when it last had something here
    heard_poll: int
    batches: deque[Batch] = field(default_factory=deque)
    head: Decoded | None = None  # the first batch decoded, once somebody had to know its time
    again_s: float = 0.0  # when to try that again, where it had to wait


class InStep:
    """Buffers of batches by topic partition, taken out in the order of their event times within each partition."""

    def __init__(
        self,
        topics: Sequence[str],
        decode: Callable[[Batch], Decoded | None],
        buffer_bytes: int = BUFFER_BYTES,
        silence_s: float = SILENCE_S,
    ) -> None:
        """`decode` gives None for what it can't decode yet: that partition waits, and it is asked again.

        `buffer_bytes` bounds each topic's buffers together.

        It is exceeded by one poll's batches, and by as much for each of its partitions whose own buffer is empty.
        """
        self._topics = tuple(topics)
        self._decode = decode
        self._limit = buffer_bytes
        self._silence_s = silence_s
        self._queues: dict[int, dict[str, _Queue]] = {}  # partition → topic →, the next one to be served first
        self._bytes = dict.fromkeys(self._topics, 0)
        self._paused: set[TopicPartition] = set()
        self._polls = 0

    def polled(self, brought: bool) -> None:
        """The source has been asked once more. Where it had nothing at all every topic partition has had its turn."""
        self._polls += 1 if brought else self._size()

    def add(self, partitions: Iterable[int], now_s: float) -> None:
        """These partitions begin to be read; their topics count as heard now. Those already there are left alone."""
        for partition in partitions:
            if partition not in self._queues:
                self._queues[partition] = {topic: _Queue(now_s, self._polls) for topic in self._topics}

    def drop(self, partitions: Iterable[int]) -> None:
        """Forget what these partitions have here."""
        for partition in partitions:
            for topic, queue in self._queues.pop(partition, {}).items():
                self._bytes[topic] -= sum(batch.size for batch in queue.batches)
                self._paused.discard(TopicPartition(topic, partition))

    def put(self, batch: Batch, now_s: float) -> None:
        """Take what the source has delivered. Raises KeyError for a partition that was not added."""
        queue = self._queues[batch.partition][batch.topic]
        queue.batches.append(batch)
        queue.heard_s, queue.heard_poll = now_s, self._polls
        self._bytes[batch.topic] += batch.size

    def next(
        self, now_s: float, lag: Mapping[TopicPartition, int], at_limit: bool = False
    ) -> tuple[Batch, Decoded] | None:
        """The batch whose turn it is with its events, or None where nothing may be taken now.

        Within a partition that is the head with the smallest event time; a head without events passes at once. None of
        a partition is taken while one of its topics has nothing here and something to come (`lag`, where absent not
        known): until the source has brought nothing of it for `silence_s` and in all of its `CHANCES`, and where
        `at_limit` for as long as that is so. Partitions take turns.
        """
        for partition in list(self._queues):
            topic = self._turn(partition, now_s, lag, at_limit)
            if topic is not None:
                self._queues[partition] = self._queues.pop(partition)  # to the back
                return self._take(partition, topic, now_s)
        return None

    def to_pause(self) -> list[TopicPartition]:
        """What to stop fetching now, because its topic's buffers are full; each is told once.

        A partition whose own buffer is empty goes on: another topic may be waiting for it, and if both were full each
        would wait for the other for ever.
        """
        full = [
            TopicPartition(topic, partition)
            for partition, queues in self._queues.items()
            for topic, queue in queues.items()
            if self._bytes[topic] >= self._limit and queue.batches
        ]
        new = [where for where in full if where not in self._paused]
        self._paused.update(new)
        return new

    def to_resume(self) -> list[TopicPartition]:
        """What `to_pause` had named and may be fetched again: its topic is at half, or its own buffer empty."""
        ready = [
            where
            for where in self._paused
            if self._bytes[where.topic] * 2 <= self._limit or not self._queues[where.partition][where.topic].batches
        ]
        self._paused.difference_update(ready)
        return ready

    def buffered_bytes(self, topic: str) -> int:
        """Bytes of the topic's values that wait here."""
        return self._bytes[topic]

    def _turn(self, partition: int, now_s: float, lag: Mapping[TopicPartition, int], at_limit: bool) -> str | None:
        """The topic of the partition whose head is next, or None."""
        queues = self._queues[partition]
        if not all(self._decoded(queue, now_s) for queue in queues.values()):
            return None
        times = {topic: self._head_time(queue) for topic, queue in queues.items() if queue.batches}
        without = next((topic for topic, time in times.items() if time is None), None)
        if without is not None:
            return without
        for topic, queue in queues.items():
            more = lag.get(TopicPartition(topic, partition), _NOTHING_KNOWN) > 0
            if not queue.batches and more and (at_limit or not self._silent(queue, now_s)):
                return None
        return min(times, key=lambda topic: times[topic] or 0, default=None)

    def _silent(self, queue: _Queue, now_s: float) -> bool:
        return now_s - queue.heard_s > self._silence_s and self._polls - queue.heard_poll >= CHANCES * self._size()

    def _size(self) -> int:
        return len(self._queues) * len(self._topics)

    def _decoded(self, queue: _Queue, now_s: float) -> bool:
        """Whether what comes first of a queue, if anything, is decoded by now."""
        if queue.head is None and queue.batches and now_s >= queue.again_s:
            queue.head = self._decode(queue.batches[0])
            queue.again_s = now_s + AGAIN_S if queue.head is None else 0.0
        return queue.head is not None or not queue.batches

    def _head_time(self, queue: _Queue) -> int | None:
        """Smallest event time of the first batch; None where it has no events."""
        assert queue.head is not None  # whoever asks has seen to that
        events = (queue.head.predictions, queue.head.labels, queue.head.pairs)
        return min((int(each.times.min()) for each in events if len(each.times)), default=None)

    def _take(self, partition: int, topic: str, now_s: float) -> tuple[Batch, Decoded]:
        queue = self._queues[partition][topic]
        queue.heard_s, queue.heard_poll = now_s, self._polls
        batch, head = queue.batches.popleft(), queue.head
        assert head is not None  # or it would not have been its turn
        queue.head = None
        self._bytes[topic] -= batch.size
        return batch, head
