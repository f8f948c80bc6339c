"""The demo's fleet on Apache Kafka, the daemon itself, its rules in Prometheus, Alertmanager and a webhook: a segment
drifts, a replica is killed, the segment recovers.

The segment is an eleventh of its model's traffic, so that the model's total stays within what its baseline tolerates.
The fleet runs at four times its speed, in the present: event times are true, there are only more of them. All durations
of the rules are divided by 60 (`support.alerting.shortened`); detector and recovery are as they are.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path

import pytest

from msemon.demo import baselines, child
from support.alerting import write_shortened
from support.alertmanager import Webhook, alertmanager, webhook
from support.prometheus import Prometheus, prometheus
from support.running import ROOT, Daemon, daemon
from support.tools import ALERTMANAGER, PROMETHEUS, needs
from support.topics import create_topics, unique
from support.waiting import wait_until

SEGMENT = "US,desktop"
ALERT = "MsemonSegmentDrift", "price", SEGMENT
CALM = ["--drift-ratio", "1"]
DRIFTING = ["--drift-in", "price:country=US,device=desktop", "--drift-ratio", "1.7", "--drift-after", "0"]
DRIFTING += ["--drift-for", "inf", "--drift-every", "inf"]  # until this test ends it, however slow the machine is
AFTER_A_KILL = {"MsemonTargetDown", "MsemonPartitionsUnassigned"}

pytestmark = pytest.mark.timeout(400)


@contextmanager
def fleet(log: Path, kafka: str, topics: list[str], drift: list[str]) -> Iterator[None]:
    """The simulated fleet in a process of its own, for the time of the block."""
    predictions, labels = topics
    command = [sys.executable, "-m", "msemon.demo", "--bootstrap", kafka, "--speed", "4"]
    command += ["--predictions", predictions, "--labels", labels, *drift]
    with log.open("wb") as output:
        process = child.start(command, output, os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        yield
        assert process.poll() is None, log.read_text()
    finally:
        child.end(process)
    assert process.returncode == 0, log.read_text()


@contextmanager
def replicas(kafka: str, directory: Path, topics: list[str]) -> Iterator[dict[str, Daemon]]:
    """Two of one group. There is one partition: one of them alone knows of the drift, the other stands by."""
    settings = {
        "kafka.bootstrap_servers": kafka,
        "kafka.topics": topics,
        "kafka.group_id": unique("group"),
        "kafka.client_options": json.dumps({"session_timeout_ms": 3_000, "heartbeat_interval_ms": 500}),
        "state.store": "kafka",
        "state.topic": unique("state"),
        "state.interval": "1s",
        "windows.lengths": ["1m", "10m"],
        "segments": [["country", "device"]],
        "baseline.file": str(baselines.FILE),
    }
    with ExitStack() as stack:
        both = {name: stack.enter_context(daemon(directory / f"{name}.log", settings, ready=False)) for name in "ab"}
        wait_until(lambda: all(each.ready for each in both.values()) and sum(map(owned, both.values())) == 1, 90,
                   "one to own the partition and one to stand by", 0.2)  # fmt: skip
        yield both


def owned(replica: Daemon) -> int:
    """How many partitions."""
    return len(replica.status()["partitions"])


def about_models(hook: Webhook) -> list[tuple[str, ...]]:
    """What was sent about models, in order; the same said twice in a row stands once."""
    return [alert for alert, _ in groupby(each.alert for each in hook.notices if "model" in each.labels)]


def active(server: Prometheus, replica: str) -> bool:
    return 1.0 in server.vector(f"msemon_segment_drift_active{{instance='{replica}',segment='{SEGMENT}'}}").values()


def test_a_segment_that_drifts_is_all_that_arrives_until_it_has_recovered_whoever_is_killed(kafka, tmp_path):
    fired, resolved = ("team", "firing", *ALERT), ("team", "resolved", *ALERT)
    topics = [unique("predictions"), unique("labels")]
    create_topics(kafka, dict.fromkeys(topics, 1))
    rules = write_shortened(tmp_path / "rules", 60)
    with (
        replicas(kafka, tmp_path, topics) as both,
        webhook() as (hook, url),
        alertmanager(needs(ALERTMANAGER), tmp_path / "alertmanager", url) as manager,
        prometheus(needs(PROMETHEUS), tmp_path / "prometheus", {name: each.port for name, each in both.items()},
                   rules=rules, alertmanager=manager.port) as server,
    ):  # fmt: skip
        with fleet(tmp_path / "before.log", kafka, topics, CALM):
            watched = f"msemon_segment_drift_evidence{{segment='{SEGMENT}'}}"
            wait_until(lambda: server.vector(watched), 60, "the segment to be watched", 0.2)
            assert not hook.notices

        with fleet(tmp_path / "drifting.log", kafka, topics, DRIFTING):
            wait_until(lambda: hook.has(*fired), 90, "the alert", 0.2)

            (owner,) = [name for name, each in both.items() if owned(each)]
            (other,) = both.keys() - {owner}
            both[owner].process.kill()
            wait_until(lambda: active(server, other), 60, "the other replica to know of it", 0.2)
            knows = f"sum_over_time(msemon_segment_drift_active{{instance='{other}',segment='{SEGMENT}'}}[2m]) > 32"
            wait_until(lambda: server.vector(knows), 90, "all that the killed one had said to be forgotten", 0.2)
            assert about_models(hook) == [fired]

        with fleet(tmp_path / "after.log", kafka, topics, CALM):
            wait_until(lambda: hook.has(*resolved), 120, "its end", 0.2)
        assert about_models(hook) == [fired, resolved]
        loud = {each.labels["alertname"] for each in hook.notices if each.receiver != "quiet"}
        assert loud - {"MsemonSegmentDrift"} <= AFTER_A_KILL
        assert {each.labels["alertname"] for each in hook.notices if each.receiver == "quiet"} <= {
            "MsemonStateIncomplete"  # a group that begins
        }
