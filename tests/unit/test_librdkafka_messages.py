"""What librdkafka's own messages say of themselves, of a broker that it brings along."""

from __future__ import annotations

import socket
import struct

from confluent_kafka import Consumer, Producer
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
