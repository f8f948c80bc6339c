"""What most tests of a running daemon begin with: topics, settings, a few pairs whose errors are known."""

from __future__ import annotations

import time
from typing import Any

from support.histories import PARTITIONS, Event, label, prediction, records
from support.topics import create_topics, produce, unique

KEPT = {
    "retention.ms": "-1",
    "message.timestamp.after.max.ms": str(2**63 - 1),
    "max.message.bytes": "20000000",
}


def names() -> list[str]:
    """Of a topic for predictions and one for labels."""
    return [unique("predictions"), unique("labels")]


def made(bootstrap: str, topics: list[str]) -> list[str]:
    """These topics, created so that records of any time are taken and kept."""
    create_topics(bootstrap, dict.fromkeys(topics, PARTITIONS), KEPT)
    return topics


def settings(bootstrap: str, topics: list[str], **more: Any) -> dict[str, Any]:
    """A daemon's settings, in a group of its own; in `more` two underscores stand for a dot."""
    given = {"kafka.bootstrap_servers": bootstrap, "kafka.topics": topics, "kafka.group_id": unique("group")}
    # So a member hears quickly that another has come.
    options = {"kafka.client_options": {"heartbeat_interval_ms": 500}}
    return given | options | {name.replace("__", "."): value for name, value in more.items()}


def pairs(count: int, model: str = "m", first: int = 0) -> tuple[list[Event], list[Event]]:
    """Predictions that are wrong by 2, and their labels, from now."""
    now_us = time.time_ns() // 1000
    ids = [f"{model} {i}" for i in range(first, first + count)]
    return [prediction(each, model, 5.0, now_us) for each in ids], [label(each, 3.0, now_us) for each in ids]


def send(bootstrap: str, topics: list[str], events: tuple[list[Event], list[Event]]) -> None:
    """Predictions to the first topic, labels to the second."""
    for topic, each in zip(topics, events, strict=True):
        produce(bootstrap, topic, records(each))
