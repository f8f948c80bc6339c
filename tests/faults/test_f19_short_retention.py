"""F19: topics keep records for less than windows and join may need: warned of at the start."""

from __future__ import annotations

import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from support.brokers import admin
from support.lives import Monitor


@pytest.mark.parametrize("retention", ["short", "long", "for ever", "compacted"])
def test_f19_retention_that_is_too_short_is_warned_of_at_the_start(kafka, tmp_path, retention):
    """Shorter than the longest window and the join's timeout: a line a topic with both spans."""
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
