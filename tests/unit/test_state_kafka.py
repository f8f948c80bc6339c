"""The state topic's producer, with one that a test makes; what only a broker can show is in tests/integration."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError

from msemon.settings import Settings
from msemon.state import kafka


class Producer:
    """Takes records, or times out at each."""

    def __init__(self, *, lost: bool) -> None:
        self.lost, self.closed, self.sent = lost, False, 0

    def send(self, *_: Any, **__: Any) -> Any:
        self.sent += 1
        return self

    def get(self, _timeout_s: float) -> Any:
        if self.lost:
            raise KafkaTimeoutError("no such broker any more")
        return SimpleNamespace(offset=41)

    def close(self, timeout: float) -> None:  # noqa: ARG002 (as kafka-python's)
        self.closed = True


def test_restores_look_for_the_brokers_anew_where_the_producer_does_not_reach_them(monkeypatch: pytest.MonkeyPatch):
    """It was made before every address changed, and nothing has been written since that could have shown it."""
    made: list[Producer] = []

    def make(**_: Any) -> Producer:
        made.append(Producer(lost=False))
        return made[-1]

    monkeypatch.setattr(kafka, "KafkaProducer", make)
    monkeypatch.setattr(kafka, "Clients", lambda _settings: SimpleNamespace())
    store: Any = kafka.KafkaStore(Settings(), 2)
    store._producer = old = Producer(lost=True)
    assert store._mark(0) == 41
    assert old.closed
    assert store._mark(1) == 41
    assert [each.sent for each in made] == [2]
    store._drop_producer(0.0, old)  # another restore gave up the same one
    assert not made[0].closed


def test_a_producer_that_was_just_made_and_reaches_nobody_is_no_reason_to_make_another(monkeypatch: pytest.MonkeyPatch):
    made: list[Producer] = []

    def make(**_: Any) -> Producer:
        made.append(Producer(lost=True))
        return made[-1]

    monkeypatch.setattr(kafka, "KafkaProducer", make)
    monkeypatch.setattr(kafka, "Clients", lambda _settings: SimpleNamespace())
    store: Any = kafka.KafkaStore(Settings(), 1)
    with pytest.raises(KafkaTimeoutError):
        store._mark(0)
    assert len(made) == 1
