"""What the demo shows while it runs: where to look, then the table."""

from __future__ import annotations

import logging
import sys
import threading
import time
from typing import Self, TextIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from msemon.core.view import View
from msemon.demo.session import Session
from msemon.demo.table import Recent, render, rows
from msemon.settings import Settings

_EVERY_S = 1.0
_PLAIN_EVERY_S = 10.0
_PLAIN_ROWS = 60
_PLAIN_WIDTH = 100
_FRAME_ROWS = 10  # of a terminal, for what is around the rows
_NOW_S = 15.0  # span of "RMSE now" at speed 1
_LEAST_NOW_S = 3.0


def console() -> Console:
    """Standard output; where it is no terminal, as wide as the table."""
    standard = Console(highlight=False)
    return standard if standard.is_terminal else Console(highlight=False, width=_PLAIN_WIDTH)


def watch(session: Session, console: Console, stopped: threading.Event, duration_s: float | None, speed: float) -> None:
    """Print the addresses, then the table: each second anew on a terminal, else every ten seconds and at the end.

    Returns when `stopped` is set or after `duration_s`; raises `session.Failed` where a part ends by itself.
    """
    url = f"http://127.0.0.1:{session.port}"
    console.print(f"metrics  {url}/metrics\npage     {url}/")
    begin = time.monotonic()
    end = begin + duration_s if duration_s is not None else float("inf")
    with Screen(session, console, Recent(max(_LEAST_NOW_S, _NOW_S / speed))) as screen:
        while not stopped.is_set() and time.monotonic() < end:
            session.check()
            screen.show(final=False)
            stopped.wait(max(0.0, min(_EVERY_S, end - time.monotonic())))
        screen.show(final=True)


class Screen:
    """The table's place: redrawn on a terminal, printed now and then elsewhere."""

    def __init__(self, session: Session, console: Console, recent: Recent) -> None:
        self._session = session
        self._console = console
        self._recent = recent
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._due = time.monotonic() + _PLAIN_EVERY_S

    def __enter__(self) -> Self:
        if self._live:
            before = sys.stderr
            self._live.start()
            _move_logs(before, sys.stderr)  # Live has replaced it: lines written there scroll by above the table
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            before = sys.stderr
            self._live.stop()
            _move_logs(before, sys.stderr)

    def show(self, *, final: bool) -> None:
        """The numbers of this moment."""
        now_s = time.monotonic()
        picture = self._picture(now_s)
        if self._live:
            self._live.update(picture, refresh=True)
        elif final or now_s >= self._due:
            self._due = now_s + _PLAIN_EVERY_S
            self._console.print(picture)

    def _picture(self, now_s: float) -> RenderableType:
        view = self._session.view()
        if view is None or not view.models.keys:
            return Text("waiting for the consumer group and the first labels …")
        limit = max(1, self._console.height - _FRAME_ROWS) if self._live else _PLAIN_ROWS
        return picture(view, self._session.settings, self._recent, now_s, limit)


def picture(view: View, settings: Settings, recent: Recent, now_s: float, limit: int) -> RenderableType:
    """The table of `view`, whose counters are added to `recent` as those at `now_s`."""
    recent.add(now_s, view)
    lengths = [float(length) for length in settings.windows.lengths]
    shortest = lengths.index(min(lengths))
    return render(rows(view, shortest, recent, limit), view.windows[shortest], recent.span_s)


def _move_logs(old: TextIO, new: TextIO) -> None:
    """Let the handlers that write to `old` write to `new`."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is old:
            handler.setStream(new)
