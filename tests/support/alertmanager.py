"""Alertmanager itself, and a webhook that keeps what it sends."""

from __future__ import annotations

import http.server
import json
import os
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from msemon.demo import child
from support.alerting import quick_alertmanager
from support.brokers import free_ports
from support.waiting import wait_until

START_S = 30.0


class Notice(NamedTuple):
    """One alert in one message."""

    receiver: str
    message: int  # counts messages from 0
    status: str  # firing, resolved
    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    @property
    def alert(self) -> tuple[str, ...]:
        """Receiver, status, the alert's name, and what it is about."""
        about = (self.labels[name] for name in ("instance", "model", "segment") if name in self.labels)
        return (self.receiver, self.status, self.labels["alertname"], *about)


class Webhook:
    """Keeps every notice; `/NAME` is the receiver of that name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._notices: list[Notice] = []
        self._messages = 0

    def take(self, receiver: str, payload: Mapping[str, Any]) -> None:
        with self._lock:
            for alert in payload["alerts"]:
                self._notices.append(
                    Notice(receiver, self._messages, alert["status"], alert["labels"], alert["annotations"])
                )
            self._messages += 1

    @property
    def notices(self) -> list[Notice]:
        with self._lock:
            return list(self._notices)

    def has(self, *alert: str) -> bool:
        return any(notice.alert == alert for notice in self.notices)

    def forget(self) -> None:
        """What has come so far is no part of what follows."""
        with self._lock:
            self._notices.clear()


class Alertmanager:
    """A running Alertmanager."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            found: bytes = answer.read()
            return found

    def ready(self) -> bool:
        try:
            return bool(self.get("/-/ready"))
        except OSError:
            return False

    def quiet(self) -> bool:
        """Whether nothing is firing."""
        return not json.loads(self.get("/api/v2/alerts"))

    def suppressed(self) -> set[tuple[str, ...]]:
        """Alerts that are inhibited at this moment: name and, where they have one, model."""
        return {
            tuple(alert["labels"][name] for name in ("alertname", "model") if name in alert["labels"])
            for alert in json.loads(self.get("/api/v2/alerts"))
            if alert["status"]["inhibitedBy"]
        }


@contextmanager
def webhook() -> Iterator[tuple[Webhook, str]]:
    """A webhook and its address."""
    kept = Webhook()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            kept.take(self.path.strip("/"), json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with serving(Handler) as port:
        yield kept, f"http://127.0.0.1:{port}"


@contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[int]:
    """An HTTP server of this process on the port it gives."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join(timeout=5)


@contextmanager
def alertmanager(binary: str, directory: Path, webhook_url: str) -> Iterator[Alertmanager]:
    """An Alertmanager on the project's own configuration, made quick, that sends to this webhook."""
    directory.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    file, log = directory / "alertmanager.yml", directory / "alertmanager.log"
    file.write_text(json.dumps(quick_alertmanager(webhook_url)))  # JSON is YAML
    command = [binary, f"--config.file={file}", f"--storage.path={directory / 'data'}", "--log.level=warn"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
    with log.open("wb") as output:
        process = child.start(command, output, os.environ)
    try:
        server = Alertmanager(port)
        wait_until(lambda: server.ready() or process.poll() is not None, START_S, "Alertmanager to be ready", 0.1)
        assert process.poll() is None, log.read_text()
        yield server
    finally:
        child.end(process)
