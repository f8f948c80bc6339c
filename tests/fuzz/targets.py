"""What is fuzzed: a function of bytes for each way that strangers' bytes come in. Nothing may be raised.

`make fuzz` drives these with atheris, `test_corpus.py` runs the corpus through them without it.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from pathlib import Path

from msemon.decoding.avro import AvroParser
from msemon.decoding.schemas import Schema
from msemon.sources.decompress import decompress
from msemon.state import codec, manifest
from msemon.state.base import Corrupt
from support.decoding import WALL_US, assert_accounted, batch, careful, decoder, plain
from support.formats import BINARY, STRUCTURED, Schemas, avro, cloudevents, protobuf, protobuf_parser, with_headers

CORPUS = Path(__file__).parent / "corpus"

_JSON, _CAREFUL, _AVRO, _PROTOBUF = decoder(), careful(), avro(), protobuf()
_CLOUDEVENTS = [cloudevents(), cloudevents(AvroParser(Schemas(), 10_000)), cloudevents(protobuf_parser("test.Event"))]


def json(data: bytes) -> None:
    """A batch of messages, parted by 0xFF; by both ways alike."""
    events = batch(data.split(b"\xff"))
    decoded = _JSON.decode(events, WALL_US)
    assert_accounted(decoded, len(events.values))
    assert plain(decoded) == plain(_CAREFUL.decode(events, WALL_US))


def avro_data(data: bytes) -> None:
    """A datum of an event, and of an array of them."""
    values = [b"\x00\x00\x00\x00" + bytes([ident]) + data for ident in (7, 8)]
    decoded = _AVRO.decode(batch([*values, data]), WALL_US)
    assert decoded is not None
    assert_accounted(decoded, 3)


def avro_schema(data: bytes) -> None:
    """A schema, and after a zero byte a datum of it; read within bounds of time and memory."""
    text, _, datum = data.partition(b"\x00")
    schema = Schema(text.decode("utf-8", "replace"), "AVRO")
    made = avro(Schemas({1: schema}))
    decoded = made.decode(batch([b"\x00\x00\x00\x00\x01" + datum]), WALL_US)
    assert decoded is not None
    assert_accounted(decoded, 1)


def protobuf_data(data: bytes) -> None:
    """A message, bare and in Confluent's framing."""
    decoded = _PROTOBUF.decode(batch([data, b"\x00\x00\x00\x00\x07" + data]), WALL_US)
    assert decoded is not None
    assert_accounted(decoded, 2)


def envelope(data: bytes) -> None:
    """A CloudEvent in either mode, with every encoding inside."""
    time = [*BINARY, ("ce_time", data[:20]), ("ce_subject", data[20:40])]
    events = with_headers(batch([data, data]), [STRUCTURED, time])
    for made in _CLOUDEVENTS:
        decoded = made.decode(events, WALL_US)
        assert decoded is not None
        assert_accounted(decoded, 2)


def snapshot(data: bytes) -> None:
    """A piece and a manifest, also with a right frame around: refused, or no larger than its bytes."""
    for piece in (data, struct.pack("<HHI", codec.FORMAT, 0, len(data)) + data):
        with contextlib.suppress(Corrupt):
            back = codec.decode(bytearray(piece))
            assert sum(column.nbytes for column in back.columns.values()) <= len(piece)
    for written in (data, manifest.framed(data, codec.FORMAT)):
        with contextlib.suppress(Corrupt):
            manifest.decode(written)


def compressed(data: bytes) -> None:
    """The bytes of a compressed batch, in the codec that the first says: what it stands for, within the limit."""
    with contextlib.suppress(ValueError):
        assert len(decompress(data[0] % 5 if data else 0, data[1:], 100_000)) <= 100_000


TARGETS: dict[str, Callable[[bytes], None]] = {
    "json": json,
    "avro": avro_data,
    "avro_schema": avro_schema,
    "protobuf": protobuf_data,
    "cloudevents": envelope,
    "snapshot": snapshot,
    "compressed": compressed,
}


