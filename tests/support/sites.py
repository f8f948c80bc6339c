"""A site without a daemon, and a plain HTTP client for it."""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from prometheus_client.registry import Collector

from msemon.core.view import Choose, SeriesKey, View
from msemon.export.families import Selection, select
from msemon.export.pipeline import Pipeline
from msemon.export.server import Server
from support.views import trend_of, view_of
from support.waiting import wait_until

SMALL = view_of({SeriesKey("price", "7"): [(12.0, 10.0, 1.0), (5.0, 9.0, 0.5)]})


@dataclass
class FakeSite:
    """Says what a test tells it to. While `gate` is cleared, `view` waits for it."""

    shown: View | Exception | None = field(default_factory=lambda: SMALL)
    well: bool = True
    able: bool = True
    selection: Selection = field(default_factory=select)
    registry: Collector = field(default_factory=lambda: Pipeline().registry)
    state: dict[str, Any] = field(default_factory=dict)
    gate: threading.Event = field(default_factory=threading.Event)
    views: int = 0
    void: list[View] = field(default_factory=list)  # each is found not to stand once

    def __post_init__(self) -> None:
        self.gate.set()

    def view(self, choose: Choose | None = None) -> View | None:
        self.views += 1
        assert self.gate.wait(30)
        if isinstance(self.shown, Exception):
            raise self.shown
        if self.shown is None or choose is None:
            return self.shown
        return replace(self.shown, trend=trend_of(self.shown, *choose(self.shown)))

    def stands(self, view: View) -> bool:
        return not self.void or self.void.pop(0) is not view

    def healthy(self) -> bool:
        return self.well

    def ready(self) -> bool:
        return self.able

    def status(self) -> dict[str, Any]:
        return self.state


@contextmanager
def serving(site: FakeSite, health_address: str | None = None) -> Iterator[Server]:
    server = Server("127.0.0.1:0", health_address, site)
    server.start()
    try:
        yield server
    finally:
        site.gate.set()
        server.stop()


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


def ask(
    port: int, path: str, headers: Mapping[str, str] | None = None, method: str = "GET", timeout_s: float = 20
) -> Answer:
    """One request on a connection of its own. Header names of the answer are in lower case."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request(method, path, headers=dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def until(condition: Callable[[], object]) -> None:
    """Wait until the server is as far as that."""
    wait_until(condition, 10, "the server", every_s=0.005)


def anonymous_tls(purpose: int) -> ssl.SSLContext:
    """TLS that needs no certificate; `purpose` is ssl.PROTOCOL_TLS_SERVER or …_CLIENT."""
    context = ssl.SSLContext(purpose)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AECDH-AES256-SHA:@SECLEVEL=0")
    return context
