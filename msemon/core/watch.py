"""What a task knows about drift: each series' baseline, and its pane sums since it has one.

Which baseline: the given one; else, once learnt, its own; a new version is judged by the baseline of the version before
it, or by its own where that is lower. Whenever a series' baseline changes its pane sums begin anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from msemon.core import drift, moments
from msemon.core.baseline import FIELDS, Baseline, Entries, Learner, Learning
from msemon.core.drift import K
from msemon.core.moments import Errors, Index, Mask
from msemon.core.panes import Block, found, grouped, runs
from msemon.core.series import Series
from msemon.core.shape import Shape
from msemon.core.view import SeriesKey
from msemon.core.windows import Groups, Ring, Windows
from msemon.events import Floats, Ints

KEPT_US = 30 * 86_400_000_000
"""How long a baseline outlives its series; where more than `total_series_limit` have ended, the last of them alone."""

Given = Mapping[SeriesKey, Baseline]
"""Baselines from a file. A version of ANY stands for each that is not named itself."""
ANY = "\0"  # no version: clean text has no control characters


class Source(IntEnum):
    """Where a series' baseline is from."""

    NONE = 0
    LEARNT = 1
    INHERITED = 2  # of the version before; an own one is being learnt
    SETTLED = 3  # inherited for good: what was learnt is worse
    GIVEN = 4


class Kept(NamedTuple):
    """What is kept of a series that has ended."""

    source: Source
    baseline: Baseline | None
    learning: tuple[float, ...]  # its column in the learner's table
    ended_us: int  # record clock


# Rows of the table by sid.
_SOURCE, _MSE, _UPPER, _PAIRS, _WEIGHT, _STAKE, _BORN = range(7)
ROWS = 7


def given_of(given: Given, key: SeriesKey) -> Baseline | None:
    """The entry for this series."""
    return given.get(key) or given.get(key._replace(version=ANY))


@dataclass(slots=True)
class Watched:
    """Baselines by sid, as they are exported: 0 where there is none."""

    mse: Floats
    upper: Floats
    pairs: Floats  # while learning those learnt from so far
    given: Mask
    born: Mask  # whether there is or may be a baseline


class Watch:
    """Baselines and pane sums of one task. `rings` as in `windows.Windows`, float32 (K, k) a pane."""

    def __init__(self, shape: Shape, windows: Windows) -> None:
        self.rings: list[Ring] = [{} for _ in shape.windows]
        self.given: Given = {}
        self.kept: dict[SeriesKey, Kept] = {}
        self.kept_us = KEPT_US
        self.version = 0  # goes up with every change of a baseline
        self.dirty = True
        self.kept_dirty = True
        self._shape = shape
        self._windows = windows
        self._table = np.zeros((ROWS, 0))
        self._versions: dict[tuple[str, str, str], dict[str, int]] = {}  # model and segment → version → sid, −1 ended
        self.learner = Learner(self._learning(1))

    def spread_over(self, tasks: int) -> None:
        """So many tasks share the pairs of each series; 0: not known."""
        if max(tasks, 1) != self.learner.learning.tasks:
            self.learner.learning = self._learning(max(tasks, 1))

    def _learning(self, tasks: int) -> Learning:
        shape = self._shape
        share = Learning.share(shape.learn_pairs, tasks)
        return Learning(share, shape.learn_after_us, shape.learn_time_us, shape.tolerated_ratio, tasks)

    # What the process asks.

    def watched(self, size: int) -> Watched:
        """Of the first `size` sids."""
        self._size_up(size)
        table = self._table[:, :size]
        learning = np.isin(table[_SOURCE], (Source.NONE, Source.INHERITED)) & (table[_BORN] > 0.0)
        pairs = table[_PAIRS].copy()
        none = np.flatnonzero(learning & (table[_SOURCE] == Source.NONE))
        pairs[none] = self.learner.counted(none)
        return Watched(
            table[_MSE].copy(), table[_UPPER].copy(), pairs, table[_SOURCE] == Source.GIVEN, table[_BORN] > 0.0
        )

    # The transition.

    def add(self, groups: Groups, errors: Errors, times: Ints, series: Series) -> None:
        """Bet on the pairs of a batch, learn from them, and put what was won into the panes."""
        if not groups.sids.size:
            return
        self._size_up(len(series.keys))
        new = groups.sids[self._table[_BORN, groups.sids] == 0.0]
        for sid in dict.fromkeys(new.tolist()):
            self._bear(sid, series)
        lengths = np.diff(groups.starts, append=groups.who.size)
        bet = self._learn(groups, lengths, errors, times, series)
        if not self._shape.drift or not bet.any():
            return
        self._put(groups, self._won(groups, lengths, errors, bet))

    def _won(self, groups: Groups, lengths: Index, errors: Errors, bet: Mask) -> Floats:
        """Sums (K, g) of the bets on the pairs in bet (entries,)."""
        upper, weight, stake = self._table[_UPPER : _STAKE + 1][[0, 2, 3]][:, groups.sids]
        upper = np.where(upper > 0.0, upper, 1.0) * self._shape.tolerated_ratio
        of_entry = np.repeat(np.arange(groups.sids.size), lengths)
        relative = errors.w[groups.who] / np.where(weight > 0.0, weight, 1.0)[of_entry]
        won = drift.bets(errors.q[groups.who], np.where(bet, relative, 0.0), upper[of_entry], stake[of_entry])
        return np.add.reduceat(won, groups.starts, axis=1, dtype=np.float64)

    def _put(self, groups: Groups, won: Floats) -> None:
        some = won.any(axis=0)
        for r, ring in enumerate(self.rings):
            columns = (some & groups.taken[:, r]).nonzero()[0]
            panes, sids = groups.panes[columns, r], groups.sids[columns]
            order, starts = grouped(panes, sids)
            if not starts.size:
                continue
            sums = np.add.reduceat(won.take(columns[order], axis=1), starts, axis=1)
            panes, sids = panes[order[starts]], sids[order[starts]]
            for begin, end in runs(panes):
                block = ring.get(int(panes[begin]))
                if block is None:
                    block = ring[int(panes[begin])] = Block(K, np.float32)
                rows = block.rows(sids[begin:end])  # first, for it may replace block.data
                block.data[:, rows] += sums[:, begin:end]
                block.dirty = True

    def _learn(self, groups: Groups, lengths: Index, errors: Errors, times: Ints, series: Series) -> Mask:
        """Learn from the pairs of series that do; gives which entries are to be bet on."""
        source = self._table[_SOURCE, groups.sids]
        learning = (source == Source.NONE) | (source == Source.INHERITED)
        learning &= self._table[_BORN, groups.sids] > 0.0
        if not learning.any():
            return np.repeat(source != Source.NONE, lengths)
        of_entry = np.repeat(groups.sids, lengths)
        chosen = np.repeat(learning, lengths).nonzero()[0]
        chosen = _by_series(chosen, of_entry, groups.who)
        sids = of_entry[chosen]
        starts = np.concatenate(([0], (sids[1:] != sids[:-1]).nonzero()[0] + 1))
        entries = Entries(sids[starts], starts, groups.who[chosen], times, errors)
        after, finished = self.learner.learn(entries)
        self.dirty = True
        bet: Mask = self._table[_SOURCE, of_entry] != Source.NONE
        for g in np.isin(entries.sids, list(finished)).nonzero()[0].tolist() if finished else ():
            sid = int(entries.sids[g])
            if self._learnt(sid, finished[sid], series):
                end = int(entries.starts[g] + entries.lengths[g])
                mine = chosen[entries.starts[g] : end]
                bet[mine] = False
                bet[mine[mine.size - int(after[g]) :]] = True
        return bet

    def _learnt(self, sid: int, baseline: Baseline, series: Series) -> bool:
        """A series has learnt its own baseline: whether that is used from here on."""
        key = series.keys[sid]
        assert key is not None
        inherited = self._table[_SOURCE, sid] == Source.INHERITED
        if inherited and baseline.upper_mse >= self._table[_UPPER, sid] and key.model not in self._shape.adopt:
            self._table[_SOURCE, sid] = Source.SETTLED
            return False
        self._use(sid, baseline, Source.LEARNT)
        return True

    # Beginning, changing, ending.

    def _bear(self, sid: int, series: Series) -> None:
        """The first pair of a series in this task, or the first since it ended."""
        key = series.keys[sid]
        assert key is not None
        self.dirty = True
        if series.folded[sid]:
            self._table[_BORN, sid] = -1.0  # has no detector
            return
        self._table[_BORN, sid] = 1.0
        versions = self._versions.setdefault((key.model, *key[2:]), {})
        kept = self.kept.pop(key, None)
        self.kept_dirty |= kept is not None
        if kept is not None and kept.learning:
            row = self.learner.table.rows(np.array([sid]))
            self.learner.table.data[:, row[0]] = kept.learning
        if (entry := given_of(self.given, key)) is not None:
            self._use(sid, entry, Source.GIVEN)
        elif kept is not None and kept.baseline is not None and kept.source != Source.GIVEN:
            self._use(sid, kept.baseline, kept.source)
        elif (before := self._before(key, versions)) is not None:
            self._use(sid, before, Source.INHERITED)
        versions[key.version] = sid

    def _before(self, key: SeriesKey, versions: Mapping[str, int]) -> Baseline | None:
        """The baseline of the version before: that with the most pairs in the longest window, else the last to end."""
        others = {version: sid for version, sid in versions.items() if version != key.version}
        living = np.array([sid for sid in others.values() if sid >= 0 and self._table[_SOURCE, sid]], np.int64)
        if living.size:
            pairs = np.zeros(living.size)
            for block in self._windows.rings[self._shape.longest].values():
                rows = found(block.index, living)
                pairs += np.where(rows > 0, block.data[moments.N, rows - 1], 0.0)
            return self._baseline(int(living[pairs.argmax()]))
        ended = [self.kept[k] for v in others if (k := key._replace(version=v)) in self.kept]
        return max(ended, key=lambda kept: kept.ended_us).baseline if ended else None

    def _baseline(self, sid: int) -> Baseline:
        column = self._table[:, sid].tolist()
        return Baseline(column[_MSE], column[_UPPER], int(column[_PAIRS]), column[_WEIGHT], column[_STAKE])

    def _use(self, sid: int, baseline: Baseline, source: Source) -> None:
        """Judge this series by this baseline from here on."""
        if self._table[_SOURCE, sid] != Source.NONE:  # else it has no sums, and there are hundreds of panes to look in
            self._clear(np.array([sid]))
        self._table[:_BORN, sid] = [
            source, baseline.mse, baseline.upper_mse, baseline.pairs, baseline.mean_weight, baseline.stake,
        ]  # fmt: skip
        if source in (Source.LEARNT, Source.GIVEN):
            self.learner.table.clear(np.array([sid]))
        self.version += 1
        self.dirty = True

    def _clear(self, sids: Ints) -> None:
        for ring in self.rings:
            for block in ring.values():
                block.clear(sids)

    def give(self, given: Given, series: Series) -> list[SeriesKey]:
        """Other given baselines from here on; which series are judged by another one now."""
        self.given = given
        self._size_up(len(series.keys))
        changed = []
        for sid, key in enumerate(series.keys):
            if key is None or self._table[_BORN, sid] <= 0.0:
                continue
            entry, was_given = given_of(given, key), self._table[_SOURCE, sid] == Source.GIVEN
            if entry is not None and not (was_given and self._baseline(sid) == entry):
                self._use(sid, entry, Source.GIVEN)
                changed.append(key)
            elif entry is None and was_given:
                self.release(np.array([sid]), {}, 0)
                self._bear(sid, series)
                changed.append(key)
        return changed

    def release(self, sids: Ints, keys: Mapping[int, SeriesKey], record_clock: int) -> None:
        """These series ended and others will get their sids; what is known of those with a key is kept a while."""
        self._size_up(int(sids.max(initial=-1)) + 1)
        for sid, key in keys.items():
            if self._table[_BORN, sid] <= 0.0:
                continue
            row = int(found(self.learner.table.index, np.array([sid]))[0]) - 1
            learning = tuple(self.learner.table.data[:, row].tolist()) if row >= 0 else ()
            source = Source(int(self._table[_SOURCE, sid]))
            self.kept[key] = Kept(source, self._baseline(sid) if source else None, learning, record_clock)
            self._versions.get((key.model, *key[2:]), {})[key.version] = -1
            self.kept_dirty = True
        while len(self.kept) > self._shape.total_series_limit:
            self._forget(next(iter(self.kept)))  # the first to end
        self._table[:, sids] = 0.0
        self.learner.table.clear(sids)
        self._clear(sids)
        self.version += 1
        self.dirty = True

    def forget(self, record_clock: int) -> None:
        """Drop what was kept for long enough."""
        for key in [key for key, kept in self.kept.items() if kept.ended_us < record_clock - self.kept_us]:
            self._forget(key)

    def _forget(self, key: SeriesKey) -> None:
        del self.kept[key]
        self.kept_dirty = True
        versions = self._versions.get((key.model, *key[2:]), {})
        versions.pop(key.version, None)
        if not versions:
            self._versions.pop((key.model, *key[2:]), None)

    def drop(self, oldest: list[int]) -> None:
        """Forget in each ring r the panes below oldest[r]."""
        for ring, limit in zip(self.rings, oldest, strict=True):
            for pane in [pane for pane in ring if pane < limit]:
                del ring[pane]

    # For checkpoints.

    def columns(self, sids: Ints) -> Floats:
        """(ROWS, k): what is known of these series beside what is being learnt."""
        self._size_up(int(sids.max(initial=-1)) + 1)
        return self._table[:, sids]

    def adopt(self, sids: Ints, columns: Floats, learning: tuple[Ints, Floats], series: Series) -> None:
        """Put back what `columns` and the learner's table held; distinct sids (k,) each."""
        if columns.shape != (ROWS, sids.size) or learning[1].shape != (FIELDS, learning[0].size):
            raise ValueError("baselines of other columns")
        self._size_up(len(series.keys))
        self._table[:, sids] = columns
        self.learner.table = Block.of(learning[0].astype(np.intp), learning[1])
        for sid in sids.tolist():
            key = series.keys[sid]
            if key is not None and not series.folded[sid]:
                self._versions.setdefault((key.model, *key[2:]), {})[key.version] = sid
        for key in self.kept:
            self._versions.setdefault((key.model, *key[2:]), {}).setdefault(key.version, -1)

    def adopt_pane(self, ring: int, pane: int, sids: Ints, data: Floats) -> None:
        """Put a restored pane of sums (K, k) in its ring, of distinct series sids (k,)."""
        if not sids.size:
            return
        if data.shape != (K, sids.size):
            raise ValueError("a pane of other columns")
        self.rings[ring][pane] = Block.of(sids.astype(np.intp), data.astype(np.float32))

    def _size_up(self, size: int) -> None:
        if size > self._table.shape[1]:
            wider = np.zeros((ROWS, max(size, self._table.shape[1] * 3 // 2, 16)))
            wider[:, : self._table.shape[1]] = self._table
            self._table = wider


def _by_series(chosen: Index, sids: Ints, who: Index) -> Index:
    """Positions sorted by series and, within one, by place in the log; they come so where a batch lies in one cell."""
    series, place = sids[chosen], who[chosen]
    step = series[1:] - series[:-1]
    if ((step > 0) | ((step == 0) & (place[1:] > place[:-1]))).all():
        return chosen
    return chosen[grouped(series, place)[0]]
