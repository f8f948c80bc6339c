"""Broker, fleet and daemon, started together and ended in the order in which each still finds what it needs."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msemon
from msemon.core.view import View
from msemon.daemon import Daemon
from msemon.demo import baselines, child
from msemon.demo.broker import EmbeddedBroker, accepts, free_port
from msemon.demo.fleet import LABELS_TOPIC, PREDICTIONS_TOPIC
from msemon.demo.producer import create_topics
from msemon.settings import Settings
from msemon.settings.model import BaselineSettings

PORT = 10673
SEGMENTS = [["country"], ["country", "device"]]

_PORTS_TRIED = 20
_SESSION_TIMEOUT_MS = 6_000
"""The broker answers a group's first join only after half of this: with the usual 45 s the first numbers would wait."""

_START_S = 15.0
_STOP_S = 20.0


class Failed(Exception):
    """A part of the demo did not start, or ended by itself; the message says which."""


@dataclass(frozen=True, slots=True)
class Session:
    """A running demo."""

    settings: Settings
    port: int  # of the daemon's HTTP server
    view: Callable[[], View | None]
    check: Callable[[], None]  # raises Failed where a part has ended by itself


@contextlib.contextmanager
def start(settings: Settings, port: int | None, speed: float) -> Iterator[Session]:
    """The whole demo, for the time of the block. `port`: 0 for any, None for the usual or the next that is free."""
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)  # or the daemon would have to wait for them
        ours = demo_settings(settings, broker.bootstrap, _port(port))
        with _daemon(ours) as (daemon, check_daemon), _fleet(broker.bootstrap, speed) as check_fleet:

            def check() -> None:
                if not broker.alive():
                    raise Failed(f"the embedded broker ended; see {broker.log_path}")
                check_daemon()
                check_fleet()

            yield Session(ours, _listening(daemon, check), daemon.view, check)


def demo_settings(settings: Settings, bootstrap: str, port: int) -> Settings:
    """The user's settings with what is the demo's: where events come from and how they look, no state, the address."""
    changes: dict[str, Any] = {
        "kafka": {
            "bootstrap_servers": bootstrap,
            "topics": [PREDICTIONS_TOPIC, LABELS_TOPIC],
            "group_id": "msemon-demo",
            "start": "earliest",
            "client_options": {
                "session_timeout_ms": _SESSION_TIMEOUT_MS,
                "heartbeat_interval_ms": _SESSION_TIMEOUT_MS // 3,
            },
        },
        "format": {},
        "state": {"store": "none"},
        "web": {"address": f"127.0.0.1:{port}"},
    }
    if settings.baseline == BaselineSettings():
        changes["baseline"] = {"file": str(baselines.FILE)}
    sections = {name: type(getattr(settings, name)).model_validate(values) for name, values in changes.items()}
    return settings.model_copy(update={**sections, "segments": settings.segments or SEGMENTS})


@contextlib.contextmanager
def _daemon(settings: Settings) -> Iterator[tuple[Daemon, Callable[[], None]]]:
    """The daemon in a thread of its own: the main thread has the signals and the table."""
    daemon = Daemon(settings, install_signals=False)
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(daemon.run()), name="daemon", daemon=True)

    def check() -> None:
        if not thread.is_alive():
            raise Failed("the daemon ended by itself; its log says why")

    thread.start()
    try:
        yield daemon, check
    finally:
        daemon.stop()
        thread.join(_STOP_S)
    if thread.is_alive():
        raise Failed(f"the daemon did not stop within {_STOP_S:g} s")
    if codes != [0]:
        raise Failed("the daemon failed while it stopped; its log says why")


@contextlib.contextmanager
def _fleet(bootstrap: str, speed: float) -> Iterator[Callable[[], None]]:
    """The simulated fleet as a process of its own: what it costs is not in the daemon's numbers."""
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-m", "msemon.demo", "--bootstrap", bootstrap, "--speed", repr(speed)]
        process = child.start(command, log, _environment())

        def check() -> None:
            if process.poll() is not None:
                log.seek(0)
                tail = log.read().decode(errors="replace").strip().splitlines()[-1:]
                raise Failed(f"the simulated fleet ended by itself: {' '.join(tail) or process.returncode}")

        try:
            yield check
        finally:
            child.end(process)


def _environment() -> dict[str, str]:
    """Ours, and where this very package lies: children start in another directory."""
    places = [str(Path(msemon.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}


def _port(asked: int | None) -> int:
    return asked if asked is not None else free_port(range(PORT, PORT + _PORTS_TRIED))


def _listening(daemon: Daemon, check: Callable[[], None]) -> int:
    """The server's port, once it answers."""
    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        check()
        if daemon.server.port and accepts(daemon.server.port):
            return daemon.server.port
        time.sleep(0.02)
    raise Failed(f"the daemon's HTTP server did not come up within {_START_S:g} s")
