"""F13: every broker address changes; a client made anew finds the cluster by its bootstrap address, and all goes on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest

from msemon.reaching import RETRY_S, SILENT_SESSIONS, Renewal
from msemon.sources.base import Unreachable
from support.brokers import Broker, why_no_kafka
from support.moving import move, own_broker
from support.proxy import Proxy
from support.report import not_run
from support.running import CLIENT, daemon
from support.traffic import Traffic

SESSION_S = 6.0

pytestmark = pytest.mark.timeout(300)  # a broker is started twice, and two session timeouts pass


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    if reason := why_no_kafka():
        not_run(reason)
    with own_broker(tmp_path / "kafka") as kafka:
        yield kafka


@pytest.mark.parametrize("store", ["sqlite", "kafka"])
def test_f13_every_address_changes_and_a_new_client_goes_on(broker, tmp_path, store):
    """Only the bootstrap address, a proxy's, stays. The state is restored, and every pair counted once. librdkafka
    asks the bootstrap address again by itself, so that no new one is needed; at times so soon that nothing is lost."""
    anew = 0 if CLIENT == "librdkafka" else 1
    with Traffic(broker.bootstrap) as traffic, Proxy(broker.bootstrap) as proxy:
        given = traffic.settings(
            state__store=store, state__path=str(tmp_path / "state"), kafka__bootstrap_servers=proxy.address
        )  # fmt: skip
        for _ in range(3):
            traffic.portion()
        with daemon(tmp_path / "daemon.log", given) as running:
            running.await_events(traffic.counts())
            traffic.hang_up()
            move(broker)
            proxy.upstream = traffic.bootstrap = broker.bootstrap
            proxy.cut()
            traffic.portion()
            if anew:
                running.until(lambda: running.said("the client is made anew"), "a new client", 60.0, every_s=0.2)
            assert running.healthy
            running.until(lambda: running.ready, "readiness", 60.0, every_s=0.2)
            traffic.settle()
            traffic.agree(running, 90.0)
            assert len(running.said("the client is made anew")) == anew


class _Source:
    """One attempt of a new client."""

    def __init__(self, problem: Exception | None) -> None:
        self._problem = problem

    def connect(self) -> None:
        if self._problem is not None:
            raise self._problem

    def close(self, timeout_s: float) -> None: ...


class _Trial:
    """A renewal whose attempts end at once, and its turns by hand."""

    def __init__(self) -> None:
        self.problem: Exception | None = None
        self.attempts = 0
        self._renewal = Renewal(self._make, settle_s=10.0)

    def _make(self) -> Any:
        self.attempts += 1
        return _Source(self.problem)

    def due(self, now_s: float, silent_s: float, rebalancing: bool = False) -> bool:
        found = self._renewal.due(now_s, silent_s, SESSION_S, rebalancing=rebalancing)
        if (trying := self._renewal._trying) is not None:
            assert wait([trying], 5).done
        return found


def test_f13_a_client_that_is_heard_is_never_given_up():
    """Nor one that is silent for less than it may be, nor one whose group rebalances for minutes."""
    trial = _Trial()
    assert not any(trial.due(now, SILENT_SESSIONS * SESSION_S - 0.1) for now in range(1000))
    assert not any(trial.due(now, 200.0, rebalancing=True) for now in range(1000))
    assert trial.attempts == 0


def test_f13_a_new_client_takes_over_only_where_the_cluster_answers_it_and_not_the_old_one():
    """Answered, it waits for the old one for a while; where that is heard again, nothing happens."""
    trial = _Trial()
    assert not any(trial.due(now, 20.0 + now) for now in range(10))
    assert trial.attempts == 1
    assert not trial.due(10, 0.5)
    assert not any(trial.due(100.0 + now, 20.0 + now) for now in range(10))
    assert trial.due(112.0, 32.0)
    assert trial.attempts == 2


def test_f13_as_long_as_nobody_answers_the_old_client_stays():
    """It is asked again with longer and longer waits."""
    trial = _Trial()
    trial.problem = Unreachable("nobody")
    assert not any(trial.due(now / 2, 20.0 + now / 2) for now in range(1200))
    assert 600 / RETRY_S[1] <= trial.attempts <= 600 / RETRY_S[1] + 10
