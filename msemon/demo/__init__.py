"""The whole product on one machine: an embedded broker, a simulated fleet of models, and the daemon on them."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from msemon.demo.broker import BrokerUnavailable
from msemon.settings import Settings

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(settings: Settings, duration: float | None, port: int | None, speed: float) -> int:
    """The command `msemon demo`: until Ctrl-C, SIGTERM, or `duration` seconds are over. Call it in the main thread.

    Exit code 0: stopped as asked; 1: a part did not start or ended by itself. `port`: 0 for any, None for the usual or
    the next that is free. `speed` multiplies the rate of events and divides label delays.
    """
    # Here, because the fleet and the broker serve on their own too, without the daemon and without rich.
    from msemon.demo import screen, session

    stopped = threading.Event()
    try:
        with _asked_to_stop(stopped), session.start(settings, port, speed) as running:
            screen.watch(running, screen.console(), stopped, duration, speed)
    except (BrokerUnavailable, session.Failed) as error:
        print(f"msemon demo: {error}", file=sys.stderr)
        return 1
    return 0


@contextlib.contextmanager
def _asked_to_stop(stopped: threading.Event) -> Iterator[None]:
    """Signals set `stopped` instead of raising somewhere: every part then ends in its turn."""

    def note(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    before = {number: signal.signal(number, note) for number in _STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
