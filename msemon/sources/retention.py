"""Whether the topics keep records long enough for windows and joins to be rebuilt from them."""

from __future__ import annotations

import threading
from typing import NamedTuple

import structlog
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from msemon.settings import Settings
from msemon.sources.kafka_config import client_config
from msemon.sources.kafka_inside import Clients

log = structlog.get_logger(__name__)

ASK_S = 10.0


class Short(NamedTuple):
    """A topic that deletes records after `retention_s`, while they matter for longer."""

    topic: str
    retention_s: float


def look(settings: Settings, needed_s: float) -> threading.Thread:
    """Warn of topics that keep records for less than `needed_s`; on a thread of its own, since nothing waits for it."""
    thread = threading.Thread(target=_warn, args=(settings, needed_s), name="retention", daemon=True)
    thread.start()
    return thread


def _warn(settings: Settings, needed_s: float) -> None:
    try:
        found = short_topics(settings, needed_s)
    except Exception as problem:  # noqa: BLE001 (a look that may fail: brokers without the request, rights not given)
        log.info("how long the topics keep records is not known", reason=str(problem))
        return
    for topic, retention_s in found:
        log.warning(
            "a topic deletes records that may still be needed: what is lost with the state could not be rebuilt",
            topic=topic,
            retention_seconds=retention_s,
            needed_seconds=needed_s,
        )


def short_topics(settings: Settings, needed_s: float) -> list[Short]:
    """Topics whose records may be deleted before they have mattered for `needed_s`.

    Topics that keep what is old, or of whose settings the cluster tells nothing, are none. Raises what the client
    raises where it does not answer, or may not.
    """
    limit_ms = round(ASK_S * 1000)
    known = {name: value for name, value in client_config(settings, ASK_S).items() if name in _options()}
    clients = Clients(settings)
    try:
        client = KafkaAdminClient(**known, request_timeout_ms=limit_ms, kafka_client=clients)
    except BaseException:
        clients.close()
        raise
    try:
        resources = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in settings.kafka.topics]
        found = client.describe_configs(resources, config_filter="all").get("topic", {})
    finally:
        client.close()
    short = []
    for topic in settings.kafka.topics:
        values = {name: each.get("value") for name, each in found.get(topic, {}).items()}
        retention_ms = values.get("retention.ms")
        if retention_ms is None or "delete" not in str(values.get("cleanup.policy", "delete")):
            continue
        if 0 <= int(retention_ms) < needed_s * 1000:
            short.append(Short(topic, int(retention_ms) / 1000))
    return short


def _options() -> set[str]:
    return set(KafkaAdminClient.DEFAULT_CONFIG) - {"request_timeout_ms"}
