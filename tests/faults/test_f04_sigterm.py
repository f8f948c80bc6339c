"""F4: asked to stop, the daemon keeps what it has, says how far it is, leaves, and is gone within ten seconds."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from kafka import TopicPartition

from support.brokers import Broker, admin, apache_kafka, running, why_no_kafka
from support.report import not_run
from support.running import Daemon, daemon
from support.traffic import Traffic

STOP_S = 10.0


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    if reason := why_no_kafka():
        not_run(reason)
    with running(apache_kafka(tmp_path_factory.mktemp("kafka"))) as kafka:
        yield kafka


@pytest.mark.parametrize("store", ["sqlite", "kafka"])
def test_f04_sigterm_under_load(broker, tmp_path, store):
    """Exit code 0 within ten seconds, checkpointed and committed to the record; the next one reads no record again."""
    with Traffic(broker.bootstrap) as traffic:
        # No checkpoint but the first and the last: what was read in between is in none but the last.
        given = traffic.settings(state__store=store, state__path=str(tmp_path / "state"), state__interval="10m")
        for _ in range(5):
            traffic.portion(400)
        with daemon(tmp_path / "first.log", given) as first:
            first.until(lambda: _read(first, traffic) > 0, "the first events", every_s=0.01)
            feeding = _Feeding(traffic)
            began = time.monotonic()
            first.signal(signal.SIGTERM)
            assert first.wait() == 0
            assert time.monotonic() - began < STOP_S
            feeding.end()
            assert first.lines()[-1]["event"] == "stopped"
            assert not first.said("offsets not committed")
        done = _committed(broker.bootstrap, traffic)
        assert not _members(broker.bootstrap, traffic), "it has left the group"
        traffic.portion()
        traffic.settle()
        with daemon(tmp_path / "second.log", given) as second:
            traffic.agree(second)
            read = {topic: sum(second.scrape().events(topic).values()) for topic in traffic.topics}
        assert read == {topic: count - done[topic] for topic, count in traffic.counts().items()}, "each record once"
        assert sum(done.values()) > 0


class _Feeding:
    """Traffic that goes on meanwhile."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            self._traffic.portion()

    def end(self) -> None:
        self._over.set()
        self._thread.join(30)


def _read(running: Daemon, traffic: Traffic) -> float:
    scrape = running.scrape()
    return sum(sum(scrape.events(topic).values()) for topic in traffic.topics)


def _committed(bootstrap: str, traffic: Traffic) -> dict[str, int]:
    with admin(bootstrap) as client:
        found = client.list_group_offsets(traffic.group)
    first: Any = next(iter(found.values()))
    offsets: dict[TopicPartition, Any] = first if isinstance(first, dict) else found
    return {
        topic: sum(at.offset for where, at in offsets.items() if where.topic == topic) for topic in traffic.topics
    }  # fmt: skip


def _members(bootstrap: str, traffic: Traffic) -> Any:
    with admin(bootstrap) as client:
        found: Any = client.describe_groups([traffic.group])
    group = next(iter(found.values())) if isinstance(found, dict) else found[0]
    return group["members"] if isinstance(group, dict) else group.members


def test_f04_readiness_goes_first_and_a_second_sigterm_exits_at_once(broker, tmp_path):
    """While a broker that is frozen keeps the first one waiting: not ready, still serving, then gone."""
    with Traffic(broker.bootstrap) as traffic:
        given = traffic.settings(state__store="sqlite", state__path=str(tmp_path / "state"))
        traffic.portion()
        with daemon(tmp_path / "first.log", given) as first:
            first.until(lambda: traffic.read(first), "all to be read")
            traffic.hang_up()
            broker.freeze()
            try:
                first.signal(signal.SIGTERM)
                first.until(lambda: not first.ready, "readiness to be off", 5, every_s=0.01)
                assert first.healthy, "it still serves"
                began = time.monotonic()
                first.signal(signal.SIGTERM)
                assert first.wait() == 1
                assert time.monotonic() - began < 1.0
            finally:
                broker.thaw()
        traffic.portion()
        traffic.settle()
        with daemon(tmp_path / "second.log", given) as second:
            traffic.agree(second)
