"""HTTP/1 on a socket: one request in, one response out, each within a deadline and a size."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote, urlsplit

HEAD_BYTES = 16 * 1024
TARGET_BYTES = 2 * 1024
_QUERY_FIELDS = 32
_PIECE = 256 * 1024

TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for. Header names are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Response:
    """What is answered; the server adds what every answer carries."""

    status: int
    body: bytes
    content_type: str = TEXT
    headers: tuple[tuple[str, str], ...] = ()


class Refused(Exception):
    """A request that is answered without being understood."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def said(status: int) -> Response:
    """The status itself as a line of text."""
    return Response(status, f"{status} {HTTPStatus(status).phrase}\n".encode())


def read_request(peer: socket.socket, deadline: float) -> Request | None:
    """The request of a peer, None where it left without one. Deadlines are of `time.monotonic`.

    Raises Refused for what is too long, too slow or no HTTP/1, and OSError as sockets do. A body is not read.
    """
    head = b""
    while b"\r\n\r\n" not in head:
        if len(head) > HEAD_BYTES:
            raise Refused(431 if b"\r\n" in head else 414)
        try:
            _allow(peer, deadline)
            piece = peer.recv(4096)
        except TimeoutError:
            raise Refused(408) from None
        if not piece:
            return None
        head += piece
    return parse_head(head[: head.index(b"\r\n\r\n")])


def _allow(peer: socket.socket, deadline: float) -> None:
    """Give the next call on the socket what is left. Raises TimeoutError where nothing is: no byte buys more time."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    peer.settimeout(left)


def parse_head(head: bytes) -> Request:
    """The request of a head without its last empty line. Raises Refused."""
    first, *rest = head.decode("latin-1").split("\r\n")
    if len(head) > HEAD_BYTES:
        raise Refused(431)
    words = first.split(" ")
    if len(words) != 3 or not words[0].isalpha() or not words[2].startswith("HTTP/"):
        raise Refused(400)
    method, target, version = words
    if not version.startswith("HTTP/1."):
        raise Refused(505)
    if len(target) > TARGET_BYTES:
        raise Refused(414)
    path, query = _target(target)
    return Request(method, path, query, _headers(rest))


def _target(target: str) -> tuple[str, dict[str, str]]:
    try:
        parts = urlsplit(target)
        fields = parse_qsl(parts.query, keep_blank_values=True, max_num_fields=_QUERY_FIELDS)
    except ValueError:
        raise Refused(400) from None
    return unquote(parts.path), dict(fields)


def _headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise Refused(400)
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def write_response(peer: socket.socket, response: Response, with_body: bool, deadline: float) -> None:
    """Send all of it, or raise OSError; TimeoutError once the deadline has passed, however slowly the peer reads."""
    lines = [
        f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(response.body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in response.headers),
    ]
    _send(peer, "\r\n".join([*lines, "", ""]).encode("latin-1"), deadline)
    if with_body:
        _send(peer, response.body, deadline)


def _send(peer: socket.socket, body: bytes, deadline: float) -> None:
    rest = memoryview(body)
    while rest:  # TLS sockets give `sendall` no deadline over the whole
        _allow(peer, deadline)
        rest = rest[peer.send(rest[:_PIECE]) :]


def let_read(peer: socket.socket, deadline: float) -> None:
    """Take in what a peer still sends: closing on unread bytes resets the connection, and the answer may be lost."""
    with contextlib.suppress(OSError):
        peer.shutdown(socket.SHUT_WR)
        taken = 0
        while taken < 4 * HEAD_BYTES:
            _allow(peer, deadline)
            piece = peer.recv(4096)
            if not piece:
                return
            taken += len(piece)


def accepts_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding header takes gzip."""
    return any(name in {"gzip", "*"} and quality > 0 for name, _, quality in preferences(accepted))


def wants_openmetrics(accepted: str) -> bool:
    """Whether an Accept header prefers OpenMetrics 1 to Prometheus' text format, which is what we have beside it."""
    openmetrics = text = 0.0
    for name, options, quality in preferences(accepted):
        if name == "application/openmetrics-text" and options.get("version", "1.0.0").startswith("1."):
            openmetrics = max(openmetrics, quality)
        elif name in {"text/plain", "text/*"}:
            text = max(text, quality)
    return openmetrics > 0 and openmetrics >= text


def preferences(header: str) -> list[tuple[str, dict[str, str], float]]:
    """(name, options, quality from 0 to 1) of each item of an Accept header."""
    found = []
    for item in header.lower().split(","):
        name, *rest = (part.strip() for part in item.split(";"))
        options = dict(part.partition("=")[::2] for part in rest)
        try:
            quality = float(options.get("q", "1"))
        except ValueError:
            quality = 0.0
        found.append((name, options, quality))
    return found
