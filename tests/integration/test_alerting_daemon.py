"""The daemon itself on Apache Kafka, its rules in Prometheus, Alertmanager and a webhook: a segment drifts, a replica
is killed, the segment recovers.

The segment is a fifth of the traffic, with errors so small that the model's total does not show them. All durations of
the rules are divided by 60 (`support.alerting.shortened`); the detector is as it is.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import count, groupby
from pathlib import Path
from random import Random

import pytest
from kafka import KafkaProducer

from support.alerting import write_shortened
from support.alertmanager import Webhook, alertmanager, webhook
from support.histories import PARTITIONS, Event, label, prediction
from support.prometheus import Prometheus, prometheus
from support.running import Daemon, daemon
from support.tools import ALERTMANAGER, PROMETHEUS, needs
from support.topics import create_topics, unique
from support.waiting import wait_until

SPREAD = {"de": 0.3, "fr": 3.0}
BASELINE = {
    "format": 1,
    "baselines": [
        {"model": "price", "mse": 7.3, "upper_mse": 8.0},
        {"model": "price", "dimension": "country", "segment": "de", "mse": 0.09, "upper_mse": 0.1},
        {"model": "price", "dimension": "country", "segment": "fr", "mse": 9.0, "upper_mse": 10.0},
    ],
}
PLACE = 0  # the partition of all that is from de, so that one replica alone knows of it
SEGMENT = "team", "MsemonSegmentDrift", "price", "de"
AFTER_A_KILL = {"MsemonTargetDown", "MsemonPartitionsUnassigned"}

pytestmark = pytest.mark.timeout(400)


class Fleet(threading.Thread):
    """A model that predicts, and its labels; `times` is by how much the errors of de are larger than they should be."""

    def __init__(self, bootstrap: str, predictions: str, labels: str) -> None:
        super().__init__(daemon=True)
        self.times = 1.0
        self._topics = predictions, labels
        self._producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=20)
        self._end = threading.Event()

    def run(self) -> None:
        random, ids = Random(5), count()
        while not self._end.wait(0.1):
            for country in ("de", "fr", "fr", "fr", "fr"):
                self._pair(random, f"{country}-{next(ids)}", country)

    def _pair(self, random: Random, ident: str, country: str) -> None:
        truth, at = random.gauss(100, 10), time.time_ns() // 1000
        error = random.gauss(0, SPREAD[country]) * (self.times if country == "de" else 1.0)
        asked = prediction(ident, "price", truth + error, at, version="7", segments={"country": country})
        for topic, event in zip(self._topics, (asked, label(ident, truth, at)), strict=True):
            self._send(topic, event, PLACE if country == "de" else event.partition)

    def _send(self, topic: str, event: Event, partition: int) -> None:
        record = event.record()
        self._producer.send(topic, record.value, key=record.key, partition=partition, timestamp_ms=record.timestamp_ms)

    def close(self) -> None:
        self._end.set()
        self.join(timeout=10)
        self._producer.close(timeout=10)


@contextmanager
def replicas(kafka: str, directory: Path, topics: list[str]) -> Iterator[dict[str, Daemon]]:
    """Two of one group that share the partitions."""
    baselines = directory / "baselines.json"
    baselines.write_text(json.dumps(BASELINE))
    settings = {
        "kafka.bootstrap_servers": kafka,
        "kafka.topics": topics,
        "kafka.group_id": unique("group"),
        "kafka.client_options": json.dumps({"session_timeout_ms": 3_000, "heartbeat_interval_ms": 500}),
        "state.store": "kafka",
        "state.topic": unique("state"),
        "state.interval": "1s",
        "windows.lengths": ["1m", "10m"],
        "segments": [["country"]],
        "baseline.file": str(baselines),
    }
    with ExitStack() as stack:
        both = {name: stack.enter_context(daemon(directory / f"{name}.log", settings, ready=False)) for name in "ab"}
        wait_until(lambda: all(each.ready and len(owned(each)) == PARTITIONS // 2 for each in both.values()), 90,
                   "the partitions to be split", 0.2)  # fmt: skip
        yield both


def owned(replica: Daemon) -> list[int]:
    partitions: list[int] = replica.status()["partitions"]
    return partitions


def about_models(hook: Webhook) -> list[tuple[str, ...]]:
    """What was sent about models, in order; the same said twice in a row stands once."""
    return [alert for alert, _ in groupby(each.alert for each in hook.notices if "model" in each.labels)]


def active(server: Prometheus, replica: str) -> bool:
    return 1.0 in server.vector(f"msemon_segment_drift_active{{instance='{replica}',segment='de'}}").values()


def test_a_segment_that_drifts_is_all_that_arrives_until_it_has_recovered_whoever_is_killed(kafka, tmp_path):
    receiver, status = SEGMENT[0], SEGMENT[1:]
    topics = [unique("predictions"), unique("labels")]
    create_topics(kafka, dict.fromkeys(topics, PARTITIONS))
    rules = write_shortened(tmp_path / "rules", 60)
    with (
        replicas(kafka, tmp_path, topics) as both,
        closing(Fleet(kafka, *topics)) as fleet,
        webhook() as (hook, url),
        alertmanager(needs(ALERTMANAGER), tmp_path / "alertmanager", url) as manager,
        prometheus(needs(PROMETHEUS), tmp_path / "prometheus", {name: each.port for name, each in both.items()},
                   rules=rules, alertmanager=manager.port) as server,
    ):  # fmt: skip
        fleet.start()
        wait_until(lambda: server.vector("msemon_segment_drift_evidence{segment='de'}"), 60, "de to be watched", 0.2)
        assert not hook.notices

        fleet.times = 4.0
        wait_until(lambda: hook.has(receiver, "firing", *status), 60, "the alert", 0.2)

        (owner,) = [name for name, each in both.items() if PLACE in owned(each)]
        (other,) = both.keys() - {owner}
        both[owner].process.kill()
        wait_until(lambda: active(server, other), 60, "the other replica to know of it", 0.2)
        knows = f"sum_over_time(msemon_segment_drift_active{{instance='{other}',segment='de'}}[2m]) > 32"
        wait_until(lambda: server.vector(knows), 90, "all that the killed one had said to be forgotten", 0.2)
        assert about_models(hook) == [(receiver, "firing", *status)]

        fleet.times = 1.0
        wait_until(lambda: hook.has(receiver, "resolved", *status), 120, "its end", 0.2)
        assert about_models(hook) == [(receiver, "firing", *status), (receiver, "resolved", *status)]
        loud = {each.labels["alertname"] for each in hook.notices if each.receiver != "quiet"}
        assert loud - {"MsemonSegmentDrift"} <= AFTER_A_KILL
        assert {each.labels["alertname"] for each in hook.notices if each.receiver == "quiet"} <= {
            "MsemonStateIncomplete"  # a group that begins
        }
