"""F32: state of an earlier life under other settings: what fits is kept, the rest set aside openly, nothing misread."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from support.lives import COUNTERS, Monitor
from support.oracle import differences, windows_of
from support.running import Daemon

SAID = "stored state that the settings no longer fit"


def first_life(monitor: Monitor) -> None:
    """Events of which some wait for their other half."""
    asked, answers = monitor.events(300, "first")
    answers.sort(key=lambda event: int(event.id.split("-")[1]))
    monitor.send(asked[:250], answers[50:])
    with monitor.run() as running:
        monitor.await_exact(running)


def dropped(running: Daemon) -> list[str]:
    return sorted(line["dropped"] for line in running.said(SAID))


def unlike(running: Daemon, monitor: Monitor, **changed) -> list[str]:
    """Where a scrape differs from what a monitor with these settings would say that had read the whole log."""
    oracle = replace(monitor.oracle(), **changed)
    lines = differences(running.scrape(), oracle.expected(time.time_ns() // 1000))
    return [line for line in lines if not any(f" {name}{{" in line for name in COUNTERS)]


def finished(running: Daemon, monitor: Monitor) -> None:
    total = len(monitor.oracle().pairs)
    running.until(lambda: running.scrape().sum("msemon_lifetime_pairs") == total, f"{total} pairs", 30)


def settled(running: Daemon, monitor: Monitor, *allowed: str, **changed) -> None:
    """All agrees but for lines with one of `allowed`; looked at again, since windows move on meanwhile."""

    def others() -> list[str]:
        return [line for line in unlike(running, monitor, **changed) if not any(text in line for text in allowed)]

    for _ in range(5):
        found = others()
        if not found:
            break
    else:
        raise AssertionError("\n".join(others()[:40]))


def test_f32_changed_windows(kafka, tmp_path):
    """Windows that stay keep all they had; a new one begins empty and holds what came since; waiting halves find each
    other; lifetime totals go on. The state counts as incomplete."""
    monitor = Monitor(kafka, tmp_path)
    first_life(monitor)
    waiting = monitor.waiting()
    with monitor.run(windows__lengths=["5m", "30m", "24h"]) as running:
        assert dropped(running) == [
            "the panes of 60000000/60 µs: no longer a window",
            "the window 30m: new, it begins empty",
        ]
        monitor.send(*waiting)
        finished(running, monitor)
        settled(running, monitor, "'window': '30m'", windows=windows_of(["5m", "30m", "24h"], 60))
        new = running.scrape().sum("msemon_window_pairs", window="30m")
        assert new == len(waiting[0]) + len(waiting[1])
        monitor.await_incomplete(running)


def test_f32_changed_segments(kafka, tmp_path):
    """A dimension that is gone leaves with its series, a new one begins empty; totals keep everything."""
    monitor = Monitor(kafka, tmp_path, segments=[["country"], ["tier"]])
    asked, answers = monitor.events(200, "first")
    monitor.send(asked, answers[:150])
    with monitor.run() as running:
        finished(running, monitor)
        assert {"country", "tier"} == running.scrape().values("msemon_segment_window_pairs", "dimension")
    with monitor.run(segments=[["country"], ["country", "zone"]]) as running:
        assert dropped(running) == [
            "the segments of country,zone: new, they begin empty",
            "the segments of tier: no longer a dimension",
        ]
        monitor.send([], answers[150:])
        finished(running, monitor)
        settled(running, monitor, "'dimension': 'country,zone'", "msemon_series{")
        new = running.scrape().sum("msemon_segment_window_pairs", dimension="country,zone", window="24h")
        assert new == 50
        assert running.scrape().values("msemon_segment_window_pairs", "dimension") == {"country", "country,zone"}
        monitor.await_incomplete(running)


def test_f32_another_clock(kafka, tmp_path):
    """Pairs have another time now: all panes go, the join and the lifetime totals stay."""
    monitor = Monitor(kafka, tmp_path)
    first_life(monitor)
    waiting = monitor.waiting()
    with monitor.run(windows__clock="predicted") as running:
        assert dropped(running) == ["the windows: pairs have another time under the new windows.clock"]
        assert running.scrape().sum("msemon_window_pairs", window="24h") == 0
        monitor.send(*waiting)
        finished(running, monitor)
        running.until(
            lambda: running.scrape().sum("msemon_window_pairs", window="24h") == sum(map(len, waiting)),
            "what came since in the windows",
        )
        monitor.await_incomplete(running)


@pytest.mark.parametrize("setting", ["join__timeout", "limits__series", "kafka__topics"])
def test_f32_settings_that_shape_nothing_stored(kafka, tmp_path, setting):
    """Another timeout, other limits, one more topic: everything stays, and nothing is set aside."""
    monitor = Monitor(kafka, tmp_path)
    first_life(monitor)
    waiting = monitor.waiting()
    monitor.make_topic(more := monitor.topics[0] + "-more")
    values: dict[str, Any] = {
        "join__timeout": "12h", "limits__series": "2", "kafka__topics": [*monitor.topics, more],
    }  # fmt: skip
    with monitor.run(True, **{setting: values[setting]}) as running:
        monitor.send(*waiting)
        monitor.await_exact(running, ignore=[*COUNTERS, "msemon_series_limit"])
        assert not dropped(running)
