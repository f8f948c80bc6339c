"""A daemon in a thread of this process, on a store that does what the test says: to catch it at the right moment."""

from __future__ import annotations

import gc
import json
import threading
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

import msemon.daemon
from msemon.ownership import Ownership
from msemon.settings import load
from support.owners import FakeStore, Shelf
from support.running import CLIENT, Scrape
from support.waiting import wait_until


class Inside:
    """`msemon run` in a thread. `store` keeps its state on shelves that others may share."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        shelves: dict[int, Shelf],
        patch: pytest.MonkeyPatch,
        **options: Any,
    ) -> None:
        self.store = FakeStore(shelves=shelves)
        given = {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in ({"web.address": "127.0.0.1:0", "kafka.client": CLIENT} | dict(settings)).items()
        }
        patch.setattr(msemon.daemon, "open_store", lambda *_: self.store)
        self.daemon = msemon.daemon.Daemon(load(given, environ={}), install_signals=False, **options)
        self.code: int | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        # The store is opened on that thread, and the next daemon has another one.
        wait_until(lambda: self.daemon._ownership is not None, 30.0, "the daemon to open its store")

    def _run(self) -> None:
        self.code = self.daemon.run()

    @property
    def ownership(self) -> Ownership:
        assert self.daemon._ownership is not None
        return self.daemon._ownership

    @property
    def port(self) -> int:
        return self.daemon.server.port

    @property
    def ready(self) -> bool:
        return self.daemon.ready()

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def scrape(self) -> Scrape:
        return Scrape(self._get("/metrics"))

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._get("/api/v1/status"))
        return found

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30.0) as answer:
            text: str = answer.read().decode()
            return text

    def stop(self) -> None:
        self.store.let_go()
        self.daemon.stop()
        self._thread.join(15.0)


class Stalling:
    """A daemon's decoder that stands still until it is let go on."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder
        self.inside = threading.Event()
        self.go_on = threading.Event()

    def most_events(self, *arguments: Any) -> Any:
        return self._decoder.most_events(*arguments)

    def decode(self, *arguments: Any) -> Any:
        self.inside.set()
        assert self.go_on.wait(60.0)
        return self._decoder.decode(*arguments)


@contextmanager
def inside(patch: pytest.MonkeyPatch) -> Iterator[Callable[..., Inside]]:
    """Makes daemons on the same shelves, and ends them."""
    shelves: dict[int, Shelf] = {}
    made: list[Inside] = []

    def make(settings: Mapping[str, Any], **options: Any) -> Inside:
        made.append(Inside(settings, shelves, patch, **options))
        return made[-1]

    try:
        yield make
    finally:
        for each in made:
            each.stop()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()  # kafka-python leaves sockets of connections that came to nothing
    assert all(each.code == 0 for each in made), "each has ended as it was asked to"
