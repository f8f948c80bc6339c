"""Several monitors in one group on one state topic, under load, and what they must add up to."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from support.histories import PARTITIONS, joined
from support.oracle import Expected, Oracle, windows_of
from support.running import Daemon, Scrape
from support.traffic import WINDOWS, Traffic
from support.waiting import wait_until

SESSION_S = 6.0
ADDS_UP = [
    f"msemon_{part}{name}"
    for part in ("", "segment_")
    for name in ("window_pairs", "window_weight", "window_squared_error", "window_absolute_error", "window_error")
] + ["msemon_lifetime_pairs", "msemon_lifetime_weight", "msemon_lifetime_squared_error"]
"""Families whose sum over the replicas means something."""

Claim = tuple[float, str, frozenset[int]]
"""When who said that which partitions are its own."""


class Replica(Protocol):
    """A daemon, in a process of its own or in this one."""

    @property
    def port(self) -> int: ...

    @property
    def ready(self) -> bool: ...

    def scrape(self) -> Scrape: ...

    def status(self) -> dict[str, Any]: ...


class Group:
    """Replicas by name. Have them `watched` to know who said when that a partition was its own."""

    def __init__(self, traffic: Traffic, directory: Path, **more: Any) -> None:
        self._directory = directory
        self._settings = traffic.settings(state__store="kafka", **more)
        self.traffic = traffic
        self.all: dict[str, Replica] = {}
        self._processes: dict[str, Daemon] = {}
        self.logs: list[Path] = []
        self.seen: list[Claim] = []

    def start(self, name: str, **more: Any) -> Daemon:
        """A replica, not waited for; a name may be used again once the one before has ended."""
        log = self._directory / f"{name}-{len(self.logs)}.log"
        self.logs.append(log)
        given = self._settings | {key.replace("__", "."): value for key, value in more.items()}
        member = self.all[name] = self._processes[name] = Daemon(log, given)
        return member

    def leave(self, name: str) -> int:
        """SIGTERM and the exit code."""
        del self.all[name]
        return self._processes[name].stop()

    def members(self) -> list[Replica]:
        return list(self.all.values())

    def owned(self) -> list[frozenset[int]]:
        """Partitions of every member, as it would tell a scrape now; nothing where its lease is over."""
        return [owned(member) for member in self.members()]

    def shared_out(self) -> bool:
        """Every partition has one owner, who reads it."""
        parts = self.owned()
        whole = sorted(p for part in parts for p in part) == list(range(PARTITIONS))
        return whole and all(member.ready for member in self.members())

    def until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Load goes on until it holds."""
        self.traffic.until(condition, timeout_s, what)

    def agree(self, timeout_s: float = 45.0) -> list[Scrape]:
        """All is read, and the sums over the replicas are what the oracle says: every pair, each once."""
        found = joined(self.traffic.predictions, self.traffic.labels, ["country"])
        oracle = Oracle(
            found.pairs, found.predictions, windows_of(WINDOWS, 60), [["country"]], record_times_known=False
        )

        def total(name: str) -> float:
            return sum(member.scrape().sum(name) for member in self.members())

        wait_until(lambda: total("msemon_lifetime_pairs") >= len(found.pairs), timeout_s, "all pairs", 0.2)
        waiting = {"predictions": found.waiting_predictions, "labels": found.waiting_labels}

        def left() -> dict[str, int]:
            states = [member.status()["waiting"] for member in self.members()]
            return {side: sum(state[side] for state in states) for side in waiting}

        wait_until(lambda: left() == waiting, timeout_s, f"{waiting} to be left waiting", 0.2)
        for _ in range(10):
            before_us = time.time_ns() // 1000
            scrapes = [member.scrape() for member in self.members()]
            if oracle.panes(before_us) == oracle.panes(time.time_ns() // 1000):
                lines = differences(scrapes, oracle.expected(before_us))
                assert not lines, "\n".join(sorted(lines)[:50])
                return scrapes
        raise AssertionError("the windows move on faster than can be scraped")

    # Who has what when.

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Ask all members again and again what they own, on a thread of its own."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.05):
                for name, member in list(self.all.items()):
                    try:
                        asked = time.monotonic()
                        self.seen.append((asked, name, owned(member, timeout_s=1.0)))
                    except (OSError, AssertionError, ValueError):
                        continue  # it begins, ends, or is frozen

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(10.0)

    def longest_overlap_s(self) -> float:
        """For how long at most two members said of one partition that it was theirs."""
        longest = 0.0
        for partition in range(PARTITIONS):
            claims: dict[str, float] = {}  # when each member said so last
            began: float | None = None
            for at, name, parts in sorted(self.seen):
                if partition in parts:
                    claims[name] = at
                else:
                    claims.pop(name, None)
                claims = {who: when for who, when in claims.items() if at - when < 1.0}
                if len(claims) < 2:
                    began = None
                elif began is None:
                    began = at
                else:
                    longest = max(longest, at - began)
        return longest

    def end(self) -> None:
        """Of whatever still runs."""
        for member in self._processes.values():
            if member.process.poll() is None:
                member.process.kill()
                member.process.wait()


@contextmanager
def group(traffic: Traffic, directory: Path, **more: Any) -> Iterator[Group]:
    """A group for the block; its logs are printed where the block fails, and never hold a traceback."""
    made = Group(traffic, directory, **more)
    try:
        yield made
    except BaseException:
        for log in made.logs:
            print(f"--- {log}\n{log.read_text(errors='replace')[-8_000:]}")
        raise
    finally:
        made.end()
    for log in made.logs:
        text = log.read_text(errors="replace")
        assert "Traceback" not in text, text[-20_000:]


def owned(member: Replica, timeout_s: float = 30.0) -> frozenset[int]:
    """The partitions that a member exports."""
    with urllib.request.urlopen(f"http://127.0.0.1:{member.port}/api/v1/status", timeout=timeout_s) as answer:
        status = json.load(answer)
    return frozenset(status["partitions"]) if status["lease"] else frozenset()


def differences(scrapes: list[Scrape], expected: Expected) -> list[str]:
    """A line for each sum over the scrapes that is not what was expected."""
    sums: dict[Any, float] = {}
    for scrape in scrapes:
        for place, value in scrape.samples.items():
            if place[0] in ADDS_UP:
                sums[place] = sums.get(place, 0.0) + value
    wanted = {place: value for place, value in expected.items() if place[0] in ADDS_UP}
    lines = [f"not expected: {place} {value!r}" for place, value in sums.items() if place not in wanted]
    lines += [f"missing: {place}" for place in wanted if place not in sums]
    return lines + [
        f"wrong: {place} {sums[place]!r}, not {value.value!r} (tolerance {value.tolerance!r})"
        for place, value in wanted.items()
        if place in sums and not value.near(sums[place])
    ]
