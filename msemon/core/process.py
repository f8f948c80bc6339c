"""What one process knows: its tasks, its own counters, and the picture of both that is exported."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from msemon.core import moments
from msemon.core.entries import REMEMBERED, WAITING
from msemon.core.shape import Shape
from msemon.core.task import NEVER, Outcome, Task
from msemon.core.totals import Ledger
from msemon.core.view import SeriesKey, Table, View
from msemon.events import Decoded, Floats, Ints

_SECOND = 1_000_000


class Process:
    """The tasks a process owns, by partition number. Times in µs; the wall clock is an argument."""

    def __init__(self, topics: list[str], shape: Shape, new_key: Callable[[], bytes]) -> None:
        self.tasks: dict[int, Task] = {}
        self._topics = topics
        self.shape = shape
        self._new_key = new_key
        self._ledger = Ledger(shape.total_series_limit)
        self._places: dict[int, tuple[int, Ints]] = {}  # by partition: (series version, place of each sid)

    def start(self, partition: int) -> Task:
        """Own a partition, with a task that knows nothing yet."""
        task = self.tasks[partition] = Task(partition, self._topics, self.shape, self._new_key())
        self._places.pop(partition, None)
        return task

    def adopt(self, task: Task) -> None:
        """Own a partition with a task that was restored."""
        self.tasks[task.partition] = task
        self._places.pop(task.partition, None)

    def drop(self, partition: int) -> None:
        """No longer own a partition: its task goes, the counters stay."""
        self.tasks.pop(partition, None)
        self._places.pop(partition, None)

    @property
    def pending(self) -> int:
        """Entries of all joins, waiting and remembered."""
        return sum(len(task.join) for task in self.tasks.values())

    def waiting(self) -> tuple[int, int]:
        """Predictions and labels that have matched nothing yet."""
        joins = [task.join for task in self.tasks.values()]
        return sum(j.predictions.waiting for j in joins), sum(j.labels.waiting for j in joins)

    def apply(self, partition: int, topic: str, decoded: Decoded, next_offset: int, wall_us: int) -> Outcome:
        """Move one task on by one batch and count what it did."""
        task = self.tasks[partition]
        outcome = task.apply(topic, decoded, next_offset)
        places = self._places_of(task)
        self._ledger.count(places[outcome.sids], outcome.sums, wall_us)
        self._ledger.delayed(places[outcome.delay_sids], outcome.delays_us)
        self._ledger.folded(places[outcome.folded_sids])
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

    def view(self, wall_us: int, *, owned: bool = True) -> View:
        """One consistent picture at this wall-clock time; where not `owned`, of the process's counters alone."""
        places = {p: self._places_of(task) for p, task in self.tasks.items()}
        self._expire(places, wall_us)
        if not owned:
            places = {}
        size = len(self._ledger.keys)
        whole = np.array([k is not None and not k.dimension for k in self._ledger.keys], np.bool_)
        part = np.array([k is not None and bool(k.dimension) for k in self._ledger.keys], np.bool_)
        now = self._now(places, size, wall_us)
        windows, coverage = self._windows(places, now, size)
        models, segments = np.flatnonzero(whole), np.flatnonzero(part)
        stream, last_pair, lifetime = self._times(places, size)
        delays, delay_sum = self._ledger.delay_histogram(models)
        return View(
            windows=[window.name for window in self.shape.windows],
            models=self._table(models, windows),
            segments=self._table(segments, windows),
            coverage=[counts[:, models] for counts in coverage],
            lifetime=lifetime[:, models],
            stream_time=_seconds(stream[models]),
            last_pair=_seconds(last_pair[models]),
            series=self._held_segments(places, size)[models],
            series_limit=np.full(len(models), float(self.shape.series_limit)),
            folded=self._ledger.folds(models),
            delays=delays,
            delay_sum=delay_sum,
        )

    def _table(self, rows: Ints, windows: list[Floats]) -> Table:
        keys = [key for key in (self._ledger.keys[row] for row in rows.tolist()) if key is not None]
        return Table(keys, [merged[:, rows] for merged in windows], self._ledger.counters(rows))

    def _places_of(self, task: Task) -> Ints:
        known = self._places.get(task.partition)
        if known is None or known[0] != task.series.version:
            known = task.series.version, self._ledger.places(task.series.keys)
            self._places[task.partition] = known
        return known[1]

    def _now(self, places: dict[int, Ints], size: int, wall_us: int) -> Ints:
        """By place of a model: the largest now of its partitions; without any pair, of its predictions."""
        paired, predicted = np.full(size, NEVER), np.full(size, NEVER)
        for p, mine in places.items():
            task = self.tasks[p]
            now = task.now(wall_us)
            models = _models(task, mine)
            has_pair = task.stream_times()[models] != NEVER
            for target, sids in ((paired, models[has_pair]), (predicted, models[~has_pair])):
                np.maximum.at(target, mine[sids], now[sids])
        return np.where(paired == NEVER, predicted, paired)

    def _windows(self, places: dict[int, Ints], now: Ints, size: int) -> tuple[list[Floats], list[Ints]]:
        windows: list[Floats] = []
        coverage: list[Ints] = []
        for ring, window in enumerate(self.shape.windows):
            merged = moments.empty(size)
            counts = np.zeros((2, size), np.int64)
            for p, mine in places.items():
                task = self.tasks[p]
                total = task.series.total_of
                held = np.flatnonzero(mine >= 0)
                at = np.full(len(total), NEVER)
                at[held] = now[mine[total[held]]]
                oldest = task.oldest(ring, at)
                _merge_by_place(merged, mine, held, task.windows.merged(ring, oldest))
                models = _models(task, mine)
                newest = np.where(at == NEVER, NEVER, at // window.pane_us)
                counts[:, mine[models]] += task.coverage.merged(ring, oldest, newest)[:, models]
            windows.append(merged)
            coverage.append(counts)
        return windows, coverage

    def _times(self, places: dict[int, Ints], size: int) -> tuple[Ints, Ints, Floats]:
        """By place of a model: stream time, record time of the last pair, lifetime totals (NaN where none is held)."""
        stream, last = np.full(size, NEVER), np.full(size, NEVER)
        lifetime = np.full((3, size), np.nan)
        for p, mine in places.items():
            task = self.tasks[p]
            sids = _models(task, mine)
            here = mine[sids]
            np.maximum.at(stream, here, task.stream_times()[sids])
            np.maximum.at(last, here, task.last_pairs()[sids])
            lifetime[:, here] = np.nan_to_num(lifetime[:, here]) + task.lifetime.sums(len(mine))[:, sids]
        rows = {key: row for row, key in enumerate(self._ledger.keys) if key is not None and not key.dimension}
        for p in places:  # a model that has ended in one partition and goes on in another keeps its whole past
            for name, past in self.tasks[p].past_lifetimes().items():
                if (row := rows.get(SeriesKey(*name))) is not None:
                    lifetime[:, row] += past
        return stream, last, lifetime

    def _held_segments(self, places: dict[int, Ints], size: int) -> Floats:
        """By place of a model: the most segments with a place of their own in one task, which the limit is for."""
        most = np.zeros(size)
        for p, mine in places.items():
            task = self.tasks[p]
            for sid in _models(task, mine).tolist():
                most[mine[sid]] = max(most[mine[sid]], task.series.segments(sid))
        return most

    def _expire(self, places: dict[int, Ints], wall_us: int) -> None:
        held = np.zeros(len(self._ledger.keys), np.bool_)
        for here in places.values():
            held[here[here >= 0]] = True
        longest = self.shape.windows[self.shape.longest]
        self._ledger.expire(held, wall_us - longest.pane_us * (longest.panes + 1))


def _merge_by_place(target: Floats, places: Ints, sids: Ints, merged: Floats) -> None:
    """Merge columns `sids` into the columns of their places; several series may be folded into one place."""
    rest = sids[merged[moments.N, sids] > 0]
    while rest.size:
        _, first = np.unique(places[rest], return_index=True)
        moments.merge_at(target, places[rest[first]], merged[:, rest[first]])
        rest = np.delete(rest, first)


def _models(task: Task, places: Ints) -> Ints:
    """The sids of a task's models."""
    return np.flatnonzero((places >= 0) & (task.series.total_of == np.arange(len(places))))


def _seconds(times: Ints) -> Floats:
    return np.where(times == NEVER, np.nan, times / _SECOND)
