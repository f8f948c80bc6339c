"""One monitor through several lives of its process: topics, what was sent to them, and what that must have come to."""

from __future__ import annotations

import json
import random as randoms
import time
from collections.abc import Iterator, Mapping, Sequence
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
    "msemon_last_pair_timestamp_seconds",
]
"""Families that begin at 0 with each process, or that depend on which half of a pair was read last."""


class Monitor:
    """Two topics and a group whose state is kept in a directory; `run` is one life of the daemon."""

    def __init__(self, bootstrap: str, directory: Path, partitions: int = 1, **more: Any) -> None:
        self.bootstrap, self.directory, self.partitions = bootstrap, directory, partitions
        self.topics = names()
        create_topics(bootstrap, dict.fromkeys(self.topics, partitions), KEPT)
        kept = {"state__store": "sqlite", "state__path": str(directory / "state"), "state__interval": "1s"}
        more = {"kafka__start": "earliest", "segments": [["country"]], "export__segment_metrics": "all", **kept, **more}
        self.settings = settings(bootstrap, self.topics, **more)
        options = {"heartbeat_interval_ms": 500, "metadata_max_age_ms": 1000, "session_timeout_ms": 6000}
        self.settings["kafka.client_options"] = options
        self.predicted: list[Event] = []
        self.labelled: list[Event] = []
        self.lives = 0
        self._random = randoms.Random(1)

    @contextmanager
    def run(
        self, ready: bool = True, environment: Mapping[str, str] | None = None, **changed: Any
    ) -> Iterator[Daemon]:
        self.lives += 1
        given = self.settings | {name.replace("__", "."): value for name, value in changed.items()}
        with daemon(self.directory / f"life-{self.lives}.log", given, environment, ready=ready) as running:
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

    def send(
        self, predicted: Sequence[Event], labelled: Sequence[Event], partitions: int | None = None, shift: int = 0
    ) -> None:
        """Write them, to partitions `shift` further than where they belong, and remember that they are there."""
        for topic, events in zip(self.topics, (predicted, labelled), strict=True):
            if events:
                found = [record(event, partitions or self.partitions, shift) for event in events]
                produce(self.bootstrap, topic, found)
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

    def await_kept(self, running: Daemon) -> None:
        """Until a checkpoint was begun after now, and is durable."""
        at = time.time() + 1.0
        running.until(
            lambda: (running.scrape().value("msemon_checkpoint_timestamp_seconds") or 0) > at, "a checkpoint", 20
        )

    def await_incomplete(self, running: Daemon, partition: int = 0) -> None:
        """The gauge follows within a second."""
        running.until(
            lambda: running.scrape().value("msemon_state_incomplete", partition=str(partition)) == 1,
            "the state to be marked incomplete",
        )

    def delete_topic(self, topic: str) -> None:
        with admin(self.bootstrap) as client:
            client.delete_topics([topic])

    def make_topic(self, topic: str, partitions: int | None = None) -> None:
        create_topics(self.bootstrap, {topic: partitions or self.partitions}, KEPT)

    def waiting(self) -> tuple[list[Event], list[Event]]:
        """The missing halves of what was sent, unsent: predictions for lone labels, labels for lone predictions."""
        asked, answered = {event.id for event in self.predicted}, {event.id for event in self.labelled}
        more = {"segments": {"country": "at"}}
        return (
            [
                prediction(event.id, "a", 7.0, event.time_us - 1_000_000, event.record_us, **more)
                for event in self.labelled
                if event.id not in asked
            ],
            [
                label(event.id, 9.0, event.time_us + 1_000_000, event.record_us)
                for event in self.predicted
                if event.id not in answered
            ],
        )

    def ends_or_nothing(self, topic: str) -> bool:
        """Whether the topic exists."""
        with admin(self.bootstrap) as client:
            return any((each if isinstance(each, str) else each["name"]) == topic for each in client.list_topics())

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


def record(event: Event, partitions: int, shift: int = 0) -> Record:
    """The record of an event in a topic of so many partitions."""
    where = (partition_of(event, partitions) + shift) % partitions
    return Record(json.dumps(event.message).encode(), where, event.id.encode(), event.record_us // 1000)
