"""What a view is made from, held as it stood at one moment, so that batches need not wait until it is made.

Taking hold of it costs O(series): columns are copied, but panes are not (`panes.Sheet`). Making the view of it, which
is most of the work, is for any thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from msemon.core.coverage import counted
from msemon.core.moments import Index
from msemon.core.panes import Block, Sheet
from msemon.core.rolling import Part, Rolling
from msemon.core.shape import Shape
from msemon.core.task import NEVER, Task
from msemon.core.totals import Ledger
from msemon.core.trend import trend
from msemon.core.view import Choose, Counts, SeriesKey, Table, Trend, View
from msemon.events import Floats, Ints

_SECOND = 1_000_000
_FAR = np.iinfo(np.int64).max

Rings = Sequence[Mapping[int, Sheet]]


class Layout(NamedTuple):
    """Which places of a ledger are models', which segments'."""

    version: int
    size: int
    models: Ints
    segments: Ints
    model_keys: list[SeriesKey]
    segment_keys: list[SeriesKey]
    row_of: dict[SeriesKey, int]  # of models: place by name

    @staticmethod
    def of(ledger: Ledger) -> Layout:
        models = [row for row, key in enumerate(ledger.keys) if key is not None and not key.dimension]
        segments = [row for row, key in enumerate(ledger.keys) if key is not None and key.dimension]
        keys = [key for row in models if (key := ledger.keys[row]) is not None]
        parts = [key for row in segments if (key := ledger.keys[row]) is not None]
        return Layout(
            ledger.version, len(ledger.keys), np.array(models, np.int64), np.array(segments, np.int64), keys, parts,
            dict(zip(keys, models, strict=True)),
        )  # fmt: skip


@dataclass(slots=True)
class Own:
    """One task's share. All by sid."""

    task: Task
    places: Ints  # −1: none
    models: Ints  # the sids of models
    total_of: Ints
    windows: Rings
    coverage: Rings

    @staticmethod
    def of(task: Task, places: Ints, *, panes: bool = True) -> Own:
        models = np.flatnonzero((places >= 0) & (task.series.total_of == np.arange(places.size)))
        rings = [
            [{number: block.hold() for number, block in ring.items()} for ring in part.rings]
            for part in (task.windows, task.coverage)
            if panes
        ] or [[], []]
        return Own(task, places, models, task.series.total_of.copy(), *rings)

    def let_go(self) -> None:
        for part, held in ((self.task.windows, self.windows), (self.task.coverage, self.coverage)):
            for ring, sheets in zip(part.rings, held, strict=True):
                _let_go(ring, sheets)


def _let_go(ring: Mapping[int, Block], sheets: Mapping[int, Sheet]) -> None:
    for number, sheet in sheets.items():
        if (block := ring.get(number)) is not None:
            block.let_go(sheet)


class Held:
    """One moment of a process. The tasks go on; `let_go` once the view is made."""

    def __init__(
        self,
        shape: Shape,
        ledger: Ledger,
        layout: Layout,
        own: Sequence[Own],
        rolling: Rolling,
        drift: Floats,
        wall_us: int,
    ) -> None:
        """`rolling` is of these tasks in this order; drift (DRIFT_ROWS, P) by place."""
        self._shape = shape
        self._rolling = rolling
        self._layout = layout
        self._own = own
        self._now = now_of_models(own, layout.size, wall_us)
        self._times = _times(own, layout)
        self._series = _held_segments(own, layout.size)
        self._counters = ledger.counters(layout.models), ledger.counters(layout.segments)
        self._drift = drift[:, layout.models], drift[:, layout.segments]
        self._folded = ledger.folds(layout.models)
        self._delays = ledger.delay_histogram(layout.models)

    def let_go(self) -> None:
        """With whatever keeps the tasks from moving on."""
        for own in self._own:
            own.let_go()

    def view(self, choose: Choose | None = None) -> View:
        """The view of this moment; with the trend of the series that `choose` finds in it."""
        view = self._view()
        if choose is not None:
            view.trend = self._trend(*choose(view))
        return view

    def _trend(self, models: Index, segments: Index) -> Trend:
        places = np.concatenate([self._layout.models[models], self._layout.segments[segments]])
        parts = [Part(own.places, own.windows) for own in self._own]
        ring = self._shape.hour
        return trend(parts, ring, self._shape.windows[ring], places, now_of_series(self._own, self._now))

    def _view(self) -> View:
        layout = self._layout
        models, segments = layout.models, layout.segments
        oldest = self._oldest()
        parts = [Part(own.places, own.windows) for own in self._own]
        windows = self._rolling.merged(parts, oldest)
        stream, last_pair, lifetime = self._times
        delays, delay_sum = self._delays
        return View(
            windows=[window.name for window in self._shape.windows],
            models=Table(
                layout.model_keys,
                [merged.take(models, axis=1) for merged in windows],
                self._counters[0],
                self._drift[0],
            ),
            segments=Table(
                layout.segment_keys,
                [merged.take(segments, axis=1) for merged in windows],
                self._counters[1],
                self._drift[1],
            ),
            coverage=[self._covered(ring, each)[:, models] for ring, each in enumerate(oldest)],
            lifetime=lifetime[:, models],
            stream_time=_seconds(stream[models]),
            last_pair=_seconds(last_pair[models]),
            series=self._series[models],
            series_limit=np.full(len(models), float(self._shape.series_limit)),
            folded=self._folded,
            delays=delays,
            delay_sum=delay_sum,
            partitions=frozenset(own.task.partition for own in self._own),
        )

    def _oldest(self) -> list[Ints]:
        """By window: the oldest pane by place."""
        now = now_of_series(self._own, self._now)
        return [np.where(now == NEVER, _FAR, now // each.pane_us - each.panes) for each in self._shape.windows]

    def _covered(self, ring: int, oldest: Ints) -> Counts:
        newest = np.where(self._now == NEVER, NEVER, self._now // self._shape.windows[ring].pane_us)
        counts = np.zeros((2, self._layout.size), np.int64)
        for own in self._own:
            here = own.places[own.models]
            counts[:, here] += counted(own.coverage[ring], own.models, oldest[here], newest[here])
        return counts


def now_of_series(tasks: Sequence[Own], of_models: Ints) -> Ints:
    """By place of any series: its model's now, given by place of models (P,)."""
    now = np.full(of_models.size, NEVER)
    for own in tasks:
        held = np.flatnonzero(own.places >= 0)
        now[own.places[held]] = of_models[own.places[own.total_of[held]]]
    return now


def now_of_models(tasks: Sequence[Own], size: int, wall_us: int) -> Ints:
    """By place of a model: the largest now of its partitions; without any pair, of its predictions."""
    paired, predicted = np.full(size, NEVER), np.full(size, NEVER)
    for own in tasks:
        now = own.task.now(wall_us)
        has_pair = own.task.stream_times()[own.models] != NEVER
        for target, sids in ((paired, own.models[has_pair]), (predicted, own.models[~has_pair])):
            np.maximum.at(target, own.places[sids], now[sids])
    return np.where(paired == NEVER, predicted, paired)


def _times(tasks: Sequence[Own], layout: Layout) -> tuple[Ints, Ints, Floats]:
    """By place of a model: stream time, record time of the last pair, lifetime totals (NaN where none is held)."""
    stream, last = np.full(layout.size, NEVER), np.full(layout.size, NEVER)
    lifetime = np.full((3, layout.size), np.nan)
    for own in tasks:
        here = own.places[own.models]
        np.maximum.at(stream, here, own.task.stream_times()[own.models])
        np.maximum.at(last, here, own.task.last_pairs()[own.models])
        lifetime[:, here] = np.nan_to_num(lifetime[:, here]) + own.task.lifetime.sums(own.places.size)[:, own.models]
    for own in tasks:  # a model that has ended in one partition and goes on in another keeps its whole past
        for name, past in own.task.past_lifetimes().items():
            if (row := layout.row_of.get(SeriesKey(*name))) is not None:
                lifetime[:, row] += past
    return stream, last, lifetime


def _held_segments(tasks: Sequence[Own], size: int) -> Floats:
    """By place of a model: the most segments with a place of their own in one task, which the limit is for."""
    most = np.zeros(size)
    for own in tasks:
        segments = [own.task.series.segments(sid) for sid in own.models.tolist()]
        np.maximum.at(most, own.places[own.models], segments)
    return most


def _seconds(times: Ints) -> Floats:
    return np.where(times == NEVER, np.nan, times / _SECOND)
