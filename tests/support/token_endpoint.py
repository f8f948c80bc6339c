"""A stand-in for an OAuth 2 token endpoint: client credentials in, an unsecured JSON Web Token out.

No identity provider is among what the tests install. What it hands out only a broker takes that checks no signature
(Apache Kafka's `OAuthBearerUnsecuredValidatorCallbackHandler`, its default).
"""

from __future__ import annotations

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, unquote_plus


def unsecured(subject: str, lasts_s: float) -> str:
    """A token without a signature (RFC 7519, section 6)."""
    now_s = time.time()
    claims = {"sub": subject, "iat": now_s - 600, "exp": now_s + lasts_s}
    parts = [json.dumps(part).encode() for part in ({"alg": "none"}, claims)]
    return ".".join([*(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts), ""])


class TokenEndpoint:
    """Serves on loopback for the block; knows one client."""

    def __init__(self, username: str, password: str, lasts_s: float = 300.0) -> None:
        self.scopes: set[str] = set()
        self.asked = 0
        self.body: bytes | None = None  # instead of a token
        self.lasts_s = lasts_s
        self.refuse = False  # everybody
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                endpoint.asked += 1
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                kind, _, given = self.headers.get("Authorization", "").partition(" ")
                who = [unquote_plus(part) for part in base64.b64decode(given).decode().split(":")]
                known = kind == "Basic" and who == [username, password]
                known = known and not endpoint.refuse and form["grant_type"] == ["client_credentials"]
                endpoint.scopes.update(form.get("scope", []))
                self.send_response(200 if known else 401)
                self.end_headers()
                if known:
                    token = unsecured(username, endpoint.lasts_s)
                    answer = {"access_token": token, "token_type": "Bearer", "expires_in": endpoint.lasts_s}
                    self.wfile.write(endpoint.body or json.dumps(answer).encode())

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/token"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()
