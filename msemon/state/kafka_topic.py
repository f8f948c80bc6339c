"""The state topic: made where it does not exist, checked where it does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import structlog
from kafka import KafkaAdminClient, errors
from kafka.admin import ConfigResource, ConfigResourceType

from msemon.settings import Settings
from msemon.sources.kafka_config import client_config
from msemon.sources.kafka_inside import Clients
from msemon.state.base import MIB, Unavailable, Unusable

log = structlog.get_logger(__name__)

ASK_S = 10.0
"""How long one attempt to reach the cluster, and each of its answers, may take."""

LEAST_RECORD = 1_000_000
"""Bytes that a record of the topic must be allowed to have: a chunk and room to spare; Kafka's default has them."""

CONFIGS = {
    "cleanup.policy": "compact",
    # The active segment is never compacted: with the defaults (1 GiB, 7 days) a restore reads a week of checkpoints.
    "segment.bytes": str(64 * MIB),
    "segment.ms": str(10 * 60 * 1000),
    "min.cleanable.dirty.ratio": "0.1",
    "max.message.bytes": str(8 * MIB),  # a manifest grows beyond 1 MiB only with many gigabytes of state
}
"""Of a topic made here. Replication is the brokers' default."""

_NOT_ALLOWED = (
    errors.ClusterAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
    errors.PolicyViolationError,
    errors.TopicAuthorizationFailedError,
    errors.UnsupportedSaslMechanismError,
)
_NOT_KNOWN = (errors.UnsupportedVersionError, errors.IncompatibleBrokerVersion)
_WRONG = (errors.InvalidConfigurationError, errors.InvalidReplicationFactorError, errors.InvalidTopicError)


def ensure(settings: Settings, partitions: int, timeout_s: float = ASK_S) -> bool:
    """Make the state topic with so many partitions, or check the one there is and give it what it lacks of them; True
    where it was made.

    What can't be known (no right to see the topic's settings, or a broker that does not tell them) is taken to be right
    and logged. Raises Unusable or Unavailable.
    """
    topic = settings.state.topic
    with _asked(settings, partitions, timeout_s) as admin:
        found = _partitions(admin, topic)
        made = found is None and _create(admin, topic, partitions)
        if not made:
            _grow(admin, topic, partitions, (_partitions(admin, topic) if found is None else found) or 0)
            _check(admin, topic)
        return made


def look(settings: Settings, partitions: int) -> str:
    """What `ensure` would do, in words; does nothing itself. Raises Unusable or Unavailable."""
    topic = settings.state.topic
    with _asked(settings, partitions, ASK_S) as admin:
        found = _partitions(admin, topic)
        if found is None:
            return "does not exist: run would make it"
        _check(admin, topic)
        return "can be used" if found >= partitions else f"has {found} partitions: run would give it {partitions}"


@contextlib.contextmanager
def _asked(settings: Settings, partitions: int, timeout_s: float) -> Iterator[KafkaAdminClient]:
    """Somebody to ask; what goes wrong meanwhile as Unusable or Unavailable."""
    topic = settings.state.topic
    try:
        with _admin(settings, min(timeout_s, ASK_S)) as admin:
            yield admin
    except (*_NOT_ALLOWED, *_WRONG) as problem:
        configs = ", ".join(f"{name}={value}" for name, value in CONFIGS.items())
        advice = f"Make it with {partitions} partitions and {configs}"
        raise Unusable(f"state.topic {topic} can't be made or looked at: {problem}. {advice}") from problem
    except (errors.KafkaError, OSError) as problem:
        raise Unavailable(f"state.topic {topic}: {problem}") from problem


@contextlib.contextmanager
def _admin(settings: Settings, timeout_s: float) -> Iterator[KafkaAdminClient]:
    options = {k: v for k, v in client_config(settings, timeout_s).items() if k in KafkaAdminClient.DEFAULT_CONFIG}
    clients = Clients(settings)
    try:
        admin = KafkaAdminClient(**options | {"request_timeout_ms": round(timeout_s * 1000), "kafka_client": clients})
    except BaseException:
        clients.close()
        raise
    try:
        yield admin
    finally:
        admin.close()


def _partitions(admin: Any, topic: str) -> int | None:
    """None where the topic does not exist. Creates nothing."""
    for found in admin.describe_topics([topic]):
        problem = errors.for_code(found["error_code"])
        if problem is errors.UnknownTopicOrPartitionError:
            return None
        if problem is not errors.NoError:
            raise problem(topic)
        return len(found["partitions"])
    return None


def _create(admin: Any, topic: str, partitions: int) -> bool:
    """False where another was faster."""
    wanted = {"num_partitions": partitions, "replication_factor": -1, "configs": CONFIGS}
    try:
        admin.create_topics({topic: wanted}, timeout_ms=round(ASK_S * 1000), wait_for_metadata=True)
    except errors.TopicAlreadyExistsError:
        admin.wait_for_topics([topic], round(ASK_S * 1000))
        return False
    log.info("state topic made", topic=topic, partitions=partitions)
    return True


def _grow(admin: Any, topic: str, partitions: int, found: int) -> None:
    """The input topics have got more partitions. Those there were keep what they have: a task's is its number's."""
    if found >= partitions:
        return
    try:
        admin.create_partitions({topic: partitions}, timeout_ms=round(ASK_S * 1000))
    except errors.InvalidPartitionsError:
        pass  # another was faster
    except (*_NOT_ALLOWED, *_NOT_KNOWN) as problem:
        raise Unusable(
            f"state.topic {topic} has {found} partitions and the input topics have {partitions}: give it as many, "
            f"which msemon could not do itself: {problem}"
        ) from problem
    admin.wait_for_topics([topic], round(ASK_S * 1000))
    log.info("state topic has more partitions now", topic=topic, partitions=partitions, before=found)


def _check(admin: Any, topic: str) -> None:
    configs = _configs(admin, topic)
    policy = configs.get("cleanup.policy")
    if policy is None:
        log.warning("whether the state topic is compacted can't be known; it must be", topic=topic)
    elif policy != "compact":
        raise Unusable(f"state.topic {topic} has cleanup.policy={policy}, which loses state: set it to compact alone")
    largest = configs.get("max.message.bytes")
    if largest is not None and int(largest) < LEAST_RECORD:
        raise Unusable(f"state.topic {topic} has max.message.bytes={largest}: at least {LEAST_RECORD} are needed")
    segment_ms = configs.get("segment.ms")
    if segment_ms is not None and int(segment_ms) > 3_600_000 and int(configs.get("segment.bytes", 0)) > 256 * MIB:
        log.warning(
            "the state topic has large segments, which are not compacted before they are full: restores will be slow",
            topic=topic,
            segment_ms=segment_ms,
            segment_bytes=configs["segment.bytes"],
        )


def _configs(admin: Any, topic: str) -> dict[str, str]:
    """What the brokers tell about the topic; nothing where they don't."""
    resource = ConfigResource(ConfigResourceType.TOPIC, topic)
    try:
        described = admin.describe_configs([resource], config_filter="all")
    except (*_NOT_ALLOWED, *_NOT_KNOWN):
        return {}
    found = described.get("topic", {}).get(topic, {})
    return {name: each["value"] for name, each in found.items() if each.get("value") is not None}
