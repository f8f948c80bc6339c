"""Many streams at once through the modules the daemon uses: panes, baselines, bets; false alarms and delays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.drift_streams import RHO, RINGS, Case, Pairs
from msemon.core import drift, moments
from msemon.core.baseline import Baseline, Entries, Learner, Learning
from msemon.core.drift import K
from msemon.core.moments import Errors
from msemon.events import Floats, Ints


class Fleet:
    """The rings of B series, at `now_s`. Alarms, recovery and learning are the caller's."""

    def __init__(self, streams: int, rings: Sequence[tuple[int, int]] = RINGS) -> None:
        self.shape = rings
        self.now_s = 0
        self.sums = [np.zeros((panes + 1, K, streams), np.float32) for _, panes in rings]  # by pane number modulo
        self.moments = [np.zeros((panes + 1, moments.FIELDS, streams)) for _, panes in rings]
        self._closed = [drift.no_money(streams) for _ in rings]
        self._at = [0 for _ in rings]

    def add(self, won: drift.Sums, some: Floats | None = None) -> None:
        """Put into the open panes what came in since the last step: sums (K, B), and moments (FIELDS, B) if wanted."""
        for sums, held, at in zip(self.sums, self.moments, self._at, strict=True):
            sums[at] += won
            if some is not None:
                held[at] = moments.merge(held[at], some)

    def add_late(self, won: drift.Sums, seconds: int) -> None:
        """The same in the pane of so many seconds ago."""
        for r, ((pane_s, panes), sums) in enumerate(zip(self.shape, self.sums, strict=True)):
            back = self.now_s // pane_s - (self.now_s - seconds) // pane_s
            sums[(self._at[r] - back) % (panes + 1)] += won
            if back:
                self._close(r)

    def evidence(self) -> Floats:
        owned = [
            np.where(drift.has_pairs(sums[at]), drift.after_pane(closed, sums[at], pane_s), closed)
            for (pane_s, _), sums, closed, at in zip(self.shape, self.sums, self._closed, self._at, strict=True)
        ]
        return drift.evidence(owned)

    def step(self, seconds: int = 1) -> None:
        """Time goes on; panes close and leave."""
        before, self.now_s = self.now_s, self.now_s + seconds
        for r, (pane_s, panes) in enumerate(self.shape):
            for _ in range(min(self.now_s // pane_s - before // pane_s, panes + 1)):
                self._at[r] = (self._at[r] + 1) % (panes + 1)
                self.sums[r][self._at[r]] = 0.0
                self.moments[r][self._at[r]] = 0.0
            if self.now_s // pane_s != before // pane_s:
                self._close(r)

    def _close(self, r: int) -> None:
        pane_s, panes = self.shape[r]
        owned = drift.no_money(self.sums[r].shape[2])
        for i in range(1, panes + 1):
            sums = self.sums[r][(self._at[r] + i) % (panes + 1)]
            held = drift.has_pairs(sums)
            if held.all():
                owned = drift.after_pane(owned, sums, pane_s)
            elif held.any():
                owned = np.where(held, drift.after_pane(owned, sums, pane_s), owned)
        self._closed[r] = owned

    def likeliest(self, stream: int) -> Floats:
        """Moments (FIELDS,) from the likeliest start of what alarms now, over the rings."""
        best, found = -np.inf, moments.empty(1)[:, 0]
        for (pane_s, panes), sums, held, at in zip(self.shape, self.sums, self.moments, self._at, strict=True):
            order = (at + 1 + np.arange(panes + 1)) % (panes + 1)  # oldest first
            order = order[drift.has_pairs(sums[order, :, stream].T)]
            start, won = drift.likeliest_start(sums[order, :, stream].T)
            if won + np.log(pane_s) > best:
                best = won + np.log(pane_s)
                found = moments.fold(held[order[start:], :, stream].T.copy(), np.array([0]))[:, 0]
        return found

    def forget(self, streams: Ints) -> None:
        """Begin these anew."""
        for sums, closed in zip(self.sums, self._closed, strict=True):
            sums[:, :, streams] = 0.0
            closed[:, streams] = -np.inf


@dataclass
class Reference:
    """What errors of each stream and task are compared with: arrays (tasks, B)."""

    level: Floats
    weight: Floats
    stake: Floats


def given(case: Case) -> Reference:
    ones = np.ones((case.tasks, case.streams))
    return Reference(ones * RHO * case.scale**2, ones, ones)


def learnt(case: Case, pairs: Pairs) -> tuple[Reference, int]:
    """By the daemon's own learner, a series for each task and stream; and the seconds it took."""
    learning = Learning(Learning.share(case.learn, case.tasks), 0, case.learn_s * 1_000_000, RHO, case.tasks)
    learner = Learner(learning)
    found: dict[int, Baseline] = {}
    now_s, total = 0, case.tasks * case.streams
    while len(found) < total:
        q, w = pairs.next(now_s)
        now_s += case.step_s
        if not q.size:
            continue
        task = pairs.rng.integers(0, case.tasks, q.shape)
        sids = (task + np.arange(case.streams)[:, None] * case.tasks).ravel()
        left = np.flatnonzero(~np.isin(sids, list(found)))
        if not left.size:
            continue
        order = left[np.argsort(sids[left], kind="stable")]
        starts = np.concatenate(([0], np.flatnonzero(np.diff(sids[order])) + 1))
        errors = Errors.of_scalars(np.sqrt(q.ravel()), np.zeros(q.size), w.ravel())
        times = np.full(q.size, (86_400 + now_s) * 1_000_000)
        found |= learner.learn(Entries(sids[order[starts]], starts, order, times, errors))[1]
    table = [found[sid] for sid in range(total)]

    def column(values: Iterator[float]) -> Floats:
        return np.array(list(values)).reshape(case.streams, case.tasks).T.copy()

    return Reference(
        column(b.upper_mse * RHO for b in table),
        column(b.mean_weight for b in table),
        column(b.stake for b in table),
    ), now_s


def won(case: Case, reference: Reference, q: Floats, w: Floats, rng: np.random.Generator) -> drift.Sums:
    """Bets (K, B, m)."""
    task = rng.integers(0, case.tasks, q.shape) if case.tasks > 1 else np.zeros(q.shape, np.int64)
    who = np.broadcast_to(np.arange(case.streams)[:, None], q.shape)
    at = task.ravel(), who.ravel()
    u = w.ravel() / reference.weight[at]
    out = drift.bets(q.ravel(), u, reference.level[at], reference.stake[at])
    return out.reshape(K, *q.shape)


@dataclass
class Outcome:
    alarms: int
    spans: float  # T that were simulated, families taken as one


def false_alarms(case: Case, seed: int = 1) -> Outcome:
    pairs = Pairs(case, seed)
    reference, begun = (given(case), 0) if not case.learn else learnt(case, pairs)
    fleet = Fleet(case.streams, case.rings)
    limit = drift.threshold(case.between_s, np.array([float(case.family)]))[0]
    alarms = 0
    waiting: dict[int, drift.Sums] = {}
    for now_s in range(0, round(case.hours * 3600), case.step_s):
        q, w = pairs.next(begun + now_s)
        if q.size:
            bets = won(case, reference, q, w, pairs.rng)
            if case.late:
                late = pairs.rng.random(q.shape) < case.late
                behind = int(pairs.rng.integers(30, 600))
                held = np.where(late, bets, np.float32(0)).sum(axis=2)
                waiting[now_s + behind] = waiting.get(now_s + behind, np.float32(0)) + held
                bets = np.where(late, np.float32(0), bets)
                if (due := waiting.pop(now_s, None)) is not None:
                    fleet.add_late(due, behind)
            fleet.add(bets.sum(axis=2))
            over = np.flatnonzero(fleet.evidence() >= limit)
            if over.size:
                alarms += over.size
                fleet.forget(over)
        fleet.step(case.step_s)
    return Outcome(alarms, case.hours * 3600 * case.streams / case.family / case.between_s)


def multiplier(ratio: float, gradual_s: float, since_s: int) -> float:
    if since_s < 0:
        return 1.0
    return ratio if not gradual_s else 1.0 + (ratio - 1.0) * min(since_s / gradual_s, 1.0)


def delays(
    case: Case, ratio: float, gradual_s: float = 0.0, seed: int = 2, calm_s: int = 900, limit_s: int = 8 * 3600
) -> Floats:
    """Pairs from a change of the MSE by `ratio` to the alarm; NaN where there is none before the limit."""
    pairs = Pairs(case, seed)
    reference = given(case) if not case.learn else learnt(case, pairs)[0]
    fleet = Fleet(case.streams, case.rings)
    limit = drift.threshold(case.between_s, np.ones(1))[0]
    found = np.full(case.streams, np.nan)
    for now_s in range(calm_s + limit_s):
        q, w = pairs.next(now_s)
        since_s = now_s - calm_s
        if q.size:
            q *= multiplier(ratio, gradual_s, since_s)
            fleet.add(won(case, reference, q, w, pairs.rng).sum(axis=2))
            over = (fleet.evidence() >= limit) & np.isnan(found)
            if since_s < 0:
                fleet.forget(np.flatnonzero(over))
            else:
                found[over] = (since_s + 1) * case.rate
        fleet.step()
        if not np.isnan(found).any():
            break
    return found
