"""F14: retention has deleted records that were not read yet: reading goes on at the log's start, and counts the gap."""

from __future__ import annotations

import pytest

from support.lives import Monitor
from support.topics import delete_before


@pytest.mark.parametrize("which", [0, 1], ids=["predictions", "labels"])
def test_f14_what_retention_took_is_counted_exactly_and_the_rest_is_read(kafka, tmp_path, which):
    """While the monitor is down the log's start passes its position: the gap is exact, the state marked incomplete,
    nothing before and after the gap is lost, and reading never jumps to the end."""
    monitor = Monitor(kafka, tmp_path)
    first = monitor.events(200, "first")
    monitor.send(*first)
    with monitor.run(kafka__start="latest") as running:
        # `latest` in a group that begins now: what was sent before is nobody's
        position = monitor.ends(monitor.topics[which])[0]
        seen = monitor.events(300, "seen")
        monitor.send(*seen)
        monitor.await_exact(running, monitor.oracle(*seen))
    unseen = monitor.events(400, "unseen")
    monitor.send(*unseen)
    cut = position + 300 + 150  # 150 records that were never read
    delete_before(kafka, monitor.topics[which], 0, cut)
    late = monitor.events(50, "late")
    monitor.send(*late)
    with monitor.run(kafka__start="latest") as running:
        left = [seen[side] + unseen[side][150 if side == which else 0 :] + late[side] for side in (0, 1)]
        oracle = monitor.oracle(*left)
        scrape = monitor.await_exact(running, oracle)
        assert scrape.all("msemon_offset_gap_records_total") == {
            frozenset({("topic", monitor.topics[which]), ("partition", "0")}): 150.0
        }
        monitor.await_incomplete(running)
        (gap,) = running.said("the log no longer has what was to be read")
        assert gap["records"] == 150


def test_f14_where_nothing_unread_was_taken_nothing_is_missing(kafka, tmp_path):
    """Retention up to the very position is no gap."""
    monitor = Monitor(kafka, tmp_path)
    with monitor.run(kafka__start="latest") as running:
        monitor.send(*monitor.events(100, "seen"))
        monitor.await_exact(running)
    for topic in monitor.topics:
        delete_before(kafka, topic, 0, 100)
    with monitor.run(kafka__start="latest") as running:
        monitor.send(*monitor.events(100, "next"))
        scrape = monitor.await_exact(running)
        assert not scrape.all("msemon_offset_gap_records_total")
        assert not running.said("the log no longer has what was to be read")
