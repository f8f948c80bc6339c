"""F25: a record of 10 MB, and 1 MB of gzip that stands for 1 GB: memory stays bounded, and reading goes on behind."""

from __future__ import annotations

import json
import re
import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import pytest
from kafka.protocol.producer import ProduceRequest

from msemon.events import Reason
from support.brokers import admin
from support.decoding import WALL_US, batch, decoder
from support.formats import avro, cloudevents, protobuf
from support.lives import Monitor
from support.record_batches import GZIP, record_batch, with_codec
from support.running import Daemon
from support.topics import Record, produce

MIB = 1024 * 1024
LARGE = 10 * MIB
BOMB = 1024 * MIB

_HEADER = 61  # bytes of a batch before its records
_LENGTH = 8  # where it says how many come behind this number
_TIMES = 27  # where first and last timestamp stand


def bomb(size: int, time_ms: int) -> bytes:
    """A batch of one record whose value is `size` zeros, made without ever holding them."""
    deflate = zlib.compressobj(9, wbits=31)
    body = bytes(3) + b"\x01" + varint(size)  # attributes, time and offset from the batch's, no key, the value's size
    packed = [deflate.compress(varint(len(body) + size + 1) + body)]
    zeros = bytes(MIB)
    packed += [deflate.compress(zeros) for _ in range(size // MIB)]
    packed += [deflate.compress(b"\x00"), deflate.flush()]  # no headers
    batch = bytearray(record_batch(0, [b""])[:_HEADER]) + b"".join(packed)
    struct.pack_into(">i", batch, _LENGTH, len(batch) - _LENGTH - 4)
    struct.pack_into(">qq", batch, _TIMES, time_ms, time_ms)
    return bytes(with_codec(batch, GZIP))


def varint(number: int) -> bytes:
    """Zigzag, seven bits a byte, the lowest first."""
    left, found = number << 1, bytearray()
    while left >= 0x80:
        found.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*found, left])


def write(bootstrap: str, topic: str, batch: bytes) -> None:
    """To partition 0, as it is: a producer would have to hold what is in it."""
    topics = ProduceRequest.TopicProduceData
    partition = topics.PartitionProduceData(index=0, records=batch)
    request = ProduceRequest(
        transactional_id=None, acks=-1, timeout_ms=60_000, min_version=3, max_version=9,
        topic_data=[topics(name=topic, partition_data=[partition])],
    )  # fmt: skip
    with admin(bootstrap, timeout_s=60.0) as client:
        (node,) = (each.node_id for each in client._manager.cluster.brokers())
        answer = client._manager.run(client._manager.send, request, node)
    assert [part.error_code for each in answer.responses for part in each.partition_responses] == [0]


def peak(running: Daemon) -> int:
    """The most memory it ever had, in bytes."""
    (found,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{running.process.pid}/status").read_text())
    return int(found) * 1024


def hostile(monitor: Monitor, size: int) -> None:
    """A record of 10 MB in each topic, and in the first a batch that unpacks to one of `size` bytes."""
    now_ms = time.time_ns() // 1_000_000
    value = json.dumps({"id": "large", "model": "a", "prediction": 1, "pad": "x" * LARGE}).encode()
    packed = bomb(size, now_ms)
    assert len(packed) < 1.1 * MIB
    for topic in monitor.topics:
        produce(monitor.bootstrap, topic, [Record(value, 0, b"large", now_ms)], max_request_size=2 * LARGE)
    write(monitor.bootstrap, monitor.topics[0], packed)


@pytest.mark.parametrize("begins", [b"{", b"[", b"\x00", "é".encode()])
@pytest.mark.parametrize("made", [decoder, avro, protobuf, cloudevents])
def test_f25_nothing_of_what_is_too_large_is_copied(made, begins):
    """A batch with one record of 10 MB among small ones is decoded in a fraction of that."""
    large = begins + bytes(LARGE)
    records = batch([b'{"id": "a", "label": 1}', large, b'{"id": "b", "label": 1}', None])
    decoding = made()
    tracemalloc.start()
    try:
        decoded = decoding.decode(records, WALL_US)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert decoded is not None
    assert (1, Reason.OVERSIZED) in decoded.rejections
    assert most < LARGE / 5


@pytest.mark.timeout(180)
def test_f25_a_large_record_and_a_gzip_bomb(kafka, tmp_path):
    """Between good events, while the daemon runs."""
    monitor = Monitor(kafka, tmp_path, kafka__client="kafka-python")
    with monitor.run() as running:
        monitor.send(*monitor.events(100, "before"))
        monitor.await_exact(running)
        before = peak(running)
        hostile(monitor, BOMB)
        monitor.send(*monitor.events(100, "after"))
        scrape = monitor.await_exact(running)
        for topic in monitor.topics:
            assert scrape.rejected()[topic, "oversized"] == 1
        assert scrape.value("msemon_offset_gap_records_total", topic=monitor.topics[0], partition="0") == 1
        assert len(running.said("unreadable records passed over")) == 1
        print(f"{before / MIB:.0f} MiB before, {peak(running) / MIB:.0f} MiB at most")
        assert peak(running) < before + 256 * MIB
        monitor.await_kept(running)
    with monitor.run() as running:
        monitor.send(*monitor.events(50, "later"))
        monitor.await_exact(running)
        assert not running.said("unreadable records passed over"), "what was passed over is behind us"


@pytest.mark.timeout(180)
def test_f25_on_librdkafka_a_bomb_costs_what_it_unpacks_to_and_only_while_it_is_read(kafka, tmp_path):
    """It has no bound for what a batch unpacks to. Nothing stops all the same, and the memory is given back."""
    monitor = Monitor(kafka, tmp_path, kafka__client="librdkafka")
    with monitor.run() as running:
        monitor.send(*monitor.events(100, "before"))
        monitor.await_exact(running)
        before = peak(running)
        hostile(monitor, BOMB // 4)
        monitor.send(*monitor.events(100, "after"))
        scrape = monitor.await_exact(running)
        assert scrape.rejected()[monitor.topics[0], "oversized"] == 2
        assert scrape.rejected()[monitor.topics[1], "oversized"] == 1
        assert scrape.sum("msemon_offset_gap_records_total") == 0
        print(f"{before / MIB:.0f} MiB before, {peak(running) / MIB:.0f} MiB at most, {running.rss / MIB:.0f} after")
        assert peak(running) < before + 4 * (BOMB // 4)
        running.until(lambda: running.rss < before + 64 * MIB, "the memory to be given back")
        monitor.await_kept(running)
