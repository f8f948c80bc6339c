"""Which series of a process are in drift: from the alarm to recovery, by looking at the panes now and then.

On or off belongs to the process and is no part of a task's state; when tasks come to a process it is found again by
going through the panes of the longest window. `drift` has the rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from msemon.core import drift, moments
from msemon.core.evidence import Evidence, Place, Share, of_place
from msemon.core.shape import Shape
from msemon.core.view import SeriesKey
from msemon.events import Floats, Ints

_SECOND = 1_000_000


@dataclass(slots=True)
class Alarm:
    """A series in drift. Times in µs of its model's now."""

    since_us: int  # the likeliest start
    at_us: int
    limit: float  # the MSE that parts good blocks from bad ones
    block_us: int  # where the present block begins
    first: float  # n_eff at which a block is first judged
    due: float  # … at which the present one is next
    good: int = 0  # blocks in a row


@dataclass(frozen=True, slots=True)
class Change:
    """An alarm, or its end; numbers of the panes since `since_us`: the likeliest start, or the last block's start."""

    key: SeriesKey
    active: bool
    since_us: int
    baseline_mse: float
    baseline_upper_mse: float
    mse: float
    mse_lower: float
    mse_upper: float
    pairs: int
    max_absolute_error: float
    evidence: float
    threshold: float
    why: str = ""


@dataclass(slots=True)
class Fleet:
    """The watched series of a process at one moment, k columns."""

    shares: Sequence[Share]
    keys: Sequence[SeriesKey]
    now_us: Ints
    oldest: Sequence[Ints]  # by ring
    mse: Floats
    upper: Floats
    threshold: Floats


@dataclass(slots=True)
class Detectors:
    """What the process remembers of its series."""

    shape: Shape
    on: dict[SeriesKey, Alarm] = field(default_factory=dict)
    since: dict[SeriesKey, int] = field(default_factory=dict)  # where evidence begins anew: recovery, µs
    counts: dict[SeriesKey, int] = field(default_factory=dict)
    evidence: Floats = field(default_factory=lambda: np.zeros(0))  # (k,) of the last look
    _evidence: Evidence | None = None
    _replay: bool = True

    def tasks_changed(self) -> None:
        """Panes have come or gone."""
        self._evidence, self._replay = None, True

    def look(self, fleet: Fleet) -> list[Change]:
        """Alarms and recoveries as of now."""
        if self._evidence is None:
            self._evidence = Evidence(self.shape)
        known = set(fleet.keys)
        for key in [key for key in (*self.on, *self.since) if key not in known]:
            self.on.pop(key, None)
            self.since.pop(key, None)
        if self._replay:
            self._replay = False
            self._find_again(fleet)
        since = np.array([self.since.get(key, 0) for key in fleet.keys], np.int64)
        evidence = drift.evidence(self._evidence.owned(fleet.shares, fleet.oldest, since))
        changes = self._recoveries(fleet, evidence)
        for column in np.flatnonzero(evidence >= fleet.threshold).tolist():
            if (key := fleet.keys[column]) not in self.on and not any(change.key == key for change in changes):
                changes.append(self._alarm(fleet, column, float(evidence[column])))
        self.evidence = evidence
        return changes

    def exported(self, fleet: Fleet) -> Floats:
        """(4, k) as of the last look: evidence, threshold, active, alarms."""
        active = [float(key in self.on) for key in fleet.keys]
        counts = [float(self.counts.get(key, 0)) for key in fleet.keys]
        return np.array([self.evidence, fleet.threshold, active, counts])

    def _alarm(self, fleet: Fleet, column: int, evidence: float) -> Change:
        key, now_us = fleet.keys[column], int(fleet.now_us[column])
        ring, first = self._start(fleet, column)
        place = of_place(fleet.shares, ring, column, first)
        whole = moments.fold(place.moments, np.array([0]))
        limit = drift.boundary(fleet.upper[[column]], whole, self.shape.tolerated_ratio)
        since_us = first * self.shape.windows[ring].pane_us
        first_look = float(drift.first_look(whole)[0])
        self.on[key] = Alarm(since_us, now_us, float(limit[0]), now_us, first_look, first_look)
        self.counts[key] = self.counts.get(key, 0) + 1
        return _change(fleet, column, True, since_us, whole, evidence)

    def _start(self, fleet: Fleet, column: int) -> tuple[int, int]:
        """(ring, pane): the likeliest start of what alarms now."""
        best = (-np.inf, 0, 0)
        for r, window in enumerate(self.shape.windows):
            since = -(-self.since.get(fleet.keys[column], 0) // window.pane_us)
            place = of_place(fleet.shares, r, column, max(since, int(fleet.oldest[r][column])))
            if place.numbers:
                at, won = drift.likeliest_start(place.sums)
                best = max(best, (won + np.log(window.pane_us / _SECOND), r, place.numbers[at]))
        return best[1], best[2]

    def _recoveries(self, fleet: Fleet, evidence: Floats) -> list[Change]:
        columns = [column for column, key in enumerate(fleet.keys) if key in self.on]
        if not columns:
            return []
        alarms = [self.on[fleet.keys[column]] for column in columns]
        blocks = np.stack([self._block(fleet, c, a) for c, a in zip(columns, alarms, strict=True)], axis=1)
        limit, due, first, begun = np.array([(each.limit, each.due, each.first, each.block_us) for each in alarms]).T
        longest = self.shape.longest
        leaves = begun < fleet.oldest[longest][columns] * self.shape.windows[longest].pane_us
        verdicts = drift.judge(blocks, limit, np.where(leaves, drift.FIRST_LOOK, due), first)
        n_eff = np.nan_to_num(moments.effective_pairs(blocks))
        changes = []
        for i, (column, alarm) in enumerate(zip(columns, alarms, strict=True)):
            key, now_us, old = fleet.keys[column], int(fleet.now_us[column]), bool(leaves[i])
            alarm.due, begun_us = alarm.first if old else float(verdicts.due[i]), alarm.block_us
            alarm.good = 0 if verdicts.bad[i] else alarm.good + int(verdicts.good[i])
            if verdicts.good[i] or verdicts.bad[i] or old:
                alarm.block_us = now_us
            if alarm.good >= drift.GOOD_BLOCKS or (old and n_eff[i] < drift.FIRST_LOOK):
                del self.on[key]
                self.since[key] = now_us
                why = "two good blocks" if alarm.good >= drift.GOOD_BLOCKS else "too few pairs in the longest window"
                changes.append(_change(fleet, column, False, begun_us, blocks[:, [i]], float(evidence[column]), why))
        return changes

    def _block(self, fleet: Fleet, column: int, alarm: Alarm) -> Floats:
        """Moments (FIELDS,) of the pairs since the block began, from the finest ring that reaches so far back."""
        rings = sorted(range(len(self.shape.windows)), key=lambda r: self.shape.windows[r].pane_us)
        for r in rings:
            first = -(-alarm.block_us // self.shape.windows[r].pane_us)
            if first >= fleet.oldest[r][column] or r == rings[-1]:
                place = of_place(fleet.shares, r, column, first)
                return moments.fold(place.moments, np.array([0]))[:, 0] if place.numbers else moments.empty(1)[:, 0]
        raise AssertionError("a task has a window")

    def _find_again(self, fleet: Fleet) -> None:
        """Series whose panes tell of an alarm: is it still on, or since when is it over?"""
        assert self._evidence is not None
        ring = self.shape.longest
        peak = self._evidence.peak(ring, fleet.shares, fleet.oldest[ring])
        for column in np.flatnonzero(peak >= fleet.threshold).tolist():
            key = fleet.keys[column]
            if key in self.on or key in self.since:
                continue
            place = of_place(fleet.shares, ring, column, int(fleet.oldest[ring][column]))
            alarm, over_us = replayed(place, self.shape, float(fleet.upper[column]), float(fleet.threshold[column]))
            if alarm is not None:
                self.on[key] = alarm
            elif over_us:
                self.since[key] = over_us


def replayed(place: Place, shape: Shape, upper: float, threshold: float) -> tuple[Alarm | None, int]:
    """What looking at each pane's end of the longest window would have found: the alarm that is on, or when one was
    over (µs; 0: there was none).
    """
    pane_us, rings = shape.windows[shape.longest].pane_us, len(shape.windows)
    others = [drift.no_money(1)] * (rings - 1)
    owned, alarm, first, block, over_us = drift.no_money(1), None, 0, 0, 0
    for i, number in enumerate(place.numbers):
        end_us = (number + 1) * pane_us
        if alarm is None:
            owned = drift.after_pane(owned, place.sums[:, [i]], pane_us / _SECOND)
            if drift.evidence([owned, *others])[0] < threshold:
                continue
            start = first + drift.likeliest_start(place.sums[:, first : i + 1])[0]
            whole = moments.fold(place.moments[:, start : i + 1], np.array([0]))
            limit = drift.boundary(np.array([upper]), whole, shape.tolerated_ratio)
            look = float(drift.first_look(whole)[0])
            alarm = Alarm(place.numbers[start] * pane_us, end_us, float(limit[0]), end_us, look, look)
            block = i + 1
            continue
        part = moments.fold(place.moments[:, block : i + 1], np.array([0]))
        verdict = drift.judge(part, np.array([alarm.limit]), np.array([alarm.due]), alarm.first)
        alarm.due = float(verdict.due[0])
        if verdict.good[0] or verdict.bad[0]:
            alarm.good = alarm.good + 1 if verdict.good[0] else 0
            alarm.block_us, block = end_us, i + 1
        if alarm.good >= drift.GOOD_BLOCKS:
            alarm, owned, first, over_us = None, drift.no_money(1), i + 1, end_us
    return alarm, over_us


def _change(
    fleet: Fleet, column: int, active: bool, since_us: int, m: Floats, evidence: float, why: str = ""
) -> Change:
    lower, upper = moments.rmse_bounds(m)
    return Change(
        fleet.keys[column], active, since_us, float(fleet.mse[column]), float(fleet.upper[column]),
        float(moments.mse(m)[0]), float(lower[0] ** 2), float(upper[0] ** 2), int(m[moments.N, 0]),
        float(m[moments.MAX_A, 0]), evidence, float(fleet.threshold[column]), why,
    )  # fmt: skip
