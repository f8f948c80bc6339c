"""Millions of events through one daemon, its memory watched: `make soak`.

Half of the events are predictions, half their labels, a minute of event time later, while the join's timeout is a day:
what is matched must not be kept for the timeout. Three windows, one dimension, two models, four partitions; half a day
of event time. At the end counts and sums must equal what was produced, and memory must have been flat: the largest
resident size of the last third of the run at most 10 % above that of the middle third. Exit code 0 if both hold.

The broker is Apache Kafka in a process of its own, or the cluster that MSEMON_TEST_BOOTSTRAP names.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.brokers import apache_kafka, running
from support.flood import flood
from support.histories import PARTITIONS
from support.running import Daemon, Scrape, daemon
from support.stories import made, names, settings

SPAN_S = 12 * 3600  # of event time
DELAY_S = 60
COUNTRIES = np.array(["at", "de", "es", "fr", "it"])
MODELS = np.array(["price", "relevance"])
GROWTH = 1.10
MIB = 1024 * 1024
ROWS = 20


class Events(NamedTuple):
    """All that is produced: a prediction and a label each position."""

    truth: np.ndarray
    error: np.ndarray
    country: np.ndarray
    model: np.ndarray
    time_ms: np.ndarray


class Moment(NamedTuple):
    """The daemon at one time of the run."""

    elapsed_s: float
    events: int
    rss: int
    waiting: int


def events_of(pairs: int) -> Events:
    random = np.random.default_rng(5)
    newest_ms = time.time_ns() // 1_000_000 - 2 * DELAY_S * 1000
    places = random.integers(0, len(COUNTRIES), pairs)
    model = np.arange(pairs) % len(MODELS)
    return Events(
        truth=np.round(random.normal(100.0, 10.0, pairs), 6),
        error=np.round(random.standard_t(5, pairs) * (1.0 + places) * (1.0 + model), 6),
        country=COUNTRIES[places],
        model=MODELS[model],
        time_ms=newest_ms - SPAN_S * 1000 + (np.arange(pairs) * (SPAN_S * 1000 / pairs)).astype(np.int64),
    )


def log_of(events: Events, topics: list[str]) -> Iterator[tuple[str, int, bytes, int]]:
    """Predictions in the order of time, each label where its own time has come."""
    pairs = len(events.time_ms)
    behind = round(pairs * DELAY_S / SPAN_S)
    truth, said = events.truth.tolist(), (events.truth + events.error).tolist()
    country, model, time_ms = events.country.tolist(), events.model.tolist(), events.time_ms.tolist()
    for i in range(pairs + behind):
        if i < pairs:
            text = (
                f'{{"id":"request-{i}","model":"{model[i]}","version":"1","prediction":{said[i]!r},'
                f'"ts":{time_ms[i]},"segments":{{"country":"{country[i]}"}}}}'
            )
            yield topics[0], i % PARTITIONS, text.encode(), time_ms[i]
        if (j := i - behind) >= 0:
            at = time_ms[j] + DELAY_S * 1000
            yield topics[1], j % PARTITIONS, f'{{"id":"request-{j}","label":{truth[j]!r},"ts":{at}}}'.encode(), at


def look(watched: Daemon, began: float) -> Moment:
    """Only these lines: parsing everything every time would take its share of the machine."""
    wanted = ("msemon_events_total{", "msemon_join_pending{")
    lines = [line for line in watched.get("/metrics")[1].splitlines() if line.startswith(wanted)]
    scrape = Scrape("\n".join(lines))
    return Moment(
        time.monotonic() - began,
        int(scrape.sum("msemon_events_total")),
        watched.rss,
        int(scrape.sum("msemon_join_pending")),
    )


@contextmanager
def cluster() -> Iterator[str]:
    given = os.environ.get("MSEMON_TEST_BOOTSTRAP")
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="msemon-soak-") as directory, running(apache_kafka(Path(directory))) as own:
        yield own.bootstrap


def soak(bootstrap: str, events: Events, limit_s: float, log: Path) -> tuple[list[Moment], Scrape]:
    """The run, watched every second, and what `/metrics` says at its end."""
    total = 2 * len(events.time_ms)
    topics = made(bootstrap, names())
    given = settings(
        bootstrap, topics, kafka__start="earliest", segments=[["country"]], join__timeout="24h", join__memory="10m",
        windows__lengths=["5m", "1h", "24h"], export__segment_metrics="all",
    )  # fmt: skip
    failed: list[Exception] = []

    def produce() -> None:
        try:
            flood(bootstrap, log_of(events, topics))
        except Exception as problem:  # noqa: BLE001 - whatever it is, it ends the run
            failed.append(problem)

    with daemon(log, given) as watched:
        producer = threading.Thread(target=produce, name="producer", daemon=True)
        producer.start()
        began = time.monotonic()
        every_s = min(1.0, total / 2_000_000)
        moments = [look(watched, began)]
        while moments[-1].events < total:
            if failed:
                raise failed[0]
            if moments[-1].elapsed_s > limit_s:
                raise TimeoutError(f"{moments[-1].events:,} of {total:,} events after {limit_s / 60:g} minutes")
            time.sleep(every_s)
            moments.append(look(watched, began))
        return [moment for moment in moments if moment.events], watched.scrape()


def mistakes(scrape: Scrape, events: Events) -> list[str]:
    """What does not equal what was produced: exactly for counts, to 1e-12 for sums."""
    errors = (events.truth + events.error) - events.truth  # as the daemon sees them
    found = []

    def compare(name: str, wanted: float, precision: float, **labels: str) -> None:
        value = scrape.value(f"msemon_{name}", version="1", **labels)
        if value is None or abs(value - wanted) > precision * abs(wanted):
            found.append(f"msemon_{name}{labels}: {value!r}, not {wanted!r}")

    def series(prefix: str, chosen: np.ndarray, **labels: str) -> None:
        count, squared = int(chosen.sum()), math.fsum(np.square(errors[chosen]))
        compare(f"{prefix}pairs_total", count, 0.0, **labels)
        compare(f"{prefix}squared_error_total", squared, 1e-12, **labels)
        compare(f"{prefix}absolute_error_total", math.fsum(np.abs(errors[chosen])), 1e-12, **labels)
        compare(f"{prefix}window_pairs", count, 0.0, window="24h", **labels)
        compare(f"{prefix}mse", squared / count, 1e-12, window="24h", **labels)

    for model in MODELS.tolist():
        mine = events.model == model
        series("", mine, model=model)
        compare("lifetime_squared_error", math.fsum(np.square(errors[mine])), 1e-12, model=model)
        for country in COUNTRIES.tolist():
            chosen = mine & (events.country == country)
            series("segment_", chosen, model=model, dimension="country", segment=country)
    none = [f"msemon_{name}_total" for name in ("join_expired", "join_evicted", "join_duplicates", "events_rejected")]
    return found + [f"{name}: {scrape.sum(name):g}, not 0" for name in none if scrape.sum(name)]


def thirds(moments: list[Moment]) -> tuple[int, int, int]:
    """The largest resident size in each third of the run's time."""
    began, ended = moments[0].elapsed_s, moments[-1].elapsed_s
    largest = [0, 0, 0]
    for moment in moments:
        third = min(2, int(3 * (moment.elapsed_s - began) / max(ended - began, 1e-9)))
        largest[third] = max(largest[third], moment.rss)
    return largest[0], largest[1], largest[2]


def table(moments: list[Moment]) -> str:
    """About twenty lines of the run."""
    lines = [f"{'seconds':>8} {'events':>11} {'events/s':>9} {'waiting':>8} {'MiB':>7}"]
    chosen = moments[:: max(1, len(moments) // ROWS)]
    if chosen[-1] is not moments[-1]:
        chosen.append(moments[-1])
    before = Moment(0.0, 0, 0, 0)
    for each in chosen:
        rate = (each.events - before.events) / max(each.elapsed_s - before.elapsed_s, 1e-9)
        lines.append(f"{each.elapsed_s:8.1f} {each.events:11,} {rate:9,.0f} {each.waiting:8,} {each.rss / MIB:7.1f}")
        before = each
    return "\n".join(lines)


def machine() -> str:
    """What the figures are of."""
    memory = psutil.virtual_memory().total / 1024**3
    broker = "a given cluster" if os.environ.get("MSEMON_TEST_BOOTSTRAP") else "Apache Kafka on the same machine"
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}, {broker}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Millions of events through one daemon, its memory watched.")
    parser.add_argument("--events", type=int, default=5_000_000, help="predictions and labels together (5,000,000)")
    parser.add_argument("--limit-minutes", type=float, default=60.0, help="give up after so long (60)")
    parser.add_argument("--log", type=Path, help="keep the daemon's log here")
    options = parser.parse_args(arguments)
    print(machine())
    events = events_of(options.events // 2)
    with cluster() as bootstrap, tempfile.TemporaryDirectory() as directory:
        log = options.log or Path(directory) / "daemon.log"
        moments, scrape = soak(bootstrap, events, 60 * options.limit_minutes, log)
    print(table(moments))
    wrong = mistakes(scrape, events)
    first, middle, last = thirds(moments)
    flat = last <= GROWTH * middle
    took = moments[-1].elapsed_s
    print(f"{moments[-1].events:,} events in {took:.0f} s: {moments[-1].events / took:,.0f} a second")
    print(f"most entries waiting at once: {max(moment.waiting for moment in moments):,}")
    print(f"largest resident size by thirds: {first / MIB:.0f}, {middle / MIB:.0f}, {last / MIB:.0f} MiB: ", end="")
    print("flat" if flat else f"NOT FLAT: more than {GROWTH - 1:.0%} of growth from the middle to the last")
    print("counts and sums equal what was produced" if not wrong else "WRONG:\n" + "\n".join(wrong))
    return 0 if flat and not wrong else 1


if __name__ == "__main__":
    sys.exit(main())
