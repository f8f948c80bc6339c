"""Looking for drift over all tasks of a process: which series are watched, by what, and what is exported of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from msemon.core import drift
from msemon.core.alarms import Change, Detectors, Fleet
from msemon.core.evidence import Share
from msemon.core.series import OTHER
from msemon.core.shape import Shape
from msemon.core.task import NEVER, Task
from msemon.core.totals import Ledger
from msemon.core.view import DRIFT_ROWS, SeriesKey
from msemon.events import Floats, Ints

_FAR = np.iinfo(np.int64).max
_ALARMS = DRIFT_ROWS - 1


class Beat(NamedTuple):
    """A task, and where its series stand in the ledger."""

    task: Task
    places: Ints  # by sid, −1: none


@dataclass(slots=True)
class _Baselines:
    """By place; 0 where there is none."""

    mse: Floats
    upper: Floats
    pairs: Floats
    born: Floats  # 1 where the series is watched or being learnt


class Patrol:
    """The detectors of a process, and what they last saw."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self.detectors = Detectors(shape)
        self._seen = np.zeros((DRIFT_ROWS, 0))  # by place
        self._keys: list[SeriesKey | None] = []  # whose places these were
        self._version = -1  # of the ledger

    def look(self, beats: Sequence[Beat], ledger: Ledger, now: Ints, share: float) -> list[Change]:
        """Alarms and recoveries. now (P,) by place of any series; share: of all partitions, those that are ours."""
        size = len(ledger.keys)
        baselines = _baselines(beats, size)
        # What this process folds, though no task of its does, has as little of a detector as what tasks fold.
        keys = ledger.keys
        folded = [p for p in np.flatnonzero(baselines.born).tolist() if (key := keys[p]) and key.segment == OTHER]
        baselines.upper[folded] = baselines.born[folded] = 0.0
        watched = np.flatnonzero(baselines.upper > 0.0) if self._shape.drift else np.zeros(0, np.int64)
        fleet = self._fleet(beats, ledger, now, share, baselines, watched)
        changes = self.detectors.look(fleet)
        self._seen = np.full((DRIFT_ROWS, size), np.nan)
        self._seen[:3] = np.where(baselines.upper > 0.0, [baselines.mse, baselines.upper, baselines.pairs], np.nan)
        self._seen[2] = np.where(baselines.born > 0.0, baselines.pairs, np.nan)
        self._seen[3:, watched] = self.detectors.exported(fleet)
        self._keys, self._version = ledger.keys.copy(), ledger.version
        return changes

    def seen(self, ledger: Ledger, *, owned: bool) -> Floats:
        """(DRIFT_ROWS, P): baseline MSE, its upper bound, its pairs; evidence, threshold, active, alarms. NaN: absent.

        Without partitions of its own a process has only counted alarms.
        """
        size = len(ledger.keys)
        out = np.full((DRIFT_ROWS, size), np.nan)
        kept = min(size, len(self._keys))
        out[:, :kept] = self._seen[:, :kept]
        if self._version != ledger.version:
            out[:, [row for row in range(kept) if ledger.keys[row] != self._keys[row]]] = np.nan
        if not owned:
            out[:_ALARMS] = np.nan
        return out

    def _fleet(
        self, beats: Sequence[Beat], ledger: Ledger, now: Ints, share: float, baselines: _Baselines, watched: Ints
    ) -> Fleet:
        column = np.full(len(ledger.keys) + 1, -1, np.int64)  # the last for sids without a place
        column[watched] = np.arange(watched.size)
        keys = [key for place in watched.tolist() if (key := ledger.keys[place]) is not None]
        at = now[watched]
        oldest = [np.where(at == NEVER, _FAR, at // each.pane_us - each.panes) for each in self._shape.windows]
        shares = [Share(beat.task, column[beat.places]) for beat in beats]
        detectors = _siblings(beats, len(ledger.keys))[watched] / share
        limit = drift.threshold(self._shape.false_alarm_us / 1e6, detectors)
        return Fleet(shares, keys, at, oldest, baselines.mse[watched], baselines.upper[watched], limit)


def _baselines(beats: Sequence[Beat], size: int) -> _Baselines:
    """Over the tasks: each learns for itself and counts by its pairs; what is given is the same everywhere."""
    mse, upper, pairs, weight, born = np.zeros((5, size))
    for beat in beats:
        of_task = beat.task.watch.watched(beat.places.size)
        here = np.flatnonzero((beat.places >= 0) & of_task.born)
        places, known = beat.places[here], of_task.upper[here] > 0.0
        share = np.where(known, np.maximum(of_task.pairs[here], 1.0), 0.0)
        mse[places] += share * of_task.mse[here]
        upper[places] += share * of_task.upper[here]
        weight[places] += share
        given = of_task.given[here]
        pairs[places] = np.where(given, of_task.pairs[here], pairs[places] + of_task.pairs[here])
        born[places] = 1.0
    some = np.where(weight > 0.0, weight, 1.0)
    return _Baselines(mse / some, upper / some, pairs, born)


def _siblings(beats: Sequence[Beat], size: int) -> Floats:
    """By place: how many series its model has here, itself and all its segments, those that stand for others not."""
    total = np.full(size, -1, np.int64)
    for beat in beats:
        here = np.flatnonzero((beat.places >= 0) & (beat.task.series.folded == 0))
        total[beat.places[here]] = beat.places[beat.task.series.total_of[here]]
    counts = np.bincount(total[total >= 0], minlength=size)
    return np.where(total >= 0, counts[total], 1).astype(np.float64)
