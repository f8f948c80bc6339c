"""systemd's end of sd_notify: a socket that keeps what it is told."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Listener:
    """What was told so far, in order."""

    def __init__(self, address: str) -> None:
        self.told: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))

    def hear(self) -> list[str]:
        """Takes in what has come, without waiting."""
        self._socket.settimeout(0.0)
        try:
            while True:
                self.told += self._socket.recv(4096).decode().splitlines()
        except BlockingIOError:
            return self.told

    def until(self, message: str, timeout_s: float = 30.0, times: int = 1) -> None:
        """Waits until it was told this so many times."""
        deadline = time.monotonic() + timeout_s
        while self.told.count(message) < times:
            self._socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                self.told += self._socket.recv(4096).decode().splitlines()
            except TimeoutError:
                raise AssertionError(f"waited {timeout_s:g} s for {message}; told: {self.told}") from None

    def close(self) -> None:
        self._socket.close()


@contextmanager
def listening(directory: Path) -> Iterator[tuple[Listener, dict[str, str]]]:
    """A listener, and the environment that leads to it."""
    address = str(directory / "notify")
    listener = Listener(address)
    try:
        yield listener, {"NOTIFY_SOCKET": address}
    finally:
        listener.close()
