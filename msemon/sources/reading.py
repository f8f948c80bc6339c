"""Reading topics without belonging to a group: nothing is committed, nobody's partitions move."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from kafka import KafkaConsumer

from msemon.settings import Settings
from msemon.sources.kafka_config import consumer_config
from msemon.sources.kafka_inside import Clients

CONNECT_S = 10.0


@contextlib.contextmanager
def groupless(settings: Settings) -> Iterator[Any]:
    """A consumer that belongs to no group. Raises KafkaError or OSError where there is no way in."""
    clients = Clients(settings)
    options = consumer_config(settings, CONNECT_S) | {
        "group_id": None,
        "group_instance_id": None,
        "auto_offset_reset": "earliest",  # retention may overtake a reader; nothing is counted here
        "kafka_client": clients,
    }
    try:
        consumer = KafkaConsumer(**options)
    except BaseException:
        clients.close()
        raise
    try:
        yield consumer
    finally:
        consumer.close(autocommit=False, timeout_ms=2_000)
