"""F5: asked to stop while no broker answers, the daemon keeps what it has on its disk and is gone in time."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.brokers import Broker, why_no_kafka
from support.moving import own_broker
from support.report import not_run
from support.running import Daemon, daemon
from support.traffic import Traffic

STOP_S = 10.0

pytestmark = pytest.mark.timeout(300)  # a broker is started twice


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    if reason := why_no_kafka():
        not_run(reason)
    with own_broker(tmp_path / "kafka") as kafka:
        yield kafka


def _stopped(running: Daemon) -> float:
    """Ask it to stop; how long it took to end with 0."""
    began = time.monotonic()
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    return time.monotonic() - began


def test_f05_sigterm_while_the_broker_is_down(broker, tmp_path):
    """The last checkpoint lies on the disk, so that nothing is read twice once the broker is back."""
    with Traffic(broker.bootstrap) as traffic:
        given = traffic.settings(state__store="sqlite", state__path=str(tmp_path / "state"), state__interval="10m")
        for _ in range(5):
            traffic.portion()
        with daemon(tmp_path / "first.log", given) as first:
            first.await_events(traffic.counts())
            before = traffic.counts()
            traffic.hang_up()
            broker.kill()
            assert _stopped(first) < STOP_S
        broker.start()
        traffic.portion()
        traffic.settle()
        with daemon(tmp_path / "second.log", given) as second:
            traffic.agree(second)
            new = {topic: count - before[topic] for topic, count in traffic.counts().items()}
            assert {topic: sum(second.scrape().events(topic).values()) for topic in traffic.topics} == new


def test_f05_sigterm_with_the_kafka_store_or_before_a_broker_was_found(broker, tmp_path):
    """Nothing can be kept then; the end comes in time all the same, and afterwards nothing is lost or there twice."""
    with Traffic(broker.bootstrap) as traffic:
        given = traffic.settings(state__store="kafka")
        traffic.portion()
        with daemon(tmp_path / "first.log", given) as first:
            first.await_events(traffic.counts())
            traffic.hang_up()
            broker.kill()
            assert _stopped(first) < STOP_S
        with daemon(tmp_path / "never.log", given, ready=False) as never:
            never.until(lambda: never.said("serving"), "it to serve")
            assert _stopped(never) < STOP_S
        broker.start()
        traffic.portion()
        traffic.settle()
        with daemon(tmp_path / "second.log", given) as second:
            traffic.agree(second)
