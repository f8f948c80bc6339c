"""The daemon as its users run it: a process of its own, asked over HTTP and stopped by signals."""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import Any

import psutil
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as text_families

from msemon.demo import child
from support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
START_S = 30.0  # Python, numpy and the client are imported; two of these start side by side on two busy cores
GROUP_S = 30.0
END_S = 30.0  # more than the daemon may need: how long it did need is for the tests to judge
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"

CLIENT = os.environ.get("MSEMON_TEST_CLIENT", "kafka-python")
"""What daemons in tests read their topics with, where a test does not say."""

Labels = frozenset[tuple[str, str]]

# It has no types of its own.
openmetrics_families: Callable[[str], Iterable[Metric]] = openmetrics_parser.text_string_to_metric_families


class Scrape:
    """The samples of one exposition, by name and labels; no sample stands in it twice."""

    def __init__(self, text: str, openmetrics: bool = False) -> None:
        self.text = text
        self.samples: dict[tuple[str, Labels], float] = {}
        for family in openmetrics_families(text) if openmetrics else text_families(text):
            for sample in family.samples:
                place = sample.name, frozenset(sample.labels.items())
                assert place not in self.samples, place
                self.samples[place] = sample.value

    def value(self, name: str, **labels: str) -> float | None:
        """The sample with exactly these labels, or None."""
        return self.samples.get((name, frozenset(labels.items())))

    def number(self, name: str, **labels: str) -> float:
        """The sample with exactly these labels, which must be there."""
        return self.samples[name, frozenset(labels.items())]

    def all(self, name: str, **labels: str) -> dict[Labels, float]:
        """All samples of this name that have these labels among theirs."""
        wanted = labels.items()
        return {have: value for (other, have), value in self.samples.items() if other == name and wanted <= have}

    def sum(self, name: str, **labels: str) -> float:
        """Their sum; 0 where there is none."""
        return sum(self.all(name, **labels).values())

    def values(self, name: str, label: str) -> set[str]:
        """The values that this label has in this family."""
        return {dict(have)[label] for have in self.all(name)}

    def rejected(self) -> dict[tuple[str, str], float]:
        """By topic and reason, what was rejected at all."""
        counts = self.all("msemon_events_rejected_total")
        return {(dict(have)["topic"], dict(have)["reason"]): value for have, value in counts.items() if value}

    def events(self, topic: str) -> dict[str, float]:
        """Records of a topic by kind, of those kinds that came."""
        counts = self.all("msemon_events_total", topic=topic)
        return {dict(have)["kind"]: value for have, value in counts.items() if value}


class Daemon:
    """`msemon run` with these settings as flags, on free loopback ports. `settings` are by dotted name; what is not
    text is passed as JSON.
    """

    def __init__(self, log: Path, settings: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> None:
        self.log = log
        self._port: int | None = None
        self._began = log.stat().st_size if log.exists() else 0  # what stands there is of an earlier life
        given = {"web.address": "127.0.0.1:0", "state.store": "none", "kafka.client": CLIENT} | dict(settings)
        flags = []
        for name, value in given.items():
            flags += [f"--{name.replace('_', '-')}", value if isinstance(value, str) else json.dumps(value)]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MSEMON_")}
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        command = [sys.executable, "-m", "msemon", "--log-format", "json", "run", *flags]
        with log.open("ab") as file:
            self.process = child.start(command, file, clean | {"PYTHONPATH": path} | dict(environment or {}))

    # What it says.

    def lines(self) -> list[dict[str, Any]]:
        """The log's entries so far."""
        found = []
        for line in self.log.read_bytes()[self._began :].decode(errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                entry = {"event": line}
            found.append(entry if isinstance(entry, dict) else {"event": line})
        return found

    def said(self, event: str) -> list[dict[str, Any]]:
        """The log's entries of this event."""
        return [line for line in self.lines() if line.get("event") == event]

    def tracebacks(self) -> list[dict[str, Any]]:
        """The log's entries of what nobody expected. The Kafka client logs lost connections with a traceback too."""
        return [
            line
            for line in self.lines()
            if not str(line.get("logger")).startswith("kafka") and "Traceback" in str(line)
        ]

    @property
    def port(self) -> int:
        """Where it serves; waits until it says so."""
        if self._port is None:
            self.until(lambda: self.said("serving"), "the daemon to serve", START_S)
            self._port = int(self.said("serving")[0]["port"])
        return self._port

    @property
    def rss(self) -> int:
        """Its resident memory in bytes."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def get(self, path: str, accept: str | None = None) -> tuple[int, str, Message]:
        """Status, body and headers of the answer."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", headers={"Accept": accept} if accept else {}
        )
        try:
            with urllib.request.urlopen(request, timeout=30.0) as answer:
                return answer.status, answer.read().decode(), answer.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode(), error.headers

    def scrape(self, openmetrics: bool = False) -> Scrape:
        """`/metrics`, parsed."""
        status, text, headers = self.get("/metrics", OPENMETRICS if openmetrics else None)
        assert status == 200, text
        assert headers["Content-Type"].startswith("application/openmetrics-text" if openmetrics else "text/plain")
        return Scrape(text, openmetrics)

    def status(self) -> dict[str, Any]:
        """What stands behind the status page."""
        found: dict[str, Any] = json.loads(self.get("/api/v1/status")[1])
        return found

    @property
    def healthy(self) -> bool:
        return self.get("/-/healthy")[0] == 200

    @property
    def ready(self) -> bool:
        return self.get("/-/ready")[0] == 200

    # Waiting for it.

    def until(self, condition: Any, what: str, timeout_s: float = 30.0, every_s: float = 0.05) -> None:
        """Wait for a condition; a daemon that has ended fulfils none."""

        def met() -> bool:
            if condition():
                return True
            assert self.process.poll() is None, f"the daemon has ended with {self.process.returncode}, before: {what}"
            return False

        wait_until(met, timeout_s, what, every_s)

    def await_ready(self, timeout_s: float = START_S + GROUP_S) -> None:
        self.until(lambda: self.ready, "the daemon to be ready", timeout_s)

    def await_events(self, counts: Mapping[str, int], timeout_s: float = 60.0) -> None:
        """Until of each topic so many records have been worked off; fails where there are more."""

        def behind() -> bool:
            # Only these lines: parsing thousands of series again and again would take longer than the events do.
            lines = [line for line in self.get("/metrics")[1].splitlines() if line.startswith("msemon_events_total{")]
            scrape = Scrape("\n".join(lines))
            come = {topic: sum(scrape.events(topic).values()) for topic in counts}
            assert all(come[topic] <= counts[topic] for topic in counts), f"{come} is more than {counts}"
            return any(come[topic] < counts[topic] for topic in counts)

        self.until(lambda: not behind(), f"events {dict(counts)}", timeout_s, every_s=0.2)

    # Ending it.

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, timeout_s: float = END_S) -> int:
        """Its exit code."""
        return self.process.wait(timeout_s)

    def stop(self) -> int:
        """SIGTERM and the exit code; SIGKILL and an error where that takes too long."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.wait()
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()


@contextmanager
def daemon(
    log: Path, settings: Mapping[str, Any], environment: Mapping[str, str] | None = None, ready: bool = True
) -> Iterator[Daemon]:
    """A daemon for the block, waited for where `ready`. Its log is printed where the block fails, and must not hold a
    traceback of ours where it does not.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    running = Daemon(log, settings, environment)
    try:
        if ready:
            running.await_ready()
        yield running
    except BaseException:
        print(f"--- {log}\n{log.read_text(errors='replace')[-20_000:]}")
        raise
    finally:
        running.stop()
    assert not running.tracebacks(), running.tracebacks()
