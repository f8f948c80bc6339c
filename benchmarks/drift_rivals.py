"""Other drift detectors on the same streams: river's ADWIN, Page–Hinkley and KSWIN, and a mean + 3 sigma rule.

All see the squared errors, pair by pair, as fast as they come, and begin anew after an alarm, as they do by themselves.
Each has one parameter that sets how rarely it alarms. It is tuned on Gaussian errors to one false alarm in T, and then
left alone. What they learn they learn in the time in which msemon learns its baseline; no alarm counts before its end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
from river import drift as river

from benchmarks.drift_fleet import delays, false_alarms, multiplier
from benchmarks.drift_streams import GAUSS, STREAMS, Autoregressive, Case, fixed
from msemon.events import Floats

Alarms = npt.NDArray[np.bool_]
"""(streams, pairs): where a detector alarmed."""

_CHUNK = 100  # pairs that the mean + 3 sigma rule looks at
_WINDOW, _RECENT = 100, 30  # of KSWIN, river's defaults


def adwin(q: Floats, strictness: float, learnt: int) -> Alarms:
    """river.drift.ADWIN with delta = exp(−strictness)."""
    return _each(lambda: river.ADWIN(delta=math.exp(-strictness)), q)


def page_hinkley(q: Floats, threshold: float, learnt: int) -> Alarms:
    """river.drift.PageHinkley; delta 0.1 tolerates what msemon does, and is far quicker than the default of 0.005."""
    return _each(lambda: river.PageHinkley(mode="up", delta=0.1, threshold=threshold), q)


def _each(make: Callable[[], river.ADWIN | river.PageHinkley], q: Floats) -> Alarms:
    out = np.zeros(q.shape, np.bool_)
    for stream, alarms in zip(q, out, strict=True):
        detector = make()
        for i, x in enumerate(stream.tolist()):
            detector.update(x)
            if detector.drift_detected:
                alarms[i] = True
    return out


def kswin(q: Floats, level: float, learnt: int, choose: Callable[[], npt.NDArray[np.int64]] | None = None) -> Alarms:
    """What river.drift.KSWIN does, over many streams at once: by itself it takes half a millisecond a pair.

    `level`: the Kolmogorov–Smirnov distance, times 30, at which it alarms; that is an alpha, for the p-value falls with
    it. `choose` tells which 30 of the 70 older pairs are looked at.
    """
    rng = np.random.default_rng(7)
    choose = choose or (lambda: rng.permutation(_WINDOW - _RECENT)[:_RECENT])
    out = np.zeros(q.shape, np.bool_)
    first = max(learnt - 2 * _WINDOW, 0)  # it remembers no more
    begun = np.full(len(q), first)
    sides = np.repeat([1, -1], _RECENT)
    for i in range(first + _WINDOW - 1, q.shape[1]):
        seen = q[:, i - _WINDOW + 1 : i + 1]
        both = np.concatenate((seen[:, choose()], seen[:, _WINDOW - _RECENT :]), axis=1)
        distance = np.abs(np.cumsum(sides[both.argsort(axis=1)], axis=1)).max(axis=1)
        over = (distance >= level) & (i - begun >= _WINDOW - 1)
        out[over, i] = True
        begun[over] = i + 1
    return out


def three_sigma(q: Floats, sigmas: float, learnt: int) -> Alarms:
    """A limit of mean + k standard deviations of the means of 100 pairs, both as learnt."""
    whole = q.shape[1] // _CHUNK * _CHUNK
    means = q[:, :whole].reshape(len(q), -1, _CHUNK).mean(axis=2)
    first = means[:, : learnt // _CHUNK]
    limit = first.mean(axis=1) + sigmas * first.std(axis=1, ddof=1)
    out = np.zeros(q.shape, np.bool_)
    out[:, _CHUNK - 1 : whole : _CHUNK] = means > limit[:, None]
    return out


RIVALS: dict[str, tuple[Callable[[Floats, float, int], Alarms], Floats]] = {
    "ADWIN": (adwin, np.linspace(0.0, 30.0, 121)),
    "Page–Hinkley": (page_hinkley, np.linspace(5.0, 205.0, 201)),
    "KSWIN": (kswin, np.arange(14.0, 27.0)),
    "mean + k sigma": (three_sigma, np.linspace(1.0, 11.0, 1001)),
}
"""How each runs, and the parameters to choose from; alarms are the rarer the larger it is."""

BASE = Case("Gaussian", GAUSS, between_s=3600.0, learn=5_000, learn_s=3600, streams=20, hours=5.0)
_CYCLE = replace(BASE, learn_s=86_400, streams=5, hours=24.0, step_s=5)

CASES = [
    BASE,
    *(replace(BASE, name=name, draw=fixed(draw)) for name, draw in STREAMS.items() if name != "Gaussian"),
    *(replace(BASE, name=f"AR(1) φ = {phi}", draw=partial(Autoregressive, phi)) for phi in (0.5, 0.7, 0.9)),
    replace(_CYCLE, name="daily cycle ±20 %", cycle=0.2),
    replace(_CYCLE, name="daily cycle ±50 %", cycle=0.5),
    replace(BASE, name="errors of 0.01", scale=0.01),
    replace(BASE, name="errors of 100", scale=100.0),
    replace(BASE, name="100 pairs a second", rate=100.0, hours=1.0),
]


def squares(case: Case, seed: int = 11) -> tuple[Floats, int]:
    """(q, n): squared errors (streams, pairs), the first n of which are learnt from."""
    learnt = round(case.learn_s * case.rate)
    if case.rate != BASE.rate:  # they count pairs and know of no time: less to learn from would only harm them
        learnt = round(BASE.learn_s * BASE.rate)
    n = learnt + round(case.hours * 3600 * case.rate)
    e = case.draw()(np.random.default_rng(seed), (case.streams, n)) * case.scale
    return np.asarray(e * e * (1.0 + case.cycle * np.sin(2 * math.pi * np.arange(n) / case.rate / 86_400))), learnt


def tuned(name: str) -> float:
    """The least parameter with which there is not more than one false alarm in T."""
    run, grid = RIVALS[name]
    q, learnt = squares(BASE)
    spans = BASE.hours * 3600 * BASE.streams / BASE.between_s
    low, high = 0, grid.size - 1
    while low < high:
        middle = (low + high) // 2
        if run(q, float(grid[middle]), learnt)[:, learnt:].sum() > spans:
            low = middle + 1
        else:
            high = middle
    return float(grid[low])


def rate(name: str, parameter: float, case: Case) -> tuple[float, int]:
    """(T simulated, false alarms); from other errors than those it was tuned on."""
    q, learnt = squares(case, seed=12)
    alarms = RIVALS[name][0](q, parameter, learnt)[:, learnt:]
    return case.hours * 3600 * case.streams / case.between_s, int(alarms.sum())


def msemon_rate(case: Case) -> tuple[float, int]:
    outcome = false_alarms(case, seed=12)
    return outcome.spans, outcome.alarms


CHANGES = ((1.2, 0.0), (1.5, 0.0), (2.0, 0.0), (4.0, 0.0), (1.5, 600.0), (2.0, 600.0), (4.0, 600.0))
"""(ratio, seconds over which it comes)"""
_FOR_DELAYS = replace(BASE, streams=100, hours=1.0)


def delay(name: str, parameter: float, ratio: float, gradual_s: float) -> Floats:
    """Pairs from the change to the first alarm, a stream each; NaN where there is none within T."""
    q, learnt = squares(_FOR_DELAYS, seed=13)
    since = np.arange(q.shape[1] - learnt) // round(BASE.rate)
    q[:, learnt:] *= np.array([multiplier(ratio, gradual_s, s) for s in range(int(since[-1]) + 1)])[since]
    alarms = RIVALS[name][0](q, parameter, learnt)[:, learnt:]
    return np.where(alarms.any(axis=1), alarms.argmax(axis=1) + 1.0, np.nan)


def msemon_delay(ratio: float, gradual_s: float) -> Floats:
    return delays(_FOR_DELAYS, ratio, gradual_s, seed=13, limit_s=3600)
