"""Decoding holds for anything, and its two ways agree."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.decoding import WALL_US, assert_accounted, batch, careful, decode, decoder, plain

NUMBERS = st.one_of(
    st.integers(-5, 5),
    st.integers(),
    st.integers(10**9, 10**20),
    st.floats(),
    st.floats(1e8, 1e19),
    st.sampled_from([1e75, -1e75, 1.0000000000000002e75, 10**75, 10**76, 2**63, 2**63 - 1, -(2**63), 2**64, 10**400]),
)
TEXTS = st.one_of(
    st.text(st.characters(), max_size=20), st.sampled_from(["", "__none__", "de", "2024-11-22T07:03:20.5Z", "x" * 200])
)
ATOMS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
ANY = st.recursive(
    ATOMS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=8
)
NAMES = ["id", "model", "version", "ts", "prediction", "label", "weight", "segments", "request", "unknown"]
SEGMENTS = st.dictionaries(st.sampled_from(["country", "tier", "other"]), ATOMS, max_size=3)
LIKELY = {
    "id": st.one_of(TEXTS, st.integers()),
    "model": TEXTS,
    "version": st.one_of(TEXTS, st.integers()),
    "ts": NUMBERS,
    "prediction": NUMBERS | st.lists(NUMBERS, max_size=4),
    "label": NUMBERS | st.lists(NUMBERS, max_size=4),
    "weight": NUMBERS,
    "segments": SEGMENTS,
    "request": st.dictionaries(
        st.sampled_from(["id", "meta"]), ATOMS | st.dictionaries(st.just("model"), ATOMS), max_size=2
    ),
    "unknown": ANY,
}
EVENTS = st.fixed_dictionaries({}, optional={name: st.one_of(LIKELY[name], LIKELY[name], ANY) for name in NAMES})
LAYOUTS = st.sampled_from([{}, {"id": "request.id", "model": "request.meta.model"}])
TIMESTAMPS = st.sampled_from([-1, 0, 1, WALL_US // 1_000, WALL_US // 1_000 + 10_000_000, 2**63 - 1, -(2**63)])


@given(st.lists(st.tuples(EVENTS, st.booleans(), TIMESTAMPS), max_size=6), LAYOUTS)
@settings(max_examples=500, deadline=None)
def test_both_ways_agree_on_any_json(events: list[tuple[dict[str, Any], bool, int]], fields: dict[str, str]) -> None:
    """The quick way accepts exactly what the careful one does, with the same values to the last bit."""
    messages = [json.dumps(event, ensure_ascii=ascii_).encode("utf-8", "surrogatepass") for event, ascii_, _ in events]
    decode(*messages, timestamps_ms=[at for _, _, at in events], fields=fields, vector_length=3, json_depth=4)


PIECES = st.sampled_from(
    [
        b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u", b"d800", b"\xff", b"\xc3\xbc", b"\xef\xbb\xbf",
        b"NaN", b"-", b"0", b"1e5", b".", b" ", b"\n", b"\x00", b"true", b"null",
        b'"id"', b'"label":1', b'"id":1,"label":2', b'{"id":"a","label":', b'"x":',
    ]
)  # fmt: skip


@given(st.lists(st.none() | st.binary(max_size=40) | st.lists(PIECES, max_size=12).map(b"".join), max_size=8))
@example([b"", None, b"", b"{", b'{"id":1,"label":1}', b""])
@settings(max_examples=1_000, deadline=None)
def test_any_bytes_are_accounted_for(values: list[bytes | None]) -> None:
    """Whatever the bytes, decoding never raises, and every record is one kind; both ways alike."""
    decode(*values)


HOSTILE = st.sampled_from(
    [
        b'{"id":"a","label":1', b"}", b'{"id":"b","label":2},{"id":"c","label":3}', b'{"id":"d","u":["',
        b'"],"label":4}', b'{"id":"e","label":5}\n{"id":"f","label":6}', b'{"id":"g","label":7},', b'"', b"[", b"]",
        b"null", b",", b"",
    ]
)  # fmt: skip


@given(st.lists(HOSTILE | EVENTS.map(lambda event: json.dumps(event).encode()), max_size=8))
@settings(max_examples=200, deadline=None)
def test_what_stands_beside_a_message_changes_nothing(values: list[bytes]) -> None:
    """Also where two that are none by themselves would be one together, or one holds two."""
    together = decoder().decode(batch(values), WALL_US)
    alone = [decoder().decode(batch([value]), WALL_US) for value in values]
    assert sorted(together.rejections) == [(row, why) for row, each in enumerate(alone) for _, why in each.rejections]
    assert together.predictions.ids == [ident for each in alone for ident in each.predictions.ids]
    assert together.labels.ids == [ident for each in alone for ident in each.labels.ids]
    values_alone = [value for each in alone for value in each.labels.values.tolist()]
    assert np.array_equal(together.labels.values, np.array(values_alone), equal_nan=True)


@given(EVENTS, st.data())
@settings(max_examples=500, deadline=None)
def test_damaged_messages_are_accounted_for(event: dict[str, Any], data: st.DataObject) -> None:
    """A message with a byte changed, removed or put in is still judged alike by both ways."""
    value = bytearray(json.dumps(event).encode())
    at = data.draw(st.integers(0, len(value) - 1))
    value[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2) | PIECES)
    decode(bytes(value), json.dumps(event).encode())


@given(st.from_regex(rb'\{"id":1,"label":-?[0-9]{1,25}(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?\}', fullmatch=True))
@settings(max_examples=500, deadline=None)
def test_numbers_are_read_to_the_last_bit(value: bytes) -> None:
    """Long decimals come out as the nearest float, by either parser."""
    decode(value)


@given(st.lists(st.tuples(EVENTS, TIMESTAMPS), max_size=12), st.integers(0, 12))
@settings(max_examples=200, deadline=None)
def test_a_batch_is_its_parts(events: list[tuple[dict[str, Any], int]], cut: int) -> None:
    """How records fall into batches changes nothing: each is judged by itself."""
    messages = [json.dumps(event).encode() for event, _ in events]
    times = [at for _, at in events]
    one = decoder()
    whole = one.decode(batch(messages, times), WALL_US)
    first = one.decode(batch(messages[:cut], times[:cut]), WALL_US)
    second = one.decode(batch(messages[cut:], times[cut:]), WALL_US)
    assert whole.predictions.ids == first.predictions.ids + second.predictions.ids
    assert whole.predictions.keys == first.predictions.keys + second.predictions.keys
    assert whole.labels.ids == first.labels.ids + second.labels.ids
    assert whole.labels.times.tolist() == first.labels.times.tolist() + second.labels.times.tolist()
    moved = [(row + min(cut, len(messages)), why) for row, why in second.rejections]
    assert whole.rejections == first.rejections + moved
    assert_accounted(whole, len(messages))


def test_the_careful_decoder_is_careful() -> None:
    """The comparison would be worth nothing if both sides went the same way."""
    assert decoder()._layout.quick is not None
    assert careful()._layout.quick is None
    assert plain(decoder().decode(batch([b"{}"]), WALL_US)) == plain(careful().decode(batch([b"{}"]), WALL_US))
