"""Records come out of a batch's bytes as kafka-python takes them apart, whatever they hold, and broken ones raise."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import TopicPartition as KafkaTopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.protocol.consumer import IsolationLevel
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.record.legacy_records import LegacyRecordBatchBuilder

from msemon.sources import kafka_records
from msemon.sources.record_format import Row, rows
from support.record_batches import with_checksum

WHERE = KafkaTopicPartition("t", 0)
HEADER = DefaultRecordBatch.HEADER_STRUCT.size
FIRST_MS = 1_700_000_000_000

BYTES = st.none() | st.binary(max_size=80) | st.sampled_from([b"x" * 63, b"x" * 64, b"y" * 9_000, b"z" * 20_000])
HEADERS = st.lists(st.tuples(st.text(max_size=70), st.none() | st.binary(max_size=70)), max_size=3)
TIMES = st.integers(-5_000, 5_000) | st.sampled_from([-(10**12), 10**12])
RECORDS = st.lists(st.tuples(st.integers(0, 3_000), TIMES, BYTES, BYTES, HEADERS), min_size=1, max_size=12)


def built(records: list[tuple[int, int, bytes | None, bytes | None, Any]], **other: Any) -> bytearray:
    """A batch whose records lie as many offsets apart as each says."""
    options = {"is_transactional": False, "producer_id": -1, "producer_epoch": -1, "base_sequence": -1} | other
    builder = DefaultRecordBatchBuilder(magic=2, compression_type=0, batch_size=1 << 30, **options)
    offset = -1
    for apart, late, key, value, headers in records:
        offset += 1 + apart
        builder.append(offset, timestamp=FIRST_MS + late, key=key, value=value, headers=headers)
    return bytearray(builder.build())


def plainly(batch: bytearray) -> list[Row]:
    """As kafka-python reads it."""
    return [(each.offset, each.timestamp, each.key, each.value, each.headers) for each in DefaultRecordBatch(batch)]


def fetched(part: Any) -> list[Row]:
    """A fetch's records, each as a row."""
    return [
        row if type(row) is tuple else (row.offset, row.timestamp, row.key, row.value, row.headers)
        for row in part.take()
    ]


def ours(data: bytes, **options: Any) -> Any:
    client = SimpleNamespace(_fetcher=SimpleNamespace(), highwater=lambda _: None)
    kafka_records.install(client)
    return client._fetcher.PartitionRecords(0, WHERE, MemoryRecords(data), **options)


@given(RECORDS)
def test_every_record_is_as_kafka_python_reads_it(records):
    batch = built(records)
    first_ms = DefaultRecordBatch(batch).first_timestamp
    found = list(rows(bytes(batch), HEADER, len(records), 0, first_ms))
    assert [(*row[:4], list(row[4])) for row in found] == plainly(batch)


@given(RECORDS, st.data())
def test_a_byte_more_or_less_raises_and_what_comes_before_is_given(records, data):
    batch = bytes(built(records))
    whole = list(rows(batch, HEADER, len(records), 0, FIRST_MS))
    keep = data.draw(st.integers(HEADER, len(batch) - 1) | st.just(len(batch) + 1))
    found: list[Row] = []
    with pytest.raises((ValueError, IndexError)):
        found.extend(rows((batch + b"\0")[:keep], HEADER, len(records), 0, FIRST_MS))
    assert found == whole[: len(found)]


def test_a_last_header_that_was_cut_short_is_not_given():
    batch = bytes(built([(0, 0, None, b"v", [("a", b"long")])]))
    for keep in range(HEADER, len(batch)):
        with pytest.raises((ValueError, IndexError)):
            next(rows(batch[:keep], HEADER, 1, 0, FIRST_MS))


def test_a_number_without_an_end_raises():
    with pytest.raises(ValueError, match="64 bits"):
        list(rows(b"\xff" * 40, 0, 1, 0, 0))


def test_a_header_of_negative_size_raises():
    batch = bytes(built([(0, 0, None, b"v", [("a", b"b")])]))
    at = batch.index(b"v") + 2  # after the number of headers: the size of the name
    with pytest.raises(ValueError, match="negative"):
        list(rows(batch[:at] + b"\x01" + batch[at + 1 :], HEADER, 1, 0, FIRST_MS))


def test_a_headers_name_that_is_not_utf_8_costs_no_record():
    batch = bytes(built([(0, 0, None, b"v", [("\u00e9x", b"b")]), (0, 0, None, b"w", [])]))
    found = list(rows(batch.replace(b"\xc3\xa9", b"\xff\xfe"), HEADER, 2, 0, FIRST_MS))
    assert [(row[3], list(row[4])) for row in found] == [(b"v", [("\ufffd\ufffdx", b"b")]), (b"w", [])]


def test_where_the_log_gives_timestamps_they_are_the_batchs_last():
    batch = built([(0, 0, None, b"a", []), (0, 5, None, b"b", [])])
    struct.pack_into(">h", batch, DefaultRecordBatch.ATTRIBUTES_OFFSET, DefaultRecordBatch.TIMESTAMP_TYPE_MASK)
    found = fetched(ours(bytes(with_checksum(batch))))
    assert [row[1] for row in found] == [FIRST_MS + 5] * 2 == [row[1] for row in plainly(batch)]


def marker(offset: int, producer: int, kind: int) -> bytearray:
    """The record that ends a transaction; 0: aborted, 1: committed."""
    batch = built([(0, 0, struct.pack(">hh", 0, kind), struct.pack(">hi", 0, 0), [])],
                  is_transactional=True, producer_id=producer, producer_epoch=0, base_sequence=0)  # fmt: skip
    struct.pack_into(">q", batch, 0, offset)
    at = DefaultRecordBatch.ATTRIBUTES_OFFSET
    mask = DefaultRecordBatch.TRANSACTIONAL_MASK | DefaultRecordBatch.CONTROL_MASK
    struct.pack_into(">h", batch, at, mask)
    return with_checksum(batch)


def part_of(offset: int, value: bytes, producer: int) -> bytearray:
    batch = built([(0, 0, None, value, [])], is_transactional=True, producer_id=producer, producer_epoch=0,
                  base_sequence=0)  # fmt: skip
    struct.pack_into(">q", batch, 0, offset)
    return with_checksum(batch)


ABORTED = [SimpleNamespace(first_offset=0, producer_id=7), SimpleNamespace(first_offset=4, producer_id=8)]


@pytest.mark.parametrize("level", [IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED])
def test_records_of_transactions_are_given_and_withheld_as_kafka_python_does(level):
    data = b"".join(
        bytes(each)
        for each in (
            part_of(0, b"aborted", 7), part_of(1, b"kept", 9), marker(2, 7, 0), part_of(3, b"by then kept", 7),
            part_of(4, b"aborted too", 8), marker(5, 9, 1), marker(6, 8, 0), part_of(7, b"last", 8), marker(8, 7, 1),
        )
    )  # fmt: skip
    options = {"isolation_level": level, "aborted_transactions": ABORTED}
    part, plain = ours(data, **options), Fetcher.PartitionRecords(0, WHERE, MemoryRecords(data), **options)
    found = fetched(part)
    assert [(*row[:4], list(row[4])) for row in found] == fetched(plain)
    assert part.next_fetch_offset == plain.next_fetch_offset == 9
    assert (b"aborted" in [row[3] for row in found]) == (level == IsolationLevel.READ_UNCOMMITTED)


def test_a_fetch_that_stops_half_way_goes_on_at_the_next_record():
    data = bytes(built([(0, 0, None, b"%d" % i, []) for i in range(5)]))
    part = ours(data)
    assert [row[3] for row in part.take(2)] == [b"0", b"1"]
    assert part.next_fetch_offset == 2
    assert [row[3] for row in part.take(9)] == [b"2", b"3", b"4"]
    assert (part.next_fetch_offset, bool(part)) == (5, False)


def test_after_a_compaction_reading_goes_on_behind_the_batch():
    batch = built([(0, 0, None, b"a", [])])
    struct.pack_into(">i", batch, 23, 41)  # its last offset's delta
    part = ours(bytes(with_checksum(batch)))
    assert [row[0] for row in part.take()] == [0]
    assert part.next_fetch_offset == 42


def test_a_marker_that_a_compaction_has_emptied_is_passed_without_a_word():
    """The cleaner keeps a producer's last batch without its records (Java's `containsAbortMarker` knows)."""
    batch = marker(1, 7, 0)[:HEADER]
    struct.pack_into(">i", batch, 8, HEADER - 12)  # its length
    struct.pack_into(">i", batch, HEADER - 4, 0)  # its records
    data = part_of(0, b"a", 9) + with_checksum(batch) + part_of(2, b"b", 9)
    part = ours(bytes(data), isolation_level=IsolationLevel.READ_COMMITTED, aborted_transactions=[])
    assert [row[3] for row in fetched(part)] == [b"a", b"b"]
    assert (part.next_fetch_offset, part._unpacking.skipped) == (3, [])


def test_old_formats_come_as_rows_too():
    builder = LegacyRecordBatchBuilder(1, 0, 1 << 20)
    for offset in range(3):
        builder.append(offset, FIRST_MS + offset, b"k", b"v%d" % offset, [])
    part = ours(bytes(builder.build()))
    assert [row[:4] for row in part.take()] == [(i, FIRST_MS + i, b"k", b"v%d" % i) for i in range(3)]
    assert (part.next_fetch_offset, bool(part)) == (3, False)
