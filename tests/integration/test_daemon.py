"""The daemon's life on Apache Kafka: start, readiness, replicas, dead letters, trouble with the broker, the end."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition

from support.brokers import Broker, admin, apache_kafka, why_no_kafka
from support.histories import PARTITIONS, Event, label, prediction, records
from support.report import not_run
from support.running import Daemon, daemon
from support.stories import made, names, pairs, send, settings
from support.topics import Record, create_topics, produce, unique
from support.waiting import wait_until

STOP_S = 10.0  # the promise: SIGTERM to exit


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that these tests may stop, kill and freeze. Running or not, as the test before left it."""
    if reason := why_no_kafka():
        not_run(reason)
    # A broker that was killed may come back once its old self counts as dead.
    timing = {"broker_session_timeout_ms": "2000", "broker_heartbeat_interval_ms": "500"}
    broker = apache_kafka(tmp_path_factory.mktemp("own"), **timing)
    yield broker
    broker.stop()


@pytest.fixture
def running_broker(own: Broker) -> Broker:
    if own.process is None:
        own.start()
    return own


def test_sigterm_under_load(kafka, tmp_path):
    """Asked to stop in the middle of its work it commits, leaves the group and exits with 0 within ten seconds."""
    topics = made(kafka, names())
    produce(kafka, topics[0], records(pairs(400_000)[0]))
    given = settings(kafka, topics, kafka__start="earliest")
    with daemon(tmp_path / "daemon.log", given) as running:

        def processed() -> float:
            return sum(running.scrape().events(topics[0]).values())

        running.until(processed, "the first events", every_s=0.01)
        began = time.monotonic()
        running.signal(signal.SIGTERM)
        assert running.wait() == 0
        assert time.monotonic() - began < STOP_S
        assert running.lines()[-1]["event"] == "stopped"
    with admin(kafka) as client:
        committed = client.list_group_offsets(given["kafka.group_id"])
        offsets = {where: found.offset for where, found in _flat(committed).items() if where.topic == topics[0]}
        assert 0 < sum(offsets.values()) < 400_000, "it was in the middle of its work, and said how far it had come"
        group = client.describe_groups([given["kafka.group_id"]])
        assert not _members(group), "it has left"


def _flat(committed: Any) -> dict[TopicPartition, Any]:
    first = next(iter(committed.values()))
    return first if isinstance(first, dict) else committed  # by group, or of the one group


def _members(described: Any) -> Any:
    group = next(iter(described.values())) if isinstance(described, dict) else described[0]
    return group["members"] if isinstance(group, dict) else group.members


def test_topics_that_do_not_exist_yet_are_waited_for(kafka, tmp_path):
    """Meanwhile it is healthy and not ready, creates nothing, and serves its own metrics; then it reads."""
    topics = names()
    with daemon(tmp_path / "daemon.log", settings(kafka, topics), ready=False) as running:
        running.until(lambda: running.said("waiting for topics that do not exist yet"), "it to wait for topics")
        assert running.healthy
        assert not running.ready
        assert running.scrape().value("msemon_partitions", topic=topics[0]) == 0
        with admin(kafka) as client:
            assert not set(topics) & {_name(topic) for topic in client.list_topics()}
        create_topics(kafka, {topics[0]: PARTITIONS})
        running.until(lambda: running.scrape().value("msemon_partitions", topic=topics[0]) == PARTITIONS, "one topic")
        assert not running.ready
        create_topics(kafka, {topics[1]: PARTITIONS})
        running.await_ready()
        send(kafka, topics, pairs(100))
        running.await_events(dict.fromkeys(topics, 100))
        assert running.scrape().value("msemon_mse", model="m", version="", window="1h") == 4.0


def _name(topic: Any) -> str:
    return str(topic["name"] if isinstance(topic, dict) else topic)


def test_unequal_partition_counts_are_refused_at_start(kafka, tmp_path):
    """Exit code 1, and one line that names the topics and their counts."""
    topics = names()
    create_topics(kafka, {topics[0]: 4, topics[1]: 3})
    with daemon(tmp_path / "daemon.log", settings(kafka, topics), ready=False) as running:
        assert running.wait() == 1
        (line,) = [line for line in running.lines() if line["level"] == "error"]
        assert f"{topics[0]} has 4" in line["error"]
        assert f"{topics[1]} has 3" in line["error"]


def test_bad_settings_exit_with_two_and_a_line_each(tmp_path):
    """Before anything is connected to."""
    given = {"join.timeout": "soon", "windows.panes": "0", "kafka.tpics": "x"}
    with daemon(tmp_path / "daemon.log", given, ready=False) as running:
        assert running.wait() == 2
        lines = running.log.read_text().splitlines()
    assert len(lines) == 3
    assert all(any(name in line for line in lines) for name in given)


@pytest.mark.parametrize(("start", "expected"), [("latest", 70), ("earliest", 170)])
def test_where_a_new_group_begins(kafka, tmp_path, start, expected):
    """At the end of the log or at its beginning."""
    topics = made(kafka, names())
    send(kafka, topics, pairs(100))
    with daemon(tmp_path / "daemon.log", settings(kafka, topics, kafka__start=start)) as running:
        send(kafka, topics, pairs(70, first=100))
        running.await_events(dict.fromkeys(topics, expected))
        scrape = running.scrape()
        assert scrape.value("msemon_pairs_total", model="m", version="") == expected
        assert scrape.value("msemon_squared_error_total", model="m", version="") == 4.0 * expected
        assert set(scrape.all("msemon_state_incomplete").values()) == {1.0}


def test_a_second_replica_takes_half_and_gives_it_back(kafka, tmp_path):
    """The series of partitions that move leave the first replica at once, and its counters stay."""
    topics = made(kafka, names())
    events = _one_model_a_partition()
    send(kafka, topics, events)
    given = settings(kafka, topics, kafka__start="earliest", segments=[["country"]])
    models = {f"m{p}" for p in range(PARTITIONS)}
    with daemon(tmp_path / "first.log", given) as first:
        first.until(lambda: _models(first) == models, "all models on the first replica")
        with daemon(tmp_path / "second.log", given) as second:
            wait_until(lambda: len(_partitions(first)) == len(_partitions(second)) == 2, 30, "the partitions split")
            first.until(lambda: _models(first) == {f"m{p}" for p in _partitions(first)}, "what moved to have left")
            second.until(lambda: _models(second) == {f"m{p}" for p in _partitions(second)}, "what moved to be here")
            assert _models(first).isdisjoint(_models(second))
            assert sorted(_partitions(first) + _partitions(second)) == list(range(PARTITIONS))
            for each in (first, second):
                assert each.scrape().value("msemon_partitions_assigned") is not None
                assert each.scrape().values("msemon_lifetime_pairs", "model") == _models(each)
            assert first.scrape().values("msemon_pairs_total", "model") == models
            both = [each.scrape().sum("msemon_window_squared_error", window="24h") for each in (first, second)]
            assert sum(both) == 4.0 * len(events[0])
        first.until(lambda: len(_partitions(first)) == PARTITIONS, "the first to have all again")
        first.until(lambda: _models(first) == models, "all models on the first again")
        first.await_ready()
        assert first.scrape().sum("msemon_window_squared_error", window="24h") == 4.0 * len(events[0])


def _partitions(running: Daemon) -> list[int]:
    found: list[int] = running.status()["partitions"]
    return found


def _models(running: Daemon) -> set[str]:
    """Models whose windows hold all that they should."""
    found = running.scrape().all("msemon_window_pairs", window="24h")
    return {dict(labels)["model"] for labels in found}


def _one_model_a_partition() -> tuple[list[Event], list[Event]]:
    now_us = time.time_ns() // 1000
    labelled = [label(f"id {i}", 3.0, now_us) for i in range(200)]
    return [prediction(each.id, f"m{each.partition}", 5.0, now_us) for each in labelled], labelled


def test_dead_letters_are_what_came_with_the_reason(kafka, tmp_path):
    """Original bytes, key and headers, then reason, topic, partition and offset; good events around them count."""
    topics, dead = made(kafka, names()), unique("dead")
    create_topics(kafka, {dead: 1})
    bad = {
        b"\xff\x00 no text": "malformed",
        b'{"id": "1", "prediction": 1}': "missing_field",
        b'{"id": "1", "label": "1"}': "wrong_type",
        b'{"id": "1", "label": NaN}': "not_finite",
        b'{"id": "1", "label": 1, "weight": -1}': "negative_weight",
        b'{"model": "m", "prediction": [1], "label": 2}': "shape_mismatch",
        b'{"id": "1", "label": 1, "ts": "9000-01-01T00:00:00Z"}': "future",
        b'{"id": "' + b"x" * 2000 + b'", "label": 1}': "oversized",
    }
    letters = [
        Record(value, partition=2, key=b"key %d" % i, headers=(("trace", b"\x00\xff"), ("n", b"%d" % i)))
        for i, value in enumerate(bad)
    ]
    given = settings(kafka, topics, kafka__dead_letter_topic=dead, limits__message_bytes="1000")
    with daemon(tmp_path / "daemon.log", given) as running:
        send(kafka, topics, pairs(10))
        first = _end(kafka, TopicPartition(topics[1], 2))
        produce(kafka, topics[1], letters)
        send(kafka, topics, pairs(10, first=10))
        running.await_events({topics[0]: 20, topics[1]: 20 + len(bad)})
        assert running.scrape().rejected() == {(topics[1], reason): 1.0 for reason in bad.values()}
        assert running.scrape().value("msemon_pairs_total", model="m", version="") == 20
        found = _read(kafka, dead, len(bad))
        assert running.scrape().value("msemon_dead_letter_failures_total") == 0
    assert [(record.value, record.key) for record in found] == [(letter.value, letter.key) for letter in letters]
    for i, (record, reason) in enumerate(zip(found, bad.values(), strict=True)):
        assert record.headers == [
            ("trace", b"\x00\xff"),
            ("n", b"%d" % i),
            ("msemon-reason", reason.encode()),
            ("msemon-topic", topics[1].encode()),
            ("msemon-partition", b"2"),
            ("msemon-offset", b"%d" % (first + i)),
        ]


def _end(bootstrap: str, where: TopicPartition) -> int:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap)
    try:
        return int(consumer.end_offsets([where])[where])
    finally:
        consumer.close()


def _read(bootstrap: str, topic: str, count: int) -> list[Any]:
    """The first `count` records of the topic's only partition."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap)
    where = TopicPartition(topic, 0)
    found: list[Any] = []

    def enough() -> bool:
        found.extend(consumer.poll(timeout_ms=200).get(where, []))
        return len(found) >= count

    try:
        consumer.assign([where])
        consumer.seek(where, 0)
        wait_until(enough, 20, f"{count} dead letters")
        return found
    finally:
        consumer.close()


def test_a_broker_that_is_absent_at_start(own, tmp_path):
    """The process stays up and serves health and its own metrics; when the broker comes, it connects."""
    own.stop()
    topics = names()
    with daemon(tmp_path / "daemon.log", settings(own.bootstrap, topics), ready=False) as running:
        running.until(lambda: running.said("no broker answers"), "a first attempt")
        assert running.healthy
        assert not running.ready
        assert running.scrape().value("msemon_rebalances_total") == 0
        own.start()
        made(own.bootstrap, topics)
        running.await_ready()
        send(own.bootstrap, topics, pairs(50))
        running.await_events(dict.fromkeys(topics, 50))


def test_a_broker_that_is_killed_and_comes_back(running_broker, tmp_path):
    """The process stays up and healthy meanwhile, then goes on where it was: nothing lost, nothing twice."""
    broker = running_broker
    topics = made(broker.bootstrap, names())
    with daemon(tmp_path / "daemon.log", settings(broker.bootstrap, topics)) as running:
        send(broker.bootstrap, topics, pairs(50))
        running.await_events(dict.fromkeys(topics, 50))
        broker.kill()
        assert running.healthy
        assert running.scrape().value("msemon_pairs_total", model="m", version="") == 50
        broker.start()
        send(broker.bootstrap, topics, pairs(50, first=50))
        running.await_events(dict.fromkeys(topics, 100))
        scrape = running.scrape()
        assert scrape.value("msemon_pairs_total", model="m", version="") == 100
        assert scrape.value("msemon_window_squared_error", model="m", version="", window="1h") == 400.0
        running.await_ready()


def test_the_status_page_and_unknown_paths(kafka, tmp_path):
    """What there is beside metrics: links, status, series; anything else is 404."""
    topics = made(kafka, names())
    with daemon(tmp_path / "daemon.log", settings(kafka, topics)) as running:
        send(kafka, topics, pairs(5))
        running.await_events(dict.fromkeys(topics, 5))
        assert running.get("/")[0] == 200
        assert running.status()["partitions"] == list(range(PARTITIONS))
        assert json.loads(running.get("/api/v1/series")[1])
        assert running.get("/nothing")[0] == 404


def test_a_second_sigterm_exits_at_once(running_broker, tmp_path):
    """Where the first one waits for a broker that does not answer."""
    topics = made(running_broker.bootstrap, names())
    with daemon(tmp_path / "daemon.log", settings(running_broker.bootstrap, topics)) as running:
        send(running_broker.bootstrap, topics, pairs(50))
        running.await_events(dict.fromkeys(topics, 50))
        running_broker.freeze()
        try:
            running.signal(signal.SIGTERM)
            running.until(lambda: not running.ready, "readiness to be off", 5, every_s=0.01)
            began = time.monotonic()
            running.signal(signal.SIGTERM)
            assert running.wait() == 1
            assert time.monotonic() - began < 2.0
        finally:
            running_broker.thaw()


def test_sigterm_while_the_broker_is_dead(running_broker, tmp_path):
    """There is nobody to leave: exit code 0 within ten seconds all the same."""
    topics = made(running_broker.bootstrap, names())
    with daemon(tmp_path / "daemon.log", settings(running_broker.bootstrap, topics)) as running:
        send(running_broker.bootstrap, topics, pairs(50))
        running.await_events(dict.fromkeys(topics, 50))
        running_broker.kill()
        began = time.monotonic()
        running.signal(signal.SIGTERM)
        assert running.wait() == 0
        assert time.monotonic() - began < STOP_S
