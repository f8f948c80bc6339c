"""Live traffic in small portions, kept for the oracle: what a daemon reads while something happens to it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, Self

from kafka import KafkaProducer

from support.histories import PARTITIONS, Event, joined, label, prediction
from support.oracle import Oracle, agree, windows_of
from support.running import Daemon, Scrape
from support.topics import create_topics, unique

WINDOWS = ["1h", "24h"]
COUNTRIES = ["de", "fr", "it"]

# From 0 at each start of a process, or of the order in which two topics were read.
THE_PROCESS_OWN = [
    f"msemon_{part}{name}_total"
    for part in ("", "segment_")
    for name in ("pairs", "weight", "squared_error", "absolute_error", "overprediction", "underprediction")
] + [
    "msemon_label_delay_seconds_bucket",
    "msemon_label_delay_seconds_count",
    "msemon_label_delay_seconds_sum",
    "msemon_series_folded_total",
    "msemon_last_pair_timestamp_seconds",
]  # fmt: skip


class Traffic:
    """Predictions of two models on one topic, labels for most of them a little later on another."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()

    def __init__(self, bootstrap: str, seed: int = 1, replicas: int = 1) -> None:
        self.bootstrap = bootstrap
        self.topics = [unique("predictions"), unique("labels")]
        self.group = unique("group")
        self.predictions: list[Event] = []
        self.labels: list[Event] = []
        self._open: deque[Event] = deque()
        self._random = Random(seed)
        self._producer: KafkaProducer | None = None
        create_topics(bootstrap, dict.fromkeys(self.topics, PARTITIONS), replicas=replicas)

    def settings(self, **more: Any) -> dict[str, Any]:
        """Of a daemon on it that checkpoints every second; in `more` two underscores stand for a dot."""
        given = {
            "kafka.bootstrap_servers": self.bootstrap,
            "kafka.topics": self.topics,
            "kafka.group_id": self.group,
            "kafka.start": "earliest",
            "kafka.client_options": {"session_timeout_ms": 6_000, "heartbeat_interval_ms": 500},
            "windows.lengths": WINDOWS,
            "segments": [["country"]],
            "export.segment_metrics": "all",
            "state.interval": "1s",
            "state.topic": f"state-{self.group}",
        }
        return given | {name.replace("__", "."): value for name, value in more.items()}

    def portion(self, count: int = 40) -> None:
        """So many predictions and about as many labels, on their way once this returns."""
        now_us = time.time_ns() // 1000
        answers = [self._answer(self._open.popleft(), now_us) for _ in range(max(0, len(self._open) - count))]
        asked = [self._ask(now_us) for _ in range(count)]
        self._open += [each for each in asked if self._random.random() < 0.9]
        self._send(asked, answers)

    def settle(self) -> None:
        """The labels of all that still wait for one."""
        now_us = time.time_ns() // 1000
        answers = [self._answer(each, now_us) for each in self._open]
        self._open.clear()
        self._send([], answers)

    def counts(self) -> dict[str, int]:
        """Records of each topic."""
        return dict(zip(self.topics, (len(self.predictions), len(self.labels)), strict=True))

    def agree(self, daemon: Daemon, timeout_s: float = 45.0) -> Scrape:
        """Wait until the daemon has read everything; then it says what the oracle does: all pairs, each once."""
        found = joined(self.predictions, self.labels, ["country"])

        def lifetime() -> float:
            return daemon.scrape().sum("msemon_lifetime_pairs")

        daemon.until(lambda: lifetime() >= len(found.pairs), "all pairs", timeout_s, every_s=0.2)
        daemon.until(lambda: self.read(daemon), "the rest to be read", timeout_s, every_s=0.2)
        assert lifetime() == len(found.pairs)
        assert daemon.status()["waiting"] == {"predictions": found.waiting_predictions, "labels": found.waiting_labels}
        oracle = Oracle(
            found.pairs, found.predictions, windows_of(WINDOWS, 60), [["country"]], record_times_known=False
        )  # fmt: skip
        return agree(daemon, oracle, ignore=THE_PROCESS_OWN)

    def read(self, daemon: Daemon) -> bool:
        """Whether it is at the end of every partition, and was so a second ago, when these gauges may be from."""
        began = time.monotonic()
        while time.monotonic() - began < 1.2:
            scrape = daemon.scrape()
            lags = [scrape.all("msemon_consumer_lag", topic=topic) for topic in self.topics]
            if any(len(each) != PARTITIONS or any(each.values()) for each in lags):
                return False
            time.sleep(0.2)
        return True

    def until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """One portion after the other until it holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"waited {timeout_s:g} s for {what}"
            self.portion()

    def _ask(self, now_us: int) -> Event:
        random = self._random
        ident = f"id {len(self.predictions)}"
        more: dict[str, Any] = {"segments": {"country": random.choice(COUNTRIES)}, "weight": random.choice([1, 1, 2.5])}
        event = prediction(ident, random.choice(["a", "b"]), random.gauss(100, 10), now_us, version="1", **more)
        self.predictions.append(event)
        return event

    def _answer(self, asked: Event, now_us: int) -> Event:
        event = label(asked.id, asked.message["prediction"] + self._random.gauss(0, 2), now_us)
        self.labels.append(event)
        return event

    def _send(self, asked: list[Event], answers: list[Event]) -> None:
        if self._producer is None:
            options = {"linger_ms": 5, "max_block_ms": 20_000, "metadata_max_age_ms": 1_000}
            self._producer = KafkaProducer(bootstrap_servers=self.bootstrap, **options)
        sent = []
        for topic, events in zip(self.topics, (asked, answers), strict=True):
            for event in events:
                value, partition, key, time_ms, _ = event.record()
                sent.append(self._producer.send(topic, value, key, partition=partition, timestamp_ms=time_ms))
        for future in sent:
            future.get(timeout=30)

    def hang_up(self) -> None:
        """Let go of the broker, which may go now; the next portion looks for it anew."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close(timeout=5)
