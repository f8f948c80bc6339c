"""State topics on real brokers: settings, stores, and what a test does to the records behind their backs."""

from __future__ import annotations

import time
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from msemon.settings import Settings
from msemon.state import open_store
from msemon.state.kafka import KafkaStore
from support.topics import Record, produce, unique

COMPACTED = {"cleanup.policy": "compact"}
# Small and soon closed segments that are compacted again and again: what takes ten minutes takes a second.
EAGER = COMPACTED | {
    "segment.bytes": str(1024 * 1024),
    "segment.ms": "100",
    "min.cleanable.dirty.ratio": "0.01",
    "max.compaction.lag.ms": "100",
    "delete.retention.ms": "100",
}


def settings(bootstrap: str, topic: str, group: str = "group", **kafka: Any) -> Settings:
    return Settings(
        kafka={"bootstrap_servers": bootstrap, "group_id": group, **kafka},  # type: ignore[arg-type]
        state={"store": "kafka", "topic": topic},  # type: ignore[arg-type]
    )


class Place:
    """A state topic of its own, and its stores."""

    def __init__(self, bootstrap: str, partitions: int = 1) -> None:
        self.bootstrap = bootstrap
        self.topic = unique("state")
        self.partitions = partitions
        self.opened: list[Any] = []

    def store(self, group: str = "group") -> KafkaStore:
        store = open_store(settings(self.bootstrap, self.topic, group), self.partitions)
        assert isinstance(store, KafkaStore)
        self.opened.append(store)
        return store

    def log(self) -> list[tuple[bytes, bytes | None]]:
        """Key and value of what partition 0 has at the moment."""
        found: list[tuple[bytes, bytes | None]] = []
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, auto_offset_reset="earliest")
        try:
            where = TopicPartition(self.topic, 0)
            consumer.assign([where])
            (end,) = consumer.end_offsets([where]).values()
            deadline = time.monotonic() + 30
            while consumer.position(where, timeout_ms=10_000) < end and time.monotonic() < deadline:
                found += [(record.key, record.value) for record in consumer.poll(timeout_ms=200).get(where, ())]
        finally:
            consumer.close()
        return found

    def tombstone(self, *keys: bytes) -> None:
        """As if each had been deleted."""
        produce(self.bootstrap, self.topic, [Record(None, 0, key) for key in keys])

    def overwrite(self, key: bytes, value: bytes) -> None:
        produce(self.bootstrap, self.topic, [Record(value, 0, key)])

    def close(self) -> None:
        for store in self.opened:
            store.close()
