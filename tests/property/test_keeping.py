"""A task that is taken to pieces and put together again goes on as if nothing had happened."""

from __future__ import annotations

import copy
import random as randoms
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from msemon.core import keeping
from msemon.core.process import Process
from msemon.core.shape import Shape, Window
from msemon.core.snapshot import Piece, PieceName
from msemon.core.task import Task
from msemon.core.view import Table, View
from support.events import SECOND, Event, decoded
from support.task_logs import LABELS, PREDICTIONS, START, random_events, shape

TOPICS = [PREDICTIONS, LABELS]


class Kept:
    """What a store would hold of one task."""

    def __init__(self) -> None:
        self.pieces: dict[PieceName, Piece] = {}
        self.offsets: dict[str, int] = {}

    def checkpoint(self, task: Task) -> None:
        taken = keeping.snapshot(task)
        self.pieces = {name: p for name, p in {**self.pieces, **taken.changed}.items() if name in taken.live}
        assert set(self.pieces) == taken.live, "no piece is missing"
        self.offsets = taken.offsets

    def restore(self, of: Shape) -> Task:
        task, dropped = keeping.restored(0, TOPICS, of, copy.deepcopy(self.pieces))
        assert not dropped
        task.offsets = dict(self.offsets)
        return task


def process(of: Shape) -> Process:
    out = Process(TOPICS, of, lambda: b"key")
    out.start(0)
    return out


def by_key(table: Table) -> dict[object, np.ndarray]:
    return {key: np.concatenate([w[:, i] for w in table.windows]) for i, key in enumerate(table.keys)}


def assert_same(one: View, other: View) -> None:
    for mine, theirs in ((one.models, other.models), (one.segments, other.segments)):
        a, b = by_key(mine), by_key(theirs)
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_allclose(a[key], b[key], rtol=1e-12, atol=1e-300, err_msg=str(key))
    order = [other.models.keys.index(key) for key in one.models.keys]
    for name in ("stream_time", "last_pair", "lifetime", "series"):
        mine, theirs = getattr(one, name), getattr(other, name)[..., order]
        np.testing.assert_allclose(mine, theirs, rtol=1e-12, err_msg=name)
    for counts, others in zip(one.coverage, other.coverage, strict=True):
        np.testing.assert_array_equal(counts, others[:, order])


@given(st.integers(0, 1 << 32), st.booleans(), st.sampled_from([(0, 0.1, 0.5, 2, 4), (0, 1, 10, 70, 400)]))
@settings(max_examples=60)
def test_checkpoints_crashes_and_restores_change_nothing(seed, observed, steps):
    random = randoms.Random(seed)
    log = random_events(random, 0, random.choice([20, 60]), steps)
    of = shape(observed)
    steady, shaken, kept = process(of), process(of), Kept()
    kept.checkpoint(shaken.tasks[0])
    since: list[tuple[str, list[Event], int]] = []  # batches since the last checkpoint
    done = dict.fromkeys(TOPICS, 0)
    while topics := [topic for topic in TOPICS if done[topic] < len(log[topic])]:
        topic = random.choice(topics)
        batch = log[topic][done[topic] : done[topic] + random.choice([1, 3, 20])]
        for each in (steady, shaken):
            each.apply(0, topic, decoded(batch, done[topic]), done[topic] + len(batch), START)
        since.append((topic, batch, done[topic]))
        done[topic] += len(batch)
        chance = random.random()
        if chance < 0.3:
            kept.checkpoint(shaken.tasks[0])
            since = []
        if 0.2 < chance < 0.45:
            fresh = process(of)
            fresh.tasks[0] = kept.restore(of)
            shaken = fresh
            if random.random() < 0.5:  # a new owner's first checkpoint is whole
                kept = Kept()
                keeping.touch(shaken.tasks[0])
                kept.checkpoint(shaken.tasks[0])
            for again, events, offset in since:
                assert shaken.tasks[0].offsets.get(again, 0) == offset
                shaken.apply(0, again, decoded(events, offset), offset + len(events), START)
    wall = max((e.record_time for events in log.values() for e in events), default=START)
    later = random.choice([0, 3, 30]) * SECOND
    assert shaken.waiting() == steady.waiting()
    assert shaken.pending == steady.pending
    assert shaken.tasks[0].clocks == steady.tasks[0].clocks
    assert_same(steady_view(steady, wall + later), steady_view(shaken, wall + later))


def steady_view(of: Process, wall: int) -> View:
    """What is state of a view: a fresh process with the same task has no counters of its own."""
    bare = Process(TOPICS, of.tasks[0].shape, lambda: b"key")
    bare.tasks[0] = of.tasks[0]
    return bare.view(wall)


def filled(of: Shape, seed: int = 3) -> Process:
    random = randoms.Random(seed)
    out = process(of)
    log = random_events(random, 0, 60, (0, 0.1, 0.5))
    for topic in TOPICS:
        out.apply(0, topic, decoded(log[topic]), len(log[topic]), START)
    return out


def test_changed_windows_drop_the_panes_they_concern_and_keep_the_others_and_the_join():
    of = shape(True)
    before = filled(of)
    kept = Kept()
    kept.checkpoint(before.tasks[0])
    other = replace(of, windows=(*of.windows[:1], Window("new", 7 * SECOND, 13)))
    task, dropped = keeping.restored(0, TOPICS, other, kept.pieces)
    assert dropped
    assert all("no longer a window" in text or "begins empty" in text for text in dropped)
    assert task.incomplete
    assert len(task.join) == before.pending
    after = process(other)
    after.tasks[0] = task
    mine, theirs = before.view(START), after.view(START)
    np.testing.assert_array_equal(mine.models.windows[0], theirs.models.windows[0])
    assert theirs.models.windows[1].sum() == 0
    np.testing.assert_array_equal(mine.lifetime, theirs.lifetime)


def test_changed_dimensions_drop_their_series_and_keep_totals_and_the_join():
    of = shape(True)
    before = filled(of)
    kept = Kept()
    kept.checkpoint(before.tasks[0])
    other = replace(of, dimensions=of.dimensions[:0], segment_keys=())
    task, dropped = keeping.restored(0, TOPICS, other, kept.pieces)
    assert dropped
    assert all("no longer a dimension" in text for text in dropped)
    assert task.incomplete
    after = process(other)
    after.tasks[0] = task
    assert after.pending == before.pending
    mine, theirs = before.view(START), after.view(START)
    assert not theirs.segments.keys
    assert by_key(mine.models).keys() == by_key(theirs.models).keys()
    for key, values in by_key(mine.models).items():
        np.testing.assert_array_equal(values, by_key(theirs.models)[key])


def test_another_clock_drops_all_panes_and_keeps_the_join():
    of = shape(True)
    before = filled(of)
    kept = Kept()
    kept.checkpoint(before.tasks[0])
    task, dropped = keeping.restored(0, TOPICS, replace(of, observed=False), kept.pieces)
    assert dropped == ["the windows: pairs have another time under the new windows.clock"]
    assert task.incomplete
    assert len(task.join) == before.pending
    assert not list(task.windows.blocks())


def test_a_second_checkpoint_writes_only_what_was_touched():
    of = shape(True)
    running = filled(of)
    keeping.snapshot(running.tasks[0])
    again = keeping.snapshot(running.tasks[0])
    assert set(again.changed) == {("head",), ("totals",)}
