"""JSON messages that are arrays of events."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msemon.events import Kind, Reason
from support.decoding import WALL_US, batch, careful, decoder, plain

LABEL = {"id": "a", "label": 1.5}
PREDICTION = {"id": "b", "model": "m", "prediction": 2, "segments": {"country": "de"}}


def test_each_element_is_an_event_with_its_records_offset_and_place() -> None:
    messages = [json.dumps([LABEL, PREDICTION]).encode(), LABEL | {"id": "c"}, None, json.dumps([PREDICTION]).encode()]
    decoded = decoder().decode(batch(messages), WALL_US)
    assert decoded.labels.ids == [b"a", b"c"]
    assert decoded.labels.offsets.tolist() == [100, 102]
    assert decoded.predictions.offsets.tolist() == [100, 106]
    assert decoded.kinds[Kind.TOMBSTONE] == 1
    assert decoded.records is not None
    assert decoded.records.tolist() == [0, 0, 1, 2, 3]
    assert [decoded.record(row) for row in decoded.predictions.rows.tolist()] == [0, 3]


def test_one_bad_element_is_rejected_alone() -> None:
    """Also one that only the careful parser can pass over."""
    message = b' [{"id":"a","label":1}, {"id":"b","label":NaN} ,7,{"id":"c","label":"\xc3\xbc"},{"id":"d","label":4}]\n'
    decoded = decoder().decode(batch([message]), WALL_US)
    assert decoded.labels.ids == [b"a", b"d"]
    assert decoded.rejections == [(1, Reason.NOT_FINITE), (2, Reason.MALFORMED), (3, Reason.WRONG_TYPE)]
    assert {decoded.record(row) for row, _ in decoded.rejections} == {0}


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"[]", Reason.MISSING_FIELD),
        (b"[{}", Reason.MALFORMED),
        (b"[{}]x", Reason.MALFORMED),
        (b"[NaN]]", Reason.MALFORMED),
        (b"[NaN,]", Reason.MALFORMED),
        (b"[NaN;1]", Reason.MALFORMED),
        (b'["\xff"]', Reason.MALFORMED),
        (b'[{"x":[[[1]]]}]', Reason.OVERSIZED),
        (b"[1,2,3,4]", Reason.OVERSIZED),
        (b"[" + b" " * 100 + b"1]", Reason.OVERSIZED),
    ],
)
def test_an_array_that_can_not_be_taken_apart_is_one_rejection(message: bytes, why: Reason) -> None:
    made = decoder(message_events=3, json_depth=4, message_bytes=90)
    decoded = made.decode(batch([{"id": 1, "label": 1}, message]), WALL_US)
    assert decoded.rejections == [(1, why)]
    assert decoded.labels.ids == [b"1"]


VALUES = st.one_of(
    st.fixed_dictionaries({"id": st.integers(0, 9), "label": st.floats()}),
    st.fixed_dictionaries({"id": st.text(max_size=3), "model": st.text(max_size=3), "prediction": st.floats(-9, 9)}),
    st.none(),
    st.integers(),
    st.text(max_size=5),
)


@given(st.lists(st.lists(VALUES, min_size=1, max_size=4), max_size=4))
@settings(max_examples=200, deadline=None)
def test_an_array_is_its_elements_one_by_one(arrays: list[list[Any]]) -> None:
    """The same columns and rejections as if every element had been a message with that offset; by both ways."""
    alone = [json.dumps(value, ensure_ascii=False).encode() for values in arrays for value in values]
    together = [json.dumps(values, ensure_ascii=False).encode() for values in arrays]
    expected = decoder().decode(batch(alone), WALL_US)
    for made in (decoder(), careful()):
        decoded = made.decode(batch(together), WALL_US)
        for one, other in ((decoded.predictions, expected.predictions), (decoded.labels, expected.labels)):
            other.offsets = one.offsets
            assert plain(one) == plain(other)
        assert decoded.rejections == expected.rejections
        assert decoded.kinds == expected.kinds
