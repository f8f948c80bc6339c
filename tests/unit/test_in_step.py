"""Topics of a partition are taken in the order of their event times, within bounds of memory and patience."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msemon.events import Batch, Decoded
from msemon.sources.base import TopicPartition
from msemon.sources.in_step import CHANCES, InStep
from support.batches import batch, decoded

P0, L0 = TopicPartition("p", 0), TopicPartition("l", 0)
P1, L1 = TopicPartition("p", 1), TopicPartition("l", 1)
CAUGHT_UP = {P0: 0, L0: 0, P1: 0, L1: 0}


def by_value(each: Batch) -> Decoded:
    """The values are event times in decimal; an empty one is no event."""
    return decoded(predictions=[int(value) for value in each.values if value])


def times(*events: int, topic: str = "p", partition: int = 0, size: int | None = None) -> Batch:
    return batch(topic, partition, [b"%d" % event for event in events] or [b""], size=size)


def make(partitions: int = 1, **limits: float) -> InStep:
    step = InStep(["p", "l"], by_value, **limits)  # type: ignore[arg-type]
    step.add(range(partitions), now_s=0.0)
    return step


def nothing_comes(step: InStep) -> None:
    """The source is asked again and again."""
    for _ in range(CHANCES):
        step.polled(brought=False)


def taken(step: InStep, now_s: float = 0.0, lag: dict[TopicPartition, int] | None = None) -> list[bytes | None]:
    """First values of all that may be taken, in order."""
    found = []
    while (turn := step.next(now_s, CAUGHT_UP if lag is None else lag)) is not None:
        found.append(turn[0].values[0])
    return found


def test_nothing_is_taken_where_nothing_is():
    assert make().next(0.0, CAUGHT_UP) is None


def test_the_topic_with_the_smaller_head_goes_first_within_a_partition():
    step = make()
    for each in (times(10), times(30), times(20, topic="l"), times(25, topic="l")):
        step.put(each, 0.0)
    assert taken(step) == [b"10", b"20", b"25", b"30"]


def test_a_head_counts_by_its_smallest_time_of_any_kind_of_event():
    heads = {"p": decoded(predictions=[50], labels=[9], pairs=[70]), "l": decoded(pairs=[8])}
    step = InStep(["p", "l"], lambda each: heads[each.topic])
    step.add([0], 0.0)
    step.put(batch("p"), 0.0)
    step.put(batch("l"), 0.0)
    assert [step.next(0.0, CAUGHT_UP)[0].topic for _ in range(2)] == ["l", "p"]  # type: ignore[index]


def test_a_head_without_events_passes_at_once_even_where_others_are_waited_for():
    step = make()
    step.put(times(), 0.0)
    step.put(times(7), 0.0)
    assert taken(step, lag={L0: 5}) == [b""]


def test_the_events_come_with_their_batch_and_are_decoded_once():
    decodings = []

    def decode(each: Batch) -> Decoded:
        decodings.append(each)
        return by_value(each)

    step = InStep(["p", "l"], decode)
    step.add([0], 0.0)
    step.put(times(3, 4), 0.0)
    step.put(times(5), 0.0)
    assert step.next(0.0, {L0: 1}) is None
    assert step.next(0.0, {L0: 1}) is None
    found = step.next(0.0, CAUGHT_UP)
    assert found is not None
    assert list(found[1].predictions.times) == [3, 4]
    assert len(decodings) == 1, "only the head may be decoded, and only once"


def test_an_empty_topic_with_lag_holds_the_others_of_its_partition_back():
    step = make()
    step.put(times(10), 0.0)
    assert step.next(1.0, {P0: 0, L0: 1}) is None
    assert step.next(1.0, {P0: 0, L0: 0}) is not None


def test_an_empty_topic_whose_lag_is_not_known_holds_the_others_back():
    step = make()
    step.put(times(10), 0.0)
    assert step.next(1.0, {}) is None


def test_it_holds_no_other_partition_back():
    step = make(2)
    step.put(times(10), 0.0)
    step.put(times(11, partition=1), 0.0)
    assert taken(step, lag={**CAUGHT_UP, L0: 1}) == [b"11"]


def test_a_topic_that_has_delivered_nothing_for_five_seconds_holds_nobody_back():
    step = make()
    step.put(times(10), 4.0)
    nothing_comes(step)
    assert step.next(5.0, {L0: 1}) is None
    assert step.next(5.001, {L0: 1}) is not None


def test_a_topic_whose_turn_with_the_client_has_not_come_is_not_silent():
    """Where every topic partition has a backlog a poll brings one of them only, and working it off takes seconds."""
    step = make(2)
    step.put(times(10), 0.0)
    for turn in range(CHANCES * 4 - 1):
        step.polled(brought=True)
        assert step.next(10.0 + turn, {L0: 1}) is None
    step.polled(brought=True)
    assert step.next(100.0, {L0: 1}) is not None


def test_its_five_seconds_begin_when_the_last_that_came_is_taken():
    """What is still here is not waited for, however long ago it came."""
    step = make()
    step.put(times(1, topic="l"), 4.0)
    step.put(times(10), 4.0)
    nothing_comes(step)
    assert taken(step, 14.0, {L0: 1}) == [b"1"]
    assert step.next(19.001, {L0: 1}) is None
    nothing_comes(step)
    assert step.next(19.0, {L0: 1}) is None
    assert step.next(19.001, {L0: 1}) is not None


def test_at_the_limit_a_topic_with_lag_holds_the_others_back_however_silent_it_is():
    step = make()
    step.put(times(10), 0.0)
    assert step.next(1e6, {L0: 1}, at_limit=True) is None
    assert step.next(1e6, {L0: 0}, at_limit=True) is not None


def test_partitions_take_turns():
    step = make(2)
    for event in (1, 2):
        step.put(times(event), 0.0)
        step.put(times(10 * event, partition=1), 0.0)
    assert taken(step) == [b"1", b"10", b"2", b"20"]


def test_a_full_topic_is_paused_where_it_has_something_and_told_once():
    step = make(2, buffer_bytes=100)
    step.put(times(1, size=99), 0.0)
    assert step.to_pause() == []
    step.put(times(2, size=1), 0.0)
    assert step.to_pause() == [P0]
    assert step.to_pause() == []
    assert step.to_resume() == []


def test_a_full_topic_goes_on_where_its_own_buffer_is_empty_so_that_two_full_topics_never_wait_for_each_other():
    step = make(2, buffer_bytes=100)
    step.put(times(1, size=100), 0.0)
    step.put(times(2, topic="l", partition=1, size=100), 0.0)
    assert set(step.to_pause()) == {P0, L1}, "l-0 and p-1 are what the paused ones wait for"
    step.put(times(3, partition=1, size=100), 0.0)
    assert step.to_pause() == [P1]


def test_a_paused_topic_is_resumed_at_half():
    step = make(buffer_bytes=100)
    for event in (1, 2, 3):
        step.put(times(event, size=40), 0.0)
    assert step.to_pause() == [P0]
    assert step.next(0.0, CAUGHT_UP)
    assert (step.buffered_bytes("p"), step.to_resume()) == (80, [])
    assert step.next(0.0, CAUGHT_UP)
    assert (step.buffered_bytes("p"), step.to_resume()) == (40, [P0])
    assert step.to_resume() == []


def test_a_paused_partition_is_resumed_once_its_own_buffer_is_empty():
    step = make(2, buffer_bytes=100)
    step.put(times(1, size=10), 0.0)
    step.put(times(2, partition=1, size=100), 0.0)
    assert set(step.to_pause()) == {P0, P1}
    assert step.next(0.0, CAUGHT_UP)
    assert step.to_resume() == [P0]


def test_a_dropped_partition_leaves_no_batch_no_byte_and_no_pause_behind():
    step = make(2, buffer_bytes=100)
    step.put(times(1, size=100), 0.0)
    step.put(times(2, partition=1, size=10), 0.0)
    step.to_pause()
    step.drop([0, 7])
    assert step.buffered_bytes("p") == 10
    assert step.to_resume() == [P1]
    assert taken(step) == [b"2"]
    with pytest.raises(KeyError):
        step.put(times(3), 0.0)


def test_adding_what_is_there_already_changes_nothing():
    step = make()
    step.put(times(1), 0.0)
    step.add([0], 3.0)
    assert taken(step) == [b"1"]


EVENTS = st.lists(st.tuples(st.sampled_from(["p", "l"]), st.integers(0, 2), st.integers(0, 50)), max_size=40)


@given(EVENTS, st.integers(1, 60))
def test_everything_put_in_comes_out_once_in_the_order_of_each_topic(events, buffer_bytes):
    step = make(3, buffer_bytes=buffer_bytes)
    for number, (topic, partition, time) in enumerate(events):
        step.put(batch(topic, partition, [b"%d" % time], first_offset=number, size=10), 0.0)
        step.to_pause()
        step.to_resume()
    out = []
    now_s = 0.0
    while step.buffered_bytes("p") + step.buffered_bytes("l"):
        turn = step.next(now_s, {})
        if turn is None:
            nothing_comes(step)
            now_s += 6.0
        else:
            out.append(turn[0])
    assert sorted(each.offsets[0] for each in out) == list(range(len(events)))
    for where in {(each.topic, each.partition) for each in out}:
        offsets = [each.offsets[0] for each in out if (each.topic, each.partition) == where]
        assert offsets == sorted(offsets)
    assert step.buffered_bytes("p") == step.buffered_bytes("l") == 0
    step.to_resume()
    assert step.to_pause() == []


@given(EVENTS)
def test_topics_in_order_come_out_in_order_of_event_time_within_each_partition(events):
    step = make(3)
    for topic, partition, time in sorted(events, key=lambda event: event[2]):
        step.put(times(time, topic=topic, partition=partition), 0.0)
    out: dict[int, list[int]] = {}
    while turn := step.next(0.0, {TopicPartition(t, p): 0 for t in "pl" for p in range(3)}):
        out.setdefault(turn[0].partition, []).append(int(turn[0].values[0] or 0))
    assert all(partition == sorted(partition) for partition in out.values())


@given(st.lists(st.tuples(st.sampled_from(["p", "l"]), st.integers(1, 3)), min_size=1, max_size=12), st.data())
def test_a_client_that_obeys_the_pauses_always_gets_everything_through_whatever_the_limit(log, data):
    """Each partition's topics need each other (at the join's limit); still two full buffers never stop for good."""
    logs: dict[TopicPartition, list[Batch]] = {P0: [], L0: [], P1: [], L1: []}
    for time, (topic, count) in enumerate(log):
        for _ in range(count):
            where = TopicPartition(topic, data.draw(st.integers(0, 1)))
            logs[where].append(times(time, topic=where.topic, partition=where.partition, size=10))
    total = sum(map(len, logs.values()))
    step = make(2, buffer_bytes=20)
    paused: set[TopicPartition] = set()
    done = 0
    for _ in range(10 * total):
        for where, waiting in logs.items():
            if waiting and where not in paused:
                step.put(waiting.pop(0), 0.0)
                paused.update(step.to_pause())
        while step.next(0.0, {where: len(waiting) for where, waiting in logs.items()}, at_limit=True):
            done += 1
        paused.difference_update(step.to_resume())
        assert all(step.buffered_bytes(topic) <= 20 + 2 * 10 for topic in "pl")
    assert done == total


def test_what_can_not_be_decoded_yet_holds_its_partition_and_no_other():
    there: set[bytes] = set()
    tried: list[bytes | None] = []

    def decode(each: Batch) -> Decoded | None:
        tried.append(each.values[0])
        return by_value(each) if each.values[0] in there else None

    step = InStep(["p", "l"], decode)
    step.add([0, 1], 0.0)
    for each in (times(5), times(3, topic="l"), times(7, partition=1)):
        step.put(each, 0.0)
    there |= {b"3", b"7"}
    assert taken(step) == [b"7"], "3 would be next in partition 0, but 5 might be before it"
    there.add(b"5")
    assert taken(step) == []
    assert tried.count(b"5") == 1, "it is tried now and then, not whenever another partition has something"
    assert taken(step, 0.2) == [b"3", b"5"]
