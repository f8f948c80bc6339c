"""How the error of a few series went within a window."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from msemon.core.process import Process
from msemon.core.shape import Shape, Window
from msemon.core.view import Choose, SeriesKey, Trend, View
from support.events import SECOND, Event, decoded, labelled, paired

START = 1_699_999_200 * SECOND  # a whole hour
MINUTE, HOUR, DAY = 60 * SECOND, 3_600 * SECOND, 86_400 * SECOND
WINDOWS = (Window("5m", 5 * SECOND, 60), Window("1h", MINUTE, 60), Window("24h", 24 * MINUTE, 60))
SHAPE = Shape(WINDOWS, True, ("country",), ((0,),), DAY, 600 * SECOND)


def process_of(*partitions: int, shape: Shape = SHAPE) -> Process:
    process = Process(["p", "l"], shape, lambda: b"key")
    for partition in partitions:
        process.start(partition)
    return process


def feed(process: Process, partition: int, *events: Event) -> None:
    process.apply(partition, "p", decoded(events), len(events), max(e.record_time for e in events))


def at(minute: float, error: float = 1.0, country: str = "NL", model: str = "m") -> Event:
    return paired(START + round(minute * MINUTE), error, 0.0, (model, "", country))


def everything(view: View) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(len(view.models.keys)), np.arange(len(view.segments.keys))


def trend_at(process: Process, minute: float, choose: Choose = everything) -> Trend:
    view = process.view(START + round(minute * MINUTE), choose=choose)
    assert view.trend is not None
    return view.trend


def test_a_point_is_the_mse_of_one_pane_and_the_last_point_is_the_pane_of_now():
    process = process_of(0)
    feed(process, 0, at(10, 2.0), at(10.5, 4.0, "DE"), at(12, 3.0))
    trend = trend_at(process, 12.5)
    assert (trend.window, trend.step_s, trend.mse.shape) == ("1h", 60.0, (3, 60))
    assert trend.ends.tolist() == [(START + 13 * MINUTE) / SECOND] * 3
    total, *parts = trend.mse
    assert total[-3:] == pytest.approx([10.0, np.nan, 9.0], nan_ok=True)
    assert np.isnan(total[:-3]).all()
    assert sorted(part[-3] for part in parts) == [4.0, 16.0]


def test_points_of_several_partitions_are_added_by_weight():
    process = process_of(0, 1)
    feed(process, 0, at(10, 2.0), at(10, 2.0))
    feed(process, 1, at(10, 5.0))
    assert trend_at(process, 10).mse[0, -1] == pytest.approx((4 + 4 + 25) / 3)


def test_the_line_moves_on_with_the_clock_and_what_left_it_is_gone():
    process = process_of(0)
    feed(process, 0, at(10, 2.0))
    assert trend_at(process, 10 + 59).mse[0, 0] == 4.0
    assert np.isnan(trend_at(process, 10 + 60).mse[0]).all()


def test_the_window_is_the_shortest_of_an_hour_or_else_the_longest():
    assert SHAPE.hour == 1
    assert replace(SHAPE, windows=WINDOWS[:1]).hour == 0
    assert replace(SHAPE, windows=(WINDOWS[2], WINDOWS[0])).hour == 0


def test_many_panes_are_gathered_to_sixty_points_at_most():
    process = process_of(0, shape=replace(SHAPE, windows=(Window("1h", 10 * SECOND, 360),)))
    feed(process, 0, at(10, 2.0), at(10.5, 4.0), at(11, 7.0))
    trend = trend_at(process, 11.5)
    assert (trend.step_s, trend.mse.shape) == (60.0, (2, 60))
    assert trend.mse[0, -2:].tolist() == [10.0, 49.0]


def test_series_are_in_the_order_in_which_they_were_chosen():
    process = process_of(0)
    feed(process, 0, at(1, 2.0, "NL", "a"), at(1, 3.0, "DE", "b"))
    models = process.view(START).models.keys

    def backwards(view: View) -> tuple[np.ndarray, np.ndarray]:
        return np.array([models.index(SeriesKey("b", "")), models.index(SeriesKey("a", ""))]), np.zeros(0, np.intp)

    assert trend_at(process, 1, backwards).mse[:, -1].tolist() == [9.0, 4.0]
    assert trend_at(process, 1, lambda _: (np.zeros(0, np.intp),) * 2).mse.shape == (0, 60)


def test_nothing_is_chosen_where_nobody_asks():
    process = process_of(0)
    feed(process, 0, at(1))
    assert process.view(START).trend is None


def test_labels_may_be_for_the_past_until_a_prediction_would_have_timed_out():
    process = process_of(0)
    task = process.tasks[0]
    assert process.waiting_for_the_past() == 0
    feed(process, 0, labelled(START, "x", 1.0))
    assert process.waiting() == (0, 1)
    assert process.waiting_for_the_past() == 0, "all of the log was read"
    task.mark_incomplete()
    assert process.waiting_for_the_past() == 1
    feed(process, 0, labelled(START + DAY, "y", 1.0))
    assert process.waiting()[1] > 0
    assert process.waiting_for_the_past() == 0
