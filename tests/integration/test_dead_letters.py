"""Dead letters on real brokers: what is read back is what was rejected."""

from __future__ import annotations

import time

from kafka import KafkaConsumer, TopicPartition

from msemon.dead_letters import DeadLetters
from msemon.events import Batch, Reason
from msemon.settings import Settings
from support.brokers import free_ports
from support.topics import create_topics, unique


def letter(value: bytes) -> Batch:
    return Batch(
        topic="labels", partition=3, offsets=[41], timestamps_ms=[0], values=[value], next_offset=42, size=len(value),
        origin=lambda _: (b"the key", [("trace", b"t"), ("empty", None)]),
    )  # fmt: skip


def make(bootstrap: str, topic: str) -> tuple[DeadLetters, list[bool]]:
    failures: list[bool] = []
    settings = Settings(kafka={"bootstrap_servers": bootstrap, "dead_letter_topic": topic})  # type: ignore[arg-type]
    return DeadLetters(settings, lambda: failures.append(True)), failures


def test_original_bytes_key_and_headers_arrive_with_the_reason(broker):
    topic = unique("dead")
    create_topics(broker, {topic: 1})
    letters, failures = make(broker, topic)
    letters.send(letter(b"\xff\x00bad"), 0, Reason.MALFORMED)
    assert letters.flush(20)
    letters.close(5)
    assert failures == []
    consumer = KafkaConsumer(bootstrap_servers=broker)
    try:
        where = TopicPartition(topic, 0)
        consumer.assign([where])
        consumer.seek(where, 0)
        (record,) = consumer.poll(timeout_ms=10_000)[where]
    finally:
        consumer.close()
    assert (record.value, record.key) == (b"\xff\x00bad", b"the key")
    assert record.headers == [
        ("trace", b"t"),
        ("empty", b""),
        ("msemon-reason", b"malformed"),
        ("msemon-topic", b"labels"),
        ("msemon-partition", b"3"),
        ("msemon-offset", b"41"),
    ]


def test_what_the_broker_refuses_is_counted(kafka):
    topic = unique("dead")
    create_topics(kafka, {topic: 1}, {"max.message.bytes": "1000"})
    letters, failures = make(kafka, topic)
    letters.send(letter(bytes(5000)), 0, Reason.OVERSIZED)
    letters.send(letter(b"small"), 0, Reason.MALFORMED)
    assert letters.flush(20)
    letters.close(5)
    assert failures == [True]


def test_without_a_broker_sending_and_closing_are_quick_and_counted():
    letters, failures = make(f"127.0.0.1:{free_ports(1)[0]}", "dead")
    before = time.monotonic()
    for _ in range(10):
        letters.send(letter(b"x"), 0, Reason.MALFORMED)
    letters.close(0.5)
    assert time.monotonic() - before < 3
    assert len(failures) == 10
