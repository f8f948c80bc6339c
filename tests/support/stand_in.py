"""A stand-in for a replica: a metrics page that says what a test tells it to."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from support.alertmanager import serving


@dataclass
class StandIn:
    """Gauges by their series, and counters that count by themselves: with each scrape they grow by what is given."""

    port: int = 0
    alive: bool = True
    _gauges: dict[str, float] = field(default_factory=dict)
    _counters: dict[str, float] = field(default_factory=dict)
    _scrapes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def set(self, series: str, value: float) -> None:
        with self._lock:
            self._gauges[series] = value

    def count(self, series: str, each: float) -> None:
        with self._lock:
            self._counters[series] = each

    def page(self) -> str:
        with self._lock:
            self._scrapes += 1
            counted = {series: each * self._scrapes for series, each in self._counters.items()}
            return "".join(f"{series} {value}\n" for series, value in (self._gauges | counted).items())


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """A page that is served as long as it is `alive`; then every scrape fails."""
    replica = StandIn()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if replica.alive else 503)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            if replica.alive:
                self.wfile.write(replica.page().encode())

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with serving(Handler) as port:
        replica.port = port
        yield replica
