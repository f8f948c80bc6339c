"""The HTTP server on real sockets."""

from __future__ import annotations

import contextlib
import gzip
import socket
import ssl
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from msemon.export import server as module
from msemon.export.access import Rules
from msemon.export.server import Address, Server
from msemon.export.wire import Response
from support.sites import FakeSite, anonymous_tls, ask, serving, until


@pytest.fixture
def site() -> FakeSite:
    return FakeSite()


@pytest.fixture
def server(site: FakeSite) -> Iterator[Server]:
    with serving(site) as server:
        yield server


def said(port: int, request: bytes) -> bytes:
    """Everything that comes back until the connection ends."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as peer:
        peer.sendall(request)
        return b"".join(iter(lambda: peer.recv(65536), b""))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0:10673", ("0.0.0.0", 10673)),
        (":0", ("", 0)),
        ("[::1]:80", ("::1", 80)),
        ("localhost:1", ("localhost", 1)),
    ],
)
def test_an_address_is_host_and_port(text: str, address: tuple[str, int]) -> None:
    assert Address.parse(text) == address


@pytest.mark.parametrize("text", ["", "host", "host:", "host:x", "host:70000", "a@b:1", "host:1/path", "http://a:1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"(?i)port"):
        Address.parse(text)


@pytest.mark.parametrize(
    "path", ["/metrics", "/-/healthy", "/healthz", "/-/ready", "/readyz", "/", "/api/v1/status", "/api/v1/series"]
)
def test_every_path_of_the_contract_is_served(server: Server, path: str) -> None:
    answer = ask(server.port, path)
    assert answer.status == 200
    assert answer.headers["content-length"] == str(len(answer.body))
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/api/v1/status", "/nowhere"])
def test_every_answer_keeps_browsers_from_mischief(server: Server, path: str) -> None:
    headers = ask(server.port, path).headers
    assert headers["x-content-type-options"] == "nosniff"
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"


def test_any_free_port_can_be_asked_for(server: Server) -> None:
    assert server.port > 0
    assert server.health_port == server.port


def test_a_scrape_is_packed_where_the_scraper_takes_it(server: Server) -> None:
    answer = ask(server.port, "/metrics", {"Accept-Encoding": "gzip"})
    assert b"msemon_mse{" in gzip.decompress(answer.body)


def test_head_is_get_without_its_body(server: Server) -> None:
    answer = ask(server.port, "/metrics", method="HEAD")
    assert answer.status == 200
    assert int(answer.headers["content-length"]) > 1000
    assert answer.body == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods_are_refused_and_say_what_is_allowed(server: Server, method: str) -> None:
    answer = ask(server.port, "/metrics", method=method)
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD"


def test_a_refusal_arrives_though_the_peer_is_still_sending(server: Server) -> None:
    body = bytes(60_000)
    found = said(server.port, b"POST / HTTP/1.1\r\nContent-Length: 60000\r\n\r\n" + body)
    assert found.startswith(b"HTTP/1.1 405 ")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 4000 + b"\r\n", 431),
        (b"GET / HTTP/3.0\r\n\r\n", 505),
    ],
)
def test_what_is_no_request_is_refused_and_the_server_lives(server: Server, request_: bytes, status: int) -> None:
    found = said(server.port, request_)
    assert found.startswith(b"HTTP/1.1 %d " % status)
    assert b"X-Content-Type-Options: nosniff" in found
    assert ask(server.port, "/healthz").status == 200


def test_health_has_an_address_of_its_own_where_asked_for(site: FakeSite) -> None:
    with serving(site, health_address="127.0.0.1:0") as server:
        assert server.health_port != server.port
        assert ask(server.health_port, "/healthz").status == 200
        assert ask(server.health_port, "/-/ready").status == 200
        assert ask(server.health_port, "/metrics").status == 404
        assert ask(server.port, "/healthz").status == 200, "and stays at the main one"
        site.able = False
        assert ask(server.health_port, "/readyz").status == 503


def test_the_same_address_for_health_is_no_second_one(site: FakeSite) -> None:
    assert Server("127.0.0.1:10673", "127.0.0.1:10673", site)._health is None


def test_a_taken_address_fails_at_start_and_leaves_nothing_open(server: Server, site: FakeSite) -> None:
    with pytest.raises(OSError, match="in use"):
        Server(f"127.0.0.1:{server.port}", None, site).start()
    second = Server("127.0.0.1:0", f"127.0.0.1:{server.port}", site)
    with pytest.raises(OSError, match="in use"):
        second.start()
    with pytest.raises(ConnectionRefusedError):
        ask(second.port, "/healthz")


def test_stop_lets_an_answer_finish_and_then_takes_no_more(site: FakeSite) -> None:
    server = Server("127.0.0.1:0", None, site)
    server.start()
    site.gate.clear()
    answers: list[int] = []
    scrape = threading.Thread(target=lambda: answers.append(ask(server.port, "/metrics").status))
    scrape.start()
    until(lambda: site.views == 1)
    stopping = threading.Thread(target=server.stop, args=(10.0,))
    stopping.start()
    site.gate.set()
    scrape.join(10)
    stopping.join(10)
    assert answers == [200]
    with pytest.raises(ConnectionRefusedError):
        ask(server.port, "/healthz")


def test_stop_hangs_up_on_peers_that_keep_it_waiting(site: FakeSite) -> None:
    server = Server("127.0.0.1:0", None, site)
    server.start()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as idle:
        until(lambda: len(server._main._open) == 1)
        server.stop(0.0)
        assert idle.recv(1) == b""
        until(lambda: not server._main._open)


def test_stopping_what_was_never_started_is_nothing(site: FakeSite) -> None:
    Server("127.0.0.1:0", "127.0.0.1:0", site).stop()


def _has_open(server: Server, count: int) -> bool:
    return len(server._main._open) == count


def test_when_full_the_peer_that_waits_longest_makes_room(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server._main, "_most", 3)
    with contextlib.ExitStack() as stack:
        idle = []
        for n in range(3):
            idle.append(stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10)))
            until(partial(_has_open, server, n + 1))
        assert ask(server.port, "/healthz").status == 200
        assert idle[0].recv(1) == b"", "the first came first"
        idle[1].sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert idle[1].recv(100).startswith(b"HTTP/1.1 200")


def test_when_all_are_at_work_a_further_connection_is_dropped(
    server: Server, site: FakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server._main, "_most", 1)
    site.gate.clear()
    scrape = threading.Thread(target=ask, args=(server.port, "/metrics"))
    scrape.start()
    until(lambda: site.views == 1)
    with pytest.raises(OSError):  # noqa: PT011 - reset or closed, as the system has it
        ask(server.port, "/healthz")
    site.gate.set()
    scrape.join(10)
    until(lambda: not server._main._open)
    assert ask(server.port, "/healthz").status == 200


def test_answers_nobody_reads_do_not_pile_up_in_memory(
    server: Server, site: FakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HELD_BYTES", 20_000_000)
    large = b"x" * 15_000_000
    monkeypatch.setattr(server._main, "_answer", lambda _: Response(200, bytes(bytearray(large))))
    with contextlib.ExitStack() as stack:
        peers = []
        for _ in range(3):
            peer = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
            peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
            peers.append(peer)
            until(partial(peer.recv, 1, socket.MSG_PEEK))
        until(lambda: len(server._main._open) == 1)
        received = b"".join(iter(lambda: peers[-1].recv(1 << 20), b""))
        assert received.endswith(large), "the newest is served whole"


def test_tls_is_spoken_where_there_is_a_context(site: FakeSite) -> None:
    server = Server("127.0.0.1:0", None, site, access=lambda: Rules(anonymous_tls(ssl.PROTOCOL_TLS_SERVER)))
    server.start()
    try:
        plain = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        with anonymous_tls(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(plain) as peer:
            peer.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            found = b"".join(iter(lambda: peer.recv(65536), b""))
        assert b"msemon_build_info" in found
        with pytest.raises(OSError):  # noqa: PT011 - reset or closed, as the system has it
            ask(server.port, "/metrics")
    finally:
        server.stop()
