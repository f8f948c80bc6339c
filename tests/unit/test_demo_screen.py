"""What the demo prints, on a terminal and elsewhere."""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Callable

import pytest
from rich.console import Console

from msemon.core.view import SeriesKey, View
from msemon.demo import screen
from msemon.demo.session import Failed, Session
from msemon.demo.table import Recent
from msemon.settings import Settings
from msemon.settings.model import WindowSettings
from support.views import view_of

NUMBERS = view_of(
    {SeriesKey("price", "1"): [(3.0, 0.0, 1.0)]}, {SeriesKey("price", "1", "country", "FR"): [(5.0, 0.0, 1.0)]}
)
WINDOWS = Settings(windows=WindowSettings.model_validate({"lengths": ["5m", "1h"]}))


def nothing_wrong() -> None:
    pass


def session(view: View | None = NUMBERS, check: Callable[[], None] = nothing_wrong) -> Session:
    return Session(WINDOWS, 4711, lambda: view, check)


def shown(running: Session, terminal: bool, stopped: threading.Event | None = None) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=100, height=40, highlight=False, color_system=None)
    screen.watch(running, console, stopped or threading.Event(), 0.05, 1.0)
    return file.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_the_addresses_come_first_and_the_numbers_at_the_end(terminal: bool) -> None:
    lines = shown(session(), terminal).splitlines()
    assert lines[0].split() == ["metrics", "http://127.0.0.1:4711/metrics"]
    assert lines[1].split() == ["page", "http://127.0.0.1:4711/"]
    assert any("price" in line and "3.00" in line for line in lines[2:])
    assert any("FR" in line and "5.00" in line for line in lines[2:])


def test_without_a_terminal_a_short_run_prints_one_plain_table() -> None:
    text = shown(session(), terminal=False)
    assert text.count("RMSE 5m") == 1
    assert "\x1b" not in text


def test_without_numbers_yet_it_says_what_it_waits_for() -> None:
    assert "waiting for" in shown(session(view=None), terminal=False)
    assert "waiting for" in shown(session(view=view_of({})), terminal=False)


def test_asked_to_stop_it_returns_before_its_time() -> None:
    stopped = threading.Event()
    stopped.set()
    console = Console(file=io.StringIO(), force_terminal=False)
    screen.watch(session(), console, stopped, None, 1.0)


def test_a_part_that_ended_by_itself_ends_the_demo() -> None:
    def check() -> None:
        raise Failed("the broker ended")

    with pytest.raises(Failed, match="the broker ended"):
        shown(session(check=check), terminal=True)


def test_while_the_table_lives_log_lines_go_above_it_and_later_to_stderr_again() -> None:
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(handler)
    try:
        console = Console(file=io.StringIO(), force_terminal=True)
        with screen.Screen(session(), console, Recent(1.0)):
            assert handler.stream is not sys.__stderr__
            assert handler.stream is sys.stderr
            during = handler.stream
        assert handler.stream is sys.stderr
        assert handler.stream is not during
    finally:
        logging.getLogger().removeHandler(handler)


def test_where_there_is_no_terminal_the_table_still_has_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert screen.console().width == 100
