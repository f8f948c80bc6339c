"""A stand-in for a schema registry, and none: of Confluent's HTTP interface it has what msemon asks for."""

from __future__ import annotations

import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class RegistryStandIn:
    """Serves `answers` by path, over TLS where there is a `context`.

    `status`, where set, is what everything is answered with instead.
    """

    def __init__(self, answers: dict[str, Any], context: ssl.SSLContext | None = None) -> None:
        self.answers = answers
        self.status: int | None = None
        self.slow_s = 0.0  # that each answer takes
        self.asked: list[tuple[str, str | None]] = []  # path, Authorization
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stand_in.asked.append((self.path, self.headers.get("Authorization")))
                time.sleep(stand_in.slow_s)
                known = stand_in.answers.get(self.path)
                status = stand_in.status or (404 if known is None else 200)
                body = json.dumps(known if status == 200 else {"error_code": 40403, "message": "no"}).encode()
                if stand_in.status:
                    body = b"<html>"
                self.send_response(status)
                self.send_header("Location", "http://127.0.0.1:9/")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"{'http' if context is None else 'https'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
