"""F15: after an unclean end the broker has lost the last records of a log, also some that were counted already."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from support.brokers import Broker, apache_kafka, why_no_kafka
from support.histories import Event
from support.lives import Monitor
from support.oracle import Oracle
from support.report import not_run
from support.running import CLIENT

# librdkafka gives up its partitions where brokers are away for longer.
PATIENT = {"session_timeout_ms": 30_000} if CLIENT == "librdkafka" else {}
REBUILT = "no state of a partition that was read before: rebuilding it from the log"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    if reason := why_no_kafka():
        not_run(reason)
    timing = {"broker_session_timeout_ms": "2000", "broker_heartbeat_interval_ms": "500"}
    broker = apache_kafka(tmp_path_factory.mktemp("cut"), **timing)
    broker.start()
    yield broker
    broker.stop()


def cut(broker: Broker, topic: str, end: int) -> None:
    """What a machine leaves that went down before it had written the last batches: the log ends at that offset."""
    data = broker.log.parent / "data"
    (path,) = (data / f"{topic}-0").glob("*.log")
    stored, at = path.read_bytes(), 0
    while struct.unpack_from(">q", stored, at)[0] < end:
        at += 12 + struct.unpack_from(">i", stored, at + 8)[0]
    assert struct.unpack_from(">q", stored, at)[0] == end, "a batch begins there"
    with path.open("r+b") as file:
        file.truncate(at)
    for index in (*path.parent.glob("*index"), *path.parent.glob("*.snapshot")):
        index.unlink()
    for note in (*data.glob("*-checkpoint"), *data.glob(".kafka_cleanshutdown")):
        note.unlink()  # as after a crash: the broker looks at what is there


@pytest.mark.parametrize("which", [0, 1], ids=["predictions", "labels"])
@pytest.mark.parametrize("state", ["down", "running"])
def test_f15_a_log_that_was_cut_back_is_counted_as_it_is_now(own, tmp_path, state, which):
    """No checkpoint lies at or below the cut: the partition is rebuilt from the log, marked incomplete, and in the end
    equals the log exactly; what was written at the same offsets since is read, not passed over."""
    monitor = Monitor(own.bootstrap, tmp_path)
    monitor.settings["kafka.client_options"] |= PATIENT
    monitor.send(*monitor.events(150, "kept"))
    end = monitor.ends(monitor.topics[which])[0]
    lost = monitor.events(100, "lost")
    fresh = monitor.events(70, "fresh")
    if state == "down":
        with monitor.run() as running:
            monitor.send(*lost)
            monitor.await_exact(running)
            monitor.await_kept(running)
        own.kill()
        cut(own, monitor.topics[which], end)
        own.start()
        monitor.send(*fresh)
        with monitor.run() as running:
            monitor.await_exact(running, left(monitor, which, lost))
            monitor.await_incomplete(running)
            assert running.said("a checkpoint lies beyond the log's end")
        return
    with monitor.run() as running:
        monitor.send(*lost)
        monitor.await_exact(running)
        monitor.await_kept(running)
        own.kill()
        cut(own, monitor.topics[which], end)
        own.start()
        running.until(lambda: running.said("the log was cut back"), "the cut to be noticed", 60)
        monitor.send(*fresh)
        monitor.await_exact(running, left(monitor, which, lost))
        monitor.await_incomplete(running)


def left(monitor: Monitor, which: int, lost: tuple[list[Event], list[Event]]) -> Oracle:
    """What the log holds now."""
    sides = [list(monitor.predicted), list(monitor.labelled)]
    gone = {event.id for event in lost[which]}
    sides[which] = [event for event in sides[which] if event.id not in gone]
    return monitor.oracle(*sides)


@pytest.mark.parametrize("which", [0, 1], ids=["predictions", "labels"])
def test_f15_back_to_an_older_checkpoint_at_or_below_the_cut(own, tmp_path, which):
    """The newest checkpoint lies beyond the cut, one before it does not: that one is taken, nothing is rebuilt, and all
    equals the log as it is now."""
    monitor = Monitor(own.bootstrap, tmp_path, state__interval="1h")  # so that only the end of a life is kept
    monitor.send(*monitor.events(150, "kept"))
    with monitor.run() as running:
        monitor.await_exact(running)
    end = monitor.ends(monitor.topics[which])[0]
    lost = monitor.events(100, "lost")
    with monitor.run() as running:
        monitor.send(*lost)
        monitor.await_exact(running)
    own.kill()
    cut(own, monitor.topics[which], end)
    own.start()
    monitor.send(*monitor.events(70, "fresh"))
    with monitor.run() as running:
        monitor.await_exact(running, left(monitor, which, lost))
        assert running.said("a checkpoint lies beyond the log's end")
        assert running.said("state restored")
        assert not running.said(REBUILT)


def test_f15_back_to_the_last_checkpoint_while_running(own, tmp_path):
    """What was read since it may have been cut off, what is in it was not: the process goes back to it by itself."""
    monitor = Monitor(own.bootstrap, tmp_path, state__interval="1h")
    monitor.settings["kafka.client_options"] |= PATIENT
    monitor.send(*monitor.events(150, "kept"))
    with monitor.run() as running:
        monitor.await_exact(running)
    end = monitor.ends(monitor.topics[1])[0]
    lost, fresh = monitor.events(100, "lost"), monitor.events(70, "fresh")
    with monitor.run() as running:
        monitor.send(*lost)
        monitor.await_exact(running)
        own.kill()
        cut(own, monitor.topics[1], end)
        own.start()
        running.until(lambda: running.said("the log was cut back"), "the cut to be noticed", 60)
        monitor.send(*fresh)
        monitor.await_exact(running, left(monitor, 1, lost))
        assert len(running.said("state restored")) == 2
        assert not running.said(REBUILT)
