"""Pieces and manifests as bytes: what is refused, and why."""

from __future__ import annotations

import datetime as dt
import struct

import msgspec
import numpy as np
import pytest

from msemon.core.snapshot import Piece
from msemon.state import codec, manifest
from msemon.state.base import MAX_CHUNK, MAX_MANIFEST, MAX_STATE, ChunkKey, Corrupt, ManifestKey, Refusal
from msemon.state.manifest import Manifest, Place, Sum


def packed(columns: object, meta: object = None, body: bytes = b"", version: int = codec.FORMAT) -> bytearray:
    """A piece with whatever header."""
    header = msgspec.msgpack.encode([columns, {} if meta is None else meta])
    start = struct.pack("<HHI", version, 0, len(header)) + header
    return bytearray(start + bytes(-len(start) % 16) + body)


def refusal(data: bytes | bytearray) -> Refusal:
    with pytest.raises(Corrupt) as refused:
        codec.decode(bytearray(data))
    return refused.value.reason


def test_a_piece_made_by_hand_is_read():
    piece = codec.decode(packed([["a", "<i4", [2]]], {"x": 1}, struct.pack("<ii", 7, -7)))
    assert piece.columns["a"].tolist() == [7, -7]
    assert piece.meta == {"x": 1}


def test_columns_lie_where_they_can_be_used_without_a_copy():
    data = bytearray(codec.encode(Piece({"a": np.zeros(3, np.int8), "b": np.arange(4.0)}, {})))
    column = codec.decode(data).columns["b"]
    assert column.flags.aligned
    data[-8:] = struct.pack("<d", 9.0)
    assert column[-1] == 9.0


def test_columns_that_do_not_lie_in_order_are_kept_by_value():
    table = np.arange(12.0).reshape(3, 4)
    piece = codec.decode(bytearray(codec.encode(Piece({"t": table.T, "every other": table[0, ::2]}, {}))))
    assert piece.columns["t"].tolist() == table.T.tolist()
    assert piece.columns["every other"].tolist() == [0, 2]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Refusal.EMPTY),
        (b"\x01\0\0", Refusal.TORN),
        (struct.pack("<HHI", 1, 0, 2**32 - 1), Refusal.TORN),
        (packed([], version=2), Refusal.NEWER_FORMAT),
        (packed([], version=0), Refusal.MALFORMED),
        (packed([["a", "<i4", [2**62]]]), Refusal.TORN),
        (packed([["a", "<i4", [2**40, 2**40]]]), Refusal.TORN),
        (packed([["a", "<i4", [-1]]]), Refusal.MALFORMED),
        (packed([["a", "<i4", [0, 2**64 - 1]]]), Refusal.MALFORMED),
        (packed([["a", "<i4", []]], body=bytes(4)), Refusal.MALFORMED),
        (packed([["a", "<i4", [1, 1, 1]]], body=bytes(4)), Refusal.MALFORMED),
        (packed([["a", "|O8", [1]]], body=bytes(8)), Refusal.MALFORMED),
        (packed([["a", "<M8[us]", [1]]], body=bytes(8)), Refusal.MALFORMED),
        (packed([["a", "|b1", [1]]], body=b"\x02"), Refusal.MALFORMED),
        (packed([["a", "|i1", [0]], ["a", "|i1", [0]]]), Refusal.MALFORMED),
        (packed([], body=b"x"), Refusal.TORN),
        (packed([], {"at": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)}), Refusal.MALFORMED),
        (packed([], {"ext": msgspec.msgpack.Ext(5, b"x")}), Refusal.MALFORMED),
        (packed([], {1: 2}), Refusal.MALFORMED),
        (packed([], {"a": {1: 2}}), Refusal.MALFORMED),
        (packed([], msgspec.Raw(b"\x81\xa1a" + b"\x91" * 50_000 + b"\xc0")), Refusal.MALFORMED),
        (packed([], msgspec.Raw(b"\x81\xa1a\xdd\xff\xff\xff\xff")), Refusal.MALFORMED),
        (packed([], msgspec.Raw(b"\x81\xa1a\xa1\xff")), Refusal.MALFORMED),
    ],
)  # fmt: skip
def test_what_is_no_piece_is_refused_by_reason(data, reason):
    assert refusal(data) == reason


@pytest.mark.parametrize(
    "piece",
    [
        Piece({"a": np.zeros(1, object)}, {}),
        Piece({"a": np.zeros(1, "U3")}, {}),
        Piece({"a": np.zeros((1, 1, 1))}, {}),
        Piece({"a": np.array(1.0)}, {}),
        Piece({}, {"a": object()}),
        Piece({}, {"a": 2**64}),
        Piece({}, {"a": "\ud800"}),
        Piece({}, {1: 1}),  # type: ignore[dict-item]
        Piece({}, {"a": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)}),
    ],
)
def test_what_could_not_be_read_back_is_not_written(piece):
    with pytest.raises(ValueError, match=r"."):
        codec.encode(piece)


# Manifests

CHUNK = ChunkKey("w", 3, 0)


def made(**other: object) -> Manifest:
    fields = {
        "partition": 4,
        "key": ManifestKey("w", 3),
        "offsets": {"a": 5},
        "clocks": {"a": 6},
        "chunks": {CHUNK: Sum(10, bytes(16))},
        "pieces": {("head",): (Place(CHUNK, 0, 10),)},
    }
    return Manifest(**(fields | other))  # type: ignore[arg-type]


def raw(*body: object, version: int = codec.FORMAT) -> bytes:
    """A manifest with a right checksum and whatever in it."""
    return manifest.framed(msgspec.msgpack.encode(body), version)


def good(**other: object) -> list[object]:
    fields = {
        "partition": 4, "writer": "w", "sequence": 3, "offsets": {"a": 5}, "clocks": {"a": 6},
        "chunks": [[3, 0, 10, bytes(16)]], "pieces": [[["head"], [[0, 0, 10]]]],
    }  # fmt: skip
    return list((fields | other).values())


def test_a_manifest_made_by_hand_is_read():
    assert manifest.decode(raw(*good())) == made()


@pytest.mark.parametrize(
    "body",
    [
        good(partition=-1),
        good(sequence=-1),
        good(sequence=2**62),
        good(offsets={"a": -1}),
        good(offsets={"a": 1.5}),
        good(offsets={1: 1}),
        good(chunks=[[3, 0, 0, bytes(16)]]),
        good(chunks=[[3, 0, MAX_CHUNK + 1, bytes(16)]]),
        good(chunks=[[3, 0, 10, bytes(15)]]),
        good(chunks=[[4, 0, 10, bytes(16)]]),
        good(chunks=[[3, -1, 10, bytes(16)]]),
        good(chunks=[[3, 0, 10, bytes(16)], [3, 0, 10, bytes(16)]]),
        good(chunks=[[3, i, MAX_CHUNK, bytes(16)] for i in range(MAX_STATE // MAX_CHUNK + 1)]),
        good(pieces=[[["head"], []]]),
        good(pieces=[[[], [[0, 0, 10]]]]),
        good(pieces=[[[True], [[0, 0, 10]]]]),
        good(pieces=[[[1.0], [[0, 0, 10]]]]),
        good(pieces=[[["x" * 2000], [[0, 0, 10]]]]),
        good(pieces=[[["x"] * 9, [[0, 0, 10]]]]),
        good(pieces=[[["head"], [[1, 0, 10]]]]),
        good(pieces=[[["head"], [[-1, 0, 10]]]]),
        good(pieces=[[["head"], [[0, -1, 10]]]]),
        good(pieces=[[["head"], [[0, 0, 0]]]]),
        good(pieces=[[["head"], [[0, 1, 10]]]]),
        good(pieces=[[["head"], [[0, 0, 5]]], [["head"], [[0, 5, 5]]]]),
        good(pieces=[[["head"], [[0, 0, 6]]], [["tail"], [[0, 5, 5]]]]),
        [*good(), 1],
        good()[:-1],
    ],
)
def test_a_manifest_whose_checksum_is_right_and_whose_contents_are_not_is_refused(body):
    with pytest.raises(Corrupt) as refused:
        manifest.decode(raw(*body))
    assert refused.value.reason == Refusal.MALFORMED


def test_a_newer_format_is_told_from_damage():
    with pytest.raises(Corrupt) as refused:
        manifest.decode(raw("what a later version knows", version=2))
    assert refused.value.reason == Refusal.NEWER_FORMAT
    flipped = bytearray(raw(*good()))
    flipped[8] ^= 2
    with pytest.raises(Corrupt) as refused:
        manifest.decode(bytes(flipped))
    assert refused.value.reason == Refusal.CHECKSUM


@pytest.mark.parametrize(
    "wrong",
    [
        {"offsets": {"a": -1}},
        {"pieces": {("x" * 2000,): (Place(CHUNK, 0, 10),)}},
        {"pieces": {("head",): ()}},
        {"chunks": {CHUNK: Sum(MAX_CHUNK + 1, bytes(16))}},
    ],
)
def test_a_manifest_that_could_not_be_read_back_is_not_written(wrong):
    with pytest.raises(ValueError, match="read back"):
        manifest.encode(made(**wrong))


def test_the_manifest_of_the_largest_state_is_within_its_limit():
    chunks = {ChunkKey("w", 2**40, i): Sum(MAX_CHUNK, bytes(16)) for i in range(MAX_STATE // MAX_CHUNK)}
    pieces = {("predictions", 2**40 + i): (Place(key, 0, MAX_CHUNK),) for i, key in enumerate(chunks)}
    assert len(manifest.encode(made(key=ManifestKey("w", 2**41), chunks=chunks, pieces=pieces))) < MAX_MANIFEST // 4
