"""Calls that may block for longer than one can wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future


def apart(call: Callable[[], object], name: str) -> Future[object]:
    """Make a call that may block on a thread of its own, one that does not keep the process from its end."""
    future: Future[object] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as problem:  # noqa: BLE001 (whoever asks for the result gets it)
            future.set_exception(problem)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
