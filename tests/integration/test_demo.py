"""The demo as a user starts it, its broker, and its fleet."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from kafka import KafkaConsumer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from msemon.demo.broker import EmbeddedBroker
from msemon.demo.fleet import LABELS_TOPIC, PREDICTIONS_TOPIC
from msemon.demo.models import MODELS
from msemon.demo.producer import PARTITIONS, Fleet, create_topics
from support.brokers import Broker, apache_kafka, running, why_no_kafka, why_no_tansu
from support.report import not_run
from support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
FIRST_NUMBERS_S = 15.0
END_S = 30.0
EPISODES_S = 150.0  # five of them at speed 8; a machine that has no time for the fleet sees few pairs in each


@pytest.fixture(autouse=True)
def _with_a_broker() -> None:
    if reason := why_no_tansu():
        not_run(reason)


class Demo:
    """`msemon demo` in a session of its own, as a shell starts a job."""

    def __init__(self, output: Path, *arguments: str) -> None:
        self.began = time.monotonic()
        self.output = output
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "msemon", "demo", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=ROOT,
                env={**os.environ, "TMPDIR": str(output.parent)},  # one that is killed leaves its broker's log
            )

    def text(self) -> str:
        return self.output.read_text()

    def url(self) -> str | None:
        found = re.search(r"http://\S+/metrics", self.text())
        return found.group() if found else None

    def models_with_numbers(self) -> set[str]:
        """Models whose RMSE is on `/metrics` by now."""
        assert self.process.poll() is None, self.text()
        url = self.url()
        if url is None:
            return set()
        try:
            with urllib.request.urlopen(url, timeout=5.0) as answer:
                exposition = answer.read().decode()
        except urllib.error.URLError:
            return set()
        families = text_string_to_metric_families(exposition)
        return {
            sample.labels["model"]
            for family in families
            if family.name == "msemon_rmse"
            for sample in family.samples
            if sample.labels["window"] == "5m" and sample.value > 0.0
        }

    def drift(self, family: str) -> dict[tuple[str, str], float]:
        """A family of `msemon_drift_` and its sister of segments, by model and segment."""
        assert self.process.poll() is None, self.text()
        with urllib.request.urlopen(str(self.url()), timeout=5.0) as answer:
            families = text_string_to_metric_families(answer.read().decode())
        names = (f"msemon_drift_{family}", f"msemon_segment_drift_{family}")
        samples = (sample for found in families for sample in found.samples if sample.name in names)
        return {(sample.labels["model"], sample.labels.get("segment", "")): sample.value for sample in samples}

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@contextmanager
def demo(output: Path, *arguments: str) -> Iterator[Demo]:
    running = Demo(output, *arguments)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.process.wait()


def gone(processes: list[psutil.Process]) -> bool:
    """Ended; one that nobody has reaped counts as ended."""
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


def test_all_models_have_numbers_within_15_seconds_and_nothing_is_left_when_the_time_is_over(tmp_path: Path) -> None:
    with demo(tmp_path / "out", "--duration", "20", "--port", "0") as running:
        expected = {model.name for model in MODELS}
        left = FIRST_NUMBERS_S - (time.monotonic() - running.began)
        wait_until(lambda: running.models_with_numbers() == expected, left, "numbers of all models", every_s=0.2)
        children = running.children()
        assert {Path(p.exe()).name for p in children} >= {"tansu"}
        assert len(children) == 2  # broker and fleet
        assert running.process.wait(END_S) == 0, running.text()
        assert gone(children)
    text = running.text()
    assert "Traceback" not in text
    assert text.index("/metrics") < text.index("RMSE 5m")
    for name in (*expected, "FR,mobile"):
        assert name in text


@pytest.mark.timeout(400)
def test_the_country_that_drifts_alarms_and_recovers_by_itself_and_no_other_does(tmp_path: Path) -> None:
    settings = ("--segments", '[["country"]]', "--windows.lengths", '["30s", "5m"]')
    with demo(tmp_path / "out", "--port", "0", "--speed", "8", *settings) as running:
        wait_until(running.models_with_numbers, FIRST_NUMBERS_S, "numbers", every_s=0.2)
        wait_until(lambda: running.drift("alarms_total").get(("price", "FR")), EPISODES_S, "the alarm", every_s=0.2)
        wait_until(lambda: not any(running.drift("active").values()), EPISODES_S, "the recovery", every_s=0.2)
        alarms = running.drift("alarms_total")
        assert {series for series, count in alarms.items() if count} == {("price", ""), ("price", "FR")}
        assert len(alarms) == len(MODELS) + 10  # two models with four countries, two whose events have none


def test_ctrl_c_ends_every_part_and_exits_with_0(tmp_path: Path) -> None:
    with demo(tmp_path / "out", "--port", "0") as running:
        wait_until(running.models_with_numbers, FIRST_NUMBERS_S, "numbers", every_s=0.2)
        children = running.children()
        assert len(children) == 2
        os.killpg(running.process.pid, signal.SIGINT)  # as a terminal does: to the whole foreground group
        assert running.process.wait(END_S) == 0, running.text()
        assert gone(children)
    text = running.text()
    assert "Traceback" not in text
    assert "RMSE 5m" in text  # the last table, although no ten seconds have passed


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent was killed")
def test_no_part_outlives_a_killed_demo(tmp_path: Path) -> None:
    with demo(tmp_path / "out", "--port", "0") as running:
        wait_until(lambda: len(running.children()) == 2, FIRST_NUMBERS_S, "broker and fleet")
        children = running.children()
        running.process.kill()
        try:
            wait_until(lambda: gone(children), 5.0, "broker and fleet to end")
        finally:
            for child in children:
                if not gone([child]):
                    child.kill()


def test_a_port_that_is_taken_and_asked_for_is_a_failure_that_says_so(tmp_path: Path) -> None:
    with EmbeddedBroker() as somebody, demo(tmp_path / "out", "--port", str(somebody.port)) as running:
        assert running.process.wait(END_S) == 1
    assert str(running.process.args[-1]) in running.text()  # type: ignore[index]
    assert "Traceback" not in running.text()


def test_prediction_and_label_of_an_id_are_on_one_partition_number_of_four() -> None:
    with EmbeddedBroker() as broker:
        fleet = Fleet(broker.bootstrap, seed=1, speed=2.0)
        assert fleet.run(duration_s=3.0)
        assert fleet.failed == 0
        consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest", group_id=None)
        places: dict[str, dict[bytes, int]] = {PREDICTIONS_TOPIC: {}, LABELS_TOPIC: {}}
        try:
            assert {len(consumer.partitions_for_topic(topic)) for topic in places} == {PARTITIONS} == {4}
            consumer.assign([TopicPartition(topic, p) for topic in places for p in range(PARTITIONS)])
            read = 0

            def all_read() -> bool:
                nonlocal read
                for where, records in consumer.poll(timeout_ms=200).items():
                    places[where.topic].update({record.key: where.partition for record in records})
                    read += len(records)
                return read == fleet.sent

            wait_until(all_read, 10.0, "all messages")
        finally:
            consumer.close()
    labelled = places[LABELS_TOPIC]
    assert len(labelled) > 200
    assert labelled.items() <= places[PREDICTIONS_TOPIC].items()
    assert set(labelled.values()) == set(range(PARTITIONS))


def test_topics_that_exist_are_left_as_they_are() -> None:
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        create_topics(broker.bootstrap)


def test_the_fleet_waits_for_its_broker_until_it_is_asked_to_stop() -> None:
    with EmbeddedBroker() as broker:
        free = broker.port
    command = [sys.executable, "-u", "-m", "msemon.demo", "--bootstrap", f"127.0.0.1:{free}"]
    fleet = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert fleet.stdout is not None
        assert b"waiting for" in fleet.stdout.readline()
        fleet.send_signal(signal.SIGTERM)
        assert fleet.wait(END_S) == 1
    finally:
        fleet.kill()
        fleet.communicate()


def test_the_fleet_goes_on_when_its_broker_has_been_away(tmp_path: Path) -> None:
    """Killed, for as long as it takes until a message is given up, and started again. SIGTERM ends the fleet with 0,
    even while the broker is away once more."""
    if reason := why_no_kafka():
        not_run(reason)
    log = tmp_path / "fleet.log"
    with running(apache_kafka(tmp_path)) as broker, log.open("wb") as output:
        command = [sys.executable, "-u", "-m", "msemon.demo", "--bootstrap", broker.bootstrap]
        fleet = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT)
        try:
            wait_until(lambda: kept(broker) > 100, END_S, "messages", every_s=0.2)
            broker.kill()
            wait_until(lambda: b"not sent" in log.read_bytes(), END_S, "the fleet to miss its broker", every_s=0.2)
            broker.start()
            before = kept(broker)
            wait_until(lambda: kept(broker) > before + 500, 60.0, "more messages", every_s=0.2)
            broker.kill()
            fleet.send_signal(signal.SIGTERM)
            assert fleet.wait(END_S) == 0, log.read_text()
        finally:
            fleet.kill()
            fleet.wait()
    assert "Traceback" not in log.read_text()
    assert "messages sent" in log.read_text()


def kept(broker: Broker) -> int:
    """How many messages of the fleet the broker has."""
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap, group_id=None)
    try:
        topics = [topic for topic in (PREDICTIONS_TOPIC, LABELS_TOPIC) if consumer.partitions_for_topic(topic)]
        places = [TopicPartition(topic, p) for topic in topics for p in range(PARTITIONS)]
        return sum(consumer.end_offsets(places).values())
    finally:
        consumer.close()


def test_the_broker_ends_with_its_block_and_leaves_no_log() -> None:
    with EmbeddedBroker() as broker:
        assert broker.alive()
        process, log = psutil.Process(broker.pid), broker.log_path
        assert "listening" in log.read_text()
    assert gone([process])
    assert not log.exists()


def test_a_terminals_ctrl_c_does_not_reach_the_broker() -> None:
    with EmbeddedBroker() as broker:
        assert broker.pid is not None
        assert os.getsid(broker.pid) == broker.pid != os.getsid(0)


def test_a_broker_that_ended_by_itself_leaves_its_log() -> None:
    with EmbeddedBroker() as broker:
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGKILL)
        wait_until(lambda: not broker.alive(), 5.0, "the broker to end")
    try:
        assert "listening" in broker.log_path.read_text()
    finally:
        broker.log_path.unlink()
