"""msemon as its users run it, while it drains a log: a process or two of `msemon run`, scraped as Prometheus would.

Everything is on: three windows, two dimensions, drift with a baseline for every series, checkpoints every 10 s, a
scrape every 5 s, and all other defaults.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks import traffic
from benchmarks.measuring import ROOT
from benchmarks.traffic import PARTITIONS, Log, Truth, mistakes

sys.path[:0] = [str(ROOT / "tests")]

from support.running import Daemon, daemon
from support.topics import unique

SCRAPE_S = 5.0
CHECKPOINT = "10s"
LOOK_S = 0.25  # between looks at how far it is
PROMETHEUS = {
    "Accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1",
    "Accept-Encoding": "gzip",
}
DIMENSIONS = [["country"], ["country", "tier"]]


class Drained(NamedTuple):
    """A run: what it reached, and what it took."""

    rate: float  # events a second of wall time
    cpu_us: float  # of the processes' CPU time, an event
    seconds: float  # that the rate is over
    rss: int  # bytes, the largest seen, all processes together
    scrape_s: float  # the longest that one took


class Unfinished(Exception):
    """The log was not drained in time, or not rightly."""


def settings_of(bootstrap: str, log: Log, client: str, **more: Any) -> dict[str, Any]:
    """In a group of its own; in `more` two underscores stand for a dot."""
    return {
        "kafka.bootstrap_servers": bootstrap,
        "kafka.topics": [log.topic],
        "kafka.group_id": unique("bench"),
        "kafka.client": client,
        "kafka.start": "earliest",
        "segments": DIMENSIONS,
        "state.interval": CHECKPOINT,
    } | {name.replace("__", "."): value for name, value in more.items()}


@contextmanager
def started(log: Log, settings: Mapping[str, Any], replicas: int = 1) -> Iterator[list[Daemon]]:
    """So many of them, with their state in a directory of the block's own, and every series' baseline."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="msemon-bench-")))
        baselines = directory / "baselines.json"
        baselines.write_text(traffic.baselines(log))
        own = {"state.store": "sqlite", "state.path": str(directory / "state"), "baseline.file": str(baselines)}
        given = own | dict(settings)
        yield [
            stack.enter_context(daemon(directory / f"{number}.log", given, ready=False)) for number in range(replicas)
        ]


def drain(log: Log, settings: Mapping[str, Any], replicas: int = 1, limit_s: float = 120.0) -> Drained:
    """Let so many drain the log, and check what they found. With several, the rate is of the time in which all of them
    are busy. Raises Unfinished.
    """
    with started(log, settings, replicas) as members:
        watched = _Watch(members)
        watched.until_begun(log.waiting, limit_s)
        with scraping(members) as longest:
            watched.until_one_is_done(log, limit_s)
        drained = watched.until_all_are_done(log, limit_s)
        for member in members:  # a log may be over before drift is looked at for the first time
            member.until(lambda m=member: "msemon_drift_evidence{" in m.get("/metrics")[1], "drift to be looked at")
        wrong = mistakes(_found(members), log)
        if wrong:
            raise Unfinished(f"wrong: {wrong[0]}")
        return drained._replace(scrape_s=longest[0])


class _Look(NamedTuple):
    """The daemons at one time. What a partition's former owner had not yet checkpointed is an event of both, but one
    pair."""

    at_s: float
    events: list[int]  # of each
    pairs: int  # of all
    cpu_s: float  # of all


class _Watch:
    """Events and CPU time of some daemons over time."""

    def __init__(self, members: Sequence[Daemon]) -> None:
        self._members = members
        self._processes = [psutil.Process(member.process.pid) for member in members]
        self._looks: list[_Look] = []
        self._begun = self._ended = 0  # the looks at which all had begun, and at which one was done
        self._rss = 0

    def until_begun(self, after: int, limit_s: float) -> None:
        """Until each has its share of the partitions and more than `after` events have been read."""
        deadline = time.monotonic() + limit_s
        while not (sum(self._look().events) > after and self._settled()):  # looked at from the beginning: see below
            if time.monotonic() > deadline:
                raise Unfinished(f"not begun after {limit_s:g} s")
            time.sleep(LOOK_S)
        self._begun = len(self._looks) - 1

    def until_one_is_done(self, log: Log, limit_s: float) -> None:
        """Until one of them has matched its last prediction. Asking what waits, unlike a scrape, is cheap."""
        deadline = time.monotonic() + limit_s
        while not self._one_is_done(log):
            if time.monotonic() > deadline:
                raise Unfinished(f"{self._waiting()} predictions wait after {limit_s:g} s")
            self._rss = max(self._rss, sum(process.memory_info().rss for process in self._processes))
            time.sleep(LOOK_S)
        self._ended = len(self._looks) - 1

    def until_all_are_done(self, log: Log, limit_s: float) -> Drained:
        """Until all pairs are found; what was reached until one of them was done."""
        deadline = time.monotonic() + limit_s
        pairs = log.paired // 2
        while (found := self._looks[-1].pairs) != pairs:
            if found > pairs or time.monotonic() > deadline:
                raise Unfinished(f"{found:,} pairs, of {pairs:,}")
            time.sleep(LOOK_S)
            self._look()
        # A log so short that all of it was read when it was seen to have begun counts from the look before.
        end = self._looks[self._ended]
        first = max((i for i in range(self._begun + 1) if sum(self._looks[i].events) < sum(end.events)), default=0)
        begin = self._looks[first]
        events, seconds = sum(end.events) - sum(begin.events), end.at_s - begin.at_s
        return Drained(events / seconds, (end.cpu_s - begin.cpu_s) / max(events, 1) * 1e6, seconds, self._rss, 0.0)

    def _one_is_done(self, log: Log) -> bool:
        if min(self._waiting()) > log.waiting:
            return False
        look = self._look()  # one partition may have nothing left that waits while another is at its beginning
        return len(self._members) > 1 or look.pairs == log.paired // 2

    def _waiting(self) -> list[int]:
        return [int(member.status()["waiting"]["predictions"]) for member in self._members]

    def _settled(self) -> bool:
        each = PARTITIONS // len(self._members)
        return all(member.ready and len(member.status()["partitions"]) == each for member in self._members)

    def _look(self) -> _Look:
        at_s = time.monotonic()
        bodies = [member.get("/metrics")[1].splitlines() for member in self._members]
        times = [process.cpu_times() for process in self._processes]
        look = _Look(
            at_s,
            [_sum(body, "msemon_events_total{") for body in bodies],
            sum(_sum(body, "msemon_lifetime_pairs{") for body in bodies),
            sum(each.user + each.system for each in times),
        )
        self._looks.append(look)
        return look


def _sum(lines: list[str], start: str) -> int:
    """Of the samples of one family; the others are not parsed."""
    return int(sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(start)))


@contextmanager
def scraping(members: Sequence[Daemon]) -> Iterator[list[float]]:
    """A scrape of each every five seconds, read and thrown away; gives the longest of them in seconds."""
    longest, stop = [0.0], threading.Event()

    def scrape() -> None:
        while not stop.wait(SCRAPE_S):
            for member in members:
                began = time.monotonic()
                request = urllib.request.Request(f"http://127.0.0.1:{member.port}/metrics", headers=PROMETHEUS)
                with urllib.request.urlopen(request, timeout=30.0) as answer:
                    answer.read()
                longest[0] = max(longest[0], time.monotonic() - began)

    thread = threading.Thread(target=scrape, name="scrapes", daemon=True)
    thread.start()
    try:
        yield longest
    finally:
        stop.set()
        thread.join(35.0)


def _found(members: Sequence[Daemon]) -> Truth:
    """By model and country, from the longest window, which holds all. The counters of one alone must say the same."""
    found: Truth = {}
    for scrape in [member.scrape() for member in members]:
        if scrape.sum("msemon_drift_active"):
            raise Unfinished(f"drift where there is none: {scrape.all('msemon_drift_evidence')}")
        for labels, pairs in scrape.all("msemon_segment_window_pairs", dimension="country", window="24h").items():
            at = dict(labels)
            squared = scrape.number("msemon_segment_window_squared_error", **at)
            n, mse = found.get((at["model"], at["segment"]), (0, 0.0))
            total = n + int(pairs)
            found[at["model"], at["segment"]] = total, (n * mse + squared) / total
            del at["window"]
            counted = [scrape.number(f"msemon_segment_{name}_total", **at) for name in ("pairs", "squared_error")]
            if len(members) == 1 and not (counted[0] == pairs and abs(counted[1] / squared - 1) < 1e-9):
                raise Unfinished(f"wrong: counters {counted}, window {[pairs, squared]} of {at}")
    return found
