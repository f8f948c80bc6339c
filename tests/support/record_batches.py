"""Record batches in Kafka's format, sound and broken."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import crc32c
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)

_ATTRIBUTES = DefaultRecordBatch.ATTRIBUTES_OFFSET
_CRC = DefaultRecordBatch.CRC_OFFSET


def record_batch(first_offset: int, values: Sequence[bytes], codec: int = NONE) -> bytearray:
    """A batch as a broker stores it; offsets ascend by one."""
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=codec, is_transactional=False, producer_id=-1, producer_epoch=-1, base_sequence=-1,
        batch_size=1 << 30,
    )  # fmt: skip
    for i, value in enumerate(values):
        builder.append(i, timestamp=1000 + i, key=None, value=value, headers=[])
    built = bytearray(builder.build())
    struct.pack_into(">q", built, 0, first_offset)
    return built


def with_wrong_checksum(batch: bytearray) -> bytearray:
    """The batch with its last byte turned over."""
    broken = bytearray(batch)
    broken[-1] ^= 0xFF
    return broken


def with_codec(batch: bytearray, codec: int) -> bytearray:
    """The batch claiming another codec, under a sound checksum."""
    changed = bytearray(batch)
    changed[_ATTRIBUTES + 1] = (changed[_ATTRIBUTES + 1] & ~0x07) | codec
    return with_checksum(changed)


def with_checksum(batch: bytearray) -> bytearray:
    """The batch with the checksum its bytes have."""
    sound = bytearray(batch)
    struct.pack_into(">I", sound, _CRC, crc32c.crc32c(bytes(sound[_ATTRIBUTES:])))
    return sound
