"""Ids and payloads of hostile messages are in no log line, at debug level, whatever the encoding."""

from __future__ import annotations

import dataclasses
import json
import logging

import pytest
import structlog

from msemon.decoding.avro import AvroParser
from msemon.decoding.schemas import Schema
from support.decoding import WALL_US, batch, decoder
from support.formats import BINARY, STRUCTURED, Schemas, avro, cloudevents, protobuf, structured, with_headers

SECRET = "geheim-4711"


def test_nothing_that_a_message_says_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    text = json.dumps(
        {"id": SECRET, "label": SECRET, "prediction": [SECRET], "ts": SECRET, "segments": SECRET}
    ).encode()
    broken = Schema(json.dumps({"type": SECRET}), "AVRO")
    values = [
        text,
        text[:-1],
        b"[" + text + b"]",
        structured({SECRET: SECRET}),
        SECRET.encode(),
        b"\x00\x00\x00\x00\x07" + text,
    ]
    values += [b"\x00\x00\x00\x00\x01" + text]
    events = dataclasses.replace(
        with_headers(batch(values), [[*(STRUCTURED if row % 2 else BINARY), ("ce_subject", text)] for row in range(7)]),
        topic="events",
    )
    schemas = Schemas(Schemas().all | {1: broken})
    with structlog.testing.capture_logs() as lines:
        for made in (decoder(), avro(schemas), protobuf(), cloudevents(), cloudevents(AvroParser(schemas, 9_999))):
            decoded = made.decode(events, WALL_US)
            assert decoded is not None
            assert decoded.rejections, "hostile enough to be looked at closely"
    assert lines, "there is something to look at: a schema that can't be used"
    assert SECRET not in repr(lines)
    assert SECRET not in caplog.text
