"""One monitor through several lives of its process: topics, what was sent to them, and what that must have come to."""

from __future__ import annotations

import json
import random as randoms
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kafka import TopicPartition

from support.brokers import admin
from support.histories import Event, joined, label, prediction
from support.oracle import Oracle, agree, windows_of
from support.running import Daemon, Scrape, daemon
from support.stories import KEPT, names, settings
from support.topics import Record, create_topics, produce

LENGTHS, PANES = ["5m", "1h", "24h"], 60
PROCESS = ("pairs", "weight", "squared_error", "absolute_error", "overprediction", "underprediction")
COUNTERS = [
    *(f"msemon_{each}{name}_total" for each in ("", "segment_") for name in PROCESS),
    *(f"msemon_label_delay_seconds_{part}" for part in ("bucket", "count", "sum")),
    "msemon_series_folded_total",
]
"""Families that begin at 0 with each process."""


class Monitor:
    """Two topics and a group whose state is kept in a directory; `run` is one life of the daemon."""

    def __init__(self, bootstrap: str, directory: Path, partitions: int = 1, **more: Any) -> None:
        self.bootstrap, self.directory, self.partitions = bootstrap, directory, partitions
        self.topics = names()
        create_topics(bootstrap, dict.fromkeys(self.topics, partitions), KEPT)
        kept = {"state__store": "sqlite", "state__path": str(directory / "state"), "state__interval": "1s"}
        more = {"kafka__start": "earliest", "segments": [["country"]], **kept, **more}
        self.settings = settings(bootstrap, self.topics, **more)
        options = {"heartbeat_interval_ms": 500, "metadata_max_age_ms": 1000, "session_timeout_ms": 6000}
        self.settings["kafka.client_options"] = options
        self.predicted: list[Event] = []
        self.labelled: list[Event] = []
        self.lives = 0
        self._random = randoms.Random(1)

    @contextmanager
    def run(self, ready: bool = True, **changed: Any) -> Iterator[Daemon]:
        self.lives += 1
        given = self.settings | {name.replace("__", "."): value for name, value in changed.items()}
        with daemon(self.directory / f"life-{self.lives}.log", given, ready=ready) as running:
            yield running

    def events(self, count: int, stem: str) -> tuple[list[Event], list[Event]]:
        """Predictions of two models and their labels, of the last minutes; nothing is sent."""
        random, now_us = self._random, time.time_ns() // 1_000_000 * 1000
        asked, answers = [], []
        for i in range(count):
            at = now_us - random.randint(60, 600) * 1_000_000
            truth = random.gauss(50, 10)
            more = {"weight": random.choice([1.0, 2.5]), "segments": {"country": random.choice(["de", "fr", "at"])}}
            model = random.choice(["a", "b"])
            asked.append(prediction(f"{stem}-{i}", model, truth + random.gauss(1, 3), at, now_us, **more))
            answers.append(label(f"{stem}-{i}", truth, at + random.randint(1, 50) * 1_000_000, now_us))
        random.shuffle(answers)
        return asked, answers

    def send(self, predicted: Sequence[Event], labelled: Sequence[Event], partitions: int | None = None) -> None:
        """Write them and remember that they are there."""
        for topic, events in zip(self.topics, (predicted, labelled), strict=True):
            produce(self.bootstrap, topic, [record(event, partitions or self.partitions) for event in events])
        self.predicted += predicted
        self.labelled += labelled

    def oracle(self, predicted: Sequence[Event] | None = None, labelled: Sequence[Event] | None = None) -> Oracle:
        """Of all that was sent, or of what the test says has been read of it."""
        predicted = self.predicted if predicted is None else predicted
        labelled = self.labelled if labelled is None else labelled
        found = joined(predicted, labelled, ["country"])
        found.pairs["partition"] = 0  # where windows end is the same for all: every record has the same delay at most
        return Oracle(
            found.pairs, found.predictions, windows_of(LENGTHS, PANES), [["country"]], record_times_known=False
        )

    def await_exact(self, running: Daemon, oracle: Oracle | None = None, ignore: Sequence[str] = COUNTERS) -> Scrape:
        """Wait until the lifetime totals have as many pairs as there are, and then let everything agree."""
        oracle = oracle or self.oracle()
        total = len(oracle.pairs)
        running.until(
            lambda: running.scrape().sum("msemon_lifetime_pairs") >= total, f"{total} pairs", 60, every_s=0.2
        )
        running.until(lambda: running.scrape().value("msemon_consumer_lag_sum") == 0, "no lag", 30, every_s=0.2)
        return agree(running, oracle, ignore=ignore)

    def delete_topic(self, topic: str) -> None:
        with admin(self.bootstrap) as client:
            client.delete_topics([topic])

    def make_topic(self, topic: str, partitions: int | None = None) -> None:
        create_topics(self.bootstrap, {topic: partitions or self.partitions}, KEPT)

    def ends(self, topic: str) -> dict[int, int]:
        """Offset after the last record, by partition."""
        from kafka import KafkaConsumer

        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap)
        try:
            places = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or ())]
            return {where.partition: end for where, end in consumer.end_offsets(places).items()}
        finally:
            consumer.close()


def partition_of(event: Event, partitions: int) -> int:
    """Where a record belongs among so many partitions: by its id alone."""
    return sum(event.id.encode()) % partitions


def record(event: Event, partitions: int) -> Record:
    """The record of an event in a topic of so many partitions."""
    return Record(
        json.dumps(event.message).encode(), partition_of(event, partitions), event.id.encode(), event.record_us // 1000
    )
