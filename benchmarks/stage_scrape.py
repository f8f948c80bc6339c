"""Throughput of the daemon while scrapes of a million samples run every 5 s, to that without:
`python benchmarks/stage_scrape.py [--short]`.

The whole daemon (JSON, join, windows, the HTTP server) reads from memory; a process of its own scrapes it over
loopback, packed with gzip as Prometheus does, and reads every sample. Stretches of time with and without scrapes take
turns. At the end pairs and samples are compared with what was sent. Where other processes keep both cores busy the
ratio says little; look at the CPU time then, packing included, which is on the other core where there is one.
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]
from benchmarks.measuring import figure
from msemon.daemon import Daemon
from msemon.events import Batch
from msemon.settings import load
from msemon.sources import retention
from msemon.sources.base import Polled
from support.owners import FakeSource
from support.waiting import wait_until

BATCH = 500  # records, as kafka-python delivers them
COUNTRIES = 1_000
PER_SEGMENT = 27  # samples of a segment series
EVERY_S = 5.0


class Memory(FakeSource):
    """Predictions, and then their labels, as fast as they are taken. Partition 0 of both topics is ours."""

    def __init__(self, models: int) -> None:
        super().__init__()
        self.sent = 0  # predictions, each with its label
        self.limit = 0  # of `sent`
        self._told = False
        self.tails = [
            b'","model":"model-%d","prediction":%d.5,"segments":{"country":"c%d"}}' % (m, m + c, c)
            for m in range(models)
            for c in range(COUNTRIES)
        ]

    @property
    def heard_s(self) -> float:
        return time.monotonic()

    @heard_s.setter
    def heard_s(self, _: float) -> None: ...

    def connect(self) -> None: ...

    def partition_counts(self) -> dict[str, int | None]:
        return {"predictions": 1, "labels": 1}

    def poll(self, timeout_s: float) -> Polled:
        if not self._told:
            self._told = True
            return Polled(assigned=frozenset({0}))
        if self.sent >= self.limit:
            time.sleep(timeout_s and 0.001)
            return Polled()
        return Polled(batches=list(self._batches()))

    def _batches(self) -> Iterator[Batch]:
        numbers = range(self.sent, self.sent + BATCH)
        self.sent += BATCH
        tails = self.tails
        yield self._batch("predictions", numbers, [b'{"id":"%d%b' % (n, tails[n * 7919 % len(tails)]) for n in numbers])
        yield self._batch("labels", numbers, [b'{"id":"%d","label":%d.25}' % (n, n % 997) for n in numbers])

    def _batch(self, topic: str, numbers: range, values: list[bytes]) -> Batch:
        now_ms = time.time_ns() // 1_000_000
        size = sum(map(len, values))
        return Batch(
            topic=topic, partition=0, offsets=numbers, timestamps_ms=[now_ms] * BATCH, values=list(values),
            next_offset=numbers.stop, size=size, origin=lambda _: (None, ()),
        )  # fmt: skip


SCRAPER = """
import sys, time, urllib.request
for line in sys.stdin:
    began = time.perf_counter()
    asked = urllib.request.Request(sys.argv[1], headers={"Accept-Encoding": "gzip"})
    with urllib.request.urlopen(asked, timeout=60) as answer:
        body = answer.read()
    with open(sys.argv[2], "wb") as file:
        file.write(body)
    print(time.perf_counter() - began, flush=True)
"""


class Scraper:
    """Prometheus, as far as the daemon can tell."""

    def __init__(self, port: int, body: Path) -> None:
        self._body = body
        self._process = subprocess.Popen(
            [sys.executable, "-c", SCRAPER, f"http://127.0.0.1:{port}/metrics", body],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def begin(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("scrape\n")
        self._process.stdin.flush()

    def seconds(self) -> float:
        """How long the scrape took that was begun."""
        assert self._process.stdout is not None
        return float(self._process.stdout.readline())

    def lines(self) -> list[str]:
        return gzip.decompress(self._body.read_bytes()).decode().splitlines()

    def close(self) -> None:
        self._process.communicate(timeout=60)


def applied(daemon: Daemon) -> float:
    """Events that were worked off."""
    kinds = ({"topic": "predictions", "kind": "prediction"}, {"topic": "labels", "kind": "label"})
    return float(sum(daemon.registry.get_sample_value("msemon_events_total", kind) or 0 for kind in kinds))


def stretch(daemon: Daemon, seconds: float) -> tuple[float, float, float]:
    """(events, seconds, seconds of this process's CPU time) of a while."""
    first, began, spent = applied(daemon), time.monotonic(), time.process_time()
    time.sleep(seconds)
    return applied(daemon) - first, time.monotonic() - began, time.process_time() - spent


def measure(daemon: Daemon, source: Memory, body: Path, rounds: int, every_s: float, samples: int) -> None:
    source.limit = 2 * len(source.tails)
    wait_until(lambda: applied(daemon) >= 2 * source.limit, 300, "all series to exist")
    scraper = Scraper(daemon.server.port, body)
    for _ in range(2):  # imports, label texts, sums of panes: once
        scraper.begin()
        scraper.seconds()
    source.limit = sys.maxsize
    time.sleep(min(1.0, every_s))
    ratios, speeds, costs, took = [], [], [], []
    for _ in range(rounds):
        events, passed, spent = stretch(daemon, every_s)
        scraper.begin()
        events_too, passed_too, spent_too = stretch(daemon, every_s)
        took.append(scraper.seconds())
        speeds.append(events / passed)
        ratios.append(events_too / passed_too / speeds[-1])
        costs.append(spent_too - events_too * spent / events)
    source.limit = 0
    wait_until(lambda: applied(daemon) >= 2 * source.sent, 60, "all to be applied")
    scraper.begin()
    scraper.seconds()
    lines = scraper.lines()
    scraper.close()
    pairs = sum(float(line.split()[1]) for line in lines if line.startswith("msemon_segment_pairs_total{"))
    found = sum(not line.startswith("#") for line in lines)
    assert pairs == source.sent, (pairs, source.sent)
    assert found >= samples, (found, samples)
    print(f"{found:,} samples a scrape, which took {statistics.median(took):.2f} s")
    print(f"events/s without scrapes   {statistics.median(speeds):12,.0f}")
    figure("ingestion with scrapes / without", ratios)
    figure("seconds of such a scrape", took)
    print(f"with a scrape / without    {statistics.median(ratios):12.2f}   {min(ratios):.2f} to {max(ratios):.2f}")
    cost = statistics.median(costs)
    print(f"CPU time of a scrape       {cost:12.2f} s, {cost / every_s:.0%} of one core")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true", help="a few thousand series and a second: does it run?")
    short = parser.parse_args().short
    models = 2 if short else 37
    every_s, rounds = (0.5, 1) if short else (EVERY_S, 6)
    retention.look = lambda *_: threading.Thread()  # there is no cluster to ask
    source = Memory(models)
    settings = {
        "segments": '[["country"]]', "web.address": "127.0.0.1:0", "state.store": "none",
        "join.memory": "10s",  # of a minute's events the join would be full, and wait
    }  # fmt: skip
    daemon = Daemon(load(settings, environ={}), install_signals=False, make_source=lambda _: source)
    thread = threading.Thread(target=daemon.run)
    thread.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            samples = models * COUNTRIES * PER_SEGMENT
            measure(daemon, source, Path(folder, "body.gz"), rounds, every_s, samples)
    finally:
        daemon.stop()
        thread.join(30)


if __name__ == "__main__":
    main()
