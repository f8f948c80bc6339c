"""Avro, Protobuf and CloudEvents: the same events give the same columns and rejections as JSON does."""

from __future__ import annotations

import datetime as dt
import decimal
import io
import json
import struct
import tracemalloc
import uuid
from typing import Any

import fastavro
import pytest
from google.protobuf import descriptor_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from msemon.decoding.avro import AvroParser, prepare
from msemon.decoding.schemas import Schema
from msemon.events import Batch, Decoded, Kind, Reason
from support.decoding import RECORD_MS, WALL_US, batch, decoder, plain
from support.formats import (
    BINARY,
    STRUCTURED,
    Schemas,
    avro,
    cloudevents,
    documents,
    in_avro,
    in_protobuf,
    protobuf,
    protobuf_parser,
    structured,
    with_headers,
)

NUMBERS = st.one_of(st.floats(), st.floats(-1e3, 1e3), st.sampled_from([0.0, 1e75, 1.0000000000000002e75, -0.0]))
TEXTS = st.one_of(st.text(max_size=8), st.sampled_from(["m", "de", "__none__", "x" * 200, ""]))
LONGS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(0, 9), st.just(RECORD_MS))
NAMES = ("id", "model", "version", "ts", "prediction", "label", "weight", "segments")


def events(**changed: Any) -> Any:
    kinds = {
        "id": TEXTS | LONGS, "model": TEXTS, "version": TEXTS | LONGS,
        "ts": LONGS | st.just("2024-11-22T07:03:20.5Z") | NUMBERS | TEXTS,
        "prediction": NUMBERS | st.lists(NUMBERS, max_size=3), "label": NUMBERS | st.lists(NUMBERS, max_size=3),
        "weight": NUMBERS,
        "segments": st.dictionaries(
            st.sampled_from(["country", "tier", "other"]), st.none() | TEXTS | st.booleans() | LONGS, max_size=3
        ),
    } | changed  # fmt: skip
    absent: dict[str, Any] = dict.fromkeys(NAMES)
    return st.fixed_dictionaries({}, optional=kinds).map(lambda event: absent | event)


def both(made: Any, given_batch: Batch) -> Decoded:
    """Decoded twice, for names must be known to be taken at once; and without the quick way, which must agree."""
    made.decode(given_batch, WALL_US)
    decoded: Decoded = made.decode(given_batch, WALL_US)
    made._layout.quick = None
    assert plain(made.decode(given_batch, WALL_US)) == plain(decoded)
    return decoded


def as_json(messages: list[Any]) -> Decoded:
    values = [None if each is None else json.dumps(each).encode() for each in messages]
    return decoder().decode(batch(values), WALL_US)


@given(st.lists(st.none() | events() | st.lists(events(), min_size=1, max_size=3), max_size=5))
@settings(max_examples=300, deadline=None)
def test_avro_is_as_json(messages: list[Any]) -> None:
    values = [None if each is None else in_avro(each) for each in messages]
    assert plain(both(avro(), batch(values))) == plain(as_json(messages))


TEXT_EVENTS = events(
    id=TEXTS, version=TEXTS, ts=LONGS, prediction=NUMBERS, label=NUMBERS,
    segments=st.dictionaries(st.sampled_from(["country", "tier", "other"]), TEXTS, max_size=3),
)  # fmt: skip


@given(st.lists(st.none() | TEXT_EVENTS, max_size=5))
@settings(max_examples=200, deadline=None)
def test_protobuf_is_as_json(messages: list[Any]) -> None:
    values = [None if each is None else in_protobuf(each) for each in messages]
    framed = [None if each is None else b"\x00\x00\x00\x00\x07\x00" + each for each in values]
    for given_values in (values, framed):
        assert plain(both(protobuf(), batch(given_values))) == plain(as_json(messages))


@given(st.lists(st.none() | events() | st.lists(events(), min_size=1, max_size=2), max_size=5), st.data())
@settings(max_examples=200, deadline=None)
def test_cloudevents_are_as_what_they_carry(messages: list[Any], data: st.DataObject) -> None:
    """In either mode, or in none at all: the records of one topic need not be of one."""
    values, headers = [], []
    for each in messages:
        mode = data.draw(st.sampled_from(["binary", "structured", "packed", "bare"]))
        bare = mode in ("binary", "bare")
        written = json.dumps(each).encode() if bare else structured(each, packed=mode == "packed")
        values.append(None if each is None else written)
        headers.append({"binary": BINARY, "bare": []}.get(mode, STRUCTURED))
    assert plain(both(cloudevents(), with_headers(batch(values), headers))) == plain(as_json(messages))


def test_cloudevents_carry_avro_and_protobuf() -> None:
    event = dict.fromkeys(NAMES) | {"id": "a", "label": 2.0}
    for parser, value in (
        (AvroParser(Schemas(), 1_000), in_avro(event)),
        (protobuf_parser("test.Event"), in_protobuf(event)),
    ):
        decoded = cloudevents(parser).decode(with_headers(batch([value]), [BINARY]), WALL_US)
        assert decoded is not None
        assert decoded.labels.ids == [b"a"]


def test_attributes_are_fields_as_text_and_time_is_the_last_resort() -> None:
    fields = {"id": "ce_subject", "version": "ce_major"}
    event = {"model": "m", "prediction": 1.0}
    time: dict[str, Any] = {"time": "2024-11-22T07:00:00Z"}
    messages = [
        structured(event, subject="o-1", major=7, **time),
        json.dumps(event | {"ts": RECORD_MS}).encode(),
    ]
    attributes = [
        ("ce_specversion", b"1.0"),
        ("ce_subject", b"o-2"),
        ("ce_major", b"7"),
        ("ce_time", b"2024-11-22T07:00:00Z"),
    ]
    decoded = both(cloudevents(fields=fields), with_headers(batch(messages), [STRUCTURED, attributes]))
    assert decoded.predictions.ids == [b"o-1", b"o-2"]
    assert decoded.predictions.keys == [("m", "7", "__none__", "__none__")] * 2
    assert decoded.predictions.times.tolist() == [1_732_258_800_000_000, RECORD_MS * 1_000]


def test_thousands_of_attributes_are_not_copied_to_thousands_of_events() -> None:
    """Of 100 kB: with every attribute on every event it took gigabytes."""
    many: dict[str, Any] = {f"a{i}": "1" for i in range(5_000)}
    headers = [*BINARY, *((f"ce_a{i}", b"1") for i in range(5_000))]
    values = [structured([EVENT] * 2, **many), json.dumps([{}] * 5_000).encode(), structured([{}] * 5_000, **many)]
    events = with_headers(batch(values), [STRUCTURED, headers, STRUCTURED])
    tracemalloc.start()
    decoded = cloudevents(fields={"version": "ce_a7"}).decode(events, WALL_US)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert decoded is not None
    assert (decoded.labels.ids, decoded.labels.targets) == ([b"a"] * 2, [(None, "1")] * 2)
    assert decoded.kinds[Kind.REJECTED] == 10_000
    assert most < 50_000_000


@pytest.mark.parametrize("message", [
    b'{"id":"\\ud800","model":"m","prediction":1}', b'{"id":"a","label":1,"ts":Infinity}',
    b'{"id":"a","label":1,"ts":-Infinity}', b'{"id":"\\ud800","label":1,"ts":1e300}',
])  # fmt: skip
def test_what_only_careful_json_reads_is_in_cloudevents_what_it_is_in_json(message: bytes) -> None:
    values = [message, b'{"id":"z","label":2}']
    expected = plain(decoder().decode(batch(values), WALL_US))
    assert plain(both(cloudevents(), batch(values))) == expected
    wrapped = [b'{"data":' + each + b"}" for each in values]
    assert plain(both(cloudevents(), with_headers(batch(wrapped), [STRUCTURED] * 2))) == expected


@pytest.mark.parametrize(
    ("value", "headers", "why"),
    [
        (b"{", STRUCTURED, Reason.MALFORMED),
        (b'{"specversion":"1.0"}', STRUCTURED, Reason.MISSING_FIELD),
        (b'{"data":null}', STRUCTURED, Reason.MISSING_FIELD),
        (b'{"data":5}', STRUCTURED, Reason.MALFORMED),
        (b'{"data_base64":"%%"}', STRUCTURED, Reason.MALFORMED),
        (b'{"data_base64":5}', STRUCTURED, Reason.MALFORMED),
        (b'{"data":' + b"[" * 40 + b"]" * 40 + b"}", STRUCTURED, Reason.OVERSIZED),
        (b'{"id":1,"label":1}', [("ce_specversion", b"1.0"), ("ce_id", b"\xff")], Reason.MALFORMED),
        (b"?", [("content-type", b"application/cloudevents+avro")], Reason.UNKNOWN_SCHEMA),
    ],
)
def test_broken_cloudevents_are_rejected(value: bytes, headers: Any, why: Reason) -> None:
    assert both(cloudevents(), with_headers(batch([value]), [headers])).rejections == [(0, why)]


def test_a_tombstone_stays_one_whatever_its_headers() -> None:
    for headers in (STRUCTURED, BINARY, [("ce_specversion", b"1"), ("ce_id", b"\xff")]):
        assert both(cloudevents(), with_headers(batch([None]), [headers])).kinds[Kind.TOMBSTONE] == 1


EVENT = dict.fromkeys(NAMES) | {"id": "a", "label": 2.0}


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"", Reason.MALFORMED),
        (b'{"id":1}', Reason.MALFORMED),
        (b"\x00\x00\x00\x00", Reason.MALFORMED),
        (b"\x00\x00\x00\x00\x07", Reason.MALFORMED),
        (in_avro(EVENT)[:-3], Reason.MALFORMED),
        (in_avro(EVENT) + b"\x00", Reason.MALFORMED),
        (b"\x00\x00\x00\x00\x09" + in_avro(EVENT)[5:], Reason.UNKNOWN_SCHEMA),
        (in_avro(EVENT) + b"x" * 1_000_000, Reason.OVERSIZED),
    ],
)
def test_broken_avro_is_rejected(value: bytes, why: Reason) -> None:
    assert both(avro(), batch([value, in_avro(EVENT)])).rejections == [(0, why)]


def test_the_schema_id_may_stand_in_a_header() -> None:
    guid = uuid.UUID("123e4567-e89b-12d3-a456-426614174000")
    made = avro(Schemas({7: Schemas().all[7], str(guid): Schemas().all[7]}))
    body = in_avro(EVENT)[5:]
    headers = [
        [("__value_schema_id", text)] for text in (b"\0\0\0\0\7", b"\1" + guid.bytes, b"\2", b"\0\0\0\0\7\0", None)
    ]
    decoded = both(made, with_headers(batch([body] * 5), headers))
    assert decoded.labels.rows.tolist() == [0, 1]
    assert decoded.rejections == [(row, Reason.MALFORMED) for row in (2, 3, 4)]


def written(schema: Any, datum: Any) -> tuple[Schemas, bytes]:
    made = io.BytesIO()
    fastavro.schemaless_writer(made, fastavro.parse_schema(schema), datum)
    return Schemas({1: Schema(json.dumps(schema), "AVRO")}), struct.pack(">bI", 0, 1) + made.getvalue()


@pytest.mark.parametrize("micros", [5_000_000, 1_732_260_000_123_456, 99_999_999_999_000, 100_000_000_000_000])
def test_times_of_avro_are_exact_whatever_their_size(micros: int) -> None:
    """A `timestamp-millis` says its unit: 5000 is five seconds after the epoch and not, as in JSON, 5000."""
    for unit, scale in (("millis", 1_000), ("micros", 1)):
        schema = {"type": "record", "name": "L", "fields": [
            {"name": "id", "type": {"type": "string", "logicalType": "uuid"}}, {"name": "label", "type": "float"},
            {"name": "ts", "type": {"type": "long", "logicalType": f"timestamp-{unit}"}},
        ]}  # fmt: skip
        schemas, value = written(schema, {"id": str(uuid.UUID(int=1)), "label": 0.5, "ts": micros // scale})
        decoded = both(avro(schemas), batch([value]))
        assert decoded.labels.times.tolist() == [micros // scale * scale]
        assert decoded.labels.ids == [str(uuid.UUID(int=1)).encode()]


def test_other_logical_types_are_what_json_would_have() -> None:
    schema = {"type": "record", "name": "P", "fields": [
        {"name": "id", "type": "int"}, {"name": "model", "type": {"type": "enum", "name": "M", "symbols": ["a", "b"]}},
        {"name": "prediction", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "segments", "type": {"type": "record", "name": "S", "fields": [
            {"name": "country", "type": {"type": "int", "logicalType": "date"}}, {"name": "tier", "type": "boolean"},
        ]}},
    ]}  # fmt: skip
    datum = {"id": 3, "model": "b", "prediction": decimal.Decimal("-12.34"),
             "segments": {"country": dt.date(2024, 2, 29), "tier": True}}  # fmt: skip
    schemas, value = written(schema, datum)
    decoded = both(avro(schemas), batch([value]))
    assert decoded.predictions.keys == [("b", "", "2024-02-29", "true")]
    assert decoded.predictions.values.tolist() == [-12.34]
    local = {"type": "record", "name": "L", "fields": [
        {"name": "id", "type": "int"}, {"name": "label", "type": "int"},
        {"name": "ts", "type": {"type": "long", "logicalType": "local-timestamp-micros"}}]}  # fmt: skip
    for when in (0, 2**62):
        schemas, value = written(local, {"id": 1, "label": 1, "ts": when})
        assert both(avro(schemas), batch([value])).rejections == [(0, Reason.WRONG_TYPE)]


def record(*fields: Any) -> str:
    return json.dumps(
        {"type": "record", "name": "R", "fields": [{"name": f"f{i}", "type": f} for i, f in enumerate(fields)]}
    )


def deep(levels: int) -> Any:
    return {"type": "array", "items": deep(levels - 1)} if levels else "int"


def wide(levels: int) -> str:
    kind: Any = "null"
    for i in range(levels):
        kind = {
            "type": "record",
            "name": f"R{i}",
            "fields": [{"name": "a", "type": kind}, {"name": "b", "type": f"R{i - 1}" if i else "null"}],
        }
    return json.dumps(kind)


@pytest.mark.parametrize(
    "text",
    [
        record({"type": "array", "items": "null"}),
        record({"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}),
        record({"type": "map", "values": {"type": "array", "items": {"type": "record", "name": "E", "fields": []}}}),
        record({"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 10**9}),
        record(deep(70)),
        wide(40),
        "{", "[]]", "5", "null", '"nowhere"', '{"type":"record"}', "[" * 100_000,
    ],
)  # fmt: skip
def test_schemas_that_are_bombs_or_none_are_refused(text: str) -> None:
    """Their data could take memory or time without bounds; the records are rejected, and nothing is raised."""
    made = avro(Schemas({1: Schema(text, "AVRO")}))
    assert both(made, batch([b"\x00\x00\x00\x00\x01\xfe\xff\xff\xff\xff\xff\xff\xff\x7f"])).rejections == [
        (0, Reason.UNKNOWN_SCHEMA)
    ]


def test_a_schema_of_another_kind_is_unknown() -> None:
    made = avro(Schemas({1: Schema(record("int"), "JSON")}))
    assert both(made, batch([b"\x00\x00\x00\x00\x01\x02"])).rejections == [(0, Reason.UNKNOWN_SCHEMA)]


def test_a_schema_in_itself_is_read_with_a_bound() -> None:
    """The C of fastavro would end the process here."""
    text = json.dumps({"type": "record", "name": "N", "fields": [
        {"name": "id", "type": "int"}, {"name": "label", "type": "int"}, {"name": "next", "type": ["null", "N"]},
    ]})  # fmt: skip
    assert prepare(Schema(text, "AVRO")).recursive
    made = avro(Schemas({1: Schema(text, "AVRO")}))
    values = [b"\x00\x00\x00\x00\x01" + b"\x02\x02\x02" * depth + b"\x02\x02\x00" for depth in (3, 100_000)]
    decoded = both(made, batch(values))
    assert decoded.labels.ids == [b"1"]
    assert decoded.rejections == [(1, Reason.OVERSIZED)]


def test_schemas_may_use_the_names_of_others() -> None:
    inner = json.dumps(
        {"type": "record", "name": "Segments", "namespace": "a", "fields": [{"name": "country", "type": "string"}]}
    )
    outer = json.dumps({"type": "record", "name": "P", "fields": [
        {"name": "id", "type": "int"}, {"name": "model", "type": "string"}, {"name": "prediction", "type": "int"},
        {"name": "segments", "type": "a.Segments"}]})  # fmt: skip
    made = avro(Schemas({1: Schema(outer, "AVRO", (inner,))}))
    decoded = both(made, batch([b"\x00\x00\x00\x00\x01\x02\x02m\x04\x04de"]))
    assert decoded.predictions.keys == [("m", "", "de", "__none__")]


FRAMING = b"\x00\x00\x00\x00\x07"


def test_several_types_in_one_topic_are_a_union_of_references() -> None:
    """As Confluent's serializers have it: a schema that is nothing but the names of others, or an array of them."""
    segments = {"type": "record", "name": "Segments", "namespace": "a", "fields": [{"name": "tier", "type": "string"}]}
    prediction = {"type": "record", "name": "Prediction", "namespace": "a", "fields": [
        {"name": "id", "type": "string"}, {"name": "model", "type": "string"}, {"name": "prediction", "type": "double"},
        {"name": "segments", "type": ["null", "Segments"]}]}  # fmt: skip
    label = {"type": "record", "name": "Label", "namespace": "a", "fields": [
        {"name": "id", "type": "string"}, {"name": "label", "type": ["null", "double"]}]}  # fmt: skip
    named: dict[str, Any] = {}
    for each in (segments, prediction, label):
        fastavro.parse_schema(each, named)
    data = [
        ("a.Prediction", {"id": "x", "model": "m", "prediction": 0.5, "segments": {"tier": "gold"}}),
        ("a.Label", {"id": "y", "label": 2.0}),
    ]
    union = ["a.Prediction", "a.Label"]
    values = []
    for ident, kind, datum in ((1, union, data[0]), (1, union, data[1]), (2, {"type": "array", "items": union}, data)):
        written = io.BytesIO()
        whole = {"type": "record", "name": "W", "fields": [{"name": "w", "type": kind}]}
        fastavro.schemaless_writer(written, fastavro.parse_schema(whole, dict(named)), {"w": datum})
        values.append(struct.pack(">bI", 0, ident) + written.getvalue())
    references = tuple(json.dumps(each) for each in (segments, prediction, label))
    schemas: dict[int | str, Schema] = {1: Schema(json.dumps(union), "AVRO", references),
               2: Schema(json.dumps({"type": "array", "items": union}), "AVRO", references)}  # fmt: skip
    decoded = both(avro(Schemas(schemas)), batch(values))
    assert decoded.predictions.keys == [("m", "", "__none__", "gold")] * 2
    assert decoded.labels.ids == [b"y"] * 2
    assert decoded.rejections == []


def test_a_uuid_of_sixteen_bytes_is_its_text() -> None:
    ident = uuid.UUID("123e4567-e89b-12d3-a456-426614174000")
    for size, expected in ((16, [str(ident).encode()]), (15, [])):
        schema = {"type": "record", "name": "L", "fields": [
            {"name": "id", "type": {"type": "fixed", "name": "U", "size": size, "logicalType": "uuid"}},
            {"name": "label", "type": "float"}]}  # fmt: skip
        made = avro(Schemas({1: Schema(json.dumps(schema), "AVRO")}))
        value = b"\x00\x00\x00\x00\x01" + ident.bytes[:size] + struct.pack("<f", 1.0)
        assert both(made, batch([value])).labels.ids == expected


@given(st.lists(st.none() | events() | st.lists(events(), min_size=1, max_size=3), max_size=5), st.data())
@settings(max_examples=200, deadline=None)
def test_json_in_a_framing_is_as_json(messages: list[Any], data: st.DataObject) -> None:
    """As serializers of JSON Schema write it; alone, among others, and as what a CloudEvent carries."""
    bare = [None if each is None else json.dumps(each).encode() for each in messages]
    framed = [value and FRAMING + value if data.draw(st.booleans()) else value for value in bare]
    expected = plain(decoder().decode(batch(bare), WALL_US))
    assert plain(both(decoder(), batch(framed))) == expected
    assert plain(both(cloudevents(), with_headers(batch(framed), [BINARY] * len(framed)))) == expected
    assert decoder().most_events(batch(framed)) in ([1] * len(bare), decoder().most_events(batch(bare)))


@pytest.mark.parametrize(
    "value", [b"\x00", b"\x00\x00\x00\x00\x07", b"\x00\x00\x00\x00\x07" * 3 + b'{"id":1,"label":1}']
)
def test_what_is_in_a_framing_and_no_json_is_malformed(value: bytes) -> None:
    assert both(decoder(), batch([value, b'{"id":1,"label":1}'])).rejections == [(0, Reason.MALFORMED)]


def test_protobuf_structs_and_enums_in_maps_are_what_they_say() -> None:
    parser = protobuf_parser("test.Tagged")
    made: Any = parser._types["events"]._class()
    made.id, made.model = 5, "m"
    made.segments.update({"country": 3, "tier": True, "other": {"a": [1, None]}})
    decoded = both(documents(parser), batch([made.SerializeToString()]))
    assert decoded.predictions.keys == [("m", "", "3", "true")]
    made.segments.update({"country": 0.5, "tier": None})
    decoded = both(documents(parser), batch([made.SerializeToString()]))
    assert decoded.rejections == [(0, Reason.WRONG_TYPE)]
    fields = {"segments": "tiers"}
    made.tiers["tier"], made.tiers["country"] = 1, 99
    decoded = both(
        documents(protobuf_parser("test.Tagged", fields=fields), fields=fields), batch([made.SerializeToString()])
    )
    assert decoded.predictions.keys == [("m", "", "99", "PAID")]


def test_protobuf_types_are_read_as_what_they_mean() -> None:
    """A zero without presence is a prediction where it can be nothing else; a Timestamp is a time, an enum its name."""
    made: Any = protobuf_parser("test.Prediction")._types["events"]._class()
    made.id, made.model, made.segments.country = 5, "m", ""
    made.ts.seconds, made.ts.nanos, made.weight.value = 1_732_260_000, 5_000, 0.0
    decoded = both(protobuf("test.Prediction"), batch([made.SerializeToString(), b""]))
    assert decoded.predictions.values.tolist() == [0.0]
    assert decoded.predictions.weights.tolist() == [0.0]
    assert decoded.predictions.times.tolist() == [1_732_260_000_000_005]
    assert decoded.predictions.keys == [("m", "", "__none__", "FREE")]
    assert decoded.rejections == [(1, Reason.MISSING_FIELD)]
    label = protobuf_parser("test.Label")._types["events"]._class(id=5, label=[1.0, 2.0])
    decoded = both(protobuf("test.Label"), batch([label.SerializeToString()]))
    assert decoded.labels.vectors[0].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "value",
    [
        b"\x0a\xff",
        b"\x0a\x01\xff",
        b"\x00\x00\x00",
        b"\x00\x00\x00\x00\x07\x01",
        b"\x00\x00\x00\x00\x07\x02",
        b"\x00\x00\x00\x00\x07\x02\x01",
        b"\x00\x00\x00\x00\x07\xff\xff\xff\xff\xff\xff",
    ],
)
def test_broken_protobuf_is_malformed(value: bytes) -> None:
    assert both(protobuf(), batch([value])).rejections == [(0, Reason.MALFORMED)]


def test_large_protobuf_is_oversized() -> None:
    assert both(protobuf(), batch([b"\x0a" * 10_001])).rejections == [(0, Reason.OVERSIZED)]


def test_what_can_not_be_used_of_a_descriptor_set_is_refused() -> None:
    with pytest.raises(ValueError, match="prediction must be optional"):
        protobuf_parser("test.Unclear")
    with pytest.raises(ValueError, match="has no message"):
        protobuf_parser("test.Nothing")
    with pytest.raises(ValueError, match="neither a prediction nor a label"):
        protobuf_parser("test.Segments")
    from msemon.decoding.protobuf import ProtobufParser

    file = descriptor_pb2.FileDescriptorProto(name="a.proto", dependency=["missing.proto"])
    for broken in (b"\xff", descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()):
        with pytest.raises(ValueError, match="no descriptor set"):
            ProtobufParser(broken, {}, fields={}, segment_keys=(), message_bytes=1)


@given(st.lists(st.none() | st.binary(max_size=60), max_size=6), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_accounted_for(values: list[bytes | None], framed: bool) -> None:
    """By every format; and with nothing raised."""
    if framed:
        values = [None if value is None else b"\x00\x00\x00\x00\x07" + value for value in values]
    headers = [[STRUCTURED, BINARY, []][row % 3] for row in range(len(values))]
    for made in (avro(), protobuf(), cloudevents(), cloudevents(AvroParser(Schemas(), 99))):
        decoded = both(made, with_headers(batch(values), headers))
        assert sum(decoded.kinds.values()) == (len(values) if decoded.records is None else len(decoded.records))


def test_a_label_length_that_can_not_be_kept_is_refused() -> None:
    with pytest.raises(ValueError, match="label_length"):
        documents(AvroParser(Schemas(), 1), label_length=3)
