"""Members of a group for tests: a source driven by hand, with what it has delivered so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from msemon.events import Batch
from msemon.settings import Settings
from msemon.settings.values import Start
from msemon.sources.base import Polled, Source, TopicPartition
from msemon.sources.kafka_python import KafkaPythonSource
from msemon.sources.librdkafka import LibrdkafkaSource

MAKERS: dict[str, Any] = {"kafka-python": KafkaPythonSource, "librdkafka": LibrdkafkaSource}
EARLIEST = Start("earliest", "earliest")
QUICK = {"session_timeout_ms": 6_000, "heartbeat_interval_ms": 500, "metadata_max_age_ms": 1_000}
"""Client options with which a group notices things within a test's patience."""


def settings(bootstrap: str, topics: list[str], group: str, **kafka: Any) -> Settings:
    """Settings of a member; `kafka` goes into its section."""
    options = QUICK | kafka.pop("client_options", {})
    section = {"bootstrap_servers": bootstrap, "topics": topics, "group_id": group, "client_options": options}
    return Settings(kafka=section | kafka)  # type: ignore[arg-type]


class Member:
    """A source in a group. `turn` polls once, begins to read what is new, and keeps what came."""

    def __init__(self, source: Source, start: Start | None = EARLIEST) -> None:
        self.source = source
        self.start = start
        """Where new partitions begin at once; None leaves that to the test."""
        self.owned: frozenset[int] = frozenset()
        self.batches: list[Batch] = []
        self.polled: list[Polled] = []

    def turn(self, timeout_s: float = 0.1) -> Polled:
        polled = self.source.poll(timeout_s)
        self.polled.append(polled)
        held = self.owned - polled.lost - polled.revoked
        if polled.assigned is not None:
            self.owned = polled.assigned
            if self.start is not None and (new := polled.assigned - held):
                self.begin(self.source.start_offsets(new, self.start))
        else:
            self.owned = held
        self.batches += polled.batches
        return polled

    def begin(self, offsets: dict[TopicPartition, int]) -> None:
        for where, offset in offsets.items():
            self.source.seek(where, offset)
        self.source.resume(offsets)

    def until(self, condition: Callable[[], object], timeout_s: float, what: str) -> None:
        """Take turns until it holds."""
        until([self], condition, timeout_s, what)

    def values(self, topic: str | None = None) -> list[bytes | None]:
        """All values delivered (of the topic), as they came."""
        return [value for each in self.batches if topic in (None, each.topic) for value in each.values]

    def all_of(self, field: str) -> list[Any]:
        """Everything the polls have told under this name."""
        return [item for polled in self.polled for item in getattr(polled, field)]


def until(members: list[Member], condition: Callable[[], object], timeout_s: float, what: str) -> None:
    """Let the members take turns until the condition holds; TimeoutError after the deadline."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s:g} s for {what}")
        for member in members:
            member.turn()


@contextmanager
def member(chosen: Settings, start: Start | None = EARLIEST, **options: Any) -> Iterator[Member]:
    """A member that has subscribed; it leaves at the end."""
    source = MAKERS[chosen.kafka.client](chosen, **options)
    try:
        source.connect()
        source.subscribe()
        yield Member(source, start)
    finally:
        source.close(5.0)
