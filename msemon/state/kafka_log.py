"""The state topic as a log: the keys of its records, and reading one partition of it from its beginning to now."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import structlog
from kafka import KafkaConsumer, TopicPartition

from msemon.settings import Settings
from msemon.sources import kafka_records
from msemon.sources.kafka_config import consumer_config
from msemon.sources.kafka_inside import Clients, positions
from msemon.state.base import (
    MAX_CHUNK,
    MAX_MANIFEST,
    MAX_STATE,
    MIB,
    ChunkKey,
    Corrupt,
    ManifestKey,
    Refusal,
    Unavailable,
)

log = structlog.get_logger(__name__)

ASK_S = 10.0
STALLED_S = 30.0
"""Without a record for so long, the cluster is taken to be away."""

MAX_HELD = 2 * MAX_STATE
"""Bytes of all chunks of a task together that are kept while reading; what comes beyond is not."""

_NUMBER = r"(0|[1-9][0-9]{0,15})"
_KEY = re.compile(rf"(chunk|manifest)/([^/]*)/{_NUMBER}/([A-Za-z0-9_-]{{1,64}})/{_NUMBER}(?:/{_NUMBER})?")


class Keys:
    """Keys of the records of one group: text that a person can read, and filter by."""

    def __init__(self, group: str) -> None:
        self._group = quote(group, safe="")  # two groups may share a topic, so it stands in every key

    def chunk(self, partition: int, key: ChunkKey) -> bytes:
        return f"chunk/{self._group}/{partition}/{key.writer}/{key.sequence}/{key.number}".encode()

    def manifest(self, partition: int, key: ManifestKey) -> bytes:
        return f"manifest/{self._group}/{partition}/{key.writer}/{key.sequence}".encode()

    def marker(self, partition: int) -> bytes:
        """Of the record that a restore writes to know where the end is."""
        return f"marker/{self._group}/{partition}".encode()

    def parse(self, partition: int, key: bytes | None) -> ChunkKey | ManifestKey | None:
        """What a record of this group's task is; None for anything else."""
        match = _KEY.fullmatch((key or b"").decode("utf-8", "replace"))
        if match is None:
            return None
        kind, group, task, writer, sequence, number = match.groups()
        if group != self._group or int(task) != partition or (kind == "chunk") != (number is not None):
            return None
        manifest = ManifestKey(writer, int(sequence))
        return manifest if number is None else ChunkKey(*manifest, int(number))


class Contents:
    """What a log holds once its later records have replaced the earlier: at any time what lives, and nothing more."""

    def __init__(self, keys: Keys, partition: int) -> None:
        self._keys = keys
        self._partition = partition
        self._held_bytes = 0
        self.chunks: dict[ChunkKey, bytes | None] = {}  # None: too large to be ours, or to be held
        self.manifests: dict[ManifestKey, bytes] = {}

    def add(self, key: bytes | None, value: bytes | None) -> None:
        """The next record."""
        parsed = self._keys.parse(self._partition, key)
        if isinstance(parsed, ManifestKey):
            self.manifests.pop(parsed, None)
            if value is not None:
                self.manifests[parsed] = value[: MAX_MANIFEST + 1]
        elif parsed is not None:
            self._held_bytes -= len(self.chunks.pop(parsed, None) or b"")
            if value is not None:
                fits = len(value) <= MAX_CHUNK and self._held_bytes + len(value) <= MAX_HELD
                self.chunks[parsed] = value if fits else None
                self._held_bytes += len(value) if fits else 0

    def chunk(self, key: ChunkKey) -> bytes | None:
        """As `Found.chunk`."""
        data = self.chunks.get(key)
        if data is None and key in self.chunks:
            raise Corrupt(Refusal.MALFORMED, f"chunk {key} is too large")
        return data


class Reader:
    """Reads one partition on a thread of its own, so that the loop waits for nothing.

    `mark` writes a record to the partition and returns its offset. Everything that was durable before lies below it, so
    this is how far to read: the log's end as a broker tells it may be one that compaction has emptied.
    """

    def __init__(self, settings: Settings, partition: int, mark: Callable[[], int]) -> None:
        self._settings = settings
        self._where = TopicPartition(settings.state.topic, partition)
        self._mark = mark
        self._stopping = threading.Event()
        self._finished = threading.Event()
        self._problem: Exception | None = None
        self.contents = Contents(Keys(settings.kafka.group_id), partition)
        # A daemon thread: one that hangs in the client must not keep the process from its end.
        self._thread = threading.Thread(target=self._run, name=f"state-{partition}", daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Whether everything is read. Raises Unavailable."""
        if not self._finished.wait(timeout_s):
            return False
        if self._problem is not None:
            raise Unavailable(f"state.topic {self._where.topic}: {self._problem}") from self._problem
        return True

    def stop(self) -> None:
        """Stop reading soon; does not wait for it."""
        self._stopping.set()

    def _run(self) -> None:
        try:
            self._read(self._mark())
        except Exception as problem:  # noqa: BLE001 (all of them are the caller's, in its own thread)
            self._problem = problem
        finally:
            self._finished.set()

    def _read(self, end: int) -> None:
        consumer = _consumer(self._settings)
        try:
            unpacking = kafka_records.install(consumer)
            consumer.assign([self._where])
            (start,) = consumer.beginning_offsets([self._where], timeout_ms=round(ASK_S * 1000)).values()
            consumer.seek(self._where, start)
            position, moved_s = start, time.monotonic()
            while position <= end and not self._stopping.is_set():
                unpacking.begin()
                for _, _, key, value, _ in consumer.poll(timeout_ms=200).get(self._where, ()):
                    self.contents.add(key, value)
                for skipped in unpacking.skipped:
                    log.warning("unreadable records of the state topic passed over", **skipped._asdict())
                if positions(consumer).get(self._where, position) > position:
                    position, moved_s = positions(consumer)[self._where], time.monotonic()
                elif time.monotonic() - moved_s > STALLED_S:
                    raise TimeoutError(f"no record for {STALLED_S:g} s, at offset {position} of {end}")
        finally:
            consumer.close(autocommit=False, timeout_ms=1_000)


def _consumer(settings: Settings) -> Any:
    """A consumer that belongs to no group."""
    clients = Clients(settings)
    options = consumer_config(settings, ASK_S) | {
        "group_id": None,
        "group_instance_id": None,
        "auto_offset_reset": "earliest",  # where compaction has taken the beginning away
        "isolation_level": "read_uncommitted",
        "max_partition_fetch_bytes": 16 * MIB,
        "fetch_max_bytes": 16 * MIB,
        "kafka_client": clients,
    }
    try:
        return KafkaConsumer(**options)
    except BaseException:
        clients.close()
        raise
