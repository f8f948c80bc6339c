"""Every path of a partition's life: restored or begun anew, read, checkpointed, given up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from msemon import keeper, ownership
from msemon.sources.base import TopicPartition, Truncated
from msemon.state import WriteFailed
from support.owners import FakeSource, FakeStore, Member
from support.task_logs import LABELS, PREDICTIONS

Make = Callable[..., Member]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "RETRY_S", 0.02)
    monkeypatch.setattr(ownership, "RETRY_S", 0.02)
    monkeypatch.setattr(ownership, "START_RETRY_S", 0.02)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def member(store: FakeStore) -> Iterator[Make]:
    """Makes members on one store."""
    made: list[Member] = []

    def make(source: FakeSource | None = None, interval_s: float = 1000.0) -> Member:
        made.append(Member(store, source, interval_s))
        return made[-1]

    yield make
    for each in made:
        each.close()


def grown(**more: Any) -> FakeSource:
    """The cluster some time later."""
    return FakeSource(ends={PREDICTIONS: 1000, LABELS: 1000}, **more)


def where(partition: int, predictions: int, labels: int) -> dict[TopicPartition, int]:
    return {TopicPartition(PREDICTIONS, partition): predictions, TopicPartition(LABELS, partition): labels}


# Begun anew.


def test_where_reading_begins_is_durable_before_the_first_event_is_read(store, member):
    store.gate.clear()
    one = member()
    one.assign(0)
    one.until(lambda: store.attempts, "the first checkpoint to be written")
    for _ in range(3):
        one.ownership.turn()
    assert not one.ownership.reads(0)
    assert not one.ownership.settled
    assert one.position(0) == (None, None)
    assert not one.source.commits, "what is not durable is not committed"
    store.gate.set()
    one.until(lambda: one.ownership.settled, "the partition to be read")
    assert one.ownership.reads(0)
    assert one.position(0) == (70, 50)
    one.until(lambda: one.source.commits, "a commit")
    assert one.source.commits[-1] == where(0, 70, 50)


@pytest.mark.parametrize("before", [False, True], ids=["anew", "restored"])
def test_it_is_not_settled_at_any_moment_before_it_is_read(member, before, monkeypatch):
    """Readiness is asked for from other threads, so also between two steps."""
    if before:
        member().own(0)
    one = member(grown())
    seen: list[bool] = []

    def watched(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            seen.append(one.ownership.settled)
            return real(*given)

        return call

    for name in ("topic_ids", "start_offsets", "committed", "seek", "resume"):
        monkeypatch.setattr(one.source, name, watched(getattr(one.source, name)))
    one.own(0)
    assert one.ownership.settled
    assert len(seen) > 2
    assert not any(seen)


def test_a_crash_after_that_begins_at_the_same_place(store, member):
    member().own(0)
    later = member(grown()).own(0)
    assert later.position(0) == (70, 50)


def test_while_the_cluster_does_not_say_where_to_begin_it_is_asked_again(store, member):
    one = member(FakeSource(unreachable=True))
    one.assign(0, 1)
    one.until(lambda: store.restores == 2 and not one.ownership._restoring, "nothing to be found")
    time.sleep(0.05)
    one.ownership.turn()
    assert one.ownership.owned == {0, 1}
    assert not one.ownership.settled
    assert not store.attempts
    one.source.unreachable = False
    one.until(lambda: one.ownership.settled, "the partitions to be read")
    assert one.position(0) == one.position(1) == (70, 50)


def test_a_partition_that_was_read_before_is_rebuilt_from_the_log(member):
    """As far back as matters, never from later than reading had come to, and marked as incomplete."""
    one = member(FakeSource(committed_before=where(0, 20, 45))).own(0)
    assert one.position(0) == (20, 30)
    assert one.task(0).incomplete


def test_where_the_start_can_not_be_kept_it_is_tried_again_before_anything_is_read(store, member):
    store.problem = WriteFailed("no space")
    one = member()
    one.assign(0)
    one.until(lambda: len(store.attempts) == 2, "a second attempt")
    assert one.position(0) == (None, None)
    store.problem = None
    one.until(lambda: one.ownership.settled, "the partition to be read")
    assert one.position(0) == (70, 50)
    assert store.written == [0]
    assert one.pipeline.registry.get_sample_value("msemon_checkpoint_failures_total") >= 1


def test_a_store_that_takes_nothing_does_not_keep_it_from_counting(store, member):
    """After some attempts it reads, and commits nothing."""
    store.problem = WriteFailed("no space")
    one = member()
    one.assign(0)
    one.until(lambda: one.ownership.settled, "the partition to be read all the same")
    assert len(store.attempts) == ownership.START_ATTEMPTS
    assert one.position(0) == (70, 50)
    one.read_pairs(0, 3)
    one.ownership.commit(1.0)
    assert one.source.commits == []


def test_without_a_store_it_reads_at_once_and_commits_what_is_processed(member, store):
    store.name = "none"
    one = member().own(0)
    assert not store.attempts
    assert one.position(0) == (70, 50)
    one.ownership.commit(1.0)
    assert one.source.commits[-1] == where(0, 70, 50)


# Restored.


def test_a_restored_partition_goes_on_where_its_checkpoint_was_taken(store, member):
    one = member().own(0)
    one.read_pairs(0, 4)
    one.read_halves(0, "x")
    one.checkpoint(0)
    one.read_pairs(0, 100)  # not durable
    two = member(grown()).own(0)
    assert two.position(0) == (75, 50)
    assert two.pairs() == 4
    two.read_labels(0, "x")
    assert two.pairs() == 5, "the join moved, too"


def of_one_topic(store: FakeStore, member: Make) -> None:
    """A checkpoint from when there was but one topic."""
    one = member().own(0)
    one.task(0).offsets.pop(LABELS)
    one.checkpoint(0)
    manifests = store.shelf(0).manifests
    del manifests[min(manifests, key=lambda key: key.sequence)]


def test_a_topic_that_is_new_since_begins_at_its_beginning(store, member):
    of_one_topic(store, member)
    two = member(grown()).own(0)
    assert two.position(0) == (70, 5)


def test_where_the_cluster_does_not_say_that_place_the_restore_begins_again(store, member):
    of_one_topic(store, member)
    two = member(grown(unreachable=True))
    two.assign(0)
    begun = store.restores
    two.until(lambda: store.restores >= begun + 2, "another restore")
    assert 0 not in two.process.tasks
    two.source.unreachable = False
    two.until(lambda: two.ownership.settled, "the partition to be read")
    assert two.position(0) == (70, 5)


def test_a_store_that_is_away_is_waited_for_and_nothing_begins_anew(store, member):
    one = member().own(0)
    one.read_pairs(0, 4)
    one.checkpoint(0)
    store.unavailable = True
    two = member(grown())
    two.assign(0)
    begun = store.restores
    two.until(lambda: store.restores >= begun + 3, "some attempts")
    assert not two.process.tasks
    assert two.position(0) == (None, None)
    store.unavailable = False
    two.until(lambda: two.ownership.settled, "the partition to be read")
    assert two.pairs() == 4


def torn(store: FakeStore, newest_only: bool) -> None:
    shelf = store.shelf(0)
    manifests = sorted(shelf.manifests, key=lambda key: key.sequence)
    for key in manifests[-1:] if newest_only else manifests:
        shelf.manifests[key] = shelf.manifests[key][:-3]


def test_where_the_newest_checkpoint_is_refused_the_one_before_is_as_good(store, member):
    """The log has the rest: nothing is incomplete."""
    one = member(FakeSource(ends=dict.fromkeys((PREDICTIONS, LABELS), 0))).own(0)
    one.task(0).incomplete_since = None
    one.read_pairs(0, 4)
    one.checkpoint(0)
    one.read_pairs(0, 2)
    one.checkpoint(0)
    torn(store, newest_only=True)
    two = member(FakeSource()).own(0)
    assert two.pairs() == 4
    assert two.position(0) == (4, 0)
    assert not two.task(0).incomplete
    refused = two.pipeline.registry.get_sample_value("msemon_snapshots_rejected_total", {"reason": "torn"})
    assert refused == 1


def test_where_all_are_refused_it_is_rebuilt_from_the_log_and_says_so(store, member):
    one = member().own(0)
    one.read_pairs(0, 4)
    one.checkpoint(0)
    torn(store, newest_only=False)
    two = member(FakeSource(committed_before=where(0, 74, 50))).own(0)
    assert two.pairs() == 0
    assert two.position(0) == (30, 30)
    assert two.task(0).incomplete


def test_a_checkpoint_beyond_the_logs_end_is_passed_over(store, member):
    one = member().own(0)
    one.read_pairs(0, 4)
    one.checkpoint(0)
    one.read_pairs(0, 10)
    one.checkpoint(0)
    two = member(FakeSource(ends={PREDICTIONS: 75, LABELS: 50})).own(0)
    assert two.position(0) == (74, 50)
    assert two.pairs() == 4


def test_a_checkpoint_beyond_the_logs_end_is_gone_before_the_log_can_grow_over_it(store, member):
    """Else a crash soon after would take it for right, although it counts what was cut off."""
    one = member().own(0)
    one.checkpoint(0)
    one.read_pairs(0, 6)
    one.checkpoint(0)  # of predictions up to 76; the one before up to 70
    two = member(FakeSource(ends={PREDICTIONS: 73, LABELS: 50})).own(0)
    assert two.position(0) == (70, 50)
    two.read_pairs(0, 1)  # and then a crash, before another checkpoint
    three = member(grown()).own(0)
    assert three.position(0) == (70, 50), "not 76"
    assert three.pairs() == 0


def test_checkpoints_all_beyond_the_logs_end_are_gone_before_the_log_can_grow_over_them(store, member):
    one = member().own(0)
    one.read_pairs(0, 6)
    one.checkpoint(0)
    one.checkpoint(0)
    member(FakeSource(ends={PREDICTIONS: 40, LABELS: 50}, committed_before=where(0, 76, 50))).own(0)
    three = member(grown()).own(0)
    assert three.position(0) == (30, 30), "where the log was read from anew"
    assert three.pairs() == 0


def test_a_log_that_was_cut_back_takes_the_task_back_with_it(store, member):
    one = member().own(0)
    one.read_pairs(0, 4)
    one.checkpoint(0)
    one.read_pairs(0, 10)
    one.checkpoint(0)
    cut = Truncated(TopicPartition(PREDICTIONS, 0), position=84, end=76)
    one.source.ends[PREDICTIONS] = cut.end
    one.ownership.again(cut.where.partition)
    assert not one.ownership.reads(0)
    one.until(lambda: one.ownership.settled, "the partition to be read again")
    assert one.position(0) == (74, 50)
    assert one.pairs() == 4


# Given up.


@pytest.mark.parametrize("lost", [True, False])
def test_a_partition_that_goes_takes_its_series_along_and_writes_nothing_more(store, member, lost):
    one = member().own(0, 1)
    one.read_pairs(0, 4)
    one.read_pairs(1, 2)
    one.until(lambda: one.source.commits, "a commit")
    durable = list(store.written)
    one.ownership.drop([0], lost=lost)
    assert one.pairs() == 2
    assert one.process.view(0).models.counters[0].sum() == 6, "the process's own counters stay"
    assert one.ownership.owned == {1}
    one.until(lambda: not one.keeper.writing, "writes to end")
    one.ownership.finish(1.0)
    assert store.written == [*durable, 1]
    assert {each.partition for each in one.source.commits[-1]} == {1}


def test_what_stays_over_a_rebalance_is_left_alone(store, member):
    one = member().own(0, 1)
    one.read_pairs(0, 4)
    restores = store.restores
    one.assign(0, 2)
    assert one.ownership.reads(0)
    assert 1 not in one.process.tasks
    one.until(lambda: one.ownership.settled, "the new one to be read")
    assert store.restores == restores + 1
    assert one.pairs() == 4


def test_f08_a_partition_lost_while_it_is_restored_is_abandoned(store, member):
    """The restore is closed, nothing of it is ever exported, and if the partition comes back all begins again."""
    one = member().own(0)
    one.read_pairs(0, 4)
    one.checkpoint(0)
    store.slices = 1_000_000
    two = member(grown())
    two.assign(0, 1)
    two.ownership.turn()
    two.ownership.turn()
    assert store.restoring == {0: 1}
    assert two.pairs() == 0
    two.lose(0)
    assert store.restoring == {0: 0}
    store.slices = 1
    two.until(lambda: two.ownership.settled, "the other one to be read")
    assert two.ownership.owned == {1}
    assert two.position(0) == (None, None)
    two.own(0, 1)
    assert two.pairs() == 4


def test_f08_a_partition_lost_before_its_place_is_known_is_forgotten(store, member):
    one = member(FakeSource(unreachable=True))
    one.assign(0)
    one.until(lambda: one.ownership._unplaced, "nothing to be found")
    one.lose(0)
    one.source.unreachable = False
    for _ in range(3):
        one.ownership.turn()
    assert one.ownership.settled
    assert not store.attempts


def test_f08_a_partition_lost_while_its_start_is_written_is_not_read(store, member):
    """Nor when the write ends; nor does that end count for the same partition's next life."""
    store.gate.clear()
    one = member()
    one.assign(0)
    one.until(lambda: store.attempts, "the first checkpoint to be written")
    one.lose(0)
    assert one.ownership.settled
    one.assign(0)
    one.until(lambda: one.ownership._starting or 0 in one.process.tasks, "the second life")
    store.gate.set()
    one.until(lambda: one.ownership.settled, "the partition to be read")
    assert one.position(0) == (70, 50)
    one.until(lambda: not one.keeper.writing, "writes to end")
    one.lose(0)
    assert one.ownership.settled


def test_f07_a_partition_lost_while_it_is_checkpointed_is_not_committed(store, member):
    """What was being written may become durable, which does no harm; what waited behind it is never begun."""
    one = member().own(0, 1)
    one.until(lambda: one.source.commits, "a commit")
    store.gate.clear()
    one.read_pairs(0, 4)
    one.read_pairs(1, 2)
    begun = len(store.attempts)
    assert one.keeper.checkpoint(one.task(0))
    assert one.keeper.checkpoint(one.task(1))
    one.until(lambda: len(store.attempts) > begun, "the write to begin")
    one.lose(0, 1)
    commits = len(one.source.commits)
    store.gate.set()
    one.keeper.close(5.0)
    one.ownership.turn()
    assert store.attempts[begun:] == [0]
    assert len(one.source.commits) == commits


def test_f07_a_commit_that_is_refused_leaves_the_state_as_it_is(store, member):
    one = member().own(0)
    one.read_pairs(0, 4)
    one.source.accepts = False
    one.checkpoint(0)
    one.ownership.commit(1.0)
    assert one.pairs() == 4
    assert one.ownership.reads(0)
    one.source.accepts = True
    one.ownership.commit(1.0)
    assert one.source.commits[-1] == where(0, 74, 50)


# Checkpoints.


def test_only_what_is_durable_is_committed(store, member):
    one = member().own(0)
    one.read_pairs(0, 4)
    one.checkpoint(0)
    one.read_pairs(0, 100)
    store.problem = WriteFailed("no space")
    begun = len(store.attempts)
    assert one.keeper.checkpoint(one.task(0))
    one.until(lambda: len(store.attempts) > begun and not one.keeper.writing, "the write to fail")
    one.ownership.commit(1.0)
    assert one.source.commits[-1] == where(0, 74, 50)
    store.problem = None
    one.checkpoint(0)
    one.ownership.commit(1.0)
    assert one.source.commits[-1] == where(0, 174, 50)
    assert member(grown()).own(0).pairs() == 104


def test_each_partition_is_checkpointed_once_an_interval(store, member):
    one = member(interval_s=0.05).own(0, 1, 2)
    before = len(store.written)
    one.until(lambda: len(store.written) >= before + 9, "three rounds")
    assert {store.written[before:].count(p) for p in (0, 1, 2)} <= {2, 3, 4}


def test_a_member_that_the_group_may_have_given_up_checkpoints_nothing(store, member):
    """Its lease is over: another may have the partition. It says so no more, and asks with a commit."""
    one = member(interval_s=0.02).own(0)
    one.source.heard_s = -math.inf
    one.until(lambda: not one.keeper.writing, "the last write to end")
    before, commits = len(store.attempts), len(one.source.commits)
    one.until(lambda: len(one.source.commits) >= commits + 3, "commits")
    assert len(store.attempts) == before
    one.source.heard_s = time.monotonic()
    one.until(lambda: len(store.attempts) > before, "a checkpoint")


def test_at_the_end_everything_is_written_and_committed(store, member):
    one = member().own(0, 1)
    one.read_pairs(0, 4)
    one.read_pairs(1, 2)
    one.ownership.finish(5.0)
    assert one.source.commits[-1] == where(0, 74, 50) | where(1, 72, 50)
    assert member(grown()).own(0, 1).pairs() == 6


def test_a_slow_store_does_not_hold_up_the_end(store, member):
    """It takes about the time it is given, and what did not become durable is not committed."""
    one = member().own(0, 1)
    one.until(lambda: one.source.commits, "a commit")
    one.read_pairs(0, 4)
    store.gate.clear()
    began = time.monotonic()
    one.ownership.finish(0.3)
    assert 0.2 < time.monotonic() - began < 2.0
    assert one.source.commits[-1] == where(0, 70, 50) | where(1, 70, 50)


def test_the_end_comes_while_the_start_is_being_written(store, member):
    """It is kept and not read."""
    store.gate.clear()
    one = member()
    one.assign(0)
    one.until(lambda: store.attempts, "the first checkpoint to be written")
    store.gate.set()
    one.ownership.finish(5.0)
    assert store.written == [0]
    assert one.position(0) == (None, None)
    assert one.source.commits[-1] == where(0, 70, 50)
