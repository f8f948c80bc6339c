"""A manifest: which pieces make up a task's state as of some offsets, and where each of them lies.

It is written after all the chunks it names are durable, so a manifest that is there means a checkpoint that is whole.
It names only chunks of its own writer: what another one deletes can't harm it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from msemon.core.snapshot import PieceName
from msemon.state.base import MAX_CHUNK, MAX_MANIFEST, MAX_SEQUENCE, MAX_STATE, ChunkKey, Corrupt, ManifestKey, Refusal
from msemon.state.codec import BROKEN, FORMAT, check_format

_DIGEST = 16
# This outer form is the same in all formats, so that damage and a newer version can be told apart.
_FRAME = struct.Struct(f"<8sHHQ{_DIGEST}s")  # magic, format, nothing, bytes of the body, checksum of all the rest
_MAGIC = b"msemon-m"

_MAX_PARTS = 8  # of a piece's name
_MAX_TEXT = 1024


class Place(NamedTuple):
    """Where a piece, or a part of one that is larger than a chunk, lies."""

    chunk: ChunkKey
    offset: int
    length: int


class Sum(NamedTuple):
    """A chunk's size in bytes and its checksum (`digest`)."""

    size: int
    digest: bytes


@dataclass(slots=True)
class Manifest:
    """The table of contents of one checkpoint."""

    partition: int
    key: ManifestKey
    offsets: dict[str, int]
    clocks: dict[str, int]
    chunks: dict[ChunkKey, Sum]
    pieces: dict[PieceName, tuple[Place, ...]]


class _Body(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    partition: int
    writer: str
    sequence: int
    offsets: dict[str, int]
    clocks: dict[str, int]
    chunks: tuple[tuple[int, int, int, bytes], ...]  # sequence, number, size, digest
    pieces: tuple[tuple[tuple[str | int, ...], tuple[tuple[int, int, int], ...]], ...]  # name, (chunk, offset, length)s


_decoder = msgspec.msgpack.Decoder(_Body)


def digest(data: bytes | memoryview) -> bytes:
    """The checksum that chunks and manifests carry: SHA-256, cut, for which processors have instructions."""
    return hashlib.sha256(data).digest()[:_DIGEST]


def check_name(name: PieceName) -> None:
    """Raises ValueError where this can't name a piece."""
    if not _fine(name):
        raise ValueError(f"{str(name)[:200]} can't name a piece")


def _fine(name: PieceName) -> bool:
    return 1 <= len(name) <= _MAX_PARTS and all(_fine_part(part) for part in name)


def _fine_part(part: str | int) -> bool:
    if isinstance(part, str):
        return len(part) <= _MAX_TEXT
    return not isinstance(part, bool) and -(2**63) <= part < 2**63


def encode(manifest: Manifest) -> bytes:
    """The manifest as bytes with its own checksum. Raises ValueError where it is too large or can't be read back."""
    index = {key: i for i, key in enumerate(manifest.chunks)}
    body = _Body(
        manifest.partition,
        manifest.key.writer,
        manifest.key.sequence,
        manifest.offsets,
        manifest.clocks,
        tuple((key.sequence, key.number, size, checksum) for key, (size, checksum) in manifest.chunks.items()),
        tuple(
            (name, tuple((index[place.chunk], place.offset, place.length) for place in places))
            for name, places in manifest.pieces.items()
        ),
    )
    for wrong in _problems(body):
        raise ValueError(f"a manifest that could not be read back: {wrong}")
    packed = msgspec.msgpack.encode(body)
    if _FRAME.size + len(packed) > MAX_MANIFEST:
        raise ValueError(f"a manifest of {len(packed):,} bytes is too large")
    return framed(packed, FORMAT)


def framed(body: bytes, version: int) -> bytes:
    """A manifest's body in its outer form."""
    bare = _FRAME.pack(_MAGIC, version, 0, len(body), b"")[:-_DIGEST]
    return bare + digest(bare + body) + body


def decode(data: bytes) -> Manifest:
    """The manifest that was encoded. Raises Corrupt."""
    if len(data) < _FRAME.size:
        raise Corrupt(Refusal.TORN if data else Refusal.EMPTY, f"a manifest of {len(data)} bytes")
    magic, version, _, size, checksum = _FRAME.unpack_from(data)
    if magic != _MAGIC:
        raise _malformed("no manifest")
    if len(data) != _FRAME.size + size or len(data) > MAX_MANIFEST:
        raise Corrupt(Refusal.TORN, f"a manifest of {len(data):,} bytes that says {_FRAME.size + size:,}")
    body = memoryview(data)[_FRAME.size :]
    if checksum != digest(data[: _FRAME.size - _DIGEST] + body):
        raise Corrupt(Refusal.CHECKSUM, "a manifest")
    check_format(version)  # only now: a flipped bit is no newer version
    try:
        parsed = _decoder.decode(body)
    except BROKEN as problem:
        raise _malformed(f"a manifest: {problem}") from problem
    for wrong in _problems(parsed):
        raise _malformed(f"a manifest: {wrong}")
    return _manifest(parsed)


def _manifest(body: _Body) -> Manifest:
    keys = [ChunkKey(body.writer, sequence, number) for sequence, number, _, _ in body.chunks]
    return Manifest(
        body.partition,
        ManifestKey(body.writer, body.sequence),
        body.offsets,
        body.clocks,
        {key: Sum(size, checksum) for key, (_, _, size, checksum) in zip(keys, body.chunks, strict=True)},
        {name: tuple(Place(keys[i], offset, length) for i, offset, length in places) for name, places in body.pieces},
    )


def _problems(body: _Body) -> Iterator[str]:
    """What is wrong with a manifest, whoever made it: sizes before they are believed, and what must be unique."""
    if body.partition < 0 or not 0 <= body.sequence < MAX_SEQUENCE:
        yield "partition or sequence out of range"
    if min(body.offsets.values(), default=0) < 0:
        yield "a negative offset"
    if len({chunk[:2] for chunk in body.chunks}) != len(body.chunks):
        yield "a chunk is named twice"
    if sum(size for _, _, size, _ in body.chunks) > MAX_STATE:
        yield f"its chunks are larger than {MAX_STATE:,} bytes"
    for sequence, number, size, checksum in body.chunks:
        if not 0 <= sequence <= body.sequence or not 0 <= number < MAX_SEQUENCE:
            yield "a chunk's number is out of range"
        if not 0 < size <= MAX_CHUNK or len(checksum) != _DIGEST:
            yield "a chunk's size or checksum is out of range"
    yield from _misplaced(body)


def _misplaced(body: _Body) -> Iterator[str]:
    """Pieces twice, without a name, beyond their chunk, or on one another (so no more is read than is stored)."""
    if len({name for name, _ in body.pieces}) != len(body.pieces):
        yield "a piece is named twice"
    taken: list[list[tuple[int, int]]] = [[] for _ in body.chunks]
    for name, places in body.pieces:
        if not _fine(name) or not places:
            yield "a piece has no proper name, or lies nowhere"
        for chunk, offset, length in places:
            if not 0 <= chunk < len(body.chunks) or offset < 0 or length <= 0:
                yield "a place is out of range"
                return
            taken[chunk].append((offset, offset + length))
    for (_, _, size, _), spans in zip(body.chunks, taken, strict=True):
        end = 0
        for begin, after in sorted(spans):
            if begin < end:
                yield "pieces lie on one another"
            end = after
        if end > size:
            yield "a piece ends beyond its chunk"


def _malformed(what: str) -> Corrupt:
    return Corrupt(Refusal.MALFORMED, what)
