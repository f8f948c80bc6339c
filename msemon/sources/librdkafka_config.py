"""From settings to the options of librdkafka's clients.

`client_options` are by kafka-python's names, since the state's topic and dead letters are written with it; those that
librdkafka has too hold for both. A name with dots is librdkafka's own.
"""

from __future__ import annotations

from typing import Any

from confluent_kafka import Consumer, KafkaException

from msemon.settings import Settings
from msemon.settings.model import CLIENT_OWN
from msemon.sources import librdkafka_log
from msemon.sources.login import Login

QUEUED_KBYTES = 32 * 1024
"""What the client may hold that was fetched and not polled, of all partitions together."""

MOST_RECORDS = 60_000
"""Records a poll brings at most: where there is a backlog whole fetches of a few partitions, since a batch of thousands
costs the least an event."""

_SAME = {
    "client_id": "client.id",
    "client_rack": "client.rack",
    "connections_max_idle_ms": "connections.max.idle.ms",
    "fetch_max_bytes": "fetch.max.bytes",
    "fetch_max_wait_ms": "fetch.wait.max.ms",
    "fetch_min_bytes": "fetch.min.bytes",
    "heartbeat_interval_ms": "heartbeat.interval.ms",
    "max_partition_fetch_bytes": "max.partition.fetch.bytes",
    "max_poll_interval_ms": "max.poll.interval.ms",
    "metadata_max_age_ms": "topic.metadata.refresh.interval.ms",
    "receive_buffer_bytes": "socket.receive.buffer.bytes",
    "reconnect_backoff_max_ms": "reconnect.backoff.max.ms",
    "reconnect_backoff_ms": "reconnect.backoff.ms",
    "request_timeout_ms": "socket.timeout.ms",
    "send_buffer_bytes": "socket.send.buffer.bytes",
    "session_timeout_ms": "session.timeout.ms",
    "ssl_crlfile": "ssl.crl.location",
    "ssl_password": "ssl.key.password",
}
"""kafka-python's names of options that librdkafka has too."""

_NOT_OURS_TO_GIVE = {name.replace("_", ".") for name in CLIENT_OWN} | {
    "allow.auto.create.topics", "auto.commit.enable", "auto.commit.interval.ms", "check.crcs", "client.dns.lookup",
    "enable.auto.offset.store", "enable.partition.eof", "group.protocol", "group.remote.assignor",
    "metadata.broker.list", "plugin.library.paths", "sasl.mechanisms", "sasl.password", "sasl.username",
    "enable.ssl.certificate.verification", "ssl.ca.location", "ssl.certificate.location", "ssl.key.location",
    "ssl.endpoint.identification.algorithm", "statistics.interval.ms",
}  # fmt: skip
"""Options a user may not set: they have a setting of their own, or what msemon promises depends on their value."""


def client_config(settings: Settings) -> dict[str, Any]:
    """Options that every client takes: where the brokers are and how to be let in. Asked anew for each new client."""
    kafka = settings.kafka
    username, password = Login(settings).now() if kafka.sasl_mechanism != "OAUTHBEARER" else (None, None)
    options = {
        "bootstrap.servers": kafka.bootstrap_servers,
        "client.id": "msemon",
        "security.protocol": kafka.security_protocol,
        "sasl.mechanism": kafka.sasl_mechanism,
        "sasl.username": username,
        "sasl.password": password,
        "ssl.ca.location": kafka.ssl_cafile,
        "ssl.certificate.location": kafka.ssl_certfile,
        "ssl.key.location": kafka.ssl_keyfile,
        "ssl.endpoint.identification.algorithm": "https" if kafka.ssl_check_hostname else "none",
        # With librdkafka's 100 ms a broker that refuses us goes through twenty handshakes a second.
        "reconnect.backoff.ms": 500,
        # With librdkafka's 10 s a broker that comes back is noticed late.
        "reconnect.backoff.max.ms": 5_000,
        "allow.auto.create.topics": False,
        "logger": librdkafka_log.logger(),
    }
    found = {name: value for name, value in options.items() if value is not None}
    return found | {name: value for name, value in _theirs(settings).items() if name in _COMMON}


def consumer_config(settings: Settings) -> dict[str, Any]:
    """Options of the group's consumer. Raises ValueError naming the `client_options` that are not for users."""
    kafka = settings.kafka
    refused = sorted(
        name for name in kafka.client_options if name in _NOT_OURS_TO_GIVE or name.startswith("sasl.oauthbearer.")
    )
    if refused:
        raise ValueError(f"kafka.client_options: msemon itself sets {', '.join(refused)}")
    ours = {
        "session.timeout.ms": 45_000,
        # A fetch is bounded before it is parsed, and so is what waits here, however many partitions there are.
        "queued.max.messages.kbytes": QUEUED_KBYTES,
        "fetch.max.bytes": 16 * 1024 * 1024,
        "max.partition.fetch.bytes": 1024 * 1024,
        "receive.message.max.bytes": 100_000_000,
        "fetch.min.bytes": 1,
        "fetch.wait.max.ms": 250,
        "fetch.error.backoff.ms": 250,
        # With librdkafka's own second a partition whose queue was full stands still long after it has been emptied.
        "fetch.queue.backoff.ms": 10,
        # The group's leader learns of new partitions so soon.
        "topic.metadata.refresh.interval.ms": 30_000,
    }
    fixed = {
        "group.id": kafka.group_id,
        "group.instance.id": kafka.group_instance_id,
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",  # a jump is ours to make, and to count
        "partition.assignment.strategy": "range",  # alone keeps the topics' partitions p together
        "check.crcs": True,
        "enable.partition.eof": True,  # tells where reading is after the last record: control records have offsets too
        "statistics.interval.ms": 1_000,  # the only way to hear of heartbeats
    }
    config = client_config(settings) | ours | _theirs(settings) | fixed
    return {name: value for name, value in config.items() if value is not None}


def most_records(settings: Settings) -> int:
    """How many records a poll may bring."""
    return int(settings.kafka.client_options.get("max_poll_records", MOST_RECORDS))


def look_at_consumer(settings: Settings) -> None:
    """Raises ValueError with librdkafka's words where it does not take the options. Asks no broker."""
    config = consumer_config(settings)
    if not settings.kafka.client_options:
        return
    try:
        Consumer(config | {"bootstrap.servers": ""}).close()
    except (KafkaException, TypeError, ValueError) as problem:
        raise ValueError(f"kafka.client_options: {reason(problem)}") from None


def reason(problem: BaseException) -> str:
    """What went wrong in librdkafka's words, without its codes."""
    error = problem.args[0] if isinstance(problem, KafkaException) and problem.args else problem
    return str(error.str()) if hasattr(error, "str") else str(error)


def _theirs(settings: Settings) -> dict[str, Any]:
    """What the user asks of librdkafka, by its names."""
    given = settings.kafka.client_options
    return {_SAME[name]: value for name, value in given.items() if name in _SAME} | {
        name: value for name, value in given.items() if "." in name
    }


_COMMON = {
    "client.id", "connections.max.idle.ms", "reconnect.backoff.max.ms", "reconnect.backoff.ms",
    "socket.receive.buffer.bytes", "socket.send.buffer.bytes", "socket.timeout.ms", "ssl.crl.location",
    "ssl.key.password", "topic.metadata.refresh.interval.ms",
}  # fmt: skip
"""Options that hold for the asking client as well as for the consumer."""
