"""Simulations of drift detection: how often it alarms for nothing, how soon it sees drift, how soon that is over.

    python benchmarks/drift.py [NAME…] [--scale X]

Many streams at once go through the modules the daemon uses (`msemon.core.drift`, `msemon.core.baseline`): panes in
three rings, looked at every second. Prints Markdown tables; `docs/drift-results.md` holds those of one run. `--scale`
makes runs longer or shorter.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from msemon.core import drift, moments
from msemon.core.baseline import Baseline, Entries, Learner, Learning
from msemon.core.drift import K
from msemon.core.moments import Errors
from msemon.events import Floats, Ints

RHO = 1.1
RINGS = ((5, 60), (60, 60), (1440, 60))
"""Seconds of a pane, and panes, of the windows 5m, 1h and 24h."""
YEAR_S = 365 * 86_400.0
Draw = Callable[[np.random.Generator, tuple[int, int]], Floats]
"""Errors (streams, pairs) with a mean square of 1."""


def _scaled(draw: Draw, mean_square: float) -> Draw:
    root = math.sqrt(mean_square)
    return lambda rng, shape: draw(rng, shape) / root


def _outliers(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return rng.standard_normal(shape) * np.where(rng.random(shape) < 0.01, 10.0, 1.0)


STREAMS: dict[str, Draw] = {
    "Gaussian": lambda rng, shape: rng.standard_normal(shape),
    "Student-t5": _scaled(lambda rng, shape: rng.standard_t(5, shape), 5 / 3),
    "Student-t3": _scaled(lambda rng, shape: rng.standard_t(3, shape), 3.0),
    "Laplace": _scaled(lambda rng, shape: rng.laplace(size=shape), 2.0),
    "lognormal": _scaled(lambda rng, shape: rng.lognormal(size=shape), math.exp(2.0)),
    "1 % outliers": _scaled(_outliers, 0.99 + 0.01 * 100),
}


@dataclass
class Autoregressive:
    """AR(1) errors of variance 1, going on from call to call."""

    phi: float
    last: Floats | None = None

    def __call__(self, rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
        noise = rng.standard_normal(shape) * math.sqrt(1.0 - self.phi**2)
        last = rng.standard_normal(shape[0]) if self.last is None else self.last
        for j in range(shape[1]):
            last = self.phi * last + noise[:, j]
            noise[:, j] = last
        self.last = last
        return noise


class Fleet:
    """The rings of B series, at `now_s`. Alarms, recovery and learning are the caller's."""

    def __init__(self, streams: int, rings: Sequence[tuple[int, int]] = RINGS) -> None:
        self.shape = rings
        self.now_s = 0
        self.sums = [np.zeros((panes + 1, K, streams), np.float32) for _, panes in rings]  # by pane number modulo
        self.moments = [np.zeros((panes + 1, moments.FIELDS, streams)) for _, panes in rings]
        self._closed = [drift.no_money(streams) for _ in rings]
        self._at = [0 for _ in rings]

    def add(self, won: drift.Sums) -> None:
        """Pane sums (K, B) of what came in since the last step, in the pane of now."""
        for r, sums in enumerate(self.sums):
            sums[self._at[r]] += won

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

    def forget(self, streams: Ints) -> None:
        """Begin these anew."""
        for sums, closed in zip(self.sums, self._closed, strict=True):
            sums[:, :, streams] = 0.0
            closed[:, streams] = -np.inf


@dataclass(frozen=True)
class Case:
    """One simulation of false alarms."""

    name: str
    draw: Callable[[], Draw]
    rate: float = 10.0  # pairs a second and stream
    scale: float = 1.0
    level: float = 1.0  # the MSE, of the baseline's
    cycle: float = 0.0  # amplitude of a daily cycle of the MSE
    tasks: int = 1
    learn: int = 0  # pairs to learn a baseline from; 0: it is given
    learn_s: int = 0
    weighted: bool = False
    outputs: int = 1
    late: float = 0.0  # share of pairs that come 30 to 600 s late
    family: int = 1
    between_s: float = 21_600.0  # T
    hours: float = 12.0  # simulated, a stream
    streams: int = 400
    rings: Sequence[tuple[int, int]] = RINGS
    step_s: int = 1


class Pairs:
    """Squared errors and weights, second by second."""

    def __init__(self, case: Case, seed: int) -> None:
        self.case = case
        self.rng = np.random.default_rng(seed)
        self.draw = case.draw()
        self.owed = 0.0

    def next(self, now_s: int) -> tuple[Floats, Floats]:
        """(q, w), (B, m) each, of one step; m whole pairs in turn, a random number of them where there are few."""
        case = self.case
        self.owed += case.rate * case.step_s
        m = int(self.owed)
        self.owed -= m
        shape = case.streams, m * case.outputs
        e = self.draw(self.rng, shape) * case.scale
        q = (e * e).reshape(case.streams, m, case.outputs).mean(axis=2) * case.level
        if case.cycle:
            q *= 1.0 + case.cycle * math.sin(2 * math.pi * now_s / 86_400)
        w = self.rng.exponential(size=q.shape) if case.weighted else np.ones(q.shape)
        return q, w


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


def row(name: str, outcome: Outcome) -> str:
    """Mean time between false alarms in units of the setting, and its 95 % lower bound by Poisson's law."""
    low = outcome.spans / (outcome.alarms + 1.96 * math.sqrt(outcome.alarms) + 1.92 + 1.0)
    mean = f"{outcome.spans / outcome.alarms:.2f}" if outcome.alarms else "none"
    return f"| {name} | {outcome.spans:.0f} | {outcome.alarms} | {mean} | {low:.2f} |"


def fixed(draw: Draw) -> Callable[[], Draw]:
    return lambda: draw


GAUSS = fixed(STREAMS["Gaussian"])


def cases(scale: float) -> dict[str, list[Case]]:
    """The tables of false alarms."""
    hours = 12.0 * scale
    base = Case("", GAUSS, hours=hours)
    learn = replace(base, learn=5_000, learn_s=3_600)
    slow = replace(base, rate=0.1 / 3600, step_s=1440, between_s=YEAR_S, hours=24 * 365 * 4 * scale)
    quick = replace(base, rate=1000.0, rings=((1, 60), (10, 60)), between_s=900.0, streams=40, hours=1.0 * scale)
    return {
        "distributions": [replace(base, name=name, draw=fixed(draw)) for name, draw in STREAMS.items()],
        "the edge of the null: MSE at 1.1 times the baseline": [
            replace(base, name=name, draw=fixed(draw), level=RHO) for name, draw in STREAMS.items()
        ],
        "learnt baselines": [replace(learn, name=name, draw=fixed(draw)) for name, draw in STREAMS.items()],
        "autocorrelation": [
            replace(kind, name=f"AR(1) φ = {phi}, {text}", draw=partial(Autoregressive, phi), streams=200)
            for phi in (0.3, 0.5, 0.7, 0.9, 0.97)
            for text, kind in (("given", base), ("learnt", learn), ("learnt, 12 tasks", replace(learn, tasks=12)))
        ],
        "daily cycles": [
            replace(
                kind, name=f"± {cycle:.0%}, {text}", cycle=cycle, rate=1.0, hours=max(48.0, 48.0 * scale), streams=100
            )
            for cycle in (0.2, 0.5)
            for text, kind in (
                ("given daily mean", base),
                ("learnt over 24 h", replace(learn, learn_s=86_400)),
            )
        ],
        "scales, rates, families, tasks, weights, vectors, late pairs": [
            replace(base, name="errors of 1e-6", scale=1e-6),
            replace(base, name="errors of 1e6", scale=1e6),
            replace(slow, name="0.1 pairs an hour"),
            replace(slow, name="0.1 pairs an hour, Student-t3", draw=fixed(STREAMS["Student-t3"])),
            replace(quick, name="1000 pairs a second"),
            replace(base, name="family of 100", family=100, level=RHO),
            replace(base, name="family of 100, Student-t3", family=100, draw=fixed(STREAMS["Student-t3"]), level=RHO),
            replace(learn, name="4 tasks, learnt", tasks=4),
            replace(learn, name="12 tasks, learnt", tasks=12),
            replace(learn, name="12 tasks, learnt, Student-t3", tasks=12, draw=fixed(STREAMS["Student-t3"])),
            replace(base, name="weighted", weighted=True, level=RHO),
            replace(base, name="vectors of 8", outputs=8, level=RHO),
            replace(base, name="10 % late by up to 10 min", late=0.1, level=RHO),
        ],
    }


# Delays and recovery.


@dataclass
class Drifting:
    """When each of B streams alarmed and was over, in pairs after the change; NaN where not."""

    detected: Floats
    cleared: Floats = field(default_factory=lambda: np.zeros(0))
    wrong: int = 0
    pairs: int = 0


def multiplier(ratio: float, gradual_s: float, since_s: int) -> float:
    if since_s < 0:
        return 1.0
    return ratio if not gradual_s else 1.0 + (ratio - 1.0) * min(since_s / gradual_s, 1.0)


def delays(case: Case, ratio: float, gradual_s: float = 0.0, seed: int = 2, calm_s: int = 900) -> Drifting:
    """Pairs from a change of the MSE by `ratio` to the alarm at T = a year; NaN after eight hours."""
    pairs = Pairs(case, seed)
    reference = given(case) if not case.learn else learnt(case, pairs)[0]
    fleet = Fleet(case.streams, case.rings)
    limit = drift.threshold(case.between_s, np.ones(1))[0]
    found = np.full(case.streams, np.nan)
    for now_s in range(calm_s + 8 * 3600):
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
    return Drifting(found)


def recovery(
    draw: Draw, ratio: float, streams: int = 100, lasting_pairs: int = 0, seen_pairs: int = 300, seed: int = 3
) -> Drifting:
    """Pairs from the error's return to the alarm's end, 10 pairs a second in blocks of whole 5 s panes as the daemon
    cuts them; the alarm came after `seen_pairs` of drift. With `lasting_pairs` the error does not return, and ends
    within so many pairs are wrong ones.
    """
    rng = np.random.default_rng(seed)
    limit = drift.boundary(np.ones(streams), np.full(streams, ratio), RHO)
    before = draw(rng, (streams, seen_pairs))
    since = moments.reduce(
        Errors.of_scalars(before.ravel(), np.zeros(before.size), np.ones(before.size)),
        np.arange(before.size), np.arange(streams) * seen_pairs,
    )  # fmt: skip
    first = drift.first_look(since)
    block, due, good = moments.empty(streams), first.copy(), np.zeros(streams, np.int64)
    cleared, wrong, resting = np.full(streams, np.nan), 0, np.ones(streams, np.bool_)
    order, starts = np.arange(10 * streams), np.arange(streams) * 10
    for second in range(max(lasting_pairs // (10 * streams), 0) or 8 * 3600):
        if second % 5 == 0:
            resting[:] = False
        e = draw(rng, (streams, 10)) * (math.sqrt(ratio) if lasting_pairs else 1.0)
        some = moments.reduce(Errors.of_scalars(e.ravel(), np.zeros(e.size), np.ones(e.size)), order, starts)
        block = np.where(resting, block, moments.merge(block, some))
        verdicts = drift.judge(block, limit, due, first)
        due = verdicts.due
        good = np.where(verdicts.bad, 0, good + verdicts.good)
        over = good >= drift.GOOD_BLOCKS
        cleared[over & np.isnan(cleared)] = (second + 1) * 10
        wrong += int(over.sum())
        good[over] = 0
        new = verdicts.good | verdicts.bad
        block[:, new] = 0.0
        resting |= new
        if not lasting_pairs and not np.isnan(cleared).any():
            break
    return Drifting(np.zeros(0), cleared, wrong, lasting_pairs)


def heading(title: str, *columns: str) -> None:
    print(f"\n### {title}\n\n| {' | '.join(columns)} |\n|{' --- |' * len(columns)}", flush=True)


def print_false_alarms(title: str, table: Sequence[Case]) -> None:
    heading(title, "streams", "T simulated", "false alarms", "mean time / T", "at least (95 %)")
    for case in table:
        begun = time.process_time()
        print(row(case.name, false_alarms(case)), f"<!-- {time.process_time() - begun:.0f} s -->", flush=True)


def print_delays() -> None:
    heading("delays", "streams", "change", "median pairs", "mean", "90 %", "never")
    for name, draw in STREAMS.items():
        for ratio, gradual_s in ((1.2, 0), (1.5, 0), (2.0, 0), (4.0, 0), (2.0, 600), (4.0, 600)):
            case = Case(name, fixed(draw), between_s=YEAR_S, streams=200)
            d = delays(case, ratio, gradual_s).detected
            text = f"×{ratio}" + (", over 10 min" if gradual_s else "")
            numbers = " | ".join(f"{x:.0f}" for x in (np.nanmedian(d), np.nanmean(d), np.nanquantile(d, 0.9)))
            print(f"| {name} | {text} | {numbers} | {np.isnan(d).sum()} |", flush=True)


def print_recovery(lasting_pairs: int) -> None:
    heading("recovery", "streams", "drift", "median pairs to its end", "90 %", "wrong ends", "in pairs of drift")
    for name, draw in STREAMS.items():
        for ratio in (1.5, 2.0, 4.0):
            back = recovery(draw, ratio).cleared
            lasts = recovery(draw, ratio, lasting_pairs=lasting_pairs)
            print(
                f"| {name} | ×{ratio} | {np.median(back):.0f} | {np.quantile(back, 0.9):.0f} | {lasts.wrong} "
                f"| {lasts.pairs:,} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", help="tables to make, by a word of their titles")
    parser.add_argument("--scale", type=float, default=1.0)
    given_ = parser.parse_args()

    def wanted(title: str) -> bool:
        return not given_.names or any(name in title for name in given_.names)

    for title, table in cases(given_.scale).items():
        if wanted("false alarms: " + title):
            print_false_alarms(title, table)
    if wanted("delays"):
        print_delays()
    if wanted("recovery"):
        print_recovery(round(1_000_000 * given_.scale))


if __name__ == "__main__":
    main()
