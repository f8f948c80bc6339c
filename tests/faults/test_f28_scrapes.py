"""F28: many scrapes at once, peers that dawdle, a stalled TLS handshake: scrapes come in time and health answers."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from msemon.core.view import View
from msemon.export import server as module
from msemon.export.access import Rules
from msemon.export.render import render
from msemon.export.server import Server
from support.sites import FakeSite, anonymous_tls, ask, serving, until
from support.views import large_view

SCRAPES = 20
SCRAPE_S = 10.0  # Prometheus' own timeout, where nothing else is set
HEALTH_S = 1.0  # a probe's default timeout in Kubernetes
SLOW_PEERS = 100
PERIOD_S = 0.05


@pytest.fixture(scope="module")
def site() -> FakeSite:
    """Ten thousand segment series: more than a quarter of a million samples a scrape."""
    return FakeSite(shown=large_view(models=100, segments=100))


def slow_peers(port: int, first: bytes, stack: contextlib.ExitStack, count: int = SLOW_PEERS) -> list[socket.socket]:
    """Peers that have sent their first bytes."""
    peers = []
    for _ in range(count):
        peer = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
        with contextlib.suppress(OSError):  # hung up on already
            peer.sendall(first)
        peers.append(peer)
    return peers


@contextlib.contextmanager
def repeatedly(action: Callable[[], object]) -> Iterator[None]:
    """Run an action again and again, from a thread, until the block ends."""
    done = threading.Event()

    def loop() -> None:
        while not done.wait(PERIOD_S):
            action()

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(10)


def dribble(peers: list[socket.socket]) -> None:
    for peer in peers:
        with contextlib.suppress(OSError):
            peer.sendall(b"x")


def health_s(port: int) -> float:
    began = time.monotonic()
    assert ask(port, "/healthz", timeout_s=10).status == 200
    return time.monotonic() - began


def scrape_s(port: int) -> float:
    began = time.monotonic()
    answer = ask(port, "/metrics", {"Accept-Encoding": "gzip"}, timeout_s=60)
    assert answer.status == 200
    assert answer.body
    return time.monotonic() - began


def test_twenty_scrapes_at_once_come_in_time_and_health_answers_meanwhile(site: FakeSite) -> None:
    with serving(site) as server, ThreadPoolExecutor(SCRAPES) as pool:
        before = site.views
        scrapes = [pool.submit(scrape_s, server.port) for _ in range(SCRAPES)]
        until(lambda: site.views > before)
        waits = [health_s(server.port) for _ in range(10)]
        took = [scrape.result(60) for scrape in scrapes]
    assert max(took) < SCRAPE_S
    assert max(waits) < HEALTH_S
    assert site.views - before < SCRAPES / 2, "scrapes that come together share a rendering"


@pytest.mark.parametrize("first", [b"", b"GET /metrics HTTP/1.1\r\nX-Slow: "], ids=["silent", "slowloris"])
def test_peers_that_never_finish_their_request_hold_nobody_up(site: FakeSite, first: bytes) -> None:
    with serving(site) as server, contextlib.ExitStack() as stack:
        peers = slow_peers(server.port, first, stack)
        with repeatedly(lambda: dribble(peers) if first else None):
            assert max(health_s(server.port) for _ in range(5)) < HEALTH_S
            with ThreadPoolExecutor(SCRAPES) as pool:
                took = [each.result(60) for each in [pool.submit(scrape_s, server.port) for _ in range(SCRAPES)]]
            assert max(took) < SCRAPE_S
            assert health_s(server.port) < HEALTH_S


def test_a_slowloris_is_cut_off_at_the_deadline_however_steadily_it_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEAD_S", 0.5)
    with serving(FakeSite()) as server, contextlib.ExitStack() as stack:
        (peer,) = slow_peers(server.port, b"GET / HTTP/1.1\r\n", stack, count=1)
        began = time.monotonic()
        with repeatedly(lambda: dribble([peer])):
            assert peer.recv(100).startswith(b"HTTP/1.1 408 ")
        assert 0.4 < time.monotonic() - began < 3
        until(lambda: not server._main._open)


def test_peers_that_do_not_read_their_scrape_hold_nobody_up(site: FakeSite) -> None:
    with serving(site) as server, contextlib.ExitStack() as stack:
        slow_peers(server.port, b"GET /metrics HTTP/1.1\r\n\r\n", stack, count=40)
        assert max(health_s(server.port) for _ in range(5)) < HEALTH_S
        assert scrape_s(server.port) < SCRAPE_S


def test_a_stalled_tls_handshake_holds_nobody_up(site: FakeSite) -> None:
    server = Server("127.0.0.1:0", "127.0.0.1:0", site, access=lambda: Rules(anonymous_tls(ssl.PROTOCOL_TLS_SERVER)))
    server.start()
    try:
        with contextlib.ExitStack() as stack:
            slow_peers(server.port, b"", stack, count=SLOW_PEERS // 2)
            slow_peers(server.port, b"\x16\x03\x01\x02\x00\x01", stack, count=SLOW_PEERS // 2)
            assert health_s(server.health_port) < HEALTH_S
            began = time.monotonic()
            plain = socket.create_connection(("127.0.0.1", server.port), timeout=30)
            with anonymous_tls(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(plain) as peer:
                peer.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
                assert peer.recv(100).startswith(b"HTTP/1.1 200 ")
            assert time.monotonic() - began < HEALTH_S
    finally:
        server.stop()


def test_a_flood_of_scrapes_never_starves_health_at_its_own_address(site: FakeSite) -> None:
    with serving(site, health_address="127.0.0.1:0") as server, ThreadPoolExecutor(60) as pool:
        flood = [pool.submit(_attempt, server.port) for _ in range(120)]
        waits = [health_s(server.health_port) for _ in range(20)]
        outcomes = [each.result(60) for each in flood]
    assert max(waits) < HEALTH_S
    assert set(outcomes) <= {200, 503, None}
    assert outcomes.count(200) >= SCRAPES


def test_a_view_that_hangs_does_not_stop_health() -> None:
    hung = FakeSite()
    with serving(hung) as server, ThreadPoolExecutor(module.WORKING + 8) as pool:
        hung.gate.clear()
        waiting = [pool.submit(_attempt, server.port) for _ in range(module.WORKING + 8)]
        until(lambda: hung.views == 1 and sum(each.done() for each in waiting) == 8)  # those beyond are turned away
        hung.well = False
        assert ask(server.port, "/healthz", timeout_s=HEALTH_S).status == 503, "the daemon can still say that it hangs"
        hung.gate.set()
        assert [each.result(60) for each in waiting].count(200) == module.WORKING


def test_scrapes_at_once_are_all_whole(site: FakeSite) -> None:
    assert isinstance(site.shown, View)
    expected = render(site.shown, openmetrics=False, selection=site.selection)
    with serving(site) as server, ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(ask, server.port, "/metrics") for _ in range(4)]:
            body = each.result(60).body
            assert body.startswith(expected)
            assert body.endswith(b"\n")


def _attempt(port: int) -> int | None:
    with contextlib.suppress(OSError):
        return ask(port, "/metrics", {"Accept-Encoding": "gzip"}, timeout_s=60).status
    return None
