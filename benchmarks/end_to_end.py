"""Events a second, end to end: msemon on both clients and its peers drain the same kind of log from Apache Kafka.

    python benchmarks/end_to_end.py [--rounds N] [--minutes M] [--only NAME ...] [--short]

They run in turns, one after the other, so that a ratio is of neighbours in time; the whole is repeated `--rounds`
times, while `--minutes` last. Each reads a log that is as long as fits its speed: msemon is busy for half a minute or
so, that checkpoints and scrapes are in it; what keeps no state may be quicker. The broker shares the machine.
`--short` only shows that everything works and is right; it leaves out what has to be installed for it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from benchmarks import daemons, others
from benchmarks.daemons import Drained, settings_of
from benchmarks.measuring import figure, machine, short, spread, table
from benchmarks.traffic import Log, cluster, made_log

LIMIT_S = 150.0  # a run
ROUNDS = 3


class Size(NamedTuple):
    """A log's: see `traffic.Log`."""

    paired: int
    tiers: int = 4
    waiting: int = 0


LOGS = {
    "longest": Size(6_000_000),
    "longer": Size(4_200_000),
    "long": Size(2_400_000),
    "medium": Size(600_000),
    "river's": Size(300_000),
    "Quix Streams'": Size(40_000),
    "Faust's": Size(8_000),
    "10,000 series": Size(3_000_000, tiers=1_665),
    "5 million waiting": Size(2_400_000, waiting=5_000_000),
}
SHORT = {name: Size(16_000, min(size.tiers, 40), min(size.waiting, 16_000)) for name, size in LOGS.items()}


class Subject(NamedTuple):
    """What is measured: a peer, or so many replicas of msemon on a client; and the log it drains."""

    name: str
    log: str
    client: str | None = None
    replicas: int = 1


KAFKA_PYTHON = Subject("msemon, kafka-python", "longer", "kafka-python")
LIBRDKAFKA = Subject("msemon, librdkafka", "longest", "librdkafka")
REPLICAS = Subject("msemon, kafka-python, two replicas", "longer", "kafka-python", 2)
SERIES = Subject("msemon, librdkafka, 10,000 series", "10,000 series", "librdkafka")
WAITING = Subject("msemon, librdkafka, 5 million waiting", "5 million waiting", "librdkafka")
# Next to each other what is compared.
SUBJECTS = [
    REPLICAS,
    KAFKA_PYTHON,
    Subject("drain, kafka-python", "medium"),
    Subject("river", "river's"),
    SERIES,
    LIBRDKAFKA,
    WAITING,
    Subject("drain, confluent-kafka", "long"),
    Subject("by hand", "long"),
    Subject("Pathway, two threads", "long"),
    Subject("Pathway, one thread", "medium"),
    Subject("Bytewax", "medium"),
    Subject("Quix Streams", "Quix Streams'"),
    Subject("Faust", "Faust's"),
]
RATIOS = [
    (KAFKA_PYTHON.name, "drain, kafka-python"),
    (LIBRDKAFKA.name, "drain, confluent-kafka"),
    (LIBRDKAFKA.name, "by hand"),
    (LIBRDKAFKA.name, "Pathway, two threads"),
    (KAFKA_PYTHON.name, "river"),
    (REPLICAS.name, KAFKA_PYTHON.name),
    (SERIES.name, LIBRDKAFKA.name),
    (WAITING.name, LIBRDKAFKA.name),
]
ROOM = {"limits__series": 10_000, "join__max_pending": 20_000_000}
"""Limits that nothing here reaches."""


class Results:
    """What came out, a value a round; why something is missing."""

    def __init__(self) -> None:
        self.rates: defaultdict[str, dict[int, float]] = defaultdict(dict)
        self.drained: defaultdict[str, list[Drained]] = defaultdict(list)
        self.missing: dict[str, str] = {}

    def ratios(self, one: str, other: str) -> list[float]:
        """Of the rounds that have both."""
        return [rate / self.rates[other][n] for n, rate in self.rates[one].items() if n in self.rates[other]]

    def told(self, subjects: list[Subject], logs: dict[str, Log]) -> str:
        """The tables, in Markdown."""
        rows = []
        for subject in subjects:
            rates, runs = list(self.rates[subject.name].values()), self.drained[subject.name]
            said = spread(rates) if rates else f"left out: {self.missing.get(subject.name, 'no time was left')}"
            rows.append([
                subject.name, f"{logs[subject.log].events:,}", said,
                spread([run.cpu_us for run in runs]) if runs else "",
                spread([run.rss / 2**20 for run in runs]) if runs else "",
                spread([run.scrape_s * 1e3 for run in runs]) if runs else "",
            ])  # fmt: skip
        head = ["", "events", "events/s", "CPU µs an event", "MiB", "longest scrape, ms"]
        both = [(f"{one} / {other}", self.ratios(one, other)) for one, other in RATIOS]
        ratios = [[name, spread(values)] for name, values in both if values]
        return table(head, rows) + "\n\n" + table(["ratio, round by round", ""], ratios)


def measured(subject: Subject, bootstrap: str, log: Log, results: Results) -> float:
    """One run's events/s. Raises Unusable and Unfinished."""
    if subject.client is None:
        return others.rate(others.PEERS[subject.name], bootstrap, log, LIMIT_S)
    # A group of several keeps its state where all of them reach it.
    store = {"state__store": "kafka", "state__topic": f"state-{log.topic}-{time.monotonic_ns()}"}
    more = store if subject.replicas > 1 else {}
    settings = settings_of(bootstrap, log, subject.client, **ROOM, **more)
    drained = daemons.drain(log, settings, subject.replicas, LIMIT_S)
    results.drained[subject.name].append(drained)
    return drained.rate


def run_rounds(
    subjects: list[Subject], rounds: int, until: float, measure: Callable[[Subject], float], results: Results
) -> None:
    """Round by round, each of them once. What fails is not tried again; no round begins that would not end in time, and
    none of them once the time is over.
    """
    took = 0.0
    for number in range(rounds):
        began = time.monotonic()
        if number and began + took > until:
            print(f"no time for round {number + 1}", flush=True)
            return
        for subject in subjects:
            if subject.name in results.missing:
                continue
            if time.monotonic() > until:
                print(f"no time for {subject.name}", flush=True)
                continue
            try:
                rate = measure(subject)
            except Exception as problem:  # noqa: BLE001 (whatever it is, the others' figures are worth having)
                results.missing[subject.name] = " ".join(f"{type(problem).__name__}: {problem}".split())[:200]
                print(f"{subject.name}: FAILED: {results.missing[subject.name]}", flush=True)
                continue
            results.rates[subject.name][number] = rate
            print(f"round {number + 1}  {subject.name:36} {rate:12,.0f} events/s", flush=True)
        took = time.monotonic() - began


def chosen(only: list[str] | None) -> list[Subject]:
    subjects = SUBJECTS
    if short():  # the others' environments are not for every machine
        subjects = [each for each in subjects if each.client or others.PEERS[each.name].environment is None]
    return [each for each in subjects if each.name in only] if only else subjects


def main() -> int:
    parser = argparse.ArgumentParser(description="Events a second, end to end.")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--minutes", type=float, default=27.0, help="no round begins that would not end by then (27)")
    parser.add_argument("--only", action="append", help="of this name; may be given again")
    parser.add_argument("--short", action="store_true", help="only to show that it works")
    options = parser.parse_args()
    until = time.monotonic() + 60 * options.minutes
    subjects = chosen(options.only)
    print(machine(), flush=True)
    results = Results()
    with cluster() as bootstrap:
        logs = {}
        for name in dict.fromkeys(subject.log for subject in subjects):
            logs[name] = made_log(bootstrap, f"bench-{time.monotonic_ns()}", *(SHORT if short() else LOGS)[name])
        print(f"{sum(log.events for log in logs.values()):,} events written", flush=True)
        run_rounds(
            subjects, 1 if short() else options.rounds, until,
            lambda subject: measured(subject, bootstrap, logs[subject.log], results), results,
        )  # fmt: skip
    print()
    print(results.told(subjects, logs))
    for one, other in RATIOS:
        if ratios := results.ratios(one, other):
            figure(f"{one} / {other}", ratios)
    return 1 if any(subject.client and subject.name in results.missing for subject in subjects) else 0


if __name__ == "__main__":
    sys.exit(main())
