"""Baselines: what a series' squared error is as long as nothing has drifted, and learning that from the log.

Learning is a function of the pairs in log order, whatever batches they come in, and keeps a few numbers a series:
moments of all pairs, of the hour that is on and of the worst hour, the means of blocks of pairs, and sums over
neighbours; the last two tell how much the errors hang together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from msemon.core import moments
from msemon.core.drift import STAKES
from msemon.core.moments import Errors, Index
from msemon.core.panes import Block, found
from msemon.events import Floats, Ints

LEAST_PAIRS = 200
"""Of a baseline, and of an hour that counts by itself."""
BLOCK = 100
"""Pairs, of all tasks, in a block of the variance ratio. One task sees its part of them, at least _LEAST_BLOCK."""

_LEAST_BLOCK = 10
_HOUR_US = 3_600_000_000
_Z = 2.33  # one-sided 99 %
_CHANCE = 1.64  # one-sided 95 %: a variance ratio below is taken for 1
_ALIKE = 0.99  # the most that neighbours' correlation is taken for: the ratio it stands for is 200
_ROUNDING = 1e-9  # of the mean's square: a variance below may be nothing but rounding


@dataclass(frozen=True, slots=True)
class Baseline:
    """What drift of one series is measured from."""

    mse: float  # the point
    upper_mse: float  # m₀, > 0: what is used
    pairs: int
    mean_weight: float = 1.0  # w̄
    stake: float = 1.0  # what all λ are scaled by, see `stake`


def upper_bound(mse: Floats, standard_error: Floats, n_eff: Floats) -> Floats:
    """99 % upper bound of an MSE: MSE · exp(2.33 · (SE/MSE) · √(1 + 6/√n)), widened as in `moments.rmse_bounds`."""
    with np.errstate(all="ignore"):
        relative = np.where(standard_error == 0.0, 0.0, standard_error / mse)
        return mse * np.exp(_Z * relative * np.sqrt(1.0 + 6.0 / np.sqrt(n_eff)))


def stake(ratio: Floats, cv: Floats, tolerated_ratio: float) -> Floats:
    """What all λ are scaled by so that the largest is at most ρ(ρ − 1) / (cv²·(VIF − 1)), cv = s(q)/m₀; 1 at most.

    Betting on errors that hang together wins without drift: to second order the money grows by
    λ²·cv²·(VIF − 1)/(2ρ²) a pair from that alone and shrinks by λ(ρ − 1)/ρ, so twice this λ would break even.
    """
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        largest = tolerated_ratio * (tolerated_ratio - 1.0) / (cv * cv * np.maximum(ratio - 1.0, 0.0))
    return np.minimum(np.nan_to_num(largest / float(STAKES[-1]), nan=1.0), 1.0)


@dataclass(frozen=True, slots=True)
class Learning:
    """How a task learns. Durations in µs."""

    pairs: int  # this task's share of `baseline.learn_pairs`
    after_us: int
    time_us: int
    tolerated_ratio: float
    tasks: int = 1  # that the errors of a series are spread over

    @property
    def block(self) -> int:
        """Pairs in a block."""
        return max(_LEAST_BLOCK, BLOCK // max(self.tasks, 1))

    @staticmethod
    def share(learn_pairs: int, tasks: int) -> int:
        """A task's share, rounded up, at least LEAST_PAIRS."""
        return max(LEAST_PAIRS, -(-learn_pairs // max(tasks, 1)))


@dataclass(frozen=True, slots=True)
class Measured:
    """What was seen of k series that were learnt, each (k,)."""

    mse: Floats  # what is used: of the worst hour that counts, where that is above all pairs'
    standard_error: Floats  # of that, as for independent errors; like the next two
    upper_mse: Floats
    overall_mse: Floats  # of all pairs
    overall_standard_error: Floats
    pairs: Floats
    mean_weight: Floats
    variance_ratio: Floats
    cv: Floats  # s(q) / upper_mse

    @property
    def sound(self) -> npt.NDArray[np.bool_]:
        """Where a baseline can be made of it."""
        return (self.mse > 0.0) & np.isfinite(self.upper_mse)


# Rows of a learning series.
_WHOLE = slice(0, moments.FIELDS)
_HOUR = slice(moments.FIELDS, 2 * moments.FIELDS)
_WORST = slice(2 * moments.FIELDS, 3 * moments.FIELDS)
FIELDS = 3 * moments.FIELDS + 11
(
    _OPEN_N, _OPEN_SUM, _BLOCKS, _BLOCK_MEAN, _BLOCK_M2, _BIRTH, _HOUR_NUMBER, _LAST, _SUM, _SQUARES, _PRODUCTS,
) = range(3 * moments.FIELDS, FIELDS)  # fmt: skip


@dataclass(slots=True)
class Entries:
    """Pairs of a batch by series: group g is the run of `who` that begins at starts[g], and belongs to sids[g].

    `who` holds positions in `errors` and `times`, in log order within a group.
    """

    sids: Ints  # (g,) distinct
    starts: Index  # (g,)
    who: Index  # (n,)
    times: Ints  # µs, of all pairs of the batch
    errors: Errors

    @property
    def lengths(self) -> Index:
        return np.diff(self.starts, append=self.who.size)


class Learner:
    """The series of a task that are being learnt, by sid."""

    def __init__(self, learning: Learning) -> None:
        self.learning = learning
        self.table = Block(FIELDS)

    def learn(self, entries: Entries) -> tuple[Index, dict[int, Baseline]]:
        """Take in the pairs of learning series, those new to it included.

        Gives how many pairs of each group (g,) came after its baseline was complete, and the baselines completed. What
        can't make one is learnt anew.
        """
        rows = self.table.rows(entries.sids)
        self.table.dirty = True
        self._bear(entries, rows)
        group = np.repeat(np.arange(entries.sids.size), entries.lengths)
        w, t = entries.errors.w[entries.who], entries.times[entries.who]
        begin = self.table.data[_BIRTH, rows].astype(np.int64) + self.learning.after_us
        counts = (t >= begin[group]) & (w > 0.0)
        before = self.table.data[moments.N, rows].astype(np.int64)
        after = np.zeros(rows.size, np.intp)
        if (before + entries.lengths < self.learning.pairs).all():  # none can be complete yet, as nearly always
            self._count(rows, group, entries, counts)
            return after, {}
        n = _running(counts.astype(np.int64), entries.starts, group) + before[group]
        wrong = _running((counts & (entries.errors.q[entries.who] > 0.0)).astype(np.int64), entries.starts, group) > 0
        wrong |= (self.table.data[moments.MEAN_Q, rows] > 0.0)[group]  # from no error at all nothing can be measured
        enough = counts & wrong & (n >= self.learning.pairs) & (t >= (begin + self.learning.time_us)[group])
        last = _first(enough, entries.starts, entries.who.size)
        self._count(rows, group, entries, counts & (np.arange(entries.who.size) <= last[group]))
        done = np.flatnonzero(last < entries.who.size)
        finished: dict[int, Baseline] = {}
        for g, baseline in zip(done.tolist(), self._completed(rows[done]), strict=True):
            if baseline is not None:
                finished[int(entries.sids[g])] = baseline
                after[g] = entries.starts[g] + entries.lengths[g] - 1 - last[g]
        self.table.clear(entries.sids[done])
        return after, finished

    def counted(self, sids: Ints) -> Ints:
        """Pairs (k,) that these series have been learnt from so far."""
        rows = found(self.table.index, sids)
        return np.where(rows > 0, self.table.data[moments.N, rows - 1], 0.0).astype(np.int64)

    def held(self) -> tuple[Index, Floats]:
        """(sids, columns) of what is being learnt; frees rows where few of them still are."""
        sids, data = self.table.held()
        learning = np.flatnonzero(data[_BIRTH])
        sids, data = sids[learning], data[:, learning]
        if self.table.used > 2 * sids.size + 100:
            self.table = Block.of(sids, data.copy())
        return sids, data

    def _bear(self, entries: Entries, rows: Index) -> None:
        """A series' birth is the time of its first pair in the log."""
        new = np.flatnonzero(self.table.data[_BIRTH, rows] == 0.0)
        if new.size:
            self.table.data[_BIRTH, rows[new]] = entries.times[entries.who[entries.starts[new]]]

    def _count(self, rows: Index, group: Index, entries: Entries, counts: npt.NDArray[np.bool_]) -> None:
        """Put the pairs that count (n,), of groups `group` (n,), into the moments and blocks of `rows`."""
        who, firsts = entries.who, entries.starts
        if not counts.all():
            kept = counts.nonzero()[0]
            if not kept.size:
                return
            group, who = group[kept], who[kept]
            firsts = _run_starts(group)
            rows = rows[group[firsts]]
            group = np.repeat(np.arange(firsts.size), np.diff(firsts, append=group.size))
        q = entries.errors.q[who]
        self._count_hours(rows, group, who, entries)
        self._count_neighbours(rows, firsts, q)
        self._count_blocks(rows, group, firsts, q)

    def _count_hours(self, rows: Index, group: Index, who: Index, entries: Entries) -> None:
        """Hours only go on: a late pair counts in the hour in which it comes."""
        table = self.table.data
        hours = entries.times[who] // _HOUR_US
        known = table[_HOUR_NUMBER, rows].astype(np.int64)
        low = min(int(hours.min()), int(known.min()))
        span = max(int(hours.max()), int(known.max())) - low + 1
        hours = np.maximum(hours, known[group]) - low + group * span
        hours = np.maximum.accumulate(hours) - group * span + low
        runs = _run_starts(group, hours)
        parts = moments.reduce(entries.errors, who, runs)
        owner, hour = group[runs], hours[runs]
        rank = np.arange(runs.size) - np.searchsorted(owner, owner)
        for turn in range(int(rank.max()) + 1):
            now = (rank == turn).nonzero()[0]
            some, part = rows[owner[now]], parts[:, now]
            fresh = (table[_HOUR_NUMBER, some] != hour[now]).nonzero()[0]
            if fresh.size:
                self._close_hour(some[fresh])
            table[_HOUR_NUMBER, some] = hour[now]
            both = moments.merge(
                np.concatenate((table[_WHOLE, some], table[_HOUR, some]), axis=1), np.concatenate((part, part), axis=1)
            )
            table[_WHOLE, some], table[_HOUR, some] = both[:, : some.size], both[:, some.size :]

    def _close_hour(self, rows: Index) -> None:
        table = self.table.data
        of_hour = table[_HOUR, rows]
        worse = (of_hour[moments.N] >= LEAST_PAIRS) & (of_hour[moments.MEAN_Q] > table[_WORST, rows][moments.MEAN_Q])
        table[_WORST, rows[worse]] = of_hour[:, worse]
        table[_HOUR, rows] = 0.0

    def _count_neighbours(self, rows: Index, firsts: Index, q: Floats) -> None:
        """Sums of q, of its squares and of its products with the one before, which is 0 for a series' first."""
        table = self.table.data
        before = np.concatenate(([0.0], q[:-1]))
        before[firsts] = table[_LAST, rows]
        with np.errstate(over="ignore", invalid="ignore"):
            table[_SUM, rows] += np.add.reduceat(q, firsts)
            table[_SQUARES, rows] += np.add.reduceat(q * q, firsts)
            table[_PRODUCTS, rows] += np.add.reduceat(q * before, firsts)
        table[_LAST, rows] = q[np.append(firsts[1:], q.size) - 1]

    def _count_blocks(self, rows: Index, group: Index, firsts: Index, q: Floats) -> None:
        """Cut each series' pairs into blocks; the mean of a full one joins mean and M2 of the means."""
        table, size = self.table.data, self.learning.block
        rank = np.arange(group.size) - firsts[group] + table[_OPEN_N, rows].astype(np.int64)[group]
        block = rank // size
        cuts = _run_starts(group, block)
        owner = group[cuts]
        with np.errstate(over="ignore"):
            total = np.add.reduceat(q, cuts)
        carried = block[cuts] == 0
        total[carried] += table[_OPEN_SUM, rows[owner[carried]]]
        end = np.append(cuts[1:], group.size) - 1
        full = rank[end] % size == size - 1
        table[_OPEN_N, rows] = table[_OPEN_SUM, rows] = 0.0
        table[_OPEN_N, rows[owner[~full]]] = rank[end[~full]] % size + 1  # only a group's last can be open
        table[_OPEN_SUM, rows[owner[~full]]] = total[~full]
        if not full.any():
            return
        owner, mean = owner[full], total[full] / size
        starts = _run_starts(owner)
        count = np.diff(starts, append=owner.size).astype(np.float64)
        centre = np.add.reduceat(mean, starts) / count
        with np.errstate(over="ignore", invalid="ignore"):
            around = np.add.reduceat((mean - np.repeat(centre, count.astype(np.int64))) ** 2, starts)
            some = rows[owner[starts]]
            before, d = table[_BLOCKS, some], centre - table[_BLOCK_MEAN, some]
            table[_BLOCKS, some] = before + count
            table[_BLOCK_MEAN, some] += d * count / (before + count)
            table[_BLOCK_M2, some] += around + d * d * before * count / (before + count)

    def _completed(self, rows: Index) -> list[Baseline | None]:
        """The baselines of rows that have seen enough; None where the errors are beyond what a float can square."""
        if not rows.size:
            return []
        found = self.measured(rows)
        scale = stake(found.variance_ratio, found.cv, self.learning.tolerated_ratio)
        return [
            Baseline(float(found.mse[i]), float(found.upper_mse[i]), int(found.pairs[i]), float(found.mean_weight[i]),
                     float(scale[i]))
            if found.sound[i]
            else None
            for i in range(rows.size)
        ]  # fmt: skip

    def measured(self, rows: Index) -> Measured:
        """What was seen of these rows of the table, whose open hour ends with it."""
        self._close_hour(rows)
        whole, worst = self.table.data[_WHOLE, rows], self.table.data[_WORST, rows]
        used = np.where(worst[moments.MEAN_Q] > whole[moments.MEAN_Q], worst, whole)
        error = moments.standard_error(used)
        upper = upper_bound(used[moments.MEAN_Q], error, moments.effective_pairs(used))
        with np.errstate(all="ignore"):
            return Measured(
                mse=used[moments.MEAN_Q],
                standard_error=error,
                upper_mse=upper,
                overall_mse=whole[moments.MEAN_Q],
                overall_standard_error=moments.standard_error(whole),
                pairs=whole[moments.N],
                mean_weight=whole[moments.W] / whole[moments.N],
                variance_ratio=self._variance_ratio(rows),
                cv=np.sqrt(whole[moments.M2_Q] / whole[moments.W]) / upper,
            )

    def _variance_ratio(self, rows: Index) -> Floats:
        """VIF, how many times the variance of a mean is what it is for independent errors: 1 where it is not above that
        by more than chance, else the larger one of

        - n̄ · Var(block means) / Var(q), n̄ the pairs in a block, which sees whatever lasts about as long as a block;
        - (1 + r) / (1 − r), r the correlation of neighbours, which is exact where it falls off geometrically. It is the
          sharper one by far where a task sees only each twelfth pair.

        One task sees each series thinned out, its neighbours less alike; over all tasks the excess adds up.
        """
        ratio = np.maximum(self._ratio_of_blocks(rows), self._ratio_of_neighbours(rows))
        return 1.0 + (ratio - 1.0) * self.learning.tasks

    def _ratio_of_blocks(self, rows: Index) -> Floats:
        table = self.table.data
        blocks = table[_BLOCKS, rows]
        with np.errstate(all="ignore"):
            variance = table[moments.M2_Q, rows] / table[moments.W, rows]
            ratio = self.learning.block * table[_BLOCK_M2, rows] / (blocks - 1.0) / variance
            real = ratio > 1.0 + _CHANCE * np.sqrt(2.0 / (blocks - 1.0))
        return np.where((blocks >= 2.0) & real, ratio, 1.0)

    def _ratio_of_neighbours(self, rows: Index) -> Floats:
        table = self.table.data
        n = table[moments.N, rows]
        with np.errstate(all="ignore"):
            mean = table[_SUM, rows] / n
            variance = table[_SQUARES, rows] / n - mean * mean
            r = (table[_PRODUCTS, rows] / (n - 1.0) - mean * mean) / variance
            real = (variance > _ROUNDING * mean * mean) & (r > _CHANCE / np.sqrt(n))
        alike = np.minimum(r, _ALIKE)
        return np.where(real, (1.0 + alike) / (1.0 - alike), 1.0)


def _run_starts(*keys: Ints) -> Index:
    """Where each run of equal keys begins; there is at least one key."""
    changes = np.zeros(keys[0].size - 1, np.bool_)
    for key in keys:
        changes |= key[1:] != key[:-1]
    return np.concatenate(([0], changes.nonzero()[0] + 1))


def _running(values: Ints, starts: Index, group: Index) -> Ints:
    """Cumulative sums (n,) that begin anew with each group."""
    total = np.cumsum(values)
    before = total[starts] - values[starts]
    out: npt.NDArray[np.int64] = total - before[group]
    return out


def _first(flags: npt.NDArray[np.bool_], starts: Index, none: int) -> Index:
    """Position (g,) of the first True of each group; `none` where there is none."""
    return np.minimum.reduceat(np.where(flags, np.arange(flags.size), none), starts)
