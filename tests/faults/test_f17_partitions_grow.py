"""F17: the number of partitions grows: nothing is joined across unequal counts, and afterwards everything is exact."""

from __future__ import annotations

from typing import Any

import pytest

from support.lives import Monitor
from support.running import Daemon
from support.topics import add_partitions


def await_partition(running: Daemon, partition: int) -> None:
    running.until(lambda: partition in running.status()["partitions"], f"partition {partition}", 60)


def grown(kafka: str, monitor: Monitor, to: int) -> None:
    for topic in monitor.topics:
        add_partitions(kafka, topic, to)


def test_f17_one_topic_grows_then_the_other(kafka, tmp_path):
    """While counts differ nothing is joined and the daemon serves, healthy, with the counts in metrics and log. Once
    equal it goes on; the new partition begins at its beginning although the group was to begin at the end."""
    monitor = Monitor(kafka, tmp_path, partitions=2)
    with monitor.run(kafka__start="latest") as running:
        monitor.send(*monitor.events(200, "two"))
        monitor.await_exact(running)
        add_partitions(kafka, monitor.topics[0], 3)
        running.until(lambda: running.said("not joining"), "the difference to be noticed", 60)
        more = monitor.events(200, "more")
        before = running.scrape()
        monitor.send(more[0], [], partitions=3)
        monitor.send([], [event for event in more[1]], partitions=2)
        counts = {topic: running.scrape().value("msemon_partitions", topic=topic) for topic in monitor.topics}
        assert counts == {monitor.topics[0]: 3, monitor.topics[1]: 2}
        assert running.healthy
        # Read on are the partitions both have once they are equal; labels of the third's went elsewhere.
        together = [event for event in more[1] if sum(event.id.encode()) % 3 == sum(event.id.encode()) % 2]
        assert running.scrape().sum("msemon_lifetime_pairs") == before.sum("msemon_lifetime_pairs")
        add_partitions(kafka, monitor.topics[1], 3)
        late = monitor.events(300, "three")
        monitor.send(*late, partitions=3)
        await_partition(running, 2)
        apart = {event.id for event in more[1]} - {event.id for event in together}
        labels = [event for event in monitor.labelled if event.id not in apart]
        monitor.await_exact(running, monitor.oracle(monitor.predicted, labels))
        running.until(lambda: state(running) == {"0": 1, "1": 1, "2": 0}, "the new partition to count as complete", 10)


def test_f17_both_grow_while_down(kafka, tmp_path):
    """The next life reads the new partition from its beginning, by what it knows of the old ones."""
    monitor = Monitor(kafka, tmp_path, partitions=2)
    with monitor.run(kafka__start="latest") as running:
        monitor.send(*monitor.events(200, "two"))
        monitor.await_exact(running)
    grown(kafka, monitor, 3)
    monitor.send(*monitor.events(300, "three"), partitions=3)
    with monitor.run(kafka__start="latest") as running:
        monitor.await_exact(running)
        assert running.said("a partition that the group did not begin with: from its beginning")


def test_f17_a_replica_without_any_state_knows_how_old_the_group_is(kafka, tmp_path):
    """By the note on the group's commits: a partition that came later is read from its beginning, one that the group
    has begun with and that was never committed is not."""
    monitor = Monitor(kafka, tmp_path, partitions=2)
    with monitor.run(kafka__start="latest") as running:
        monitor.send(*monitor.events(200, "two"))
        monitor.await_exact(running)
    grown(kafka, monitor, 3)
    fresh = monitor.events(300, "three")
    monitor.send(*fresh, partitions=3)
    elsewhere = str(tmp_path / "elsewhere")
    with monitor.run(kafka__start="latest", state__path=elsewhere) as running:
        monitor.await_exact(running)  # the others are rebuilt from the log
        assert state(running) == {"0": 1, "1": 1, "2": 0}


def test_f17_only_one_topic_has_grown_at_the_start(kafka, tmp_path):
    """The process says so and ends with 1; its state is as it was."""
    monitor = Monitor(kafka, tmp_path, partitions=2)
    with monitor.run() as running:
        monitor.send(*monitor.events(100, "two"))
        monitor.await_exact(running)
    add_partitions(kafka, monitor.topics[0], 3)
    with monitor.run(ready=False) as running:
        assert running.wait(60) == 1
        (line,) = running.said("can't go on")
        assert "must have the same number of partitions" in line["error"]
    add_partitions(kafka, monitor.topics[1], 3)
    monitor.send(*monitor.events(100, "three"), partitions=3)
    with monitor.run() as running:
        monitor.await_exact(running)


def state(running: Daemon) -> dict[str, Any]:
    found = running.scrape().all("msemon_state_incomplete")
    return {dict(labels)["partition"]: value for labels, value in found.items()}


def test_f18_topics_that_partition_differently_show_as_pairs_that_never_come(kafka, tmp_path):
    """F18: equal counts, but a label lies on another partition than its prediction: none match. What never met is
    counted by side, waiting while it may still come and expired afterwards; nothing else gives it away."""
    monitor = Monitor(kafka, tmp_path, partitions=4, join__timeout="60s", join__memory="60s")
    asked, answers = monitor.events(400, "apart")
    asked.sort(key=lambda event: event.time_us)
    answers.sort(key=lambda event: event.time_us)
    monitor.send(asked, [])
    monitor.send([], answers, shift=1)
    with monitor.run() as running:
        running.await_events({monitor.topics[0]: 400, monitor.topics[1]: 400})
        running.until(lambda: running.scrape().sum("msemon_join_pending") > 0, "the gauges", 10)
        scrape = running.scrape()
        assert scrape.value("msemon_join_matched_total") == 0
        for side in ("prediction", "label"):
            expired = scrape.value("msemon_join_expired_total", side=side)
            pending = scrape.value("msemon_join_pending", side=side)
            assert expired is not None
            assert expired > 200, "most are too old by now to be answered"
            assert expired + (pending or 0) == 400


def test_f18_where_a_share_lies_elsewhere_that_share_is_what_expires(kafka, tmp_path):
    """F18: one producer in four has another partitioner: three quarters match exactly, the rest shows by side."""
    monitor = Monitor(kafka, tmp_path, partitions=4)
    asked, answers = monitor.events(400, "some")
    astray = {event.id for event in asked[::4]}
    monitor.send(asked, [event for event in answers if event.id not in astray])
    expected = monitor.oracle()
    monitor.send([], [event for event in answers if event.id in astray], shift=1)
    with monitor.run() as running:
        monitor.await_exact(running, expected)
        running.until(
            lambda: all(
                running.scrape().value("msemon_join_pending", side=side) == len(astray)
                for side in ("prediction", "label")
            ),
            "the rest to wait",
            10,
        )
        assert running.scrape().value("msemon_join_matched_total") == 300


@pytest.mark.parametrize("retention", ["short", "long", "for ever", "compacted"])
def test_f19_retention_that_is_too_short_is_warned_of_at_the_start(kafka, tmp_path, retention):
    """F19: shorter than the longest window and the join's timeout: a line a topic with both spans."""
    from kafka.admin import ConfigResource, ConfigResourceType

    from support.brokers import admin

    configs = {
        "short": {"retention.ms": str(36 * 3_600_000)},
        "long": {"retention.ms": str(72 * 3_600_000)},
        "for ever": {"retention.ms": "-1"},
        "compacted": {"retention.ms": "1000", "cleanup.policy": "compact"},
    }[retention]
    monitor = Monitor(kafka, tmp_path)
    with admin(kafka) as client:
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, monitor.topics[1], configs=configs)])
    said = "a topic deletes records that may still be needed: what is lost with the state could not be rebuilt"
    with monitor.run() as running:
        if retention == "short":
            running.until(lambda: running.said(said), "the warning", 20)
        monitor.send(*monitor.events(20, "some"))
        monitor.await_exact(running)
        found = [(line["level"], line["topic"], line["retention_seconds"]) for line in running.said(said)]
        assert found == ([("warning", monitor.topics[1], 36 * 3600.0)] if retention == "short" else [])
