"""F16: an input topic is deleted and made again: noticed by its id; it begins anew, and nothing else is lost."""

from __future__ import annotations

import pytest

from support.lives import Monitor
from support.running import Daemon
from support.topics import unique
from support.waiting import wait_until

SAID = "a topic was made again: reading it begins anew"


@pytest.fixture(params=[0, 1], ids=["predictions", "labels"])
def which(request) -> int:
    return int(request.param)


def seen(monitor: Monitor, running: Daemon) -> None:
    """A first life's events, with some that wait: predictions without labels and the other way round."""
    asked, answers = monitor.events(300, "seen")
    answers = sorted(answers, key=lambda event: int(event.id.split("-")[1]))
    monitor.send(asked[:250], answers[50:])
    monitor.await_exact(running)
    monitor.await_kept(running)


def made_again(monitor: Monitor, topic: str) -> None:
    monitor.delete_topic(topic)
    wait_until(lambda: not monitor.ends_or_nothing(topic), 20, "the topic to be gone")
    monitor.make_topic(topic)


@pytest.mark.parametrize("longer", [False, True], ids=["shorter", "longer"])
def test_f16_while_down_a_topic_made_again_is_read_from_its_beginning(kafka, tmp_path, which, longer):
    """Also where the new topic is longer than the old one was: offsets alone could not tell them apart. What waited
    for its other half finds it, what the other topic brings is read on, and no pair is counted twice."""
    monitor = Monitor(kafka, tmp_path)
    with monitor.run() as running:
        seen(monitor, running)
    topic = monitor.topics[which]
    made_again(monitor, topic)
    waiting = monitor.waiting()
    fresh = monitor.events(600 if longer else 40, unique("fresh"))
    monitor.send(waiting[0] + fresh[0], waiting[1] + fresh[1])
    with monitor.run() as running:
        monitor.await_exact(running)
        assert [line["topic"] for line in running.said(SAID)] == [topic]
        monitor.await_incomplete(running)
    with monitor.run() as running:  # and that was it
        monitor.await_exact(running)
        assert not running.said(SAID)


def test_f16_while_running_a_topic_made_again_is_read_from_its_beginning(kafka, tmp_path, which):
    """Noticed without a restart; what had been counted stays, what comes on the new topic is counted once."""
    monitor = Monitor(kafka, tmp_path)
    with monitor.run() as running:
        seen(monitor, running)
        topic = monitor.topics[which]
        made_again(monitor, topic)
        waiting = monitor.waiting()
        fresh = monitor.events(40, "fresh")
        monitor.send(waiting[0] + fresh[0], waiting[1] + fresh[1])
        monitor.await_exact(running)
        assert running.healthy
        assert [line["topic"] for line in running.said(SAID)] == [topic]
        monitor.await_incomplete(running)
