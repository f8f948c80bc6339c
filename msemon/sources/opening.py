"""The source that the settings ask for."""

from __future__ import annotations

from importlib.util import find_spec

from msemon.settings import Settings
from msemon.sources.base import Source
from msemon.sources.kafka_config import client_config

# ruff: noqa: PLC0415 (a client is loaded where it is asked for: confluent-kafka is an extra)


def open_source(settings: Settings) -> Source:
    """Not connected yet. Raises ValueError where `client_options` can't be used."""
    if settings.kafka.client == "librdkafka":
        from msemon.sources.librdkafka import LibrdkafkaSource

        return LibrdkafkaSource(settings)
    from msemon.sources.kafka_python import KafkaPythonSource

    return KafkaPythonSource(settings)


def look_at_options(settings: Settings) -> None:
    """Raises ValueError where `client_options` can't be used; only the client can tell. Asks no broker."""
    client_config(settings)
    if settings.kafka.client == "librdkafka":
        from msemon.sources.librdkafka_config import look_at_consumer

        look_at_consumer(settings)


def client_missing(settings: Settings) -> str | None:
    """What to say where the client that the settings name is not installed."""
    if settings.kafka.client == "librdkafka" and find_spec("confluent_kafka") is None:
        return "kafka.client = \"librdkafka\": needs confluent-kafka: pip install 'msemon[librdkafka]'"
    return None
