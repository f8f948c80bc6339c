"""Sends the simulated fleet's messages to a Kafka broker, in real time."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError

from msemon.demo.drift import USUAL, Drift
from msemon.demo.fleet import LABELS_TOPIC, PREDICTIONS_TOPIC, Message, messages

PARTITIONS = 4
OWN_TOPICS = {topic: topic for topic in (PREDICTIONS_TOPIC, LABELS_TOPIC)}
"""Where each of the fleet's topics is, where nobody says otherwise."""

_TICK_S = 0.02
"""Messages leave in bursts of this much time: event times are at most so much before the record's."""

_BEHIND_US = 2_000_000
_RETRY_S = 1.0
_FLUSH_S = 5.0

_CLIENT = {"client_id": "msemon-demo-fleet", "bootstrap_timeout_ms": 2_000, "request_timeout_ms": 5_000}
"""Short limits: asked to stop, it stops, whatever the broker does."""

_PRODUCER = {
    "linger_ms": 20,
    "max_block_ms": 1_000,
    "delivery_timeout_ms": 10_000,
    # With it kafka-python 3.0 sends nothing more to a partition once a batch on its way has been given up.
    "enable_idempotence": False,
}


class Fleet:
    """Produces until stopped. Blocking; `stop()` may be called from a signal handler or another thread."""

    def __init__(
        self, bootstrap: str, *, seed: int, speed: float, drift: Drift = USUAL, topics: Mapping[str, str] = OWN_TOPICS
    ) -> None:
        self._bootstrap = bootstrap
        self._topics = topics
        self._seed = seed
        self._speed = speed
        self._drift = drift
        self._stopped = threading.Event()
        self.sent = 0
        self.failed = 0

    def stop(self) -> None:
        """Ask `run` to return."""
        self._stopped.set()

    def run(self, duration_s: float | None = None) -> bool:
        """Send for `duration_s` seconds (None: until stopped). False when stopped before a broker answered."""
        producer = self._connect()
        if producer is None:
            return False
        try:
            self._produce(producer, duration_s)
        finally:
            _close(producer)
        return True

    def _connect(self) -> Any:
        """A producer, once the broker is there and has the topics; None when stopped before."""
        while not self._stopped.is_set():
            try:
                create_topics(self._bootstrap, self._topics.values())
                return KafkaProducer(bootstrap_servers=self._bootstrap, **_CLIENT, **_PRODUCER)
            except (KafkaError, OSError) as error:
                print(f"waiting for {self._bootstrap}: {type(error).__name__}", flush=True)
                self._stopped.wait(_RETRY_S)
        return None

    def _produce(self, producer: Any, duration_s: float | None) -> None:
        begin_us = _now_us()
        end_us = begin_us + int(duration_s * 1e6) if duration_s is not None else None
        for message in self._paced(messages(self._seed, begin_us, self._speed, self._drift)):
            if end_us is not None and message.at_us >= end_us:
                return
            self._send(producer, message)

    def _paced(self, stream: Iterator[Message]) -> Iterator[Message]:
        """Each message when its time has come, until stopped."""
        now_us = 0
        behind = False
        for message in stream:
            while message.at_us > now_us and not self._stopped.is_set():
                now_us = _now_us()
                if message.at_us > now_us:
                    self._stopped.wait(_TICK_S)
                elif not behind and now_us - message.at_us > _BEHIND_US:
                    behind = True
                    print("this machine cannot send so fast: event times fall behind the wall clock", flush=True)
            if self._stopped.is_set():
                return
            yield message

    def _send(self, producer: Any, message: Message) -> None:
        try:
            producer.send(
                self._topics[message.topic], key=message.key, value=message.value, timestamp_ms=message.at_us // 1000
            ).add_errback(self._failed)
            self.sent += 1
        except KafkaError as error:  # no broker for `max_block_ms`, or the buffer is full: a real service goes on too
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        self.failed += 1
        if self.failed & (self.failed - 1) == 0:  # the 1st, 2nd, 4th, 8th …: a dead broker shall not fill the log
            print(f"{self.failed} messages not sent: {type(error).__name__}", flush=True)


def _close(producer: Any) -> None:
    """Send what is left, for as long as that may take; what is not sent by then is given up."""
    try:
        producer.close(timeout=_FLUSH_S)
    except KafkaError as error:
        print(f"the last messages may not have arrived: {error}", flush=True)
        producer._sender.force_close()  # noqa: SLF001 (its own `close` raises before it comes to this)
        with contextlib.suppress(KafkaError):
            producer.close(timeout=_FLUSH_S)


def create_topics(bootstrap: str, topics: Iterable[str] = OWN_TOPICS) -> None:
    """These topics, with PARTITIONS partitions each, where they do not exist; raises KafkaError."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap, **_CLIENT)
    try:
        missing = set(topics) - set(admin.list_topics())
        for topic in sorted(missing):
            try:
                admin.create_topics([NewTopic(topic, num_partitions=PARTITIONS, replication_factor=-1)])
            except TopicAlreadyExistsError:  # another fleet was faster
                continue
    finally:
        admin.close()


def quiet_kafka() -> None:
    """Silence the client's own log: what matters of it is printed here, in one line."""
    logging.getLogger("kafka").setLevel(logging.CRITICAL)


def _now_us() -> int:
    return time.time_ns() // 1_000
