"""The log that every end-to-end benchmark drains, and what is true of it.

Half of the events are predictions, half their labels, a minute of event time later: JSON, about 110 bytes with the id
as the record's key, 4 partitions, an hour of event time that ends when the log
is made. Two models, three countries,
four tiers: with the dimensions country and country,tier 32 series.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.measuring import ROOT

sys.path[:0] = [str(ROOT / "tests")]

from confluent_kafka import Producer

from support.brokers import apache_kafka, running
from support.stories import made

PARTITIONS = 4
SPAN_MS = 3_600_000
DELAY_MS = 60_000
MODELS = ("price", "relevance")
COUNTRIES = ("at", "de", "fr")
TIERS = ("basic", "free", "gold", "plus")
WRITERS = 2

Truth = dict[tuple[str, str], tuple[int, float]]
"""By model and country: pairs, and their MSE."""


class Log(NamedTuple):
    """One topic. With more `tiers` there are more series; `waiting` predictions come before all else, without label."""

    topic: str
    paired: int
    newest_ms: int
    tiers: int = len(TIERS)
    waiting: int = 0

    @property
    def events(self) -> int:
        return self.paired + self.waiting

    @property
    def tier_names(self) -> list[str]:
        return list(TIERS) if self.tiers == len(TIERS) else [f"t{i}" for i in range(self.tiers)]

    @property
    def series(self) -> int:
        """Models, and their segments by country and by country and tier."""
        return len(MODELS) * (1 + len(COUNTRIES) * (1 + self.tiers))


class Part(NamedTuple):
    """A partition's pairs, oldest first."""

    model: np.ndarray
    country: np.ndarray
    tier: np.ndarray
    prediction: np.ndarray
    label: np.ndarray
    time_ms: np.ndarray


def part(log: Log, partition: int) -> Part:
    """Its pairs; the same every time."""
    pairs = log.paired // 2 // PARTITIONS
    random = np.random.default_rng(partition)
    truth = np.round(random.normal(100.0, 10.0, pairs), 4)
    country = random.integers(0, len(COUNTRIES), pairs)
    model = random.integers(0, len(MODELS), pairs)
    said = np.round(truth + random.standard_t(5, pairs) * (1.0 + country) * (1.0 + model), 4)
    span = SPAN_MS - DELAY_MS
    return Part(
        model, country, random.integers(0, log.tiers, pairs), said, truth,
        log.newest_ms - SPAN_MS + np.arange(pairs) * span // max(pairs, 1),
    )  # fmt: skip


def truth(log: Log) -> Truth:
    """What any system must find in the log."""
    parts = [part(log, partition) for partition in range(PARTITIONS)]
    model, country, _, said, label, _ = (np.concatenate(column) for column in zip(*parts, strict=True))
    squared = np.square(said - label)
    found = {}
    for m, name in enumerate(MODELS):
        for c, where in enumerate(COUNTRIES):
            chosen = squared[(model == m) & (country == c)]
            found[name, where] = len(chosen), float(chosen.mean())
    return found


def mistakes(found: Truth, log: Log) -> list[str]:
    """Where this differs from the truth: counts must be equal, the MSE to 1e-9."""
    wrong = []
    wanted = truth(log)
    for key in sorted(wanted.keys() | found.keys()):
        (n, mse), (n_found, mse_found) = wanted.get(key, (0, 0.0)), found.get(key, (0, 0.0))
        if n != n_found or abs(mse - mse_found) > 1e-9 * mse:
            wrong.append(f"{key}: {n_found} pairs, MSE {mse_found!r}, not {n} and {mse!r}")
    return wrong


def baselines(log: Log) -> str:
    """A baseline file with every series' own MSE, so that each pair is judged and none drifts."""
    entries = []
    for m, model in enumerate(MODELS):
        mse = [5 / 3 * ((1.0 + m) * (1.0 + c)) ** 2 for c in range(len(COUNTRIES))]  # Student's t5 has variance 5/3
        entries.append({"model": model, "mse": sum(mse) / len(mse)})
        for c, country in enumerate(COUNTRIES):
            entries.append({"model": model, "dimension": "country", "segment": country, "mse": mse[c]})
            entries += [
                {"model": model, "dimension": "country,tier", "segment": f"{country},{tier}", "mse": mse[c]}
                for tier in log.tier_names
            ]
    return json.dumps({"format": 1, "baselines": entries})


def messages(log: Log, partition: int) -> Iterator[tuple[bytes, bytes, int]]:
    """Key, value and time in ms: what only waits, then each prediction, and each label once its own time has come."""
    columns = part(log, partition)
    pairs = len(columns.time_ms)
    model, country, tier, said, label, time_ms = (column.tolist() for column in columns)
    tiers = log.tier_names

    def prediction(key: bytes, i: int) -> bytes:
        return (
            f'{{"id":"{key.decode()}","model":"{MODELS[model[i]]}","version":"7","prediction":{said[i]!r},'
            f'"ts":{time_ms[i]},"segments":{{"country":"{COUNTRIES[country[i]]}","tier":"{tiers[tier[i]]}"}}}}'
        ).encode()

    for i in range(log.waiting // PARTITIONS):
        key = b"%d+%010d" % (partition, i)
        yield key, prediction(key, 0), time_ms[0]
    j = 0
    for i in range(pairs + 1):
        while j < pairs and (i == pairs or time_ms[j] + DELAY_MS <= time_ms[i]):
            key, at = b"%d-%010d" % (partition, j), time_ms[j] + DELAY_MS
            yield key, f'{{"id":"{key.decode()}","label":{label[j]!r},"ts":{at},"source":"delivered"}}'.encode(), at
            j += 1
        if i < pairs:
            key = b"%d-%010d" % (partition, i)
            yield key, prediction(key, i), time_ms[i]


def made_log(bootstrap: str, topic: str, paired: int, tiers: int = len(TIERS), waiting: int = 0) -> Log:
    """The topic made and filled. Counts are rounded down to whole pairs in every partition."""
    each = 2 * PARTITIONS
    log = Log(topic, paired // each * each, time.time_ns() // 1_000_000, tiers, waiting // PARTITIONS * PARTITIONS)
    made(bootstrap, [topic])
    jobs = [(bootstrap, log, range(first, PARTITIONS, WRITERS)) for first in range(WRITERS)]
    with multiprocessing.get_context("spawn").Pool(WRITERS) as pool:
        pool.starmap(_write, jobs)
    return log


def _write(bootstrap: str, log: Log, partitions: range) -> None:
    """Partitions in turns, so that none of them is old when the others are written."""
    failed: list[str] = []

    def told(error: object, _message: object) -> None:
        failed.append(str(error))

    producer = Producer({
        "bootstrap.servers": bootstrap, "linger.ms": 20, "batch.size": 200_000, "log_level": 2,
        "delivery.report.only.error": True,
    })  # fmt: skip
    streams = zip(*(messages(log, partition) for partition in partitions), strict=True)
    for i, row in enumerate(streams):
        for partition, (key, value, time_ms) in zip(partitions, row, strict=True):
            while True:
                try:
                    producer.produce(log.topic, value, key, partition, on_delivery=told, timestamp=time_ms)
                    break
                except BufferError:  # as fast as the broker takes them
                    producer.poll(0.1)
        if i % 1_000 == 0:
            producer.poll(0)
    left = producer.flush(60)
    if left or failed:
        raise RuntimeError(f"{left + len(failed)} records were not written: {failed[:3]}")


@contextmanager
def cluster() -> Iterator[str]:
    """Apache Kafka in a process of its own, or the cluster that MSEMON_TEST_BOOTSTRAP names."""
    given = os.environ.get("MSEMON_TEST_BOOTSTRAP")
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="msemon-bench-") as home, running(apache_kafka(Path(home))) as own:
        yield own.bootstrap
