"""From settings to the options of kafka-python's clients; for the source, the dead letters and `msemon check`."""

from __future__ import annotations

from typing import Any

from kafka import KafkaConsumer, KafkaProducer
from kafka.coordinator.assignors.range import RangePartitionAssignor

from msemon.settings import Settings
from msemon.settings.model import CLIENT_OWN
from msemon.sources.oauth import Tokens

CONNECT_S = 10.0
"""How long one attempt to reach the cluster may take."""

_NOT_OURS_TO_GIVE = CLIENT_OWN | {
    "allow_auto_create_topics", "bootstrap_timeout_ms", "kafka_client", "key_serializer", "value_serializer",
    "transactional_id", "selector", "metric_reporters", "api_version", "default_offset_commit_callback",
}  # fmt: skip
"""Options a user may not set: they have a setting of their own, or what msemon promises depends on their value."""


def client_config(settings: Settings, connect_s: float = CONNECT_S) -> dict[str, Any]:
    """Options that every client takes: where the brokers are and how to be let in.

    Raises ValueError naming the `client_options` that no client knows or that are not for users. Names with dots are
    librdkafka's own, where the source is on it.
    """
    kafka = settings.kafka
    known = KafkaConsumer.DEFAULT_CONFIG.keys() | KafkaProducer.DEFAULT_CONFIG.keys()
    given = [name for name in kafka.client_options if kafka.client == "kafka-python" or "." not in name]
    if own := sorted(name for name in given if name in _NOT_OURS_TO_GIVE):
        raise ValueError(f"kafka.client_options: msemon itself sets {', '.join(own)}")
    if unknown := sorted(name for name in given if name not in known):
        raise ValueError(f"kafka.client_options: kafka-python has no option {', '.join(unknown)}")
    password = kafka.sasl_password
    options = {
        "bootstrap_servers": [server.strip() for server in kafka.bootstrap_servers.split(",")],
        "bootstrap_timeout_ms": round(connect_s * 1000),
        "client_id": "msemon",
        "security_protocol": kafka.security_protocol,
        "sasl_mechanism": kafka.sasl_mechanism,
        "sasl_oauth_token_provider": Tokens(settings) if kafka.sasl_mechanism == "OAUTHBEARER" else None,
        "sasl_plain_username": kafka.sasl_username,
        "sasl_plain_password": None if password is None else password.get_secret_value(),
        "ssl_cafile": kafka.ssl_cafile,
        "ssl_certfile": kafka.ssl_certfile,
        "ssl_keyfile": kafka.ssl_keyfile,
        "ssl_check_hostname": kafka.ssl_check_hostname,
    }
    return options | {name: value for name, value in kafka.client_options.items() if name in _common()}


def consumer_config(settings: Settings, connect_s: float = CONNECT_S) -> dict[str, Any]:
    """Options of the group's consumer."""
    kafka = settings.kafka
    ours = {
        # Large batches cost the least per record: a poll brings whole fetches of a few partitions where there is a
        # backlog. The sizes bound what a fetch may bring before it is parsed.
        "max_poll_records": 30_000,
        "max_partition_fetch_bytes": 2 * 1024 * 1024,
        "fetch_max_bytes": 16 * 1024 * 1024,
        # A quarter of a second later is early enough, and a trickle of records is not a batch each.
        "fetch_min_bytes": 64 * 1024,
        "fetch_max_wait_ms": 250,
        # The group's leader learns of new partitions so soon.
        "metadata_max_age_ms": 30_000,
        # With kafka-python's 30 s a broker that comes back is noticed late.
        "reconnect_backoff_max_ms": 5_000,
    }
    fixed = {
        "group_id": kafka.group_id,
        "group_instance_id": kafka.group_instance_id,
        "isolation_level": "read_committed",
        "enable_auto_commit": False,
        "auto_offset_reset": "none",  # a jump is ours to make, and to count
        "partition_assignment_strategy": [RangePartitionAssignor],  # alone keeps the topics' partitions p together
    }
    theirs = {name: value for name, value in kafka.client_options.items() if name in KafkaConsumer.DEFAULT_CONFIG}
    return client_config(settings, connect_s) | ours | theirs | fixed


def producer_config(settings: Settings, connect_s: float = CONNECT_S) -> dict[str, Any]:
    """Options of a producer."""
    options = settings.kafka.client_options
    theirs = {name: value for name, value in options.items() if name in KafkaProducer.DEFAULT_CONFIG}
    return client_config(settings, connect_s) | theirs


def _common() -> set[str]:
    """Options that consumers and producers both have."""
    return set(KafkaConsumer.DEFAULT_CONFIG.keys() & KafkaProducer.DEFAULT_CONFIG.keys())
