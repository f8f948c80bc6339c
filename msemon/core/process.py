"""What one process knows: its tasks, its own counters, and the picture of both that is exported."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from msemon.core.alarms import Change
from msemon.core.entries import REMEMBERED, WAITING
from msemon.core.held import Held, Layout, Own, now_of_models, now_of_series
from msemon.core.patrol import Beat, Patrol
from msemon.core.rolling import Rolling
from msemon.core.shape import Shape
from msemon.core.task import Outcome, Task
from msemon.core.totals import Ledger
from msemon.core.view import Choose, SeriesKey, View
from msemon.core.watch import Given
from msemon.events import Decoded, Floats, Ints


class _Placed(NamedTuple):
    """Where the ledger has the series of a task, by sid."""

    version: int  # of the task's series
    places: Ints
    shared: npt.NDArray[np.bool_]  # no place of their own: they are folded there


class Process:
    """The tasks a process owns, by partition number. Times in µs; the wall clock is an argument."""

    def __init__(self, topics: list[str], shape: Shape, new_key: Callable[[], bytes]) -> None:
        self.tasks: dict[int, Task] = {}
        self.partitions = 0  # of each topic, as far as the cluster has told: others may own most of them
        self.on_ended: Callable[[SeriesKey, Floats], None] = lambda _, __: None
        """Called with the counters (6,) of each series that has ended, before they are forgotten."""
        self._topics = topics
        self.shape = shape
        self._new_key = new_key
        self._ledger = Ledger(shape.total_series_limit)
        self._places: dict[int, _Placed] = {}  # by partition
        self._folds: dict[int, npt.NDArray[np.bool_]] = {}  # by partition and sid: stands for others
        self._layout: Layout | None = None
        self._rolling = Rolling(shape.windows)  # of the present tasks
        self._patrol = Patrol(shape)
        self._given: Given = {}

    def start(self, partition: int) -> Task:
        """Own a partition, with a task that knows nothing yet."""
        task = Task(partition, self._topics, self.shape, self._new_key())
        self.adopt(task)
        return task

    def adopt(self, task: Task) -> None:
        """Own a partition with a task that was restored."""
        self.tasks[task.partition] = task
        task.watch.give(self._given, task.series)
        self._changed_hands(task.partition)

    def drop(self, partition: int) -> None:
        """No longer own a partition: its task goes, the counters stay."""
        self.tasks.pop(partition, None)
        self._changed_hands(partition)

    @property
    def pending(self) -> int:
        """Entries of all joins, waiting and remembered."""
        return sum(len(task.join) for task in self.tasks.values())

    def waiting(self) -> tuple[int, int]:
        """Predictions and labels that have matched nothing yet."""
        joins = [task.join for task in self.tasks.values()]
        return sum(j.predictions.waiting for j in joins), sum(j.labels.waiting for j in joins)

    def waiting_for_the_past(self) -> int:
        """Of the labels that wait, those whose prediction may have been made before what was read begins."""
        return sum(task.join.labels.waiting for task in self.tasks.values() if task.answers_the_past)

    def apply(self, partition: int, topic: str, decoded: Decoded, next_offset: int, wall_us: int) -> Outcome:
        """Move one task on by one batch and count what it did."""
        task = self.tasks[partition]
        outcome = task.apply(topic, decoded, next_offset)
        places = self._places_of(task)
        self._ledger.count(places[outcome.sids], outcome.sums, wall_us)
        self._ledger.delayed(places[outcome.delay_sids], outcome.delays_us)
        folds = self._folds[partition]
        for sids in outcome.pair_sids if folds.any() else ():
            self._ledger.folded(places[sids[folds[sids].any(axis=1), 0]])
        return outcome

    def evict(self, count: int) -> tuple[int, int]:
        """Drop `count` entries, the oldest of all tasks: what is remembered before what waits. Gives how many waited
        and how many were remembered.
        """
        gone = {REMEMBERED: 0, WAITING: 0}
        tasks = list(self.tasks.values())
        for state in gone:
            left = count - sum(gone.values())
            ages = [task.join.ages(left, state) for task in tasks]
            owner = np.repeat(np.arange(len(tasks)), [len(each) for each in ages])
            oldest = owner[np.argsort(np.concatenate([np.empty(0, np.int64), *ages]), kind="stable")[:left]]
            for task, share in zip(tasks, np.bincount(oldest, minlength=len(tasks)).tolist(), strict=True):
                gone[state] += task.evict(share, state)
        return gone[WAITING], gone[REMEMBERED]

    def give(self, given: Given) -> list[SeriesKey]:
        """Baselines from a file, in place of those given before; gives the series that are judged by another now."""
        self._given = given
        return sorted({key for task in self.tasks.values() for key in task.watch.give(given, task.series)})

    def look(self, wall_us: int) -> list[Change]:
        """Look for drift: alarms and recoveries since the last look."""
        places = {p: self._places_of(task) for p, task in sorted(self.tasks.items())}
        self._expire(places, wall_us)
        own = [Own.of(self.tasks[p], here, panes=False) for p, here in places.items()]
        now = now_of_series(own, now_of_models(own, len(self._ledger.keys), wall_us))
        partitions = max([self.partitions, *(task.born_with for task in self.tasks.values())])
        share = min(1.0, len(self.tasks) / partitions) if partitions else 1.0
        beats = [Beat(each.task, each.places) for each in own]
        return self._patrol.look(beats, self._ledger, now, share)

    def view(self, wall_us: int, *, owned: bool = True, choose: Choose | None = None) -> View:
        """One consistent picture at this wall-clock time; where not `owned`, of the process's counters alone."""
        held = self.hold(wall_us, owned=owned)
        try:
            return held.view(choose)
        finally:
            held.let_go()

    def hold(self, wall_us: int, *, owned: bool = True) -> Held:
        """This moment, for its view to be made while batches go on to be applied. One at a time is to be made."""
        places = {p: self._places_of(task) for p, task in sorted(self.tasks.items())}
        self._expire(places, wall_us)
        if self._layout is None or self._layout.version != self._ledger.version:
            self._layout = Layout.of(self._ledger)
        own = [Own.of(self.tasks[p], here) for p, here in places.items()] if owned else []
        rolling = self._rolling if owned else Rolling(self.shape.windows)
        drift = self._patrol.seen(self._ledger, owned=owned)
        return Held(self.shape, self._ledger, self._layout, own, rolling, drift, wall_us)

    def _changed_hands(self, partition: int) -> None:
        self._places.pop(partition, None)
        self._folds.pop(partition, None)
        self._rolling = Rolling(self.shape.windows)
        self._patrol.detectors.tasks_changed()

    def _places_of(self, task: Task) -> Ints:
        series = task.series
        known = self._places.get(task.partition) or _Placed(-1, np.empty(0, np.int64), np.empty(0, np.bool_))
        if known.version == series.version:
            return known.places
        size = len(series.keys)
        # New series come with batch after batch, where there are many; one that shares a place may get its own by now.
        changed = series.changed(-1 if known.shared.any() else known.version)
        keys = [series.keys[sid] for sid in changed.tolist()]
        places, shared = np.full(size, -1), np.zeros(size, np.bool_)
        places[: len(known.places)], shared[: len(known.shared)] = known.places, known.shared
        places[changed] = self._ledger.places(keys)
        shared[changed] = self._ledger.shared(keys)
        self._places[task.partition] = _Placed(series.version, places, shared)
        self._folds[task.partition] = (series.folded != 0) | shared
        return places

    def _expire(self, places: dict[int, Ints], wall_us: int) -> None:
        held = np.zeros(len(self._ledger.keys), np.bool_)
        for here in places.values():
            held[here[here >= 0]] = True
        longest = self.shape.windows[self.shape.longest]
        for key, counters in self._ledger.expire(held, wall_us - longest.pane_us * (longest.panes + 1)):
            self.on_ended(key, counters)
