"""F12: brokers go one after the other and come back, and another one takes over the group: nothing is lost by it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest

from support.brokers import Broker, why_no_kafka
from support.clusters import Cluster, cluster, committed
from support.histories import PARTITIONS
from support.report import not_run
from support.running import Daemon, daemon
from support.traffic import Traffic

pytestmark = pytest.mark.timeout(420)  # three nodes are started, and two of them once more

NEVER_SAID = [
    "a checkpoint lies beyond the log's end",
    "the log was cut back",
    "the log no longer has what was to be read",
    "stored state refused",
    "a topic was made again: reading it begins anew",
]
"""A new leader has all that was acknowledged: what is only not there yet must not be taken for gone."""


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if reason := why_no_kafka():
        not_run(reason)
    with cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture(autouse=True)
def _all_there(brokers: Cluster) -> None:
    """A test that failed while it had killed a broker takes no other with it."""
    for broker in brokers.brokers.values():
        if broker.ended:
            broker.launch()


class Live:
    """A daemon on the kafka store and traffic that goes on whatever happens to the brokers."""

    def __init__(self, brokers: Cluster, traffic: Traffic, running: Daemon) -> None:
        self.brokers, self.traffic, self.running = brokers, traffic, running

    def until(self, condition: Callable[[], bool], what: str, timeout_s: float = 90.0) -> None:
        """Portion after portion; the process is there and serves its health after each."""

        def met() -> bool:
            assert self.running.process.poll() is None
            assert self.running.healthy
            return condition()

        self.traffic.until(met, timeout_s, what)

    def back(self, broker: Broker) -> None:
        """Start a broker, and wait until all replicas are in sync again."""
        broker.launch()
        self.until(broker.answers, "the broker to answer")
        self.until(self.brokers.whole, "all replicas to be in sync")

    def goes_on(self) -> None:
        """What is sent from now on is read, checkpointed on the topic and committed to the group."""
        sent = sum(self.traffic.counts().values())
        bootstrap, traffic = self.brokers.bootstrap, self.traffic
        self.until(lambda: committed(bootstrap, traffic.group, traffic.topics, PARTITIONS) >= sent, "commits to go on")
        self.until(lambda: self.running.ready and bool(self.running.scrape().all("msemon_mse")), "gauges again")

    def agree(self) -> None:
        self.traffic.settle()
        self.traffic.agree(self.running)
        assert not [line for event in NEVER_SAID for line in self.running.said(event)]


def start(brokers: Cluster, traffic: Traffic, running: Daemon) -> Live:
    live = Live(brokers, traffic, running)
    live.goes_on()
    live.until(brokers.whole, "everything to be on two brokers")
    return live


def test_f12_a_rolling_restart(brokers, tmp_path):
    """Each broker ends and comes back under live traffic: the process stays up and healthy and all is exact, also in a
    process that then begins with what the state topic has."""
    with Traffic(brokers.bootstrap, replicas=2) as traffic:
        given = traffic.settings(state__store="kafka")
        with daemon(tmp_path / "first.log", given) as first:
            live = start(brokers, traffic, first)
            for broker in brokers.brokers.values():
                assert broker.process is not None
                broker.process.send_signal(signal.SIGTERM)
                live.until(lambda broker=broker: broker.ended, "the broker to end")  # type: ignore[misc]
                live.back(broker)
                live.goes_on()
            live.agree()
            first.process.kill()
        with daemon(tmp_path / "second.log", given) as second:
            traffic.portion()
            Live(brokers, traffic, second).agree()
            assert len(second.said("state restored")) == PARTITIONS


@pytest.mark.parametrize("how", ["killed", "moved"])
def test_f12_the_coordinator_moves(brokers, tmp_path, how):
    """The group's coordinator is killed, or its partition led by the other broker from now on, under live traffic:
    the group goes on there, and all is exact."""
    with Traffic(brokers.bootstrap, seed=2, replicas=2) as traffic:
        given = traffic.settings(state__store="kafka")
        with daemon(tmp_path / "daemon.log", given) as running:
            live = start(brokers, traffic, running)
            before = brokers.coordinator(traffic.group)
            if how == "killed":
                brokers.brokers[before].kill()
            else:
                brokers.move_coordinator(traffic.group)
            live.until(lambda: brokers.coordinator(traffic.group) not in (before, -1), "another coordinator")
            live.goes_on()
            if how == "killed":
                live.back(brokers.brokers[before])
            live.agree()
