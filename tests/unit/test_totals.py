"""Running sums lose nothing; the process's counters keep to their series."""

from __future__ import annotations

import math

import numpy as np
import pytest

from msemon.core.series import OTHER
from msemon.core.totals import Compensated, Ledger
from msemon.core.view import DELAY_BOUNDS_S, SeriesKey


def ones(count: int) -> np.ndarray:
    return np.ones((6, count))


def test_thousands_of_small_terms_on_a_large_sum_are_all_there():
    sums = Compensated(1)
    terms = [1e16, *[0.1] * 5_000, 1e-3, -1e16, 3.3]
    for term in terms:
        sums.add(np.array([2]), np.array([[term]]))
    assert sums.sums(4)[0].tolist() == [0.0, 0.0, pytest.approx(math.fsum(terms), rel=1e-12), 0.0]


def test_what_is_taken_from_a_place_and_put_into_another_goes_on_there_to_the_last_bit():
    sums = Compensated(2)
    for term in (1e16, 0.3, 0.3):
        sums.add(np.array([0]), np.array([[term], [1.0]]))
    sums.put(40, sums.take(0))
    sums.add(np.array([40]), np.array([[-1e16], [1.0]]))
    assert sums.sums(41)[:, 40].tolist() == [pytest.approx(0.6, rel=1e-12), 4.0]
    assert sums.sums(41)[:, 0].tolist() == [0.0, 0.0]


def test_sums_of_places_that_repeat_are_added_up():
    ledger = Ledger(10)
    places = ledger.places([SeriesKey("m", "1"), None, SeriesKey("m", "2")])
    assert places[1] == -1
    ledger.count(places[[2, 0, 2]], np.arange(18.0).reshape(6, 3), 5)
    assert ledger.counters(places[[0, 2]]).tolist() == [[3 * n + 1.0, 6 * n + 2.0] for n in range(6)]


def test_delays_fall_into_the_bucket_whose_upper_bound_they_do_not_exceed():
    ledger = Ledger(10)
    place = ledger.places([SeriesKey("m", "")])
    delays = [0, 1_000_000, 1_000_001, 86_400_000_000, int(DELAY_BOUNDS_S[-1]) * 1_000_000 + 1]
    ledger.delayed(np.repeat(place, len(delays)), np.array(delays))
    counts, total = ledger.delay_histogram(place)
    expected = dict.fromkeys(range(len(DELAY_BOUNDS_S) + 1), 0) | {0: 2, 1: 1, DELAY_BOUNDS_S.index(86400.0): 1}
    expected[len(DELAY_BOUNDS_S)] = 1
    assert dict(enumerate(counts[0].tolist())) == expected
    assert total[0] == pytest.approx(sum(delays) / 1e6, rel=1e-15)


def test_segments_beyond_the_limit_share_one_place_a_model_and_dimension():
    ledger = Ledger(2)
    keys: list[SeriesKey | None] = [SeriesKey("m", "", "country", name) for name in ("NL", "DE", "FR", "BE", OTHER)]
    places = ledger.places([SeriesKey("m", ""), *keys])
    assert len(set(places.tolist())) == 4
    assert places[3] == places[4] == places[5]
    assert ledger.places(keys).tolist() == places[1:].tolist()


def test_what_no_task_holds_is_dropped_one_span_after_its_last_count_and_its_place_starts_anew():
    ledger = Ledger(1)
    keys: list[SeriesKey | None] = [SeriesKey("m", ""), SeriesKey("m", "", "country", "NL")]
    places = ledger.places(keys)
    ledger.count(places, ones(2), 100)
    ledger.delayed(places[:1], np.array([5_000_000]))
    ledger.folded(places[:1])
    ledger.expire(np.zeros(2, np.bool_), 100)
    assert ledger.keys == keys
    ledger.expire(np.array([True, False]), 101)
    assert ledger.keys == [keys[0], None]
    ledger.expire(np.zeros(2, np.bool_), 101)
    again = ledger.places([SeriesKey("n", ""), SeriesKey("n", "", "country", "DE")])
    assert ledger.keys[int(again[1])] == SeriesKey("n", "", "country", "DE"), "the segment's place was free again"
    assert set(again.tolist()) == set(places.tolist())
    assert not ledger.counters(again).any()
    assert not ledger.delay_histogram(again)[0].any()
    assert not ledger.delay_histogram(again)[1].any()
    assert not ledger.folds(again).any()
