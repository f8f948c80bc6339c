"""F28 against running daemons: scrapes at once over TLS, in checkpoints and a rebalance, beside peers that dawdle."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

from support.brokers import free_ports
from support.doors import Authority
from support.histories import PARTITIONS
from support.running import Daemon, Scrape, daemon
from support.sites import ask
from support.stories import made, names, settings
from support.topics import unique
from support.waiting import wait_until

SERIES = 2_000
SCRAPES = 20
PORTION = 200
PERIOD_S = 0.1
DAWDLERS = 12  # of each kind: together fewer than a server's connections, which would cut them off
ERROR = 2.0
SLOW_S = 60.0  # for a scrape on a machine with other work

pytestmark = pytest.mark.timeout(240)


class Events:
    """Predictions that are wrong by 2 and their labels, in portions, from a thread of its own."""

    def __init__(self, bootstrap: str, topics: list[str]) -> None:
        self.bootstrap, self.topics = bootstrap, topics
        self.sent = 0

    def portion(self, producer: KafkaProducer, count: int) -> None:
        now_ms = time.time_ns() // 1_000_000
        written = []
        for i in range(self.sent, self.sent + count):
            asked = {"id": str(i), "model": "m", "prediction": 3.0 + ERROR, "segments": {"user": f"u{i % SERIES}"}}
            for topic, event in zip(self.topics, (asked, {"id": str(i), "label": 3.0}), strict=True):
                value = json.dumps(event).encode()
                written.append(producer.send(topic, value, partition=i % PARTITIONS, timestamp_ms=now_ms))
        for future in written:
            future.get(timeout=30)
        self.sent += count

    @contextlib.contextmanager
    def flowing(self) -> Iterator[None]:
        """A portion after the other until the block ends; every series has been seen when it begins."""
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, linger_ms=5)
        try:
            self.portion(producer, SERIES)
            with again_and_again(lambda: self.portion(producer, PORTION)):
                yield
        finally:
            producer.close(timeout=5)


@contextlib.contextmanager
def again_and_again(action: Callable[[], object]) -> Iterator[None]:
    """From a thread, until the block ends; what went wrong in it goes wrong in the block."""
    over, failed = threading.Event(), list[BaseException]()

    def loop() -> None:
        try:
            while not over.wait(PERIOD_S):
                action()
        except BaseException as problem:  # noqa: BLE001 - raised below
            failed.append(problem)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(60)
    if failed:
        raise failed[0]


class Guarded:
    """A daemon that speaks TLS, and its health in the clear."""

    def __init__(self, running: Daemon, health_port: int, authority: Authority) -> None:
        self.running, self.health_port = running, health_port
        self._tls = ssl.create_default_context(cafile=authority.certificate)

    def healthy(self) -> None:
        assert ask(self.health_port, "/healthz", timeout_s=10.0).status == 200

    @property
    def ready(self) -> bool:
        return ask(self.health_port, "/readyz", timeout_s=10.0).status == 200

    def text(self) -> str:
        connection = HTTPSConnection("127.0.0.1", self.running.port, timeout=SLOW_S, context=self._tls)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            body = answer.read().decode()
        assert answer.status == 200, body
        return body

    def spoken_to(self) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.running.port), timeout=30)
        return self._tls.wrap_socket(plain, server_hostname="127.0.0.1")

    @contextlib.contextmanager
    def dawdled_at(self) -> Iterator[None]:
        """Peers that say nothing, that stop in the handshake, and that send their request a byte at a time."""
        with contextlib.ExitStack() as stack:
            for first in (b"", b"\x16\x03\x01\x02\x00\x01"):
                for _ in range(DAWDLERS):
                    peer = socket.create_connection(("127.0.0.1", self.running.port), timeout=30)
                    stack.enter_context(peer).sendall(first)
            slow = [stack.enter_context(self.spoken_to()) for _ in range(DAWDLERS)]
            for peer in slow:
                peer.sendall(b"GET /metrics HTTP/1.1\r\nX-Slow: ")

            def dribble() -> None:
                for peer in slow:
                    with contextlib.suppress(OSError):  # cut off, as it should be
                        peer.sendall(b"x")

            with again_and_again(dribble):
                yield


def at_once(members: list[Guarded]) -> list[list[Scrape]]:
    """Twenty scrapes of each, all at the same time: each is whole, and its parts add up to its total."""
    with ThreadPoolExecutor(SCRAPES * len(members)) as pool:
        asked = [[pool.submit(member.text) for _ in range(SCRAPES)] for member in members]
        texts = [{each.result(2 * SLOW_S) for each in scrapes} for scrapes in asked]  # several share an answer
    found = [[whole(text) for text in each] for each in texts]
    assert all(found)
    return found


def whole(text: str) -> Scrape:
    assert text.endswith("\n")
    scrape = Scrape(text)
    assert "msemon_build_info" in text
    for name in ("pairs", "weight"):
        parts = scrape.all(f"msemon_segment_window_{name}", window="1h")
        total = scrape.value(f"msemon_window_{name}", model="m", version="", window="1h")
        assert sum(parts.values()) == (total or 0.0)
    assert set(scrape.all("msemon_segment_mse").values()) <= {ERROR**2}
    return scrape


def furthest(scrapes: list[Scrape]) -> tuple[float, float]:
    """Records read, and when the newest checkpoint was made."""
    read = max(scrape.sum("msemon_events_total") for scrape in scrapes)
    return read, max(scrape.value("msemon_checkpoint_timestamp_seconds") or 0.0 for scrape in scrapes)


@contextlib.contextmanager
def guarded(log: Path, given: dict[str, Any], authority: Authority) -> Iterator[Guarded]:
    (port,) = free_ports(1)
    with daemon(log, given | {"web.health_address": f"127.0.0.1:{port}"}, ready=False) as running:
        assert running.port
        yield Guarded(running, port, authority)


def test_scrapes_through_checkpoints_and_a_rebalance_beside_peers_that_dawdle(kafka, tmp_path):
    """All are whole, health answers throughout, reading goes on, and in the end every event has counted once."""
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.issue("server")
    web = tmp_path / "web.yml"
    web.write_text(f"tls_server_config: {{cert_file: {certificate}, key_file: {key}}}\n")
    topics = made(kafka, names())
    given = settings(
        kafka, topics, kafka__start="earliest", segments=[["user"]], windows__lengths=["1h"], web__config_file=str(web),
        state__store="kafka", state__topic=unique("state"), state__interval="1s", limits__series=str(SERIES),
        export__segment_metrics=["mse", "window_pairs", "window_weight"],
    )  # fmt: skip
    events = Events(kafka, topics)
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(guarded(tmp_path / "first.log", given, authority))
        wait_until(lambda: first.ready, 60, "the first to be ready", 0.1)
        stack.enter_context(again_and_again(first.healthy))
        with events.flowing(), first.dawdled_at():
            seen = [furthest(at_once([first])[0])]
            while len({read for read, _ in seen}) < 3 or len({kept for _, kept in seen}) < 3:
                assert len(seen) < 60, f"reading or checkpoints stand still while it is scraped: {seen}"
                seen.append(furthest(at_once([first])[0]))
            assert seen == sorted(seen)
            second = stack.enter_context(guarded(tmp_path / "second.log", given, authority))
            stack.enter_context(again_and_again(second.healthy))
            deadline = time.monotonic() + 90
            while not (first.ready and second.ready and shared_out(at_once([first, second]))):
                assert time.monotonic() < deadline, "the second has no share"
            assert len(first.running.said("web.config_file can't be used: what it said before holds")) == 0
        pairs = events.sent

        def counted() -> tuple[float, float]:
            scrapes = [whole(member.text()) for member in (first, second)]
            names = ("msemon_lifetime_pairs", "msemon_lifetime_squared_error")
            both = [sum(scrape.sum(name) for scrape in scrapes) for name in names]
            return both[0], both[1]

        wait_until(lambda: counted()[0] >= pairs, 60, f"{pairs} pairs", 0.3)
        assert counted() == (pairs, pairs * ERROR**2)


def shared_out(scrapes: list[list[Scrape]]) -> bool:
    """Whether each of the two had partitions and series to show."""
    return all(
        scrape.sum("msemon_partitions_assigned") and scrape.all("msemon_segment_mse")
        for each in scrapes
        for scrape in each
    )
