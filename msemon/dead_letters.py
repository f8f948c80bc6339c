"""Sends what could not be used to a topic of its own: the record as it came, and why it was rejected.

Nothing here may hold up the daemon's loop. `send` only puts a letter into a bounded buffer; a thread of its own
connects, produces and hears how it went. What can't be sent is counted as a failure, and the daemon goes on.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from kafka import KafkaProducer

from msemon.events import Batch, Reason
from msemon.settings import Settings
from msemon.sources.kafka_config import producer_config
from msemon.sources.kafka_inside import Clients

log = structlog.get_logger(__name__)

BUFFER_BYTES = 8 * 1024 * 1024
_OVERHEAD_BYTES = 512  # of the objects that hold a letter
_RETRY_S = 5.0
_COMPLAIN_S = 30.0  # between log lines: a flood of bad records must not become a flood of lines
_OPTIONS = {
    "enable_idempotence": False,  # a letter twice is better than one more right to ask for
    "acks": "all",
    "linger_ms": 50,
    "max_block_ms": 5_000,
    "delivery_timeout_ms": 30_000,
    "request_timeout_ms": 10_000,
    "max_request_size": 64 * 1024 * 1024,  # how large a record may be is the broker's to say
}


@dataclass(slots=True, eq=False)
class _Letter:
    value: bytes | None
    key: bytes | None
    headers: list[tuple[str, bytes]]
    size: int


class DeadLetters:
    """The dead-letter topic of these settings. Used by one thread; only `on_failure` is called from others."""

    def __init__(
        self,
        settings: Settings,
        on_failure: Callable[[], None],
        *,
        buffer_bytes: int = BUFFER_BYTES,
        make_producer: Callable[..., Any] = KafkaProducer,
    ) -> None:
        """Connects when there is something to send. Raises ValueError where the settings name no topic."""
        if settings.kafka.dead_letter_topic is None:
            raise ValueError("kafka.dead_letter_topic is not set")
        self._topic = settings.kafka.dead_letter_topic
        self._settings = settings
        self._config = _OPTIONS | producer_config(settings)
        self._on_failure = on_failure
        self._limit = buffer_bytes
        self._make_producer = make_producer
        self._change = threading.Condition()  # guards all below
        self._waiting: deque[_Letter] = deque()
        self._open: set[_Letter] = set()  # waiting or on their way: their fate is not known yet
        self._held_bytes = 0  # of the open ones
        self._closed = False
        self._complain_at_s = 0.0
        self._thread: threading.Thread | None = None

    def send(self, batch: Batch, row: int, reason: Reason) -> None:
        """Send row `row` of the batch with headers that tell the reason and where it was. Never raises, never waits."""
        try:
            letter = _letter(batch, row, reason)
        except Exception as problem:  # noqa: BLE001 (a record that can't even be repeated must not end the daemon)
            self._fail(str(problem))
            return
        with self._change:
            taken = not self._closed and self._held_bytes + letter.size <= self._limit
            if taken:
                self._held_bytes += letter.size
                self._open.add(letter)
                self._waiting.append(letter)
                self._start()
                self._change.notify_all()
        if not taken:
            self._fail("too many are on their way")

    def flush(self, timeout_s: float) -> bool:
        """Wait until all are sent or have failed; False where that took longer."""
        with self._change:
            return self._change.wait_for(lambda: not self._open, timeout_s)

    def close(self, timeout_s: float) -> None:
        """Send what is left within the time; count the rest as failures."""
        self.flush(timeout_s)
        with self._change:
            self._closed = True
            self._waiting.clear()
            left = list(self._open)
            self._change.notify_all()
        for letter in left:
            self._settle(letter, "closing")

    def _start(self) -> None:
        if self._thread is None:
            # A daemon thread: one that hangs in the client must not keep the process from its end.
            self._thread = threading.Thread(target=self._run, name="dead-letters", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        producer = self._connected()
        if producer is None:
            return
        while (letter := self._take()) is not None:
            self._produce(producer, letter)
        try:
            producer.close(timeout=1)
        except Exception as problem:  # noqa: BLE001 (it is the end anyway)
            log.warning("the dead-letter producer did not close cleanly", reason=str(problem))

    def _connected(self) -> Any:
        """A producer, however long it takes; None where the end came first."""
        while True:
            clients = Clients(self._settings, create_topics=True)  # as brokers allow it
            try:
                return self._make_producer(**self._config, kafka_client=clients)
            except Exception as problem:  # noqa: BLE001 (whatever it is, letters are not worth the daemon)
                clients.close()
                self._complain(f"no producer yet: {problem}")
            with self._change:
                if self._change.wait_for(lambda: self._closed, _RETRY_S):
                    return None

    def _take(self) -> _Letter | None:
        with self._change:
            self._change.wait_for(lambda: self._waiting or self._closed)
            return self._waiting.popleft() if self._waiting else None

    def _produce(self, producer: Any, letter: _Letter) -> None:
        try:
            future = producer.send(self._topic, value=letter.value, key=letter.key, headers=letter.headers)
        except Exception as problem:  # noqa: BLE001 (too large, no such topic, not allowed …)
            self._settle(letter, str(problem))
            return
        future.add_callback(lambda _: self._settle(letter))
        future.add_errback(lambda problem: self._settle(letter, str(problem)))

    def _settle(self, letter: _Letter, failure: str | None = None) -> None:
        """The letter's fate is known; whoever tells it first is believed."""
        with self._change:
            if letter not in self._open:
                return
            self._open.remove(letter)
            self._held_bytes -= letter.size
            self._change.notify_all()
        if failure is not None:
            self._fail(failure)

    def _fail(self, why: str) -> None:
        self._on_failure()
        self._complain(why)

    def _complain(self, why: str) -> None:
        now_s = time.monotonic()
        if now_s >= self._complain_at_s:
            self._complain_at_s = now_s + _COMPLAIN_S
            log.warning("dead letters are not sent", topic=self._topic, reason=why)


def _letter(batch: Batch, row: int, reason: Reason) -> _Letter:
    value = batch.values[row]
    key, headers = batch.origin(row)
    ours = {
        "msemon-reason": str(reason),
        "msemon-topic": batch.topic,
        "msemon-partition": str(batch.partition),
        "msemon-offset": str(batch.offsets[row]),
    }
    # The client refuses a header without a value.
    both = [(name, text or b"") for name, text in headers] + [(name, text.encode()) for name, text in ours.items()]
    size = len(value or b"") + len(key or b"") + sum(len(name) + len(text) for name, text in both)
    return _Letter(value, key, both, size + _OVERHEAD_BYTES)
