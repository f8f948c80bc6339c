"""F12: while no broker is there the process stays up and serves its health, shows nothing stale, and loses nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.brokers import Broker, why_no_kafka
from support.moving import own_broker
from support.report import not_run
from support.running import Daemon, daemon
from support.traffic import Traffic
from support.waiting import wait_until

LONG_S = 130.0  # longer than whatever the clients and the store wait for
SHORT_S = 20.0  # three session timeouts

pytestmark = pytest.mark.timeout(420)  # a broker is started twice, and is away for long


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    if reason := why_no_kafka():
        not_run(reason)
    with own_broker(tmp_path / "kafka") as kafka:
        yield kafka


@pytest.mark.parametrize(("store", "down_s"), [("sqlite", SHORT_S), ("kafka", LONG_S)])
def test_f12_a_broker_that_is_killed_and_comes_back_much_later(broker, tmp_path, store, down_s):
    """Healthy all the while; once the lease is over no model has gauges, only counters; then all is as it was."""
    with Traffic(broker.bootstrap) as traffic:
        given = traffic.settings(state__store=store, state__path=str(tmp_path / "state"))
        for _ in range(3):
            traffic.portion()
        with daemon(tmp_path / "daemon.log", given) as running:
            running.await_events(traffic.counts())
            assert running.scrape().all("msemon_mse")
            traffic.hang_up()
            broker.kill()
            killed = time.monotonic()
            running.until(lambda: not running.scrape().all("msemon_mse"), "the gauges to be gone", 15.0)
            assert not running.scrape().all("msemon_lifetime_pairs")
            assert running.scrape().all("msemon_pairs_total")
            wait_until(lambda: _served_for(running, killed, down_s), 200, "the outage to be long", every_s=0.2)
            broker.start()
            traffic.portion()
            running.until(lambda: running.scrape().all("msemon_mse"), "the gauges to be back", 60.0, every_s=0.2)
            traffic.portion()
            traffic.settle()
            traffic.agree(running)
            running.await_ready()


def _served_for(running: Daemon, since: float, seconds: float) -> bool:
    assert running.healthy
    assert not running.scrape().all("msemon_mse")
    return time.monotonic() - since > seconds


def test_f12_a_broker_that_is_down_at_the_start(broker, tmp_path):
    """A state from before is taken up once the broker is there; until then: healthy, not ready, nothing shown."""
    with Traffic(broker.bootstrap) as traffic:
        given = traffic.settings(state__store="sqlite", state__path=str(tmp_path / "state"))
        traffic.portion()
        traffic.portion()
        with daemon(tmp_path / "first.log", given) as first:
            first.await_events(traffic.counts())
        traffic.hang_up()
        broker.kill()
        with daemon(tmp_path / "second.log", given, ready=False) as second:
            second.until(lambda: second.said("no broker answers"), "a first attempt", 40)
            assert second.healthy
            assert not second.ready
            assert not second.scrape().all("msemon_lifetime_pairs")
            broker.start()
            second.await_ready()
            traffic.portion()
            traffic.settle()
            traffic.agree(second)
