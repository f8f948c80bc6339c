"""kafka-python's fetcher gets past what it can't read, says what it passed over, and stays within its bounds."""

from __future__ import annotations

import contextlib
import itertools
import os
import struct
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition as KafkaTopicPartition
from kafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.record import MemoryRecords

from msemon.sources import kafka_records
from msemon.sources.base import Skipped, TopicPartition
from msemon.sources.decompress import decompress
from support.record_batches import (
    GZIP,
    LZ4,
    NONE,
    SNAPPY,
    ZSTD,
    record_batch,
    with_checksum,
    with_codec,
    with_wrong_checksum,
)

WHERE = TopicPartition("t", 0)
CODECS = [NONE, GZIP, SNAPPY, LZ4, ZSTD]
ENCODERS = {GZIP: gzip_encode, SNAPPY: snappy_encode, LZ4: lz4_encode, ZSTD: zstd_encode}


def consumer(highwater: int | None = None) -> Any:
    """As much of one as unpacking needs."""
    return SimpleNamespace(_fetcher=SimpleNamespace(), highwater=lambda _: highwater)


def unpack(
    *batches: bytes | bytearray, fetch_offset: int = 0, highwater: int | None = None, **limits: int
) -> tuple[list[tuple[int, bytes]], Any, kafka_records.Unpacking]:
    """Records as (offset, value) of one fetch, what unpacked them, and what it noted."""
    client = consumer(highwater)
    unpacking = kafka_records.install(client)
    for name, limit in limits.items():
        setattr(unpacking, name, limit)
    part = client._fetcher.PartitionRecords(
        fetch_offset, KafkaTopicPartition(*WHERE), MemoryRecords(b"".join(batches)), check_crcs=True
    )
    found = [(offset, value) for offset, _, _, value, _ in part.take()]
    return found, part, unpacking


def test_kafka_python_alone_raises_and_is_never_done_with_a_broken_batch():
    """The trap itself: after the exception the fetcher's loop sees records left, and gets none, for ever."""
    part = Fetcher.PartitionRecords(
        0, KafkaTopicPartition(*WHERE), MemoryRecords(bytes(with_wrong_checksum(record_batch(0, [b"x"]))))
    )
    with pytest.raises(CorruptRecordError):
        part.take()
    assert bool(part)
    assert part.take() == []
    assert bool(part), "kafka-python has mended this: the workaround may go"


@pytest.mark.parametrize("codec", CODECS)
def test_sound_batches_come_whole(codec):
    found, part, unpacking = unpack(record_batch(5, [b"a", b"b"], codec), record_batch(7, [b"c"], codec))
    assert found == [(5, b"a"), (6, b"b"), (7, b"c")]
    assert (part.next_fetch_offset, bool(part), unpacking.skipped) == (8, False, [])


@pytest.mark.parametrize("codec", CODECS)
def test_a_batch_with_a_wrong_checksum_is_skipped_and_its_neighbours_are_not(codec):
    found, part, unpacking = unpack(
        record_batch(0, [b"a"], codec),
        with_wrong_checksum(record_batch(1, [b"b", b"c", b"d"], codec)),
        record_batch(4, [b"e"], codec),
    )
    assert found == [(0, b"a"), (4, b"e")]
    assert (part.next_fetch_offset, bool(part)) == (5, False)
    ((where, offset, records, why),) = unpacking.skipped
    assert (where, offset, records) == (WHERE, 1, 3)
    assert "crc" in why


def test_a_broken_batch_at_the_end_is_left_behind_by_its_own_claim():
    found, part, unpacking = unpack(record_batch(0, [b"a"]), with_wrong_checksum(record_batch(1, [b"b", b"c"])))
    assert found == [(0, b"a")]
    assert (part.next_fetch_offset, bool(part)) == (3, False)
    assert unpacking.skipped[0].records == 2


def test_a_broken_batch_alone_is_left_behind_too():
    found, part, unpacking = unpack(with_wrong_checksum(record_batch(0, [b"b", b"c"])))
    assert (found, part.next_fetch_offset, bool(part)) == ([], 2, False)
    assert unpacking.skipped[0].records == 2


def test_a_claim_that_the_count_of_records_contradicts_is_not_believed():
    broken = record_batch(0, [b"b", b"c"])
    struct.pack_into(">i", broken, 23, 1_000_000)  # its last offset's delta
    found, part, unpacking = unpack(broken)
    assert (found, part.next_fetch_offset, bool(part)) == ([], 1, False)
    assert unpacking.skipped[0].records == 1


def test_a_claim_beyond_the_partitions_end_is_cut_to_it():
    broken = record_batch(0, [b"b"])
    struct.pack_into(">i", broken, 23, 999)
    struct.pack_into(">i", broken, 57, 1000)  # its number of records
    _, part, _ = unpack(broken, highwater=7)
    assert part.next_fetch_offset == 7


def test_a_wrong_claim_before_another_batch_costs_that_one_nothing():
    broken = record_batch(0, [b"b"])
    struct.pack_into(">i", broken, 23, 999)
    struct.pack_into(">i", broken, 57, 1000)
    found, part, _ = unpack(broken, record_batch(1, [b"c"]))
    assert found == [(1, b"c")]
    assert part.next_fetch_offset == 2


def test_a_batch_that_would_lead_back_is_not_read_again():
    found, part, _ = unpack(with_wrong_checksum(record_batch(5, [b"b"])), record_batch(3, [b"c"]), fetch_offset=5)
    assert (found, part.next_fetch_offset, bool(part)) == ([], 6, False)


def test_trying_one_offset_at_a_time_inside_a_broken_batch_gets_to_its_end():
    """Fetched again from its middle, the broker sends the whole batch once more."""
    broken = with_wrong_checksum(record_batch(10, [b"b", b"c"]))
    _, part, unpacking = unpack(broken, fetch_offset=11)
    assert part.next_fetch_offset == 12
    assert unpacking.skipped[0][1:3] == (11, 1)


def test_records_before_the_broken_one_of_a_batch_are_kept():
    batch = record_batch(0, [b"aaaa", b"bbbb", b"cccc"])
    at = batch.index(b"bbbb") - 1
    batch[at] = 0x7E  # the length of the second value: far beyond the record
    found, part, unpacking = unpack(with_checksum(batch), record_batch(3, [b"d"]))
    assert found == [(0, b"aaaa"), (3, b"d")]
    assert unpacking.skipped[0][1:3] == (1, 2)
    assert part.next_fetch_offset == 4


@pytest.mark.parametrize("codec", [5, 6, 7])
def test_an_unknown_codec_is_skipped(codec):
    found, part, unpacking = unpack(with_codec(record_batch(0, [b"a", b"b"]), codec), record_batch(2, [b"c"]))
    assert (found, part.next_fetch_offset) == ([(2, b"c")], 3)
    assert f"unknown codec {codec}" in unpacking.skipped[0].why


@pytest.mark.parametrize("codec", [GZIP, SNAPPY, LZ4, ZSTD])
def test_bytes_that_are_not_the_codecs_are_skipped(codec):
    found, _, unpacking = unpack(with_codec(record_batch(0, [b"a", b"b"]), codec), record_batch(2, [b"c"]))
    assert found == [(2, b"c")]
    assert len(unpacking.skipped) == 1


def test_a_cut_frame_at_the_end_waits_for_the_next_fetch():
    found, part, unpacking = unpack(record_batch(0, [b"a"]), bytes(record_batch(1, [b"b"]))[:-3])
    assert (found, part.next_fetch_offset, bool(part)) == ([(0, b"a")], 1, False)
    assert unpacking.skipped == []


def test_a_frame_too_short_for_a_batch_is_skipped():
    found, part, unpacking = unpack(record_batch(0, [b"a"]), struct.pack(">qi", 1, 2) + b"xx")
    assert (found, bool(part)) == ([(0, b"a")], False)
    assert (part.next_fetch_offset, len(unpacking.skipped)) == (2, 1)


def test_bytes_without_any_complete_batch_are_noted_as_stuck():
    broken = record_batch(3, [b"a"])
    struct.pack_into(">i", broken, 8, 1_000_000)  # its length
    _, _, unpacking = unpack(broken, fetch_offset=3)
    assert unpacking.stuck == [(WHERE, 3)]


@pytest.mark.parametrize("codec", [GZIP, SNAPPY, LZ4, ZSTD])
def test_a_batch_that_would_grow_beyond_its_bound_is_skipped_unread(codec):
    bomb = record_batch(0, [bytes(1_000_000)], codec)
    found, _, unpacking = unpack(bomb, record_batch(1, [b"b"], codec), max_batch_bytes=500_000)
    assert found == [(1, b"b")]
    assert "more than 500000 bytes" in unpacking.skipped[0].why


def test_one_poll_decompresses_only_so_much_and_loses_nothing():
    batches = [record_batch(i, [b"%d" % i * 1000], GZIP) for i in range(4)]
    found, part, unpacking = unpack(*batches, max_poll_bytes=1500)
    assert [offset for offset, _ in found] == [0, 1]
    assert (part.next_fetch_offset, bool(part), unpacking.skipped) == (2, False, []), "the rest is fetched again"


def test_each_poll_begins_with_clean_notes():
    unpacking = kafka_records.Unpacking(lambda _: None)
    unpacking.skipped.append(Skipped(WHERE, 0, 1, "x"))
    unpacking.stuck.append((WHERE, 0))
    unpacking.decompressed_bytes = 9
    unpacking.begin()
    assert (unpacking.skipped, unpacking.stuck, unpacking.decompressed_bytes) == ([], [], 0)


@pytest.mark.parametrize("codec", [GZIP, SNAPPY, LZ4, ZSTD])
@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_what_a_codec_packed_comes_out_again_up_to_the_bound(codec, size):
    content = (os.urandom(1000) * 100)[:size]
    packed = ENCODERS[codec](content)
    assert decompress(codec, packed, size) == content
    if size:
        with pytest.raises(ValueError, match="more than"):
            decompress(codec, packed, size - 1)


def test_several_gzip_members_and_zstd_frames_are_one_content():
    for codec in (GZIP, ZSTD):
        assert decompress(codec, ENCODERS[codec](b"ab") + ENCODERS[codec](b"cd"), 4) == b"abcd"


def test_snappy_without_xerials_frames_is_read_too():
    assert decompress(SNAPPY, snappy_encode(b"abc" * 100, xerial_compatible=False), 300) == b"abc" * 100


def test_a_snappy_block_that_claims_too_much_is_not_even_begun():
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        decompress(SNAPPY, b"\xff\xff\xff\xff\x0f" + b"x", 1000)


@pytest.mark.parametrize("codec", [GZIP, SNAPPY, LZ4])
@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_stream_that_ends_too_early_is_an_error(codec, keep):
    packed = ENCODERS[codec](os.urandom(10_000))
    with pytest.raises(ValueError, match="not "):
        decompress(codec, packed[: int(len(packed) * keep)], 100_000)


@pytest.mark.parametrize("codec", [GZIP, SNAPPY, LZ4, ZSTD])
def test_no_bytes_at_all_make_a_codec_raise_anything_but_a_value_error(codec):
    for seed, length in itertools.product(range(30), (0, 1, 3, 17, 200)):
        garbage = bytes((seed * 31 + i * i) % 256 for i in range(length))
        with contextlib.suppress(ValueError):
            assert len(decompress(codec, garbage, 1000)) <= 1000
