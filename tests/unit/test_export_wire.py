"""HTTP on a socket."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from msemon.export.wire import (
    HEAD_BYTES,
    TARGET_BYTES,
    Refused,
    Response,
    accepts_gzip,
    parse_head,
    read_request,
    wants_openmetrics,
    write_response,
)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def soon() -> float:
    return time.monotonic() + 5


def refusal(head: bytes) -> int:
    with pytest.raises(Refused) as refused:
        parse_head(head)
    return refused.value.status


def test_a_request_has_its_method_path_query_and_headers() -> None:
    request = parse_head(
        b"GET /api/v1/series?model=a%20b&limit=&x=%C3%A9 HTTP/1.1\r\nHost: here\r\nACCEPT: a\r\nAccept: b"
    )
    assert (request.method, request.path) == ("GET", "/api/v1/series")
    assert request.query == {"model": "a b", "limit": "", "x": "é"}
    assert request.headers == {"host": "here", "accept": "a, b"}


def test_a_path_may_be_escaped_or_absolute() -> None:
    assert parse_head(b"GET /%6Detrics HTTP/1.0").path == "/metrics"
    assert parse_head(b"GET http://here:1/metrics HTTP/1.1").path == "/metrics"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"", 400),
        (b"GET /", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"G\x00T / HTTP/1.1", 400),
        (b"GET / HTTP/2", 505),
        (b"GET / SPDY/1", 400),
        (b"GET / HTTP/1.1\r\nno colon", 400),
        (b"GET / HTTP/1.1\r\nspaced : x", 400),
        (b"GET / HTTP/1.1\r\n folded: x", 400),
        (b"GET http://[::1 HTTP/1.1", 400),
        (b"GET /?" + b"a=1&" * 100 + b" HTTP/1.1", 400),
        (b"GET /" + b"a" * TARGET_BYTES + b" HTTP/1.1", 414),
        (b"GET / HTTP/1.1\r\nx: " + b"a" * HEAD_BYTES, 431),
    ],
)
def test_what_is_no_request_is_refused(head: bytes, status: int) -> None:
    assert refusal(head) == status


def test_a_request_may_come_in_pieces(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    theirs.sendall(b"GET / HT")
    theirs.sendall(b"TP/1.1\r\nA: b\r\n\r\nbody")
    request = read_request(ours, soon())
    assert request is not None
    assert request.headers == {"a": "b"}


def test_a_peer_that_leaves_made_no_request(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    theirs.sendall(b"GET / ")
    theirs.shutdown(socket.SHUT_WR)
    assert read_request(ours, soon()) is None


@pytest.mark.parametrize(("sent", "status"), [(b"a" * 40_000, 414), (b"GET / HTTP/1.1\r\n" + b"a" * 40_000, 431)])
def test_a_head_without_end_is_refused_at_its_limit(
    ends: tuple[socket.socket, socket.socket], sent: bytes, status: int
) -> None:
    ours, theirs = ends
    theirs.sendall(sent)
    with pytest.raises(Refused) as refused:
        read_request(ours, soon())
    assert refused.value.status == status


def test_silence_ends_at_the_deadline(ends: tuple[socket.socket, socket.socket]) -> None:
    began = time.monotonic()
    with pytest.raises(Refused) as refused:
        read_request(ends[0], began + 0.05)
    assert refused.value.status == 408
    assert time.monotonic() - began < 2


def test_a_response_is_written_with_its_length_and_without_body_for_head(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends
    for with_body in (True, False):
        write_response(ours, Response(200, b"abc", headers=(("X-A", "b"),)), with_body, soon())
    text = theirs.recv(10_000)
    assert text.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\n")
    assert text.count(b"X-A: b\r\n\r\n") == 2
    assert text.count(b"abc") == 1


def test_a_peer_that_does_not_read_is_given_up_at_the_deadline(ends: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(TimeoutError):
        write_response(ends[0], Response(200, bytes(10_000_000)), True, time.monotonic() + 0.05)


PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accepted", "openmetrics"),
    [
        (PROMETHEUS_2, True),
        (PROMETHEUS_3, True),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text; version=0.0.1", False),
        ("application/openmetrics-text;q=0, text/plain;q=0", False),
        ("application/openmetrics-text;q=0.3, text/plain;version=0.0.4;q=0.5", False),
        ("application/openmetrics-text;q=nonsense", False),
        ("text/plain;version=0.0.4", False),
        ("*/*", False),
        ("", False),
    ],
)
def test_openmetrics_is_answered_to_those_who_prefer_it(accepted: str, openmetrics: bool) -> None:
    assert wants_openmetrics(accepted) is openmetrics


@pytest.mark.parametrize(
    ("accepted", "gzip"),
    [("gzip", True), ("deflate, GZIP;q=0.5", True), ("*", True), ("gzip;q=0", False), ("br", False), ("", False)],
)
def test_gzip_is_answered_to_those_who_take_it(accepted: str, gzip: bool) -> None:
    assert accepts_gzip(accepted) is gzip
