"""How far a batch reaches that librdkafka can't read: it only says that there is one, kafka-python can tell."""

from __future__ import annotations

import time
from typing import Any

from kafka import KafkaConsumer
from kafka import TopicPartition as KafkaTopicPartition

from msemon.settings import Settings
from msemon.sources import kafka_inside, kafka_records
from msemon.sources.base import Skipped, TopicPartition
from msemon.sources.kafka_config import consumer_config

_POLL_MS = 500


def extent(settings: Settings, where: TopicPartition, position: int, timeout_s: float) -> Skipped | None:
    """What can't be read at this position; None where kafka-python can read on there, or did not learn it in time.

    Raises what kafka-python raises.
    """
    deadline_s = time.monotonic() + timeout_s
    clients = kafka_inside.Clients(settings)
    own = {"group_id": None, "group_instance_id": None, "kafka_client": clients, "max_poll_records": 1}
    try:
        consumer = KafkaConsumer(**consumer_config(settings, timeout_s) | own)
    except BaseException:
        clients.close()
        raise
    try:
        return _look(consumer, where, position, deadline_s)
    finally:
        consumer.close(autocommit=False, timeout_ms=1_000)


def _look(consumer: Any, where: TopicPartition, position: int, deadline_s: float) -> Skipped | None:
    unpacking = kafka_records.install(consumer)
    known = KafkaTopicPartition(*where)
    consumer.assign([known])
    consumer.seek(known, position)
    while time.monotonic() < deadline_s:
        unpacking.begin()
        records = consumer.poll(timeout_ms=_POLL_MS)
        if unpacking.skipped:
            found = unpacking.skipped[0]
            return found if found.offset == position else None
        if unpacking.stuck:
            return Skipped(where, position, 1, "no complete batch")
        if records:
            break
    return None
