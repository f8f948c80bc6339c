"""The short form of benchmarks/drift.py: false alarms are as rare as was set, drift is seen soon and over soon."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.drift import RHO, STREAMS, YEAR_S, Case, delays, false_alarms, fixed, recovery

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
    assert np.median(delays(case, 2.0, calm_s=300).detected) < 400


def test_an_alarm_is_over_soon_after_the_error_is_back_and_not_before() -> None:
    """Within twice the delay at ×2 in the median; never in 200,000 pairs of lasting drift."""
    assert np.median(recovery(STREAMS["Gaussian"], 2.0, streams=40).cleared) < 400
    assert recovery(STREAMS["Gaussian"], 2.0, lasting_pairs=200_000).wrong == 0
