"""What librdkafka tells on side ways: its statistics, its group's generation, the cluster's description of topics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

_COORDINATOR = "GroupCoordinator"  # librdkafka's name for the connection that only the group's requests go over
_METADATA = b"CGMDv2:"


class Described(NamedTuple):
    """A topic that exists."""

    partitions: int
    name: str  # the cluster's own, empty where it gives none


class _Broker(msgspec.Struct):
    state: str = ""
    outbuf_cnt: int = 0
    waitresp_cnt: int = 0
    txidle: int = -1
    rxidle: int = -1
    rxpartial: int = 0
    req: dict[str, int] = {}


class _Member(msgspec.Struct):
    join_state: str = ""


class _Statistics(msgspec.Struct):
    ts: int
    brokers: dict[str, _Broker]
    cgrp: _Member = msgspec.field(default_factory=_Member)


class Statistics:
    """What the client tells once a second."""

    def __init__(self) -> None:
        self.heartbeat_s = -math.inf
        """When the last heartbeat that was answered was sent, on `time.monotonic`'s clock, as librdkafka's."""
        self.partial = 0
        """Batches that the client could not read to their end."""
        self._count = 0
        self._decode = msgspec.json.Decoder(_Statistics).decode

    def read(self, text: str) -> None:
        """Take them. A heartbeat counts from when it was sent, not answered: a process that was stopped may find an
        answer that is older than its absence. Where nothing is under way all is answered."""
        found = self._decode(text)
        self.partial = sum(broker.rxpartial for broker in found.brokers.values())
        coordinator = found.brokers.get(_COORDINATOR, _Broker())
        count = coordinator.req.get("Heartbeat", 0)
        idle = coordinator.state == "UP" and not coordinator.waitresp_cnt and not coordinator.outbuf_cnt
        answered = idle and 0 <= coordinator.rxidle <= coordinator.txidle
        if answered and count > self._count and found.cgrp.join_state == "steady":
            self._count = count
            self.heartbeat_s = max(self.heartbeat_s, (found.ts - coordinator.txidle) / 1e6)


def generation(consumer: Any) -> tuple[int, str] | None:
    """The group's generation that this member belongs to, and the member's id; None where not known."""
    found = consumer.consumer_group_metadata()
    if not isinstance(found, bytes) or not found.startswith(_METADATA):
        return None
    number = int.from_bytes(found[len(_METADATA) :][:4], "little", signed=True)
    return number, str(consumer.memberid())


class Question:
    """A question about topics that is under way: `done` never waits."""

    def __init__(self, client: AdminClient, topics: Sequence[str], timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._answers: Mapping[str, Future[Any]] = client.describe_topics(
            TopicCollection(list(topics)), request_timeout=timeout_s
        )

    @property
    def done(self) -> bool:
        return all(answer.done() for answer in self._answers.values())

    def answer(self) -> dict[str, Described | None]:
        """By topic, None where it does not exist. Waits; raises KafkaException or TimeoutError."""
        return {topic: self._one(answer) for topic, answer in self._answers.items()}

    def _one(self, answer: Future[Any]) -> Described | None:
        try:
            found = answer.result(self._timeout_s + 1.0)
        except KafkaException as problem:
            if problem.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return None
            raise
        return Described(len(found.partitions), _hex(found.topic_id))


def _hex(uuid: Any) -> str:
    """As it stands in a snapshot, whichever client wrote that."""
    if uuid is None:
        return ""
    most, least = (part % 2**64 for part in (uuid.get_most_significant_bits(), uuid.get_least_significant_bits()))
    return f"{most:016x}{least:016x}" if most or least else ""  # brokers before 2.8 have none, or zeros
