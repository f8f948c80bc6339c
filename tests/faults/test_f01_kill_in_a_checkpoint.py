"""F1: killed at every step of a checkpoint, the daemon goes on as if nothing had happened."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from msemon.state import failpoints
from support.brokers import apache_kafka, running, why_no_kafka
from support.histories import PARTITIONS
from support.report import not_run
from support.running import Daemon, daemon
from support.traffic import Traffic

KILLED = -9

# How often each point has been passed before: the first checkpoints of four partitions hold nothing yet. A checkpoint
# has a few chunks; commits are counted by themselves.
POINTS = [
    f"{failpoints.BEFORE_CHUNKS}:7",
    f"{failpoints.AMID_CHUNKS}:8",
    f"{failpoints.AFTER_CHUNKS}:1",
    f"{failpoints.AFTER_CHUNKS}:7",
    f"{failpoints.AFTER_MANIFEST}:6",
    f"{failpoints.BEFORE_COMMIT}:3",
    f"{failpoints.AFTER_COMMIT}:3",
]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if reason := why_no_kafka():
        not_run(reason)
    with running(apache_kafka(tmp_path_factory.mktemp("kafka"))) as kafka:
        yield kafka.bootstrap


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("store", ["sqlite", "kafka"])
def test_f01_killed_in_a_checkpoint_nothing_is_lost_and_nothing_twice(broker, tmp_path, store, point):
    """Under live traffic, at this point; after the restart all totals, windows and waiting entries are the oracle's."""
    with Traffic(broker) as traffic:
        # A static member need not wait until its dead self is forgotten.
        given = traffic.settings(
            state__store=store, state__path=str(tmp_path / "state"), kafka__group_instance_id="one"
        )  # fmt: skip
        traffic.portion()
        victim = Daemon(tmp_path / "killed.log", given, {failpoints.VARIABLE: point})
        try:
            traffic.until(lambda: victim.process.poll() is not None, 60, f"the end at {point}")
        finally:
            victim.process.kill()
        assert victim.wait() == KILLED, victim.log.read_text()[-3000:]
        traffic.portion()
        with daemon(tmp_path / "after.log", given) as after:
            traffic.portion()
            traffic.settle()
            traffic.agree(after)
            if not point.endswith(":1"):  # in its very first checkpoint, there is nothing to restore yet
                assert len(after.said("state restored")) == PARTITIONS
            assert not after.said("stored state refused")
