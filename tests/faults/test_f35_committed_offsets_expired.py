"""F35: the group's committed offsets have expired; where reading goes on is the snapshot's to say, and it does."""

from __future__ import annotations

import pytest
from kafka import TopicPartition

from support.brokers import admin
from support.histories import PARTITIONS
from support.running import daemon
from support.traffic import Traffic


@pytest.mark.parametrize("store", ["sqlite", "kafka"])
def test_f35_without_committed_offsets_the_snapshot_is_restored_all_the_same(kafka, tmp_path, store):
    """With `kafka.start` at the end of the log, where a group without state would begin: nothing lost or read twice."""
    with Traffic(kafka) as traffic:
        given = traffic.settings(state__store=store, state__path=str(tmp_path / "state"))
        for _ in range(3):
            traffic.portion()
        with daemon(tmp_path / "first.log", given) as first:
            first.await_events(traffic.counts())
        before = traffic.counts()
        with admin(kafka) as client:
            wanted = [TopicPartition(topic, p) for topic in traffic.topics for p in range(PARTITIONS)]
            client.delete_group_offsets(traffic.group, wanted)
            left = client.list_group_offsets(traffic.group)
        assert "offset=" not in str(left) or "offset=-1" in str(left), left
        traffic.portion()
        traffic.settle()
        with daemon(tmp_path / "second.log", given | {"kafka.start": "latest"}) as second:
            traffic.agree(second)
            new = {topic: count - before[topic] for topic, count in traffic.counts().items()}
            assert {topic: sum(second.scrape().events(topic).values()) for topic in traffic.topics} == new
            assert len(second.said("state restored")) == PARTITIONS
