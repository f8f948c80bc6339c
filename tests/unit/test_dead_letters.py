"""Dead letters carry the record as it came and never hold up or end the daemon, whatever the broker does."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from kafka.future import Future

from msemon import dead_letters
from msemon.dead_letters import DeadLetters
from msemon.events import Batch, Reason
from msemon.settings import Settings
from support.waiting import wait_until

SETTINGS = Settings(kafka={"dead_letter_topic": "dead"})  # type: ignore[arg-type]


def batch(*values: bytes | None) -> Batch:
    return Batch(
        topic="labels",
        partition=3,
        offsets=[40 + i for i in range(len(values))],
        timestamps_ms=[0] * len(values),
        values=values,
        next_offset=40 + len(values),
        size=0,
        origin=lambda i: (b"key%d" % i, [("trace", b"t%d" % i), ("none", None)]),
    )


class FakeProducer:
    """Keeps what is sent; the test decides what becomes of it."""

    def __init__(self, **config: Any) -> None:
        self.config = config
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.futures: list[Future] = []
        self.raises: Exception | None = None
        self.closed = False

    def send(self, topic: str, **letter: Any) -> Future:
        if self.raises:
            raise self.raises
        self.sent.append((topic, letter))
        self.futures.append(Future())
        return self.futures[-1]

    def close(self, timeout: float) -> None:
        assert timeout > 0
        self.closed = True


class Letters:
    """Dead letters with a fake producer and a count of failures."""

    def __init__(self, producer: FakeProducer | None = None, **options: Any) -> None:
        self.producer = producer or FakeProducer()
        self.failures = 0
        self.lock = threading.Lock()
        self.letters = DeadLetters(SETTINGS, self._failed, make_producer=self._make, **options)

    def _failed(self) -> None:
        with self.lock:
            self.failures += 1

    def _make(self, **config: Any) -> FakeProducer:
        self.producer.config = config
        return self.producer


@pytest.fixture
def mail() -> Letters:
    return Letters()


def test_a_letter_is_the_record_as_it_came_with_why_and_where(mail):
    mail.letters.send(batch(b"x", b"\xffbad"), 1, Reason.MALFORMED)
    wait_until(lambda: mail.producer.sent, 5, "the letter")
    ((topic, letter),) = mail.producer.sent
    assert topic == "dead"
    assert (letter["value"], letter["key"]) == (b"\xffbad", b"key1")
    assert letter["headers"] == [
        ("trace", b"t1"),
        ("none", b""),
        ("msemon-reason", b"malformed"),
        ("msemon-topic", b"labels"),
        ("msemon-partition", b"3"),
        ("msemon-offset", b"41"),
    ]


def test_nothing_connects_before_there_is_something_to_send():
    made = []
    letters = DeadLetters(SETTINGS, lambda: None, make_producer=lambda **config: made.append(config))
    letters.close(1)
    assert made == []


def test_flush_waits_for_the_answers(mail):
    mail.letters.send(batch(b"x"), 0, Reason.FUTURE)
    wait_until(lambda: mail.producer.futures, 5, "the letter")
    assert not mail.letters.flush(0.05)
    mail.producer.futures[0].success(None)
    assert mail.letters.flush(5)
    assert mail.failures == 0


def test_a_refused_letter_is_counted_once(mail):
    mail.letters.send(batch(b"x"), 0, Reason.FUTURE)
    wait_until(lambda: mail.producer.futures, 5, "the letter")
    mail.producer.futures[0].failure(RuntimeError("too large"))
    assert mail.letters.flush(5)
    assert mail.failures == 1
    mail.letters.close(1)
    assert mail.failures == 1


def test_a_send_that_raises_in_the_client_is_counted_and_the_next_goes_on(mail):
    mail.producer.raises = ValueError("no")
    mail.letters.send(batch(b"x"), 0, Reason.FUTURE)
    assert mail.letters.flush(5)
    assert mail.failures == 1
    mail.producer.raises = None
    mail.letters.send(batch(b"y"), 0, Reason.FUTURE)
    wait_until(lambda: mail.producer.sent, 5, "the next letter")


def test_a_record_that_can_not_be_repeated_is_counted(mail):
    broken = batch(b"x")
    broken.origin = lambda _: 1 / 0  # type: ignore[assignment,return-value]
    mail.letters.send(broken, 0, Reason.FUTURE)
    assert mail.failures == 1


def test_a_full_buffer_counts_a_failure_and_does_not_wait():
    mail = Letters(buffer_bytes=10_000)
    for _ in range(100):
        mail.letters.send(batch(bytes(1000)), 0, Reason.OVERSIZED)
    assert 90 < mail.failures < 100
    wait_until(lambda: len(mail.producer.sent) == 100 - mail.failures, 5, "the ones that fit")
    for future in mail.producer.futures:
        future.success(None)
    assert mail.letters.flush(5)
    before = mail.failures
    mail.letters.send(batch(bytes(1000)), 0, Reason.OVERSIZED)
    assert mail.failures == before, "there is room again"


def test_a_broker_that_hangs_does_not_hold_up_the_loop():
    never = threading.Event()

    def hangs(**_: Any) -> None:
        never.wait(10)
        raise RuntimeError("no broker")

    failures: list[bool] = []
    letters = DeadLetters(SETTINGS, lambda: failures.append(True), make_producer=hangs)
    before = time.monotonic()
    letters.send(batch(b"x"), 0, Reason.FUTURE)
    assert time.monotonic() - before < 1
    letters.close(0.1)
    assert time.monotonic() - before < 2
    assert len(failures) == 1
    never.set()


def test_a_producer_that_can_not_be_made_is_tried_again(monkeypatch):
    monkeypatch.setattr(dead_letters, "_RETRY_S", 0.01)
    producer = FakeProducer()
    attempts = []

    def make(**_: Any) -> FakeProducer:
        attempts.append(True)
        if len(attempts) < 3:
            raise RuntimeError("no broker yet")
        return producer

    letters = DeadLetters(SETTINGS, lambda: None, make_producer=make)
    letters.send(batch(b"x"), 0, Reason.FUTURE)
    wait_until(lambda: producer.sent, 5, "the letter")
    assert len(attempts) == 3


def test_closing_counts_what_is_still_on_its_way_and_ends_the_producer(mail):
    mail.letters.send(batch(b"x"), 0, Reason.FUTURE)
    wait_until(lambda: mail.producer.futures, 5, "the letter")
    mail.letters.close(0.05)
    assert mail.failures == 1
    mail.producer.futures[0].failure(RuntimeError("too late to matter"))
    assert mail.failures == 1
    wait_until(lambda: mail.producer.closed, 5, "the producer's end")


def test_after_closing_a_letter_is_a_failure(mail):
    mail.letters.close(0.1)
    mail.letters.send(batch(b"x"), 0, Reason.FUTURE)
    assert mail.failures == 1


def test_settings_without_a_topic_are_refused():
    with pytest.raises(ValueError, match="dead_letter_topic"):
        DeadLetters(Settings(), lambda: None)
