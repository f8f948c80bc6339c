"""Tells systemd how the process is doing: sd_notify(3), the protocol of `Type=notify`.

Datagrams to the socket that NOTIFY_SOCKET names. Without it all of this does nothing. It never blocks and never fails:
a supervisor that does not listen must not hold the daemon up.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping

_OFTEN = 4
"""Signs of life in the time after which systemd would end the process."""


class Supervisor:
    """What started the process, where it listens."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "").replace("@", "\0", 1)  # @: a name and not a path, see unix(7)
        self._pause_s = _pause_s(environ)
        self._socket: socket.socket | None = None
        if self._address.startswith(("/", "\0")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
        self._status = ""
        self._lived = float("-inf")

    def ready(self) -> None:
        """The settings are valid and HTTP answers."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """What the process is at, one line for `systemctl status`."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def alive(self) -> None:
        """A sign of life, where one is asked for and due; to be called as often as one likes."""
        now = time.monotonic()
        if self._pause_s is not None and now - self._lived >= self._pause_s:
            self._lived = now
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # nobody listens, or too slowly
                self._socket.sendto(message.encode(), self._address)


def _pause_s(environ: Mapping[str, str]) -> float | None:
    """Seconds between signs of life, None where nobody waits for this process's: sd_watchdog_enabled(3)."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    limit_us = environ.get("WATCHDOG_USEC", "")
    return int(limit_us) / 1e6 / _OFTEN if limit_us.isdecimal() and int(limit_us) > 0 else None
