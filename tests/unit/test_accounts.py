"""The daemon's own metrics follow what it did."""

from __future__ import annotations

import math

import pytest

from msemon.accounts import Accounts
from msemon.core.process import Process
from msemon.core.shape import Shape, Window
from msemon.core.task import Outcome
from msemon.events import Decoded, Kind, Reason
from msemon.export.pipeline import Pipeline
from msemon.keeper import Found, Written
from msemon.sources.base import ErrorKind, TopicPartition, Trouble
from msemon.state import Rejection
from msemon.state.base import Refusal
from support.batches import batch, decoded

SECOND = 1_000_000
WALL = 2_000_000_000 * SECOND
TOPICS = ["predictions", "labels"]
HERE, THERE = TopicPartition("predictions", 0), TopicPartition("labels", 0)
SHAPE = Shape(
    windows=(Window("1m", SECOND, 60),), observed=True, segment_keys=(), dimensions=(), timeout_us=SECOND,
    memory_us=SECOND, series_limit=1, models_limit=1, total_series_limit=1,
)  # fmt: skip


class Books:
    def __init__(self) -> None:
        self.pipeline = Pipeline("kafka-python", TOPICS)
        self.accounts = Accounts(self.pipeline)
        self.process = Process(TOPICS, SHAPE, lambda: b"key")

    def value(self, name: str, **labels: str) -> float | None:
        found = self.pipeline.registry.get_sample_value(f"msemon_{name}", labels)
        return None if found is None or math.isnan(found) else found

    def refresh(self, lag: dict[TopicPartition, int] | None = None, wall_us: int = WALL, settled: bool = True) -> None:
        self.accounts.refresh(self.process, lag or {}, wall_us, settled)


@pytest.fixture
def books() -> Books:
    return Books()


def processed(books: Books, count: int, first: int, at_ms: int, **outcome: object) -> None:
    one = batch("predictions", values=[b"x"] * count, first_offset=first, timestamps_ms=[at_ms] * count)
    books.accounts.fetched(one)
    books.accounts.processed(one, decoded(), Outcome(**outcome))  # type: ignore[arg-type]


def test_what_a_batch_was_and_did_is_counted(books):
    one = batch("labels", values=[b"x"] * 5, timestamps_ms=[1] * 5)
    found: Decoded = decoded()
    found.kinds[Kind.LABEL] = 3
    found.rejections += [(0, Reason.MALFORMED), (1, Reason.MALFORMED)]
    outcome = Outcome(
        matched=2, duplicate_predictions=1, duplicate_labels=4, conflicting_labels=3, expired_predictions=6,
        expired_labels=7, rejections=[(2, Reason.TOO_LATE)],
    )  # fmt: skip
    books.accounts.processed(one, found, outcome)
    assert books.value("events_total", topic="labels", kind="label") == 3
    assert books.value("events_rejected_total", topic="labels", reason="malformed") == 2
    assert books.value("events_rejected_total", topic="labels", reason="too_late") == 1
    assert books.value("join_matched_total") == 2
    assert books.value("join_conflicting_labels_total") == 3
    assert [books.value("join_duplicates_total", side=side) for side in ("prediction", "label")] == [1, 4]
    assert [books.value("join_expired_total", side=side) for side in ("prediction", "label")] == [6, 7]


def test_evictions_are_counted_by_what_went(books):
    books.accounts.evicted(3, 5)
    assert [books.value("join_evicted_total", entry=entry) for entry in ("waiting", "remembered")] == [3, 5]


def test_offsets_are_what_was_processed_and_not_what_was_fetched(books):
    books.accounts.started(HERE, 10)
    books.accounts.started(THERE, 3)
    books.accounts.fetched(batch("labels", values=[b"x"] * 4, first_offset=3))
    processed(books, 5, 10, 1)
    assert books.accounts.offsets() == {HERE: 15, THERE: 3}


def test_lag_is_what_the_source_has_not_fetched_and_what_waits_here(books):
    books.accounts.started(HERE, 0)
    books.accounts.fetched(batch("predictions", values=[b"x"] * 4))
    books.refresh({HERE: 6})
    assert books.value("consumer_lag", topic="predictions", partition="0") == 10
    assert books.value("consumer_lag_sum") == 10


def test_while_the_lag_of_one_partition_is_not_known_there_is_no_sum(books):
    books.accounts.started(HERE, 0)
    books.accounts.started(THERE, 0)
    books.refresh({HERE: 0})
    assert books.value("consumer_lag", topic="predictions", partition="0") == 0
    assert books.value("consumer_lag_sum") is None
    assert books.value("consumer_lag_seconds") is None
    books.refresh({HERE: 0, THERE: 0})
    assert books.value("consumer_lag_sum") == books.value("consumer_lag_seconds") == 0


def test_until_it_is_settled_what_is_ours_there_is_no_sum(books):
    books.refresh(settled=False)
    assert books.value("consumer_lag_sum") is None
    assert books.value("consumer_lag_seconds") is None
    books.refresh()  # a replica that stands by has nothing
    assert books.value("consumer_lag_sum") == books.value("consumer_lag_seconds") == 0


def test_lag_in_seconds_is_from_the_furthest_behind_that_has_something_to_come(books):
    books.accounts.started(HERE, 0)
    processed(books, 1, 0, (WALL - 90 * SECOND) // 1000)
    books.refresh({HERE: 5})
    assert books.value("consumer_lag_seconds") == 90
    books.refresh({HERE: 0})
    assert books.value("consumer_lag_seconds") == 0


def test_a_backlog_of_which_nothing_has_come_yet_is_not_said_to_be_of_no_seconds(books):
    books.accounts.started(HERE, 0)
    books.refresh({HERE: 5})
    assert (books.value("consumer_lag_sum"), books.value("consumer_lag_seconds")) == (5, None)
    waiting = batch("predictions", values=[b"x"] * 2, timestamps_ms=[(WALL - n * SECOND) // 1000 for n in (90, 60)])
    books.accounts.fetched(waiting)
    books.refresh({HERE: 3})
    assert (books.value("consumer_lag_sum"), books.value("consumer_lag_seconds")) == (5, 90)
    books.accounts.processed(waiting, decoded(), Outcome())
    books.refresh({HERE: 3})
    assert (books.value("consumer_lag_sum"), books.value("consumer_lag_seconds")) == (3, 60)


def test_records_without_a_time_of_their_own_are_not_said_to_be_from_1970(books):
    books.accounts.started(HERE, 0)
    processed(books, 1, 0, -1)
    books.refresh({HERE: 5})
    assert (books.value("consumer_lag_sum"), books.value("consumer_lag_seconds")) == (5, None)


def test_what_is_known_to_be_late_is_told_although_of_another_backlog_nothing_has_come(books):
    for where in (HERE, THERE):
        books.accounts.started(where, 0)
    processed(books, 1, 0, (WALL - 90 * SECOND) // 1000)
    books.refresh({HERE: 5, THERE: 5})
    assert books.value("consumer_lag_seconds") == 90


def test_a_wall_clock_that_has_stepped_back_gives_no_negative_lag(books):
    books.accounts.started(HERE, 0)
    processed(books, 1, 0, WALL // 1000)
    books.refresh({HERE: 5}, WALL - 3600 * SECOND)
    assert books.value("consumer_lag_seconds") == 0


def test_before_anything_was_heard_times_and_lags_are_absent(books):
    assert books.value("consumer_lag_sum") is None
    books.refresh()
    assert books.value("last_prediction_timestamp_seconds") is None
    processed(books, 1, 0, 1, newest_prediction=7 * SECOND)
    books.refresh()
    assert books.value("last_prediction_timestamp_seconds") == 7
    assert books.value("last_label_timestamp_seconds") is None


def test_whether_state_is_whole_stands_for_each_partition_and_goes_with_it(books):
    for partition in (0, 1):
        books.process.start(partition)
    books.process.tasks[1].mark_incomplete()
    books.refresh()
    assert [books.value("state_incomplete", partition=p) for p in ("0", "1")] == [0, 1]
    assert books.value("partitions_assigned") == 2
    books.process.drop(1)
    books.accounts.dropped(TOPICS, frozenset({1}))
    books.refresh()
    assert [books.value("state_incomplete", partition=p) for p in ("0", "1")] == [0, None]


def test_what_leaves_takes_its_lag_and_place_along_and_leaves_its_counters(books):
    books.accounts.started(HERE, 0)
    processed(books, 2, 0, 1, matched=2)
    books.refresh({HERE: 1})
    books.accounts.dropped(TOPICS, frozenset({0}))
    assert books.value("consumer_lag", topic="predictions", partition="0") is None
    assert books.accounts.offsets() == {}
    assert books.value("join_matched_total") == 2
    processed(books, 2, 2, 1)  # a straggler of what has left changes nothing
    assert books.accounts.offsets() == {}


def test_restores_are_counted_by_source_with_what_was_refused(books):
    rejected = [Rejection(Refusal.CHECKSUM, "x"), Rejection(Refusal.TORN, "y"), Rejection(Refusal.TORN, "z")]
    books.accounts.restored(Found(0, None, {}, [], rejected, 1.5))
    task = books.process.start(1)
    books.accounts.restored(Found(1, task, {}, [], [], 0.5))
    assert [books.value("restores_total", source=source) for source in ("store", "none")] == [1, 1]
    assert books.value("restore_duration_seconds") == 0.5
    assert [books.value("snapshots_rejected_total", reason=reason) for reason in ("checksum", "torn")] == [1, 2]


def test_the_checkpoint_shown_is_the_oldest_of_the_partitions_last_ones(books):
    books.accounts.written(Written(0, {}, None, 100, 0.1), WALL)
    books.accounts.written(Written(1, {}, None, 200, 0.2), WALL + 5 * SECOND)
    assert books.value("checkpoint_timestamp_seconds") == WALL / 1e6
    assert (books.value("checkpoint_bytes"), books.value("checkpoint_duration_seconds")) == (200, 0.2)
    books.accounts.written(Written(0, {}, "disk full", 0, 0.1), WALL + 9 * SECOND)
    assert books.value("checkpoint_failures_total") == 1
    assert books.value("checkpoint_timestamp_seconds") == WALL / 1e6, "a failed one is none"
    books.accounts.written(Written(0, {}, None, 1, 0.1), WALL + 12 * SECOND)
    assert books.value("checkpoint_timestamp_seconds") == (WALL + 5 * SECOND) / 1e6


def test_a_partition_that_left_does_not_hold_the_checkpoints_time_back(books):
    books.accounts.written(Written(0, {}, None, 1, 0.1), WALL)
    books.accounts.written(Written(1, {}, None, 1, 0.1), WALL + 60 * SECOND)
    books.accounts.dropped(TOPICS, frozenset({0}))
    assert books.value("checkpoint_timestamp_seconds") == (WALL + 60 * SECOND) / 1e6
    books.accounts.dropped(TOPICS, frozenset({1}))
    assert books.value("checkpoint_timestamp_seconds") is None


def test_the_same_trouble_is_counted_each_time_and_said_once_a_minute():
    books = Books()
    refused, silent = Trouble(ErrorKind.AUTHORIZATION, "no right"), Trouble(ErrorKind.OTHER, "no answer")
    at = [(refused, 0.0), (refused, 1.0), (silent, 2.0), (silent, 61.0), (silent, 62.0)]
    assert [books.accounts.troubled(trouble, now_s) for trouble, now_s in at] == [True, False, True, False, True]
    assert books.value("kafka_errors_total", kind="authorization") == 2
    assert books.value("kafka_errors_total", kind="other") == 3
    assert books.value("kafka_errors_total", kind="authentication") == 0
