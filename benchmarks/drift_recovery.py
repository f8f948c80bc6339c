"""How soon an alarm is over once the error is back, and whether it ends while drift lasts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.drift_fleet import Fleet
from benchmarks.drift_streams import RHO, STREAMS, YEAR_S, Draw
from msemon.core import drift, moments
from msemon.core.drift import K
from msemon.core.moments import Errors
from msemon.events import Floats

_RATE = 10  # pairs a second
_CALM_S = 300  # before the drift
_PANE_S = 5  # blocks are of whole panes of the finest ring


@dataclass
class Alarmed:
    """Streams that alarmed: k of them."""

    since: Floats  # (FIELDS, k) moments from the likeliest start to the alarm
    delay: Floats  # (k,) pairs from the drift's begin to the alarm


def moments_of(q: Floats) -> Floats:
    """(FIELDS, k) of squared errors (k, m)."""
    zeros = np.zeros(q.size)
    errors = Errors.of_scalars(np.sqrt(q).ravel(), zeros, zeros + 1.0)
    return moments.reduce(errors, np.arange(q.size), np.arange(len(q)) * q.shape[1])


def alarmed(draw: Draw, ratio: float, streams: int, seed: int = 3, between_s: float = YEAR_S) -> Alarmed:
    """Streams whose MSE becomes `ratio` times the baseline's, until they alarm; those that do within eight hours."""
    rng = np.random.default_rng(seed)
    limit = drift.threshold(between_s, np.ones(1))[0]
    fleet = Fleet(streams)
    since, delay = moments.empty(streams), np.full(streams, np.nan)
    ones = np.ones(streams * _RATE)
    for second in range(-_CALM_S, 8 * 3600):
        q = draw(rng, (streams, _RATE)) ** 2 * (ratio if second >= 0 else 1.0)
        fleet.add(drift.bets(q.ravel(), ones, ones * RHO, ones).reshape(K, *q.shape).sum(axis=2), moments_of(q))
        over = np.flatnonzero((fleet.evidence() >= limit) & np.isnan(delay))
        if second < 0:
            fleet.forget(over)
        else:
            delay[over] = (second + 1) * _RATE
            for stream in over.tolist():
                since[:, stream] = fleet.likeliest(stream)
        if not np.isnan(delay).any():
            break
        fleet.step()
    found = ~np.isnan(delay)
    return Alarmed(since[:, found], delay[found])


@dataclass
class Ended:
    """When each of k alarms was over, in pairs (NaN: was not), and how many ends there were in how many pairs."""

    after: Floats
    ends: int
    pairs: int


def ended(alarms: Alarmed, draw: Draw, mse: float, seconds: int, *, once: bool, seed: int = 4) -> Ended:
    """What recovery makes of errors with that MSE after the alarm; until each was over `once`, or all the time."""
    rng = np.random.default_rng(seed)
    k = alarms.delay.size
    limit = drift.boundary(np.ones(k), alarms.since, RHO)
    first = drift.first_look(alarms.since)
    block, due, good = moments.empty(k), first.copy(), np.zeros(k, np.int64)
    after, ends, resting = np.full(k, np.nan), 0, np.ones(k, np.bool_)  # resting: until the next pane begins
    for second in range(seconds):
        if second % _PANE_S == 0:
            resting[:] = False
        some = moments_of(draw(rng, (k, _RATE)) ** 2 * mse)
        block = np.where(resting, block, moments.merge(block, some))
        verdicts = drift.judge(block, limit, due, first)
        due = verdicts.due
        good = np.where(verdicts.bad, 0, good + verdicts.good)
        over = good >= drift.GOOD_BLOCKS
        after[over & np.isnan(after)] = (second + 1) * _RATE
        ends += int(over.sum())
        good[over] = 0
        new = verdicts.good | verdicts.bad
        block[:, new] = 0.0
        resting |= new
        if once and not np.isnan(after).any():
            break
    return Ended(after, ends, (second + 1) * _RATE * k)


def example(seed: int = 5, hour_s: int = 3600) -> dict[str, list[float]]:
    """One stream of Gaussian errors, ×1.5 in its second hour of three, noted every 10 s."""
    rng = np.random.default_rng(seed)
    draw, fleet = STREAMS["Gaussian"], Fleet(1)
    threshold = float(drift.threshold(YEAR_S, np.ones(1))[0])
    one = np.ones(_RATE)
    noted: dict[str, list[float]] = {"minute": [], "mse": [], "evidence": [], "active": []}
    limit = first = due = np.zeros(1)
    block, good, active, begins = moments.empty(1), 0, False, 0
    for second in range(3 * hour_s):
        q = draw(rng, (1, _RATE)) ** 2 * (1.5 if second // hour_s == 1 else 1.0)
        some = moments_of(q)
        fleet.add(drift.bets(q[0], one, one * RHO, one).sum(axis=1)[:, None], some)
        evidence = float(fleet.evidence()[0])
        if active:
            if second >= begins:
                block = moments.merge(block, some)
            verdict = drift.judge(block, limit, due, first)
            due, good = verdict.due, 0 if verdict.bad[0] else good + int(verdict.good[0])
            if verdict.good[0] or verdict.bad[0]:
                block, begins = moments.empty(1), second - second % _PANE_S + _PANE_S
            if good >= drift.GOOD_BLOCKS:
                active = False
                fleet.forget(np.zeros(1, np.int64))
        elif evidence >= threshold:
            active, good, block, begins = True, 0, moments.empty(1), second - second % _PANE_S + _PANE_S
            since = fleet.likeliest(0)[:, None]
            limit, first = drift.boundary(np.ones(1), since, RHO), drift.first_look(since)
            due = first
        if second % 10 == 0:
            window = moments.fold(fleet.moments[0][:, :, 0].T.copy(), np.array([0]))
            for name, value in zip(
                noted, (second / 60, float(window[moments.MEAN_Q, 0]), evidence, float(active)), strict=True
            ):
                noted[name].append(round(value, 3))
        fleet.step()
    return noted | {"threshold": [round(threshold, 3)]}
