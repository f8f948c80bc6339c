"""F17: the number of partitions grows: nothing is joined across unequal counts, and afterwards everything is exact."""

from __future__ import annotations

import signal
from typing import Any

from support.lives import Monitor
from support.running import Daemon
from support.topics import add_partitions, unique


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
        monitor.send([], more[1], partitions=2)
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


def test_f17_the_state_topic_grows_with_them(kafka, tmp_path):
    """With the state in Kafka: the new partition's too is kept, while it runs and afterwards."""
    monitor = Monitor(kafka, tmp_path, partitions=2, state__store="kafka", state__topic=unique("state"))
    with monitor.run(kafka__start="latest") as running:
        monitor.send(*monitor.events(200, "two"))
        monitor.await_exact(running)
        grown(kafka, monitor, 3)
        await_partition(running, 2)
        monitor.send(*monitor.events(300, "three"), partitions=3)
        monitor.await_exact(running)
        assert running.said("state topic has more partitions now")
        running.signal(signal.SIGKILL)
        running.wait()
    with monitor.run(kafka__start="latest") as running:
        monitor.await_exact(running)
        assert running.scrape().value("msemon_restores_total", source="store") == 3
        assert running.scrape().value("msemon_restores_total", source="none") in (None, 0)


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
