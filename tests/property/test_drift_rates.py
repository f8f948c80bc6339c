"""The short form of benchmarks/drift.py: false alarms are as rare as was set, drift is seen soon and over soon."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from river import drift as river
from scipy import stats

from benchmarks.drift_fleet import delays, false_alarms
from benchmarks.drift_recovery import alarmed, ended
from benchmarks.drift_rivals import kswin
from benchmarks.drift_streams import RHO, STREAMS, YEAR_S, Case, fixed

SHORT = Case("", fixed(STREAMS["Gaussian"]), hours=1.0, streams=200, between_s=3600.0, rings=((5, 60), (60, 60)))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["Gaussian", "Student-t3", "lognormal"])
def test_false_alarms_are_rarer_than_was_set(name: str) -> None:
    """At the edge of the null, 200 times the mean time that was set brings fewer than 200 alarms."""
    outcome = false_alarms(replace(SHORT, draw=fixed(STREAMS[name]), level=RHO))
    assert outcome.spans == pytest.approx(200.0)
    assert outcome.alarms < outcome.spans


def test_what_is_drift_alarms_far_more_often() -> None:
    """At twice the baseline most streams alarm within minutes."""
    assert false_alarms(replace(SHORT, hours=0.1, level=2.0)).alarms > 20


def test_drift_is_seen_after_a_few_hundred_pairs() -> None:
    """A doubled MSE of Gaussian errors within 400 pairs in the median, at one false alarm a year."""
    case = Case("", fixed(STREAMS["Gaussian"]), between_s=YEAR_S, streams=40)
    assert np.median(delays(case, 2.0, calm_s=300)) < 400


def test_an_alarm_is_over_soon_after_the_error_is_back_and_not_before() -> None:
    """Within twice the delay at ×2 in the median; never in 200,000 pairs of lasting drift."""
    alarms = alarmed(STREAMS["Gaussian"], 2.0, streams=40)
    back = ended(alarms, STREAMS["Gaussian"], 1.0, 3600, once=True)
    assert np.median(back.after) < 2.0 * np.median(alarms.delay)
    lasts = ended(alarms, STREAMS["Gaussian"], 2.0, 500, once=False)
    assert (lasts.ends, lasts.pairs) == (0, 200_000)


def test_kswin_of_the_comparison_is_river_s() -> None:
    """The same first alarm, where the same older pairs are looked at."""
    alpha = 1e-5
    q = np.random.default_rng(1).exponential(size=600)
    q[400:] *= 4.0
    detector, first = river.KSWIN(alpha=alpha, seed=3), None
    for i, x in enumerate(q.tolist()):
        detector.update(x)
        if detector.drift_detected:
            first = i
            break
    of_distance = [stats.ks_2samp(np.arange(30), np.arange(30) + d - 0.5).pvalue for d in range(10, 31)]
    level = 10 + next(i for i, p in enumerate(of_distance) if p <= alpha)
    rng = random.Random(3)
    alarms = kswin(q[None], level, 0, lambda: np.array(rng.sample(range(70), 30)))
    assert first is not None
    assert alarms.argmax() == first
