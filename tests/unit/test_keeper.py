"""Checkpoints on a thread of their own, restores in slices: what the loop may rely on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

import pytest

from msemon import keeper
from msemon.core import keeping
from msemon.core.snapshot import BadState
from msemon.keeper import Found, Keeper
from msemon.state import WriteFailed
from support.owners import PATIENCE_S, TOPICS, FakeStore, Member
from support.waiting import wait_until


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def one(store: FakeStore) -> Iterator[Member]:
    """A member that reads partition 0."""
    made = Member(store).own(0)
    yield made
    made.close()


Usable = Callable[[Mapping[str, int]], bool]


def always(_: Mapping[str, int]) -> bool:
    return True


def restored(of: Keeper, partition: int = 0, usable: Usable = always) -> Found:
    """Restore to the end."""
    of.begin(partition, usable)
    deadline = time.monotonic() + PATIENCE_S
    while not (found := of.restored(0.05)):
        assert time.monotonic() < deadline
    (only,) = found
    return only


def again(one: Member) -> Keeper:
    """A new process on the same store."""
    return Keeper(one.store, TOPICS, one.process.shape)


def test_a_restore_takes_no_more_of_a_turn_than_it_is_given(store, one):
    store.slices = 10_000_000
    other = again(one)
    other.begin(0, always)
    began = time.monotonic()
    assert other.restored(0.05) == []
    assert time.monotonic() - began < 1.0
    other.drop(0)
    assert store.restoring == {0: 0}, "what was given up is closed"
    other.close(5.0)


def test_an_empty_store_gives_no_task_and_no_reason(store):
    other = Keeper(store, TOPICS, Member(store).process.shape)
    found = restored(other)
    assert (found.task, found.rejected, found.dropped) == (None, [], [])
    other.close(5.0)


def test_a_store_that_is_away_is_asked_again_later(store, one, monkeypatch):
    monkeypatch.setattr(keeper, "RETRY_S", 0.2)
    store.unavailable = True
    other = again(one)
    other.begin(0, always)
    before = store.restores
    assert other.restored(0.1) == []
    assert store.restores == before + 1, "not at once"
    store.unavailable = False
    found: list[Found] = []
    deadline = time.monotonic() + PATIENCE_S
    while not found:
        assert time.monotonic() < deadline
        found += other.restored(0.05)
    assert found[0].task is not None
    other.close(5.0)


def test_a_checkpoint_the_log_can_not_continue_is_passed_over(store, one):
    one.read_pairs(0, 3)
    one.checkpoint(0)
    other = again(one)
    found = restored(other, usable=lambda offsets: offsets["predictions"] < 73)
    assert found.offsets == {"predictions": 70, "labels": 50}
    assert restored(other, usable=lambda _: False).task is None
    other.close(5.0)


def test_pieces_that_contradict_each_other_are_refused_and_the_checkpoint_before_is_taken(store, one, monkeypatch):
    one.read_pairs(0, 3)
    one.checkpoint(0)
    real, asked = keeping.restored, []

    def first_refused(*arguments):
        asked.append(arguments)
        if len(asked) == 1:
            raise BadState("two series of one name")
        return real(*arguments)

    monkeypatch.setattr(keeping, "restored", first_refused)
    other = again(one)
    found = restored(other)
    assert found.offsets == {"predictions": 70, "labels": 50}
    assert [each.reason for each in found.rejected] == ["malformed"]
    other.close(5.0)


def test_one_checkpoint_of_a_task_at_a_time(store, one):
    store.gate.clear()
    assert one.keeper.checkpoint(one.task(0))
    assert not one.keeper.checkpoint(one.task(0))
    assert one.keeper.writing
    store.gate.set()
    (written,) = one.keeper.written(PATIENCE_S)
    assert (written.partition, written.error, written.offsets) == (0, None, {"predictions": 70, "labels": 50})
    assert written.bytes > 0
    assert not one.keeper.writing


def test_the_snapshot_is_of_when_it_was_taken(store, one):
    """What is read while it is being written belongs to the next."""
    one.read_pairs(0, 3)
    store.gate.clear()
    assert one.keeper.checkpoint(one.task(0))
    one.read_pairs(0, 100)
    store.gate.set()
    (written,) = one.keeper.written(PATIENCE_S)
    assert written.offsets["predictions"] == 73
    other = Member(store, one.source)
    one.source.ends["predictions"] = 1000
    assert other.own(0).pairs() == 3
    other.close()


@pytest.mark.parametrize("problem", [WriteFailed("no space"), RuntimeError("a bug")])
def test_what_a_failed_checkpoint_should_have_kept_is_in_the_next(store, one, problem):
    one.read_pairs(0, 3)
    store.problem = problem
    assert one.keeper.checkpoint(one.task(0))
    (written,) = one.keeper.written(PATIENCE_S)
    assert written.error
    assert str(problem) in written.error
    store.problem = None
    one.checkpoint(0)
    one.source.ends["predictions"] = 1000
    other = Member(store, one.source).own(0)
    assert other.pairs() == 3
    assert other.task(0).offsets["predictions"] == 73
    other.close()


def test_after_a_store_lost_everything_the_next_checkpoint_is_whole(store, one):
    one.read_pairs(0, 3)
    one.checkpoint(0)
    store.shelves.clear()
    store.problem = WriteFailed("gone", lost=True)
    one.read_pairs(0, 2)
    assert one.keeper.checkpoint(one.task(0))
    assert one.keeper.written(PATIENCE_S)[0].error == "gone"
    store.problem = None
    one.checkpoint(0)
    assert restored(again(one)).offsets["predictions"] == 75


def test_a_dropped_partitions_end_of_writing_is_nobodys_business(store, one):
    store.gate.clear()
    assert one.keeper.checkpoint(one.task(0))
    wait_until(lambda: len(store.attempts) == 2, PATIENCE_S, "the write to begin")
    one.keeper.drop(0)
    assert not one.keeper.writing
    store.gate.set()
    wait_until(lambda: len(store.written) == 2, PATIENCE_S, "the write to end")
    assert one.keeper.written(0.1) == []


def test_what_a_dropped_partition_had_waiting_is_never_written(store, one):
    one.own(0, 1)
    store.gate.clear()
    begun = len(store.attempts)
    assert one.keeper.checkpoint(one.task(1))
    wait_until(lambda: len(store.attempts) > begun, PATIENCE_S, "the write to begin")
    assert one.keeper.checkpoint(one.task(0))
    one.keeper.drop(0)
    store.gate.set()
    one.keeper.close(PATIENCE_S)
    assert store.attempts[begun:] == [1]


def test_closing_writes_what_was_given_before(store, one):
    one.read_pairs(0, 3)
    assert one.keeper.checkpoint(one.task(0))
    one.keeper.close(PATIENCE_S)
    assert len(store.written) == 2


def test_closing_does_not_wait_for_ever(store, one):
    store.gate.clear()
    assert one.keeper.checkpoint(one.task(0))
    began = time.monotonic()
    one.keeper.close(0.1)
    assert time.monotonic() - began < 2.0


def test_a_new_owner_s_first_checkpoint_is_whole_and_only_its_second_deletes_the_others(store, one):
    one.read_pairs(0, 3)
    one.checkpoint(0)
    mine = set(store.shelf(0).chunks)
    one.source.ends["predictions"] = 1000
    two = Member(store, one.source).own(0)
    two.checkpoint(0)
    assert mine <= set(store.shelf(0).chunks)
    theirs = {key.writer for key in store.shelf(0).chunks} - {key.writer for key in mine}
    assert len(theirs) == 1
    two.read_pairs(0, 1)
    two.checkpoint(0)
    assert {key.writer for key in store.shelf(0).chunks} == theirs
    two.close()


def test_a_zombie_s_checkpoint_overwrites_nothing_of_the_new_owner_s(store, one):
    """It goes on with what it has; what is restored is the furthest, whoever wrote it."""
    one.read_pairs(0, 3)
    one.checkpoint(0)
    one.source.ends["predictions"] = 1000
    two = Member(store, one.source).own(0)
    two.read_pairs(0, 10)
    two.checkpoint(0)
    two.read_pairs(0, 10)
    two.checkpoint(0)
    mine = dict(store.shelf(0).chunks)
    one.read_pairs(0, 1)
    one.checkpoint(0)  # names chunks that the new owner has deleted
    one.checkpoint(0)
    assert mine.items() <= store.shelf(0).chunks.items()
    three = Member(store, one.source).own(0)
    assert three.pairs() == 23
    three.close()
    two.close()
