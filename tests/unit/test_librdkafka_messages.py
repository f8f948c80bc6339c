"""What librdkafka's own messages say of themselves, of a broker that it brings along."""

from __future__ import annotations

import socket
import struct

from confluent_kafka import Consumer, Message, Producer
from confluent_kafka import TopicPartition as ClientPartition
from kafka.record.default_records import DefaultRecordBatchBuilder

from msemon.sources import librdkafka_messages as messages
from msemon.sources.base import TopicPartition
from support.record_batches import with_checksum


def test_a_headers_name_that_is_not_utf_8_costs_the_headers_and_not_the_process():
    """Asked for them twice confluent-kafka would crash."""
    maker = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1})
    (broker,) = maker.list_topics("t", timeout=10).brokers.values()
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 1 << 20)
    builder.append(0, timestamp=1_000, key=b"k", value=b"v", headers=[("\u00e9", b"h")])
    written = bytes(with_checksum(bytearray(bytes(builder.build()).replace(b"\xc3\xa9", b"\xff\xfe"))))
    # Produce, version 7: no transaction, acks 1, 5 s, one topic, one partition.
    request = struct.pack(">hhih1s", 0, 7, 1, 1, b"c") + struct.pack(">hhiih1sii", -1, 1, 5_000, 1, 1, b"t", 1, 0)
    request += struct.pack(">i", len(written)) + written
    with socket.create_connection((broker.host, broker.port), 10) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        assert connection.recv(4_096)
    reader = Consumer({"bootstrap.servers": f"{broker.host}:{broker.port}", "group.id": "g"})
    reader.assign([ClientPartition("t", 0, 0)])
    found = reader.consume(1, 10)
    reader.close()
    batch = messages.batch(TopicPartition("t", 0), found, 1)
    assert (batch.values, [batch.origin(0) for _ in range(2)]) == ([b"v"], [(b"k", ())] * 2)


def test_messages_mixed_over_topics_and_partitions_are_sorted_and_keep_their_offsets_holes_and_all():
    maker = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1})
    brokers = ",".join(f"{each.host}:{each.port}" for each in maker.list_topics("t", timeout=10).brokers.values())
    for number in range(40):
        maker.produce(
            "tu"[number % 2], None if number == 8 else b"x" * number, partition=number % 4 // 2, timestamp=number + 1
        )
    assert maker.flush(10) == 0
    reader = Consumer({"bootstrap.servers": brokers, "group.id": "g"})
    reader.assign([ClientPartition(topic, partition, 0) for topic in "tu" for partition in (0, 1)])
    found: list[Message] = []
    while len(found) < 40:
        found += reader.consume(40, 10)
    reader.close()
    found.sort(key=lambda message: message.timestamp()[1])  # neighbours of different partitions
    came = messages.sort(found)
    assert (came.ends, came.complaints) == ({}, [])
    assert set(came.records) == {TopicPartition(topic, partition) for topic in "tu" for partition in (0, 1)}
    for where, rows in came.records.items():
        numbers = range("tu".index(where.topic) + 2 * where.partition, 40, 4)
        batch = messages.batch(where, rows, 10)
        assert list(batch.offsets) == list(range(10))
        assert list(batch.timestamps_ms) == [number + 1 for number in numbers]
        assert batch.values == [None if number == 8 else b"x" * number for number in numbers]
        assert batch.size == sum(number for number in numbers if number != 8)
        assert list(messages.batch(where, rows[:3] + rows[5:], 10).offsets) == [0, 1, 2, 5, 6, 7, 8, 9]
    assert list(messages.batch(where, [], 10).offsets) == []
