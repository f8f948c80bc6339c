"""A process: several partitions in one picture, counters that outlive them, limits of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from msemon.core import moments
from msemon.core.process import Process
from msemon.core.shape import Shape, Window
from msemon.core.view import SeriesKey, View
from support.events import SECOND, Event, decoded, labelled, paired, predicted

START = 1_700_000_000 * SECOND
DAY, HOUR = 86_400 * SECOND, 3_600 * SECOND
WINDOWS = (Window("1m", SECOND, 60), Window("1h", 60 * SECOND, 60))
SHAPE = Shape(WINDOWS, True, ("country",), ((0,),), DAY, 600 * SECOND)
M = SeriesKey("m", "")


def process_of(*partitions: int, shape: Shape = SHAPE) -> Process:
    process = Process(["p", "l"], shape, lambda: b"key")
    for partition in partitions:
        process.start(partition)
    return process


def feed(process: Process, partition: int, topic: str, *events: Event, wall: int | None = None) -> None:
    newest = max(e.record_time for e in events)
    process.apply(partition, topic, decoded(events), len(events), newest if wall is None else wall)


def at(seconds: float, error: float = 1.0, country: str = "NL", model: str = "m") -> Event:
    return paired(START + round(seconds * SECOND), error, 0.0, (model, "", country))


def window(view: View, key: SeriesKey, ring: int = 1) -> tuple[float, float]:
    """N and Σw·q."""
    table = view.segments if key.dimension else view.models
    m = table.windows[ring][:, table.keys.index(key)]
    return float(m[moments.N]), float(m[moments.W] * m[moments.MEAN_Q])


def counters(view: View, key: SeriesKey) -> list[float]:
    table = view.segments if key.dimension else view.models
    return [float(x) for x in table.counters[:3, table.keys.index(key)]]


def test_a_process_that_owns_nothing_or_has_seen_nothing_shows_nothing():
    for process in (process_of(), process_of(3)):
        view = process.view(START)
        assert view.windows == ["1m", "1h"]
        assert view.models.keys == view.segments.keys == []
        assert view.lifetime.shape == (3, 0)
        assert process.pending == 0
        assert process.evict(5) == (0, 0)


def test_one_event_is_one_pair_in_every_window():
    process = process_of(0)
    feed(process, 0, "p", at(0, error=3.0))
    view = process.view(START)
    assert [window(view, M, ring) for ring in (0, 1)] == [(1.0, 9.0)] * 2
    assert window(view, SeriesKey("m", "", "country", "NL")) == (1.0, 9.0)
    assert view.stream_time.tolist() == view.last_pair.tolist() == [START / SECOND]
    assert view.series.tolist() == [1.0]
    assert view.coverage[0].tolist() == [[1], [1]]


def test_a_window_moves_on_with_the_wall_clock_behind_it_by_the_least_lag_seen():
    process = process_of(0)
    feed(
        process, 0, "p", replace(at(0), record_time=START + 30 * SECOND), replace(at(0), record_time=START + 9 * SECOND)
    )
    assert window(process.view(START + 69 * SECOND), M, 0)[0] == 2
    assert window(process.view(START + 70 * SECOND), M, 0)[0] == 0
    assert process.view(START + 70 * SECOND).stream_time.tolist() == [START / SECOND]


def test_a_model_stands_at_the_largest_now_of_its_partitions_and_one_that_lags_holds_nothing_back():
    process = process_of(0, 1)
    feed(process, 0, "p", at(0), at(30))
    lagging = replace(at(0), record_time=START + 500 * SECOND)
    feed(process, 1, "p", lagging)
    assert window(process.view(START + 60 * SECOND), M, 0)[0] == 3
    assert window(process.view(START + 61 * SECOND), M, 0)[0] == 1
    feed(process, 1, "p", at(200), at(140))
    assert window(process.view(START + 90 * SECOND), M, 0)[0] == 2, "one stream time is beyond the wall clock"


def test_predictions_without_a_pair_are_covered_as_of_the_newest_of_them():
    process = process_of(0)
    feed(process, 0, "p", *(predicted(START + n * SECOND, str(n), key=("m", "", "NL")) for n in (0, 10, 65)))
    view = process.view(START + 70 * SECOND)
    assert view.coverage[0].tolist() == [[2], [0]]
    assert window(view, M) == (0.0, 0.0)
    assert np.isnan(view.stream_time).all()


def test_a_partition_that_leaves_takes_its_windows_and_lifetimes_and_leaves_its_counters():
    process = process_of(0, 1)
    feed(process, 0, "p", at(0, error=2.0), at(1, country="DE", model="n"))
    feed(process, 1, "p", at(0, error=3.0))
    process.drop(0)
    view = process.view(START + 2 * SECOND)
    assert window(view, M) == (1.0, 9.0)
    assert counters(view, M) == [2.0, 2.0, 13.0]
    assert view.lifetime[:, view.models.keys.index(M)].tolist() == [1.0, 1.0, 9.0]
    gone = view.models.keys.index(SeriesKey("n", ""))
    assert window(view, SeriesKey("n", ""))[0] == 0
    assert counters(view, SeriesKey("n", "")) == [1.0, 1.0, 1.0]
    assert np.isnan([view.lifetime[0, gone], view.stream_time[gone]]).all()
    process.drop(0)


def test_a_partition_started_again_begins_with_nothing_while_its_counters_go_on():
    process = process_of(0)
    feed(process, 0, "p", at(0, error=2.0, country="DE"), at(0, model="n"))
    process.drop(0)
    process.start(0)
    feed(process, 0, "p", at(1, error=3.0))
    view = process.view(START + SECOND)
    assert window(view, M) == (1.0, 9.0)
    assert counters(view, M) == [2.0, 2.0, 13.0]
    assert counters(view, SeriesKey("m", "", "country", "NL")) == [1.0, 1.0, 9.0]
    assert counters(view, SeriesKey("m", "", "country", "DE")) == [1.0, 1.0, 4.0]


def test_counters_that_nobody_holds_go_after_the_longest_window_and_come_back_from_nought():
    process = process_of(0, 1)
    feed(process, 0, "p", at(0, error=2.0))
    process.drop(0)
    assert counters(process.view(START + HOUR), M) == [1.0, 1.0, 4.0]
    assert process.view(START + 2 * HOUR).models.keys == []
    feed(process, 1, "p", at(3 * 3600))
    assert counters(process.view(START + 3 * HOUR), M) == [1.0, 1.0, 1.0]


def test_segments_beyond_the_process_s_limit_are_folded_and_add_up_over_partitions():
    shape = replace(SHAPE, total_series_limit=2)
    process = process_of(0, 1, shape=shape)
    for partition, countries in ((0, ("NL", "DE", "FR")), (1, ("BE", "NL", "ES"))):
        feed(process, partition, "p", *(at(n, float(n + 1), country) for n, country in enumerate(countries)))
    view = process.view(START + 5 * SECOND)
    assert {key.segment for key in view.segments.keys} == {"NL", "DE", "__other__"}
    assert np.array(view.segments.counters).sum(axis=1).tolist() == view.models.counters[:, 0].tolist()
    assert sum(window(view, key)[0] for key in view.segments.keys) == 6
    assert sum(window(view, key)[1] for key in view.segments.keys) == 2 * (1 + 4 + 9)
    assert view.series.tolist() == [2.0], "the most that one partition holds with a place of its own"


def test_a_sid_that_changes_hands_is_counted_for_its_new_series():
    process = process_of(0, shape=replace(SHAPE, series_limit=1))
    feed(process, 0, "p", at(0))
    feed(process, 0, "p", at(2 * 3_600, 2.0, "DE"))  # both series end before this is counted
    assert process.tasks[0].series.keys == [SeriesKey("m", "", "country", "DE"), M], "sids the other way round"
    view = process.view(START + 2 * HOUR)
    assert {key.segment: counters(view, key)[2] for key in view.segments.keys} == {"DE": 4}


def test_a_series_gets_a_place_of_its_own_once_the_process_has_room_again():
    process = process_of(0, 1, shape=replace(SHAPE, total_series_limit=1))
    feed(process, 0, "p", at(0))
    feed(process, 1, "p", at(0, 1.0, "DE"))
    process.drop(0)
    feed(process, 1, "p", at(3 * 3_600, 2.0, "DE"))
    process.view(START + 3 * HOUR)  # NL, which nobody holds any more, goes
    feed(process, 1, "p", at(3 * 3_600, 2.0, "DE"), at(3 * 3_600, 3.0, model="n"))
    view = process.view(START + 3 * HOUR)
    assert "DE" in {key.segment for key in view.segments.keys}


def test_folded_pairs_are_counted_by_model():
    process = process_of(0, shape=replace(SHAPE, series_limit=1))
    feed(process, 0, "p", at(0), at(1, country="DE"), at(2, country="DE"), at(3), at(3, model="n", country="DE"))
    view = process.view(START + 5 * SECOND)
    assert dict(zip(view.models.keys, view.folded.tolist(), strict=True)) == {M: 2.0, SeriesKey("n", ""): 0.0}


def test_every_pair_of_a_model_beyond_the_limit_is_a_folded_one():
    process = process_of(0, shape=replace(SHAPE, models_limit=1))
    feed(process, 0, "p", at(0), at(1, model="n"), at(2, model="o"))
    view = process.view(START + 3 * SECOND)
    assert dict(zip(view.models.keys, view.folded.tolist(), strict=True)) == {M: 0.0, SeriesKey("__other__", ""): 2.0}


def test_pairs_folded_at_the_process_s_limit_are_counted_and_one_folded_twice_once():
    shape = replace(SHAPE, total_series_limit=2)
    process = process_of(0, 1, shape=shape)
    feed(process, 0, "p", at(0), at(1, country="DE"), at(2, country="FR"))  # the partition's own limit
    feed(process, 1, "p", at(0), at(1, country="BE"), at(2, country="BE"))  # the process's
    feed(process, 1, "p", at(3, country="ES"))  # both
    assert process.view(START + 5 * SECOND).folded.tolist() == [4.0]
    process = process_of(0, 1, shape=replace(shape, segment_keys=("country", "tier"), dimensions=((0,), (1,))))
    for partition, country in ((0, "NL"), (1, "DE")):
        feed(process, partition, "p", paired(START, 1.0, 0.0, ("m", "", country, country)))
    assert process.view(START + 5 * SECOND).folded.tolist() == [1.0]


def test_a_pair_too_late_for_every_window_is_counted_for_its_own_series_and_no_other():
    process = process_of(0)
    feed(process, 0, "p", at(0), at(3 * 3600 + 59, country="BE"))
    feed(process, 0, "p", at(3 * 3600 + 60), at(30, error=5.0, country="FR"))
    feed(process, 0, "p", at(3 * 3600 + 60, country="BE"))
    view = process.view(START + 4 * HOUR)
    found = {key.segment: counters(view, key) for key in view.segments.keys}
    assert found == {"NL": [2.0, 2.0, 2.0], "BE": [2.0, 2.0, 2.0], "FR": [1.0, 1.0, 25.0]}
    feed(process, 0, "p", at(3 * 3600 + 121, country="ES"))
    assert counters(process.view(START + 4 * HOUR), SeriesKey("m", "", "country", "ES")) == [1.0, 1.0, 1.0]


def test_a_model_that_ended_in_one_partition_keeps_its_lifetime_while_another_goes_on():
    process = process_of(0, 1)
    feed(process, 0, "p", at(0, error=2.0))
    for hour in (1, 2, 3):
        feed(process, 0, "p", at(3600 * hour, model="n"))
        feed(process, 1, "p", at(3600 * hour))
    assert M not in process.tasks[0].series.keys
    view = process.view(START + 3 * HOUR)
    assert view.lifetime[:, view.models.keys.index(M)].tolist() == [4.0, 4.0, 7.0]


def test_delays_of_joined_pairs_are_counted_and_never_negative():
    process = process_of(0)
    feed(process, 0, "p", *(predicted(START, i, key=("m", "", "NL")) for i in "abc"), at(0))
    feed(
        process, 0, "l", labelled(START - SECOND, "a"), labelled(START + SECOND, "b"), labelled(START + 2 * SECOND, "c")
    )
    view = process.view(START + 2 * SECOND)
    assert view.delays[0].tolist()[:3] == [2, 1, 0]
    assert view.delay_sum.tolist() == [3.0]


def test_eviction_takes_what_is_remembered_in_any_partition_before_what_waits_and_the_oldest_of_all_first():
    process = process_of(0, 1)
    for partition, count in ((0, 3), (1, 8)):
        ids = [f"{partition} {n}" for n in range(count)]
        feed(process, partition, "p", *(predicted(START - partition, i, key=("m", "", "NL")) for i in ids))
    feed(process, 0, "l", labelled(START + 1, "0 0"), labelled(START + 1, "unknown"))
    assert process.pending == 13
    assert process.waiting() == (10, 1)
    assert process.evict(3) == (1, 2)
    assert len(process.tasks[0].join) == 3
    assert process.evict(100) == (10, 0)
    assert process.pending == 0
