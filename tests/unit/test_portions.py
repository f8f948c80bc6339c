"""What is decoded at a time holds a bounded number of events, however many a record may be."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from msemon.decoding.portions import latest, portions
from msemon.events import Batch
from support.decoding import WALL_US, batch, decoder
from support.formats import avro

MESSAGES = st.lists(
    st.sampled_from([None, b"", b"{}", b" {}", b"[]", b"[1]", b"[1,2,3]", b" [1,2,3,4,5,6,7]"]), max_size=12
)


@given(MESSAGES, st.integers(1, 9))
def test_portions_are_the_batch_in_order_each_within_the_limit_or_one_record(messages: list[bytes | None], limit: int):
    whole, made = replace(batch(messages), origin=lambda row: (b"%d" % row, ())), decoder(message_events=6)
    most = made.most_events(whole)
    parts = list(portions(whole, most, limit))
    for name in ("values", "offsets", "timestamps_ms"):
        assert [each for part in parts for each in getattr(part, name)] == list(getattr(whole, name))
    assert parts[-1].next_offset == whole.next_offset
    assert [part.next_offset for part in parts[:-1]] == [part.offsets[-1] + 1 for part in parts[:-1]]
    keys = [part.origin(i)[0] for part in parts for i in range(len(part.values))]
    assert keys == [b"%d" % row for row in range(len(messages))]
    for part in parts:
        counts = made.most_events(part) or [1] * len(part.values)
        assert sum(counts) <= limit or len(part.values) == 1 or most is None
        assert len(made.decode(part, WALL_US).rejections) <= sum(counts)


@given(MESSAGES, st.integers(1, 9))
def test_the_latest_records_are_as_many_as_the_limit_allows_and_one_at_least(messages: list[bytes | None], limit: int):
    whole, made = replace(batch(messages), origin=lambda row: (b"%d" % row, ())), decoder(message_events=6)
    most = made.most_events(whole) or [1] * len(messages)
    last = latest(whole, made.most_events(whole), limit)
    begin = len(messages) - len(last.values)
    assert list(last.values) == messages[begin:]
    assert list(last.offsets) == list(whole.offsets)[begin:]
    assert [last.origin(i)[0] for i in range(len(last.values))] == [b"%d" % row for row in range(begin, len(messages))]
    assert last.next_offset == whole.next_offset
    assert sum(most[begin:]) <= limit or len(last.values) == 1
    assert begin == 0 or sum(most[begin - 1 :]) > limit


def test_a_bomb_of_arrays_comes_in_portions() -> None:
    """Compressed these are 100 bytes; decoded at once they took minutes and gigabytes."""
    bomb = batch([b"[" + b"1," * 9_999 + b"1]"] * 1_000)
    parts = list(portions(bomb, decoder().most_events(bomb)))
    assert len(parts) == 100
    assert sum(part.size for part in parts) == bomb.size


def test_plain_batches_stay_whole() -> None:
    plain = batch([b'{"id":1,"label":[1,2,3]}'] * 30_000)
    assert decoder().most_events(plain) is None
    assert _same(plain, list(portions(plain, None)))
    small = batch([b"x" * 20] * 30_000)
    assert _same(small, list(portions(small, avro().most_events(small))))
    dense = batch([b"x" * 80] * 30_000)
    assert [len(part.values) for part in portions(dense, avro().most_events(dense))] == [9_090] * 3 + [2_730]


def _same(whole: Batch, parts: list[Batch]) -> bool:
    return len(parts) == 1 and parts[0] is whole
