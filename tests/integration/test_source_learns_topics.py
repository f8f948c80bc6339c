"""The client joins the group only once it knows the topics."""

from __future__ import annotations

import json

from kafka.cluster import ClusterMetadata

from msemon.settings import load
from msemon.sources.kafka_python import KafkaPythonSource
from support.topics import create_topics, unique
from support.waiting import wait_until


def test_a_stale_answer_about_topics_does_not_leave_the_group_without_partitions(kafka, monkeypatch):
    """kafka-python takes the answer to its first look at the cluster, which asks for no topic, for news about those
    that were subscribed to meanwhile: it then learns nothing of them by itself.
    """
    topics = [unique("predictions"), unique("labels")]
    create_topics(kafka, dict.fromkeys(topics, 4))
    monkeypatch.setattr(ClusterMetadata, "set_topics", lambda self, names: setattr(self, "_topics", set(names)))
    given = {"kafka.bootstrap_servers": kafka, "kafka.topics": json.dumps(topics), "kafka.group_id": unique("group")}
    source = KafkaPythonSource(load(given, environ={}))
    assigned: list[frozenset[int]] = []

    def polled() -> bool:
        found = source.poll(0.1).assigned
        if found is not None:
            assigned.append(found)
        return bool(assigned)

    try:
        source.connect()
        source.subscribe()
        wait_until(polled, 20, "an assignment")
        assert assigned == [frozenset(range(4))]
    finally:
        source.close(5)
