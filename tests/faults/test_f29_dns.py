"""F29: looking up the brokers' names is slow, or fails: no needless rebalance, and no hang."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from msemon.sources.base import Unreachable
from msemon.sources.kafka_python import KafkaPythonSource
from support.members import member, settings
from support.topics import Record, create_topics, produce, unique

LOOK_UP = socket.getaddrinfo


def test_f29_look_ups_of_seconds_cost_no_rebalance(kafka, monkeypatch):
    """Names are looked up on the network thread, which then sends no heartbeats, but only to connect: each look-up is
    far shorter than a session, and a member that is connected needs none."""
    topics = [unique("a"), unique("b")]
    create_topics(kafka, dict.fromkeys(topics, 1))
    slow: list[str] = []

    def look_up(host: Any, *more: Any, **options: Any) -> Any:
        slow.append(host)
        time.sleep(1.5)
        return LOOK_UP(host, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    host, port = kafka.split(":")
    given = settings(f"{host}:{port}", topics, unique("group"))
    with member(given, connect_s=20.0, ask_s=20.0) as one:
        one.until(lambda: one.owned == {0}, 60, "the partition")
        looked_up = len(slow)
        assert looked_up, "the client looks names up this way"
        monkeypatch.setattr(socket, "getaddrinfo", LOOK_UP)
        produce(kafka, topics[0], [Record(b"x")])
        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        one.until(lambda: one.values() == [b"x"], 30, "its record")
        until = time.monotonic() + 2 * one.source.session_timeout_s
        one.until(lambda: time.monotonic() > until, 30, "two sessions to pass")
        assert len([polled for polled in one.polled if polled.assigned is not None]) == 1, "one rebalance: the first"


def test_f29_names_that_are_not_found_are_tried_again(kafka, monkeypatch):
    """As a broker that does not answer: an attempt ends in time, and a later one succeeds."""
    topics = [unique("a"), unique("b")]
    create_topics(kafka, dict.fromkeys(topics, 1))

    def fail(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    source = KafkaPythonSource(settings(kafka, topics, unique("group")), connect_s=2.0)
    monkeypatch.setattr(socket, "getaddrinfo", fail)
    before = time.monotonic()
    with pytest.raises(Unreachable):
        source.connect()
    assert time.monotonic() - before < 10
    monkeypatch.setattr(socket, "getaddrinfo", LOOK_UP)
    try:
        source.connect()
        assert source.partition_counts() == dict.fromkeys(topics, 1)
    finally:
        source.close(5.0)
