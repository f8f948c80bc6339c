"""The same events in every encoding, and decoders for them."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
from collections.abc import Sequence
from typing import Any

import fastavro
from google.protobuf import descriptor_pb2

from msemon.decoding.avro import AvroParser
from msemon.decoding.cloudevents import CloudEvents
from msemon.decoding.documents import DocumentDecoder, Parser
from msemon.decoding.json import JsonParser
from msemon.decoding.protobuf import ProtobufParser
from msemon.decoding.schemas import Schema
from msemon.events import Batch, Headers, Reason
from support.decoding import MAX_FUTURE_US, decoder

COMMON: dict[str, Any] = {
    "segment_keys": ("country", "tier"),
    "fields": {},
    "max_future_us": MAX_FUTURE_US,
    "label_length": 128,
    "vector_length": 4_096,
    "message_events": 10_000,
}
VALUE = ["null", "double", {"type": "array", "items": "double"}]
AVRO = {
    "type": "record",
    "name": "Event",
    "namespace": "test",
    "fields": [
        {"name": "id", "type": ["null", "string", "long"]},
        {"name": "model", "type": ["null", "string"]},
        {"name": "version", "type": ["null", "string", "long"]},
        {"name": "ts", "type": ["null", "string", "long", "double"]},
        {"name": "prediction", "type": VALUE},
        {"name": "label", "type": VALUE},
        {"name": "weight", "type": ["null", "double"]},
        {"name": "segments", "type": ["null", {"type": "map", "values": ["null", "string", "boolean", "long"]}]},
    ],
}
EVENTS = fastavro.parse_schema({"type": "array", "items": AVRO})
SCHEMAS: dict[int | str, Schema] = {7: Schema(json.dumps(AVRO), "AVRO"), 8: Schema(json.dumps(EVENTS), "AVRO")}


class Schemas:
    """Schemas that are at hand."""

    def __init__(self, schemas: dict[int | str, Schema] = SCHEMAS) -> None:
        self.all = schemas

    def known(self, ident: int | str) -> Schema | Reason | None:
        return self.all.get(ident, Reason.UNKNOWN_SCHEMA)

    find = known


def documents(parser: Parser, **changed: Any) -> DocumentDecoder:
    return DocumentDecoder(parser, **(COMMON | changed))


def avro(schemas: Any = None, **changed: Any) -> DocumentDecoder:
    return documents(AvroParser(schemas or Schemas(), 1_000_000), **changed)


def cloudevents(parser: Parser | None = None, **changed: Any) -> DocumentDecoder:
    plain = decoder()
    made = CloudEvents(parser or JsonParser(plain), plain.parse, changed.get("fields", {}))
    return documents(made, **changed)


def in_avro(event: Any) -> bytes:
    written = io.BytesIO()
    if isinstance(event, list):
        fastavro.schemaless_writer(written, EVENTS, event)
        return b"\x00\x00\x00\x00\x08" + written.getvalue()
    fastavro.schemaless_writer(written, fastavro.parse_schema(AVRO), event)
    return b"\x00\x00\x00\x00\x07" + written.getvalue()


def structured(event: Any, *, packed: bool = False, **attributes: Any) -> bytes:
    data = {"data_base64": base64.b64encode(json.dumps(event).encode()).decode()} if packed else {"data": event}
    return json.dumps({"specversion": "1.0", "id": "e", "source": "/s", "type": "t"} | attributes | data).encode()


STRUCTURED: Headers = [("content-type", b"application/cloudevents+json; charset=utf-8")]
BINARY: Headers = [("content-type", b"application/json"), ("ce_specversion", b"1.0"), ("ce_id", b"e")]


def with_headers(batch: Batch, headers: Sequence[Headers]) -> Batch:
    return dataclasses.replace(batch, origin=lambda row: (None, headers[row]))


def field(name: str, number: int, kind: int, **more: Any) -> descriptor_pb2.FieldDescriptorProto:
    more.setdefault("label", 1)
    return descriptor_pb2.FieldDescriptorProto(name=name, number=number, type=kind, **more)  # type: ignore[arg-type]


def descriptor_set() -> bytes:
    """Of `syntax = "proto3"; package test;` and messages Event (all with presence), Prediction, Label and others."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="test.proto", package="test", syntax="proto3")
    known = ("timestamp", "wrappers", "struct")
    file.dependency.extend([f"google/protobuf/{name}.proto" for name in known])
    event = file.message_type.add(name="Event")
    for number, (name, kind) in enumerate(
        [("id", kinds.TYPE_STRING), ("model", kinds.TYPE_STRING), ("version", kinds.TYPE_STRING),
         ("ts", kinds.TYPE_INT64), ("prediction", kinds.TYPE_DOUBLE), ("label", kinds.TYPE_DOUBLE),
         ("weight", kinds.TYPE_DOUBLE)], 1,
    ):  # fmt: skip
        event.field.append(field(name, number, kind, proto3_optional=True, oneof_index=number - 1))
        event.oneof_decl.add(name=f"_{name}")
    entry = event.nested_type.add(name="SegmentsEntry")
    entry.options.map_entry = True
    entry.field.extend([field("key", 1, kinds.TYPE_STRING), field("value", 2, kinds.TYPE_STRING)])
    event.field.append(field("segments", 8, kinds.TYPE_MESSAGE, label=3, type_name=".test.Event.SegmentsEntry"))
    prediction = file.message_type.add(name="Prediction")
    tier = file.enum_type.add(name="Tier")
    tier.value.add(name="FREE", number=0)
    tier.value.add(name="PAID", number=1)
    segments = file.message_type.add(name="Segments")
    segments.field.extend([
        field("country", 1, kinds.TYPE_STRING), field("tier", 2, kinds.TYPE_ENUM, type_name=".test.Tier"),
    ])  # fmt: skip
    prediction.field.extend([
        field("id", 1, kinds.TYPE_INT64), field("model", 2, kinds.TYPE_STRING),
        field("ts", 3, kinds.TYPE_MESSAGE, type_name=".google.protobuf.Timestamp"),
        field("prediction", 4, kinds.TYPE_DOUBLE), field("segments", 5, kinds.TYPE_MESSAGE, type_name=".test.Segments"),
        field("weight", 6, kinds.TYPE_MESSAGE, type_name=".google.protobuf.DoubleValue"),
    ])  # fmt: skip
    label = file.message_type.add(name="Label")
    label.field.extend([field("id", 1, kinds.TYPE_INT64), field("label", 2, kinds.TYPE_DOUBLE, label=3)])
    tagged = file.message_type.add(name="Tagged")
    tagged.field.extend([
        field("id", 1, kinds.TYPE_INT64), field("model", 2, kinds.TYPE_STRING),
        field("prediction", 3, kinds.TYPE_FLOAT),
        field("segments", 4, kinds.TYPE_MESSAGE, type_name=".google.protobuf.Struct"),
        field("tiers", 5, kinds.TYPE_MESSAGE, label=3, type_name=".test.Tagged.TiersEntry"),
    ])  # fmt: skip
    tiers = tagged.nested_type.add(name="TiersEntry")
    tiers.options.map_entry = True
    tiers.field.extend([field("key", 1, kinds.TYPE_STRING), field("value", 2, kinds.TYPE_ENUM, type_name=".test.Tier")])
    unclear = file.message_type.add(name="Unclear")
    unclear.field.extend([
        field("id", 1, kinds.TYPE_STRING), field("prediction", 2, kinds.TYPE_DOUBLE),
        field("label", 3, kinds.TYPE_DOUBLE),
    ])  # fmt: skip
    return descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()


def protobuf_parser(message: str, topic: str = "events", fields: dict[str, str] | None = None) -> ProtobufParser:
    return ProtobufParser(
        descriptor_set(), {topic: message}, fields=fields or {}, segment_keys=("country", "tier"), message_bytes=10_000
    )


def protobuf(message: str = "test.Event", **changed: Any) -> DocumentDecoder:
    return documents(protobuf_parser(message), **changed)


def in_protobuf(event: dict[str, Any], message: str = "test.Event") -> bytes:
    made: Any = protobuf_parser(message)._types["events"]._class()
    for name, value in event.items():
        if name == "segments":
            made.segments.update(value or {})
        elif value is not None:
            setattr(made, name, value)
    written: bytes = made.SerializeToString()
    return written
