"""JSON messages into columns of events."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from msemon.events import Kind, Reason
from support.decoding import MAX_FUTURE_US, RECORD_MS, WALL_US, Message, batch, decode, decoder, plain, reason

TS = 1_732_259_000
PREDICTION = {"id": "r1", "model": "m", "prediction": 1.5, "ts": TS}
LABEL = {"id": "r1", "label": 2.5, "ts": TS}
PAIR = {"model": "m", "prediction": 1.5, "label": 2.5, "ts": TS}


def test_a_prediction() -> None:
    """All of a prediction's fields reach its columns."""
    message = PREDICTION | {"version": "v", "weight": 2, "segments": {"country": "de", "tier": 3, "other": [{}]}}
    predictions = decode(None, message).predictions
    assert predictions.rows.tolist() == [1]
    assert predictions.offsets.tolist() == [102]
    assert predictions.times.tolist() == [TS * 1_000_000]
    assert predictions.record_times.tolist() == [RECORD_MS * 1_000]
    assert predictions.ids == [b"r1"]
    assert predictions.keys == [("m", "v", "de", "3")]
    assert predictions.values.tolist() == [1.5]
    assert predictions.weights.tolist() == [2.0]
    assert predictions.vectors == {}


def test_the_defaults_of_a_prediction() -> None:
    """No version is the empty one, no weight is 1, no segments are __none__."""
    predictions = decode(PREDICTION).predictions
    assert predictions.keys == [("m", "", "__none__", "__none__")]
    assert predictions.weights.tolist() == [1.0]


def test_a_label() -> None:
    """A label without a model answers every model and leaves the prediction's weight."""
    labels = decode(LABEL).labels
    assert labels.ids == [b"r1"]
    assert labels.values.tolist() == [2.5]
    assert labels.targets == [None]
    assert math.isnan(labels.weights[0])
    assert labels.times.tolist() == [TS * 1_000_000]


@pytest.mark.parametrize(
    ("named", "target"),
    [
        ({"model": "m"}, ("m", None)),
        ({"model": "m", "version": 3}, ("m", "3")),
        ({"version": ""}, (None, "")),
        ({"model": "__m\n"}, ("___m\ufffd", None)),
    ],
)
def test_a_label_that_names_its_model(named: dict[str, Any], target: Any) -> None:
    """A named model or version is the only one answered, by its clean name."""
    assert decode(LABEL | named).labels.targets == [target]


def test_a_label_that_brings_a_weight() -> None:
    """It is kept, to override the prediction's; zero too."""
    assert decode(LABEL | {"weight": 0}).labels.weights.tolist() == [0.0]


def test_a_pair_without_an_id_stands_alone() -> None:
    """It is complete as it comes."""
    decoded = decode(PAIR | {"weight": 3, "segments": {"country": "de"}})
    assert decoded.pairs.keys == [("m", "", "de", "__none__")]
    assert decoded.pairs.predictions.tolist() == [1.5]
    assert decoded.pairs.labels.tolist() == [2.5]
    assert decoded.pairs.weights.tolist() == [3.0]
    assert decoded.kinds[Kind.PAIR] == 1


def test_a_pair_with_an_id_is_a_prediction_and_its_label() -> None:
    """Both have the same row, and the label is aimed at the pair's own model and version."""
    decoded = decode(PAIR | {"id": 7, "version": "v"})
    assert decoded.predictions.ids == decoded.labels.ids == [b"7"]
    assert decoded.predictions.rows.tolist() == decoded.labels.rows.tolist() == [0]
    assert decoded.labels.targets == [("m", "v")]
    assert decoded.kinds == {
        Kind.PREDICTION: 0,
        Kind.LABEL: 0,
        Kind.PAIR: 1,
        Kind.TOMBSTONE: 0,
        Kind.REJECTED: 0,
    }


def test_the_label_of_a_pair_is_aimed_without_a_version_too() -> None:
    """A pair without a version answers the empty version alone, not every one."""
    assert decode(PAIR | {"id": 7}).labels.targets == [("m", "")]


def test_vectors() -> None:
    """A vector's outputs stand beside the columns, at its position in them; the column has NaN."""
    decoded = decode(
        PREDICTION,
        PREDICTION | {"prediction": [1, 2.5]},
        LABEL | {"label": [3]},
        PAIR | {"prediction": [1, 2], "label": [3, 4]},
        PAIR | {"id": 5, "prediction": [1, 2], "label": [3, 4]},
    )
    assert {at: outputs.tolist() for at, outputs in decoded.predictions.vectors.items()} == {1: [1, 2.5], 2: [1, 2]}
    assert {at: outputs.tolist() for at, outputs in decoded.labels.vectors.items()} == {0: [3], 1: [3, 4]}
    prediction, label = decoded.pairs.vectors[0]
    assert (prediction.tolist(), label.tolist()) == ([1, 2], [3, 4])
    assert [math.isnan(value) for value in decoded.predictions.values] == [False, True, True]
    assert math.isnan(decoded.pairs.predictions[0])
    assert math.isnan(decoded.pairs.labels[0])


def test_known_names_take_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain events are not judged one by one, or decoding would take five times as long unnoticed."""
    messages: list[Message] = [
        PREDICTION,
        LABEL,
        LABEL | {"model": "m"},
        PAIR,
        PREDICTION | {"segments": {"tier": True}},
    ]
    made, events = decoder(), batch(messages)
    first = plain(made.decode(events, WALL_US))
    monkeypatch.setattr(made._judge, "judge", None)
    assert plain(made.decode(events, WALL_US)) == first


def test_booleans_and_integers_as_segments_stay_apart_when_known() -> None:
    """True equals 1 in Python and must not here, in one batch and over many."""
    values: list[Any] = [True, 1, False, 0, "true", "1", None]
    messages = [PREDICTION | {"segments": {"tier": value}} for value in values]
    expected = ["true", "1", "false", "0", "true", "1", "__none__"]
    assert [key[3] for key in decode(*messages).predictions.keys] == expected
    made = decoder()
    for _ in range(2):
        for message, text in zip(messages, expected, strict=True):
            assert made.decode(batch([message]), WALL_US).predictions.keys[0][3] == text


def test_log_order_is_kept_between_the_quick_and_the_careful_way() -> None:
    """Messages that need a closer look stay between their neighbours."""
    messages: list[Message] = []
    for i in range(12):
        surrogate = b'"\\ud800"' if i % 3 == 0 else b'"x"'
        values = [b"[1,2]", b"1.5", b"7"]
        messages.append(b'{"id":%d,"model":"m","unknown":%s,"prediction":%s}' % (i, surrogate, values[i % 2]))
    decoded = decode(*messages)
    assert decoded.predictions.ids == [str(i).encode() for i in range(12)]
    assert sorted(decoded.predictions.vectors) == [0, 2, 4, 6, 8, 10]


def test_an_empty_batch() -> None:
    """No records, no events."""
    assert sum(decode().kinds.values()) == 0


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (1, b"1"),
        ("1", b"1"),
        (-5, b"-5"),
        (2**70, str(2**70).encode()),
        ("zü", "zü".encode()),
        (" ", b" "),
        ("a\x00b", b"a\x00b"),
    ],
)
def test_ids(given: Any, expected: bytes) -> None:
    """Text or an integer's decimal text; any character may be in it."""
    assert decode(LABEL | {"id": given}).labels.ids == [expected]


def test_ids_with_lone_surrogates_are_told_apart() -> None:
    """They are no valid text, and yet stable and distinct."""
    ids = decode(b'{"id":"\\ud800","label":1}', b'{"id":"\\ud801","label":1}', b'{"id":"\\ufffd","label":1}').labels.ids
    assert len(set(ids)) == 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", ""), ("id", 1.5), ("id", 1.0), ("id", True), ("id", []), ("id", {}),
        ("model", ""), ("model", 5), ("model", True), ("model", ["m"]),
        ("version", 1.5), ("version", False), ("version", {}),
        ("prediction", "1.5"), ("prediction", True), ("prediction", {}), ("prediction", []), ("prediction", [1, "2"]),
        ("prediction", [1, None]), ("prediction", [True]), ("prediction", [[1]]),
        ("weight", "1"), ("weight", True), ("weight", [1]),
        ("ts", True), ("ts", []), ("ts", ""), ("ts", "yesterday"), ("ts", "2024-11-22T07:03:20"), ("ts", 0), ("ts", -1),
        ("ts", -0.5), ("ts", "1970-01-01T00:00:00Z"), ("ts", str(TS)),
        ("segments", 5), ("segments", []), ("segments", "de"), ("segments", True),
        ("segments", {"country": 1.5}), ("segments", {"country": []}), ("segments", {"tier": {}}),
    ],
)  # fmt: skip
def test_wrong_types(field: str, value: Any) -> None:
    """Booleans are no numbers, floats no ids, text no number; empty ids, models and vectors are nothing."""
    assert reason(PREDICTION | {field: value}) is Reason.WRONG_TYPE


@pytest.mark.parametrize(
    "number",
    [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e400",
        "-1e400",
        "1.1e75",
        "-1.1e75",
        "1" * 77,
        "1" * 5_000,
        "-" + "9" * 100_000,
    ],
)
@pytest.mark.parametrize("field", ["prediction", "weight", "ts", "label"])
def test_numbers_that_are_not_finite_or_too_large(field: str, number: str) -> None:
    """The tokens JSON does not have, overflow, anything beyond 1e75, thousands of digits."""
    fields = {"id": '"r"', "model": '"m"', "ts": "1732259000", field: number}
    if field != "label":
        fields.setdefault("prediction", "1")
    message = "{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}"
    assert reason(message.encode()) is Reason.NOT_FINITE


@pytest.mark.parametrize("field", ["prediction", "label", "weight", "ts"])
@pytest.mark.parametrize("number", [1.1e75, -1.1e75, 1e80, 10**80, -(10**80)])
def test_numbers_too_large_in_events_of_known_models(field: str, number: float) -> None:
    """The bound holds in the quick way too, which takes only what it has seen before."""
    for event in (PREDICTION, PAIR, LABEL):
        if field not in {"prediction", "label"} or field in event:
            assert decode(event, event | {field: number}).rejections == [(1, Reason.NOT_FINITE)]


@pytest.mark.parametrize("number", ["1" * 77, "-" + "1" * 5_000])
@pytest.mark.parametrize(
    "message", ['{"id":%s,"label":1}', '{"id":1,"label":1,"version":%s}', '{"id":1,"label":[2,%s]}']
)
def test_huge_numbers_elsewhere(message: str, number: str) -> None:
    """Any number that is looked at is held to 1e75: ids, versions, outputs."""
    assert reason((message % number).encode()) is Reason.NOT_FINITE


def test_huge_numbers_as_segments() -> None:
    """A segment value too."""
    assert reason(PREDICTION | {"segments": {"tier": 10**80}}) is Reason.NOT_FINITE


@pytest.mark.parametrize("number", [1e75, -1e75, 5e-324, 0, -0.0, 10**75, 2**53 + 1, 2**64, 0.1])
def test_numbers_within_the_bound(number: float) -> None:
    """The bound itself, the smallest, and integers beyond 64 bits come through as the nearest float."""
    assert decode(PREDICTION | {"prediction": number}).predictions.values.tolist() == [float(number)]


@pytest.mark.parametrize("value", [b"NaN", b"1e400", b"1" * 5_000, b'"\\ud800"', b'{"deep":[[]]}', b"null"])
def test_unknown_fields_are_ignored_whatever_they_hold(value: bytes) -> None:
    """A field nobody looks at can't spoil an event."""
    assert reason(b'{"id":1,"label":1,"unknown":' + value + b"}") is None


def test_null_is_absent() -> None:
    """A null field counts as not there, in every kind of event."""
    nothing = dict.fromkeys(("version", "weight", "segments", "label"))
    assert decode(PREDICTION | nothing | {"ts": None}).predictions.keys == [("m", "", "__none__", "__none__")]
    assert decode(LABEL | {"prediction": None, "model": None}).labels.targets == [None]
    assert decode(PREDICTION | {"segments": {"country": None, "tier": ""}}).predictions.keys == [
        ("m", "", "__none__", "")
    ]


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"id": 1},
        {"id": 1, "model": "m"},
        {"prediction": 1},
        {"prediction": 1, "model": "m"},
        {"prediction": 1, "id": 1},
        {"label": 1},
        {"label": 1, "model": "m"},
        {"label": 1, "prediction": 1},
        {"label": 1, "prediction": 1, "id": 1},
        {"id": None, "label": 1},
    ],
)
def test_missing_fields(message: dict[str, Any]) -> None:
    """An event without what its kind requires."""
    assert reason(message) is Reason.MISSING_FIELD


def test_segments_of_a_label_are_not_looked_at() -> None:
    """They mean nothing there."""
    assert reason(LABEL | {"segments": 5}) is None
    assert reason(LABEL | {"segments": {"country": 1.5}}) is None


@pytest.mark.parametrize(("prediction", "label"), [(1, [1]), ([1], 1), ([1], [1, 2]), ([1, 2, 3], [1, 2])])
@pytest.mark.parametrize("given", [{}, {"id": 1}])
def test_shapes_of_a_pair_must_match(prediction: Any, label: Any, given: dict[str, Any]) -> None:
    """With an id or without; a number never matches a list."""
    assert reason(PAIR | given | {"prediction": prediction, "label": label}) is Reason.SHAPE_MISMATCH


@pytest.mark.parametrize("message", [PREDICTION, LABEL, PAIR])
def test_negative_weights(message: dict[str, Any]) -> None:
    """Refused in every kind of event; zero and minus zero are not negative."""
    assert reason(message | {"weight": -1e-9}) is Reason.NEGATIVE_WEIGHT
    assert reason(message | {"weight": -0.0}) is None
    assert reason(message | {"weight": 0}) is None


@pytest.mark.parametrize(
    "value",
    [
        b"", b" ", b"{", b"nul", b"{'id':1}", b'{"id":1,}', b'{"id":01}', b"{}{}", b'{"id":"a\nb","label":1}', b"\x00",
        b'{"id":"\xff","label":1}', b'{"x":"\xff","id":1,"label":1}', b'{"\xff":1,"id":1,"label":1}',
        b"\xef\xbb\xbf{}", '{"id":1,"label":1}'.encode("utf-16"), b'{"id":"\xed\xa0\x80","label":1}',
        b"[", b"5", b"null", b'"text"', b'[[{"id":1,"label":1}]]',
    ],
)  # fmt: skip
def test_malformed(value: bytes) -> None:
    """Not UTF-8, not JSON, or neither an object nor an array of them."""
    assert reason(value) is Reason.MALFORMED


def test_one_invalid_message_does_not_touch_its_neighbours() -> None:
    """Messages that would make JSON together are judged each for itself."""
    decoded = decode(
        b'{"id":1,"label":1',
        b"}",
        b'{"id":2,"label":1}',
        b'{"id":"\xc3',
        b'\xbc","label":1}',
        b"",
        b'{"id":3,"label":1}',
        b"",
    )
    assert decoded.labels.ids == [b"2", b"3"]
    assert decoded.rejections == [(row, Reason.MALFORMED) for row in (0, 1, 3, 4, 5, 7)]


def test_a_tombstone() -> None:
    """A record without a value is counted as that and otherwise ignored."""
    decoded = decode(None, LABEL, None)
    assert decoded.kinds[Kind.TOMBSTONE] == 2
    assert decoded.rejections == []


def test_the_last_of_duplicate_keys_counts() -> None:
    """As most parsers have it, also where the first is of a wrong type."""
    assert decode(b'{"id":"a","label":1,"id":"b"}').labels.ids == [b"b"]
    assert decode(b'{"id":true,"label":"x","label":2,"id":"b"}').labels.values.tolist() == [2.0]
    assert reason(b'{"id":1,"label":1,"id":true}') is Reason.WRONG_TYPE
    segments = b'{"id":1,"model":"m","prediction":1,"segments":{"country":"a","tier":1},"segments":{"country":"b"}}'
    assert decode(segments).predictions.keys == [("m", "", "b", "__none__")]


def test_escaped_member_names_are_the_names() -> None:
    """A name written with escapes is the same name."""
    assert decode(b'{"\\u0069d":1,"label":1}').labels.ids == [b"1"]


def test_oversized_messages() -> None:
    """Judged by their bytes alone; the limit itself is allowed."""
    message = json.dumps(LABEL).encode()
    assert reason(message, message_bytes=len(message)) is None
    assert reason(message, message_bytes=len(message) - 1) is Reason.OVERSIZED
    assert reason(b"x" * 100, message_bytes=99) is Reason.OVERSIZED


def test_oversized_vectors() -> None:
    """More outputs than the limit, whatever they are."""
    assert reason(LABEL | {"label": [1] * 8}, vector_length=8) is None
    assert reason(LABEL | {"label": [1] * 9}, vector_length=8) is Reason.OVERSIZED
    assert reason(LABEL | {"label": ["x"] * 9}, vector_length=8) is Reason.OVERSIZED


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_depth(opening: bytes) -> None:
    """Nesting counts the message itself, in unknown fields too; the limit itself is allowed."""
    closing = b"]" if opening == b"[" else b"}"

    def nested(levels: int) -> bytes:
        return (
            b'{"id":1,"label":1,"x":' + opening * levels + (b"1" if opening != b"[" else b"") + closing * levels + b"}"
        )

    assert reason(nested(31)) is None
    assert reason(nested(32)) is Reason.OVERSIZED
    assert reason(nested(3), json_depth=4) is None
    assert reason(nested(4), json_depth=4) is Reason.OVERSIZED


def test_many_brackets_that_are_not_deep() -> None:
    """Siblings, and brackets inside texts behind escaped quotes, do not nest."""
    assert reason(b'{"id":1,"label":1,"x":[' + b"[]," * 100 + b"{}]}") is None
    assert reason(b'{"id":1,"label":1,"x":"' + b'\\"[{' * 100 + b'\\\\"}') is None
    assert reason(b'{"id":1,"label":1,"x":"' + b"[" * 100 + b'","y":[1]}') is None


def test_future_against_the_wall_clock() -> None:
    """Up to max_future after the wall clock, where the record's own timestamp is later or none."""
    limit = WALL_US + MAX_FUTURE_US
    for own in (-1, WALL_US // 1_000 + 1_000):
        assert reason(LABEL | {"ts": limit}, own) is None
        assert reason(LABEL | {"ts": limit + 1}, own) is Reason.FUTURE


def test_future_against_the_record() -> None:
    """Up to max_future after the record's own timestamp, where that is the earlier: replay judges as the day did."""
    own = WALL_US // 1_000 - 86_400_000
    limit = own * 1_000 + MAX_FUTURE_US
    assert reason(LABEL | {"ts": limit}, own) is None
    assert reason(LABEL | {"ts": limit + 1}, own) is Reason.FUTURE


def test_without_ts_the_records_own_timestamp_counts() -> None:
    """It is the event's time; none at all is a missing field."""
    decoded = decode({"id": 1, "label": 1}, timestamps_ms=[RECORD_MS])
    assert decoded.labels.times.tolist() == [RECORD_MS * 1_000]
    assert reason({"id": 1, "label": 1}, -1) is Reason.MISSING_FIELD
    assert reason({"id": 1, "label": 1}, (WALL_US + MAX_FUTURE_US) // 1_000) is None
    assert reason({"id": 1, "label": 1}, (WALL_US + MAX_FUTURE_US) // 1_000 + 1) is Reason.FUTURE


@pytest.mark.parametrize("ts", [TS, TS + 0.5, "2024-11-22T07:03:20Z"])
def test_events_with_and_without_ts_in_one_batch(ts: Any) -> None:
    """Each has its own time, whatever the others state."""
    with_ts, without = LABEL | {"ts": ts}, {"id": 1, "label": 1}
    (alone,) = decode(with_ts).labels.times.tolist()
    decoded = decode(with_ts, without, b"poison", with_ts, timestamps_ms=[RECORD_MS + i for i in range(4)])
    assert decoded.labels.times.tolist() == [alone, (RECORD_MS + 1) * 1_000, alone]


def test_the_order_of_reasons() -> None:
    """Where several hold, the one documented first is given."""
    wrong: dict[str, Any] = {"id": 1, "model": "m", "prediction": [1, 2], "label": [1], "ts": WALL_US * 2, "weight": -1}
    assert reason(wrong | {"prediction": [True] * 9}, vector_length=8) is Reason.OVERSIZED
    assert reason(wrong | {"id": True, "prediction": 1e80}) is Reason.WRONG_TYPE
    assert reason(wrong | {"model": None, "prediction": 1e80}) is Reason.NOT_FINITE
    assert reason(wrong | {"model": None}) is Reason.MISSING_FIELD
    assert reason(wrong) is Reason.NEGATIVE_WEIGHT
    assert reason(wrong | {"weight": 1}) is Reason.SHAPE_MISMATCH
    assert reason(wrong | {"weight": 1, "label": [1, 2]}) is Reason.FUTURE


@pytest.mark.parametrize("filler", [b"", b'"x":[1],', b'"x":[[]],"y":"' + b"z" * 300 + b'",'])
def test_depth_among_many_neighbours(filler: bytes) -> None:
    """One message nested too deep is found in any batch, whatever the others' brackets and lengths."""
    plain_ones = [b"{" + filler + b'"id":%d,"label":1}' % i for i in range(40)]
    for levels, why in ((3, []), (4, [(20, Reason.OVERSIZED)])):
        deep = b'{"id":1,"label":1,"x":' + b"[" * levels + b"]" * levels + b"}"
        assert decode(*plain_ones[:20], deep, *plain_ones[20:], json_depth=4).rejections == why


@pytest.mark.parametrize("vectors", [[[1.0], [2.0]], [[1, 2], [3, 4]], [[1, 2], [3]], [[1], 2.0]])
def test_batches_of_vectors(vectors: list[Any]) -> None:
    """Vectors of one length, of several, and between numbers stay each its own."""
    decoded = decode(*[LABEL | {"label": vector} for vector in vectors])
    found = [decoded.labels.vectors.get(i, value) for i, value in enumerate(decoded.labels.values.tolist())]
    assert [np.array(each).tolist() for each in found] == vectors


def test_json_depth_must_hold_an_event() -> None:
    """An event is an object, which is one level."""
    with pytest.raises(ValueError, match="json_depth"):
        decoder(json_depth=0)


def test_label_length_must_hold_a_cut_value() -> None:
    """Below nine characters there is no room for the hash."""
    with pytest.raises(ValueError, match="label_length"):
        decoder(label_length=8)
