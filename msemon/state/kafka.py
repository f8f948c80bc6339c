"""The store for replicas: a compacted topic in which partition p holds the state of task p.

A chunk or manifest is a record whose key is never used again; a deletion is a tombstone. `acks=all`, and each step
waits for the one before: a manifest in the log means that its chunks are there. Nothing here needs transactions.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from typing import Any

import structlog
from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError

from msemon.logs import one_line
from msemon.settings import Settings
from msemon.sources.kafka_config import client_config, producer_config
from msemon.sources.kafka_inside import Clients
from msemon.state import failpoints, kafka_topic
from msemon.state.base import MIB, Found, Slices, Unavailable, Unusable, Write, WriteFailed
from msemon.state.kafka_log import Keys, Reader

log = structlog.get_logger(__name__)

CONNECT_S = 10.0
SLICE_S = 0.02
"""How long a restore keeps the loop waiting at a time."""

IN_FLIGHT = 8 * MIB
"""Bytes on their way to the brokers at a time; kafka-python itself would take all there is."""

MARK_S = 30.0
"""How long the record that a restore begins with may take."""

TRY_S = 10.0
"""How much of that a producer gets that was made earlier: it may know the brokers by addresses they no longer have."""

_OURS = {
    # Unique keys make a record that arrives twice harmless, and idempotence may need one more right.
    "enable_idempotence": False,
    "acks": "all",
    "linger_ms": 5,
    "batch_size": MIB,
    "max_request_size": 16 * MIB,
    "max_block_ms": 5_000,
    "request_timeout_ms": 15_000,
    "delivery_timeout_ms": 60_000,
}


class KafkaStore:
    """The state topic of these settings."""

    name = "kafka"

    def __init__(self, settings: Settings, partitions: int) -> None:
        client_config(settings)  # raises ValueError now rather than at the first checkpoint
        self._settings = settings
        self._topic = settings.state.topic
        self._partitions = partitions
        self._keys = Keys(settings.kafka.group_id)
        self._guard = threading.Lock()  # around the producer: restores and writes may come at a time
        self._producer: Any = None
        self._suspect = False  # the last write failed: look whether the topic is still there
        self._ends: dict[int, int] = {}  # the largest offset that a partition was seen to have
        self._owed: dict[int, set[bytes]] = {}  # tombstones that did not get through

    def open(self) -> None:
        """See `Store`."""
        kafka_topic.ensure(self._settings, self._partitions)

    def close(self) -> None:
        """See `Store`."""
        self._drop_producer(1.0)

    def write(self, write: Write, timeout_s: float) -> None:
        """See `Store`."""
        deadline_s = time.monotonic() + timeout_s
        try:
            self._look_again(write, timeout_s)
            failpoints.reach(failpoints.BEFORE_CHUNKS)
            sending = _Sending(self._connected(deadline_s), self._topic, write.partition, deadline_s)
            for key, data in write.chunks():
                sending.send(self._keys.chunk(write.partition, key), data)
                failpoints.reach(failpoints.AMID_CHUNKS)
            sending.settle()
            failpoints.reach(failpoints.AFTER_CHUNKS)
            sending.send(self._keys.manifest(write.partition, write.key), write.manifest())
            sending.settle()
            failpoints.reach(failpoints.AFTER_MANIFEST)
            self._require_same_topic(write, sending)
        except (KafkaError, OSError, Unusable, Unavailable) as problem:
            self._suspect = True
            self._drop_producer(0.0)
            raise WriteFailed(f"state.topic {self._topic}: {one_line(problem)}") from problem
        self._delete(write, deadline_s)

    def restore(self, partition: int) -> Slices:
        """See `Store`."""
        reader = Reader(self._settings, partition, lambda: self._mark(partition))
        try:
            while not reader.wait(SLICE_S):
                yield
        finally:
            reader.stop()
        contents = reader.contents
        return Found(contents.chunk, contents.manifests, contents.chunks.keys())

    def _mark(self, partition: int) -> int:
        self._make_room(partition)
        deadline_s = time.monotonic() + MARK_S
        producer = self._producer
        try:
            sending = self._marked(partition, deadline_s if producer is None else deadline_s - MARK_S + TRY_S)
        except KafkaError as problem:
            if producer is None:
                raise
            log.warning("a restore looks for the brokers anew", partition=partition, reason=one_line(problem))
            self._drop_producer(0.0, producer)
            sending = self._marked(partition, deadline_s)
        self._ends[partition] = max(sending.last, self._ends.get(partition, -1))
        return sending.last

    def _marked(self, partition: int, deadline_s: float) -> _Sending:
        sending = _Sending(self._connected(deadline_s), self._topic, partition, deadline_s)
        sending.send(self._keys.marker(partition), b"restored up to here")
        sending.settle()
        return sending

    def _make_room(self, partition: int) -> None:
        """The input topics may have got more partitions since the topic was looked at."""
        if partition >= self._partitions:
            kafka_topic.ensure(self._settings, partition + 1)
            self._partitions = max(self._partitions, partition + 1)
            self._drop_producer(1.0)  # it would not know of them for minutes

    def _look_again(self, write: Write, timeout_s: float) -> None:
        """After a failure: a topic that was deleted is made anew, but what was in it is gone."""
        if not self._suspect:
            return
        made = kafka_topic.ensure(self._settings, self._partitions, timeout_s)
        self._suspect = False
        if made and write.base is not None:
            self._ends.clear()
            raise WriteFailed(f"state.topic {self._topic} was gone, and is made anew", lost=True)

    def _require_same_topic(self, write: Write, sending: _Sending) -> None:
        """Offsets only grow: lower ones mean that the topic was made anew, or its log cut, behind our back."""
        before = self._ends.get(write.partition, -1)
        self._ends[write.partition] = sending.last
        if sending.first <= before and write.base is not None:
            raise WriteFailed(
                f"state.topic {self._topic} partition {write.partition} has lost records: "
                f"it went on at offset {sending.first} after {before}",
                lost=True,
            )

    def _delete(self, write: Write, deadline_s: float) -> None:
        """The checkpoint is durable already: what fails here is only owed. Manifests go before their chunks."""
        owed = self._owed.setdefault(write.partition, set())
        manifests = [self._keys.manifest(write.partition, key) for key in write.delete_manifests]
        chunks = [self._keys.chunk(write.partition, key) for key in write.delete_chunks]
        every = [*manifests, *chunks, *sorted(owed)]
        owed.update(every)
        try:
            sending = _Sending(self._connected(deadline_s), self._topic, write.partition, deadline_s)
            for key in every:
                sending.send(key, None)
            sending.settle()
        except (KafkaError, OSError) as problem:
            log.warning("superfluous state stays for now", partition=write.partition, reason=one_line(problem))
            self._suspect = True
            self._drop_producer(0.0)
        else:
            self._ends[write.partition] = max(self._ends[write.partition], sending.last)
            owed.clear()

    def _connected(self, deadline_s: float) -> Any:
        with self._guard:
            if self._producer is None:
                connect_s = min(CONNECT_S, max(0.1, deadline_s - time.monotonic()))
                clients = Clients(self._settings)  # which makes no topics: a state topic is not just any topic
                try:
                    options = producer_config(self._settings, connect_s) | _OURS
                    self._producer = KafkaProducer(**options, kafka_client=clients)
                except BaseException:
                    clients.close()
                    raise
            return self._producer

    def _drop_producer(self, timeout_s: float, only: Any = None) -> None:
        """Of several restores that gave up the same one (`only`) the first drops it, and not the next one too."""
        with self._guard:
            if only is not None and self._producer is not only:
                return
            producer, self._producer = self._producer, None
        if producer is None:
            return
        try:
            producer.close(timeout=timeout_s)
        except KafkaTimeoutError:
            # It would go on trying to send what nobody waits for any more.
            with contextlib.suppress(AttributeError):
                producer._sender.force_close()  # noqa: SLF001 (its own `close` raises before it comes to this)


class _Sending:
    """Records on their way to one partition, so many bytes at a time."""

    def __init__(self, producer: Any, topic: str, partition: int, deadline_s: float) -> None:
        self._producer = producer
        self._topic = topic
        self._partition = partition
        self._deadline_s = deadline_s
        self._open: deque[tuple[Any, int]] = deque()
        self._open_bytes = 0
        self.first = -1
        self.last = -1

    def send(self, key: bytes, value: bytes | None) -> None:
        size = len(value or b"")
        while self._open and self._open_bytes + size > IN_FLIGHT:
            self._settle_one()
        self._open.append((self._producer.send(self._topic, value, key, partition=self._partition), size))
        self._open_bytes += size

    def settle(self) -> None:
        """Wait until all are acknowledged. Raises KafkaError."""
        while self._open:
            self._settle_one()

    def _settle_one(self) -> None:
        future, size = self._open.popleft()
        offset = future.get(max(0.001, self._deadline_s - time.monotonic())).offset
        self.first = offset if self.first < 0 else min(self.first, offset)
        self.last = max(self.last, offset)
        self._open_bytes -= size
