"""What a task's pieces keep beside its numbers, and what is said of settings that no longer fit."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from msemon.core import keeping
from msemon.core.shape import Shape, Window
from msemon.core.snapshot import BadState, Piece, PieceName
from msemon.core.task import NEVER, Task
from support.events import SECOND, decoded, labelled, predicted

TOPICS = ["predictions", "labels"]
SHAPE = Shape(
    windows=(Window("1m", SECOND, 60), Window("1h", 60 * SECOND, 60)),
    observed=True, segment_keys=("country", "tier"), dimensions=((0,), (0, 1)),
    timeout_us=3600 * SECOND, memory_us=60 * SECOND, series_limit=10, models_limit=10, total_series_limit=10,
)  # fmt: skip


def task() -> Task:
    """One pair, one waiting prediction, in a group that began with two partitions."""
    one = Task(0, TOPICS, SHAPE, b"key")
    one.topic_ids, one.born_with = {"predictions": "a1", "labels": "b1"}, 2
    keys = ("m", "1", "de", "gold")
    events = [predicted(100 * SECOND, "x", 5.0, keys), predicted(101 * SECOND, "y", 6.0, keys)]
    one.apply("predictions", decoded(events), 2)
    one.apply("labels", decoded([labelled(102 * SECOND, "x", 3.0)]), 1)
    return one


def pieces_of(one: Task) -> dict[PieceName, Piece]:
    keeping.touch(one)
    return copy.deepcopy(keeping.snapshot(one).changed)


def restored(shape: Shape = SHAPE, **head: Any) -> tuple[Task, list[str]]:
    pieces = pieces_of(task())
    pieces[("head",)].meta.update(head)
    return keeping.restored(0, TOPICS, shape, pieces)


def test_the_same_settings_drop_nothing():
    found, dropped = restored()
    assert dropped == []
    assert len(found.join) == len(task().join)
    assert found.clocks == {"predictions": 101 * SECOND, "labels": 102 * SECOND}


def test_which_topics_were_read_and_how_old_the_group_is_come_back():
    found, _ = restored()
    assert found.topic_ids == {"predictions": "a1", "labels": "b1"}
    assert found.born_with == 2


def test_state_from_before_these_were_kept_is_taken_as_not_knowing_them():
    pieces = pieces_of(task())
    for name in ("topic_ids", "born_with", "rings", "dimensions"):
        del pieces[("head",)].meta[name]
    found, dropped = keeping.restored(0, TOPICS, SHAPE, pieces)
    assert (found.topic_ids, found.born_with, dropped) == ({}, 0, [])


def test_a_window_that_is_new_is_said_to_begin_empty():
    _, dropped = restored(replace(SHAPE, windows=(*SHAPE.windows, Window("1d", 1440 * SECOND, 60))))
    assert dropped == ["the window 1d: new, it begins empty"]


def test_a_window_of_the_same_panes_under_another_name_is_the_same():
    other = replace(SHAPE, windows=(Window("60s", SECOND, 60), SHAPE.windows[1]))
    found, dropped = restored(other)
    assert dropped == []
    assert [len(ring) for ring in found.windows.rings] == [1, 1]


def test_a_dimension_that_is_new_is_said_to_begin_empty():
    other = replace(SHAPE, dimensions=((0,), (0, 1), (1,)))
    _, dropped = restored(other)
    assert dropped == ["the segments of tier: new, they begin empty"]


def test_a_dimension_that_is_gone_is_said_to_be_gone_and_the_totals_stay():
    found, dropped = restored(replace(SHAPE, segment_keys=("country",), dimensions=((0,),)))
    assert dropped == ["the segments of country,tier: no longer a dimension"]
    assert {key.dimension for key in found.series.keys if key is not None} == {"", "country"}
    total = next(sid for sid, key in enumerate(found.series.keys) if key is not None and not key.dimension)
    assert found.lifetime.sums(len(found.series.keys))[:, total].tolist() == [1.0, 1.0, 4.0]


def test_a_waiting_prediction_is_joined_under_the_new_dimensions():
    """What it was about is kept whole: the join never pays for a change of segments."""
    found, _ = restored(replace(SHAPE, segment_keys=("tier",), dimensions=((0,),)))
    outcome = found.apply("labels", decoded([labelled(103 * SECOND, "y", 6.0)]), 2)
    assert outcome.matched == 1
    assert any(key is not None and (key.dimension, key.segment) == ("tier", "gold") for key in found.series.keys)


def test_a_topic_that_is_made_again_loses_its_place_and_clock_and_nothing_else():
    one = task()
    one.begin_again("labels")
    assert one.offsets == {"predictions": 2}
    assert one.clocks == {"predictions": 101 * SECOND, "labels": NEVER}
    assert one.incomplete
    assert one.apply("labels", decoded([labelled(50 * SECOND, "y", 6.0)]), 1).matched == 1, "also an older one's answer"


@pytest.mark.parametrize(
    "damage",
    [{"format": 99}, {"key": "no hex"}, {"topic_ids": 3}, {"born_with": "many"}, {"rings": 5}, {"clocks": None}],
)
def test_a_head_that_makes_no_sense_is_refused(damage):
    with pytest.raises(BadState):
        restored(**damage)


@pytest.mark.parametrize("name", [("head",), ("totals",), ("series",), ("targets",)])
def test_a_piece_that_is_missing_is_refused(name):
    pieces = pieces_of(task())
    del pieces[name]
    with pytest.raises(BadState):
        keeping.restored(0, TOPICS, SHAPE, pieces)


def test_what_was_asked_for_is_in_the_next_snapshot_again():
    one = task()
    first = keeping.snapshot(one)
    assert set(keeping.snapshot(one).changed) == {("head",), ("totals",)}
    wanted = [name for name in first.live if name[0] in ("series", "panes", "coverage", "predictions", "labels")]
    keeping.touch_some(one, wanted)
    assert set(wanted) <= set(keeping.snapshot(one).changed)
    keeping.touch_some(one, [("panes", "1/1", 7)])  # ended meanwhile
    assert set(keeping.snapshot(one).changed) == {("head",), ("totals",)}
