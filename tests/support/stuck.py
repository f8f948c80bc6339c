"""A daemon in a process of its own whose source does what no source should: `python -m support.stuck HOW`.

It says that it serves as the real one does, and must not live for long.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

from msemon import logs
from msemon.daemon import Daemon
from msemon.settings import Settings, load
from msemon.sources import kafka_inside
from msemon.sources.base import Polled

STALLED_S = 2.0


class Stuck:
    """Polls that bring nothing, and after the third one the trouble."""

    session_timeout_s = 45.0

    def __init__(self, how: str) -> None:
        self._how = how
        self._polls = 0
        self._consumer: Any = None

    def poll(self, timeout_s: float) -> Polled:
        self._polls += 1
        if self._polls == 1:
            return Polled(assigned=frozenset())
        if self._polls > 3:
            self._trouble()
        time.sleep(timeout_s)
        return Polled()

    def _trouble(self) -> None:
        if self._how == "waits":
            threading.Event().wait()
        elif self._how == "spins":
            while True:
                pass
        elif self._how == "holds the interpreter":
            re.match(r"(a+)+$", "a" * 60 + "b")  # one call that takes years and lets no other thread run
        elif self._how == "network thread dies" and self._consumer is None:
            dead = threading.Thread(target=lambda: None)
            dead.start()
            dead.join()
            self._consumer = SimpleNamespace(_client=SimpleNamespace(_net=SimpleNamespace(_io_thread=dead)))
        elif self._how == "frozen":
            print("now", flush=True)
            self._how = "thawed"

    def alive(self) -> bool:
        return kafka_inside.network_alive(self._consumer)

    def outdated(self) -> bool:
        return False

    def close(self, timeout_s: float) -> None:  # noqa: ARG002 (as a source's)
        if self._how == "does not end":
            threading.Event().wait()

    def connect(self) -> None: ...

    def subscribe(self) -> None: ...

    def partition_counts(self) -> dict[str, int | None]:
        return {"predictions": 1, "labels": 1}

    def lag(self) -> dict[Any, int]:
        return {}

    def last_heard_s(self) -> float:
        return time.monotonic()

    def pause(self, where: Any) -> None: ...

    def resume(self, where: Any) -> None: ...


def main(how: str) -> int:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    logs.configure("info", "json")
    settings: Settings = load({"web.address": "127.0.0.1:0", "state.store": "none"}, environ={})
    source: Any = Stuck(how)
    return Daemon(settings, install_signals=True, make_source=lambda _: source, stalled_s=STALLED_S).run()


if __name__ == "__main__":
    os._exit(main(sys.argv[1]))
