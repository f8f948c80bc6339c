"""`msemon check` against brokers."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from msemon import check
from msemon.settings import load
from support.brokers import admin
from support.topics import Record, create_topics, produce, transaction, unique


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def checked(bootstrap: str, *topics: str, **flags: str) -> tuple[int, str]:
    """Exit code and report."""
    given = {"kafka.bootstrap-servers": bootstrap, "kafka.topics": json.dumps(topics), "segments": '[["country"]]'}
    given["web.address"] = "127.0.0.1:0"
    out = io.StringIO()
    code = check.run(load(given | flags, environ={}), out)
    return code, out.getvalue()


def records(*events: Any, partitions: int = 1) -> list[Record]:
    return [
        Record(event if isinstance(event, bytes) else json.dumps(event).encode(), partition=i % partitions)
        for i, event in enumerate(events)
    ]


def test_sample_of_both_topics(broker: str) -> None:
    """Events of every partition are sampled and decoded; what is rejected has coordinates; run would work."""
    predictions, labels = unique("check-predictions"), unique("check-labels")
    create_topics(broker, {predictions: 2, labels: 2})
    good = [
        {"id": str(i), "model": "price", "prediction": i, "segments": {"country": "at" if i % 3 else "de"}}
        for i in range(40)
    ]
    produce(broker, predictions, records(*good, partitions=2))
    produce(broker, predictions, [Record(b"not json", partition=1)])
    produce(broker, labels, records(*({"id": str(i), "label": 1.0} for i in range(40)), partitions=2))
    code, text = checked(broker, predictions, labels)
    assert code == 0, text
    assert f"{predictions}: 2 partitions, 41 records sampled" in text
    assert "prediction 40, rejected 1" in text
    assert "rejected as malformed: 1, such as partition 1 offset 20" in text
    assert f"{labels}: 2 partitions, 40 records sampled" in text
    assert "price: 2 segments of limits.series 1,000 (country 2)" in text
    assert "warning" not in text
    assert text.endswith("state.path ./msemon-state: does not exist: run would make it\nrun would work\n")
    assert not Path("msemon-state").exists()


def test_only_the_last_records(kafka: str) -> None:
    """Of a long topic the last records are read, about a thousand over its partitions."""
    topic = unique("check-long")
    create_topics(kafka, {topic: 2})
    events = [{"id": str(i), "model": "old" if i < 3_000 else "new", "prediction": 1} for i in range(4_000)]
    produce(kafka, topic, records(*events, partitions=2))
    code, text = checked(kafka, topic)
    assert code == 0, text
    assert "1,000 records sampled" in text
    assert "new" in text
    assert "old" not in text


def test_an_aborted_transaction_is_no_sample(kafka: str) -> None:
    """What was never committed is not sampled, and does not hold the check up."""
    topic = unique("check-aborted")
    create_topics(kafka, {topic: 1})
    transaction(kafka, topic, records({"id": "a", "model": "aborted", "prediction": 1}), commit=False)
    code, text = checked(kafka, topic)
    assert code == 0, text
    assert f"{topic}: 1 partition, 0 records sampled: empty" in text


def test_empty_and_missing_topics(broker: str) -> None:
    """An empty topic and one that does not exist are said and no failure, and nothing is created."""
    empty, missing = unique("check-empty"), unique("check-missing")
    create_topics(broker, {empty: 1})
    code, text = checked(broker, empty, missing)
    assert code == 0, text
    assert f"{empty}: 1 partition, 0 records sampled: empty" in text
    assert f"{missing}: does not exist: run would wait for it" in text
    with admin(broker) as client:
        assert missing not in {topic["name"] if isinstance(topic, dict) else topic for topic in client.list_topics()}


def test_unequal_partitions(broker: str) -> None:
    """Unequal numbers of partitions are exit code 1."""
    two, three = unique("check-two"), unique("check-three")
    create_topics(broker, {two: 2, three: 3})
    code, text = checked(broker, two, three)
    assert code == 1
    assert f"({two} 2, {three} 3)" in text


def test_the_state_topic(kafka: str) -> None:
    """It is looked at and not made; one that would lose state is exit code 1."""
    topic, state = unique("check-state"), unique("check-state-topic")
    create_topics(kafka, {topic: 2})
    flags = {"state.store": "kafka", "state.topic": state}
    code, text = checked(kafka, topic, **flags)
    assert code == 0, text
    assert f"state.topic {state}: does not exist: run would make it" in text
    create_topics(kafka, {state: 1}, {"cleanup.policy": "compact"})
    code, text = checked(kafka, topic, **flags)
    assert code == 0, text
    assert f"state.topic {state}: has 1 partitions: run would give it 2" in text
    create_topics(kafka, {state + "-lossy": 2})
    code, text = checked(kafka, topic, **(flags | {"state.topic": state + "-lossy"}))
    assert code == 1
    assert "cleanup.policy=delete" in text


def test_nothing_usable(broker: str) -> None:
    """A topic of which nothing can be used is exit code 1."""
    topic = unique("check-useless")
    create_topics(broker, {topic: 1})
    produce(broker, topic, records(b"[]", b"\xff"))
    code, text = checked(broker, topic)
    assert code == 1
    assert f"{topic}: nothing in the sample is usable" in text


def test_it_joins_no_group_and_commits_nothing(kafka: str) -> None:
    """The group of the settings is not created, and has no offsets, after a check."""
    topic, group = unique("check-group"), unique("check-group")
    create_topics(kafka, {topic: 1})
    produce(kafka, topic, records({"id": "a", "model": "m", "prediction": 1}))
    assert checked(kafka, topic, **{"kafka.group_id": group})[0] == 0
    with admin(kafka) as client:
        assert group not in str(client.list_groups())
