"""Kafka's codecs with a bound on what comes out."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import lz4.frame
import snappy
import zstandard

_XERIAL = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES = 16


def decompress(codec: int, packed: bytes, limit: int) -> bytes:
    """The bytes that `packed` stands for in Kafka's codec number 1 to 4 (gzip, snappy, lz4, zstd).

    Raises ValueError where the codec is unknown, the bytes are not its own, or more than `limit` would come out.
    """
    if codec not in _CODECS:
        raise ValueError(f"unknown codec {codec}")
    name, unpack = _CODECS[codec]
    try:
        unpacked = unpack(packed, limit)
    except ValueError:
        raise
    except Exception as problem:
        raise ValueError(f"not {name}: {type(problem).__name__} {problem}") from problem  # each library has its own
    if len(unpacked) > limit:
        raise ValueError(f"{name} of more than {limit} bytes")
    return unpacked


def _gzip(packed: bytes, limit: int) -> bytes:
    parts: list[bytes] = []
    room = limit + 1
    while packed and room > 0:  # a gzip stream may have several members
        member = zlib.decompressobj(wbits=31)
        parts.append(member.decompress(packed, room))
        room -= len(parts[-1])
        if not member.eof and room > 0:
            raise EOFError("the stream ends too early")
        packed = member.unused_data
    return b"".join(parts)


def _snappy(packed: bytes, limit: int) -> bytes:
    blocks = list(_xerial_blocks(packed)) if packed.startswith(_XERIAL) else [packed]
    if sum(_snappy_size(block) for block in blocks) > limit:  # each block begins with the size it claims
        raise ValueError(f"snappy of more than {limit} bytes")
    return b"".join(snappy.decompress(block) for block in blocks)


def _xerial_blocks(packed: bytes) -> list[bytes]:
    blocks: list[bytes] = []
    at = _XERIAL_HEADER_BYTES
    while at < len(packed):
        (size,) = struct.unpack_from(">i", packed, at)
        if size < 0 or at + 4 + size > len(packed):
            raise EOFError("the stream ends too early")
        blocks.append(packed[at + 4 : at + 4 + size])
        at += 4 + size
    return blocks


def _snappy_size(block: bytes) -> int:
    """The uncompressed size at the block's beginning: seven bits a byte, the lowest first."""
    size = shift = 0
    while True:
        byte = block[shift // 7]
        size |= (byte & 0x7F) << shift
        if byte < 0x80:
            return size
        shift += 7


def _lz4(packed: bytes, limit: int) -> bytes:
    frame = lz4.frame.LZ4FrameDecompressor()
    unpacked: bytes = frame.decompress(packed, max_length=limit + 1)
    if not frame.eof and len(unpacked) <= limit:
        raise EOFError("the stream ends too early")
    return unpacked


def _zstd(packed: bytes, limit: int) -> bytes:
    parts: list[bytes] = []
    room = limit + 1
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed), read_across_frames=True) as reader:
        while room > 0 and (part := reader.read(room)):
            parts.append(part)
            room -= len(part)
    return b"".join(parts)


_CODECS: dict[int, tuple[str, Callable[[bytes, int], bytes]]] = {
    1: ("gzip", _gzip),
    2: ("snappy", _snappy),
    3: ("lz4", _lz4),
    4: ("zstd", _zstd),
}
