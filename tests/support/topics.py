"""Topics and records for tests."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from kafka import KafkaProducer, TopicPartition

from support.brokers import admin

_counter = itertools.count()


def unique(stem: str) -> str:
    """A name nobody else uses on this broker."""
    return f"{stem}-{os.getpid()}-{next(_counter)}"


class Record(NamedTuple):
    """One record to produce; `timestamp_ms` None is the wall clock."""

    value: bytes | None
    partition: int = 0
    key: bytes | None = None
    timestamp_ms: int | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


def create_topics(
    bootstrap: str, partitions: Mapping[str, int], configs: Mapping[str, str] | None = None, replicas: int = 1
) -> None:
    """Create each topic with its number of partitions, and wait until all have leaders."""
    wanted: dict[str, dict[str, Any]] = {
        topic: {"num_partitions": count, "replication_factor": replicas, "configs": dict(configs or {})}
        for topic, count in partitions.items()
    }
    with admin(bootstrap) as client:
        client.create_topics(wanted, wait_for_metadata=True)


def add_partitions(bootstrap: str, topic: str, total: int) -> None:
    with admin(bootstrap) as client:
        client.create_partitions({topic: total})


def delete_before(bootstrap: str, topic: str, partition: int, offset: int) -> None:
    """Delete the records below the offset, as retention would."""
    with admin(bootstrap) as client:
        client.delete_records({TopicPartition(topic, partition): offset})


def produce(bootstrap: str, topic: str, records: Iterable[Record], **options: Any) -> None:
    """Write the records in order and wait until all are acknowledged; options are KafkaProducer's."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, **{"linger_ms": 20, "max_block_ms": 20_000} | options)
    try:
        for future in [_send(producer, topic, record) for record in records]:
            future.get(timeout=30)
    finally:
        producer.close(timeout=10)


def transaction(bootstrap: str, topic: str, records: Iterable[Record], commit: bool = True) -> None:
    """Write the records in one transaction and commit or abort it."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, transactional_id=unique("transaction"), max_block_ms=20_000)
    try:
        producer.init_transactions()
        producer.begin_transaction()
        for future in [_send(producer, topic, record) for record in records]:
            future.get(timeout=30)
        if commit:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
    finally:
        producer.close(timeout=10)


def _send(producer: KafkaProducer, topic: str, record: Record) -> Any:
    return producer.send(
        topic,
        value=record.value,
        key=record.key,
        partition=record.partition,
        timestamp_ms=record.timestamp_ms,
        headers=list(record.headers),
    )
