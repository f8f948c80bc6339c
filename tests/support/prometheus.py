"""Prometheus itself, scraping on loopback and asked over its HTTP API."""

from __future__ import annotations

import json
import os
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from msemon.demo import child
from support.brokers import free_ports
from support.running import Labels, Scrape
from support.waiting import wait_until

START_S = 30.0


class Sample(NamedTuple):
    """A value at a time in seconds since the epoch."""

    time_s: float
    value: float


class Prometheus:
    """A running server. Times are unix seconds; no time is now."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._url = f"http://127.0.0.1:{port}"

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def vector(self, expression: str, time_s: float | None = None) -> dict[Labels, float]:
        """An instant vector by labels, their names without the metric's own."""
        found = self._query(expression, time_s)
        return {_labels(each["metric"]): float(each["value"][1]) for each in found}

    def samples(self, selector: str, range_s: float, time_s: float | None = None) -> dict[Labels, list[Sample]]:
        """The samples as they were scraped."""
        found = self._query(f"{selector}[{round(range_s * 1000)}ms]", time_s)
        return {_labels(each["metric"]): [Sample(at, float(value)) for at, value in each["values"]] for each in found}

    def matrix(self, expression: str, range_s: float, step_s: float, time_s: float) -> dict[Labels, list[Sample]]:
        """An expression's value at every step of the range that ends then."""
        parameters = {
            "query": expression,
            "start": f"{time_s - range_s:.3f}",
            "end": f"{time_s:.3f}",
            "step": f"{step_s}",
        }
        found = self._api("query_range", parameters)["result"]
        return {_labels(each["metric"]): [Sample(at, float(value)) for at, value in each["values"]] for each in found}

    def label_values(self, label: str, selector: str) -> list[str]:
        """The values that a label has in a selector's series."""
        found: list[str] = self._api(f"label/{label}/values", {"match[]": selector})
        return found

    def metadata(self) -> dict[str, str]:
        """The type of each family, by the name it was scraped under."""
        return {each["metric"]: each["type"] for each in self._api("targets/metadata", {})}

    def own(self) -> Scrape:
        """What Prometheus says of itself."""
        with urllib.request.urlopen(f"{self._url}/metrics", timeout=10) as answer:
            return Scrape(answer.read().decode())

    def _query(self, expression: str, time_s: float | None) -> list[dict[str, Any]]:
        parameters = {"query": expression} | ({} if time_s is None else {"time": f"{time_s:.3f}"})
        found: list[dict[str, Any]] = self._api("query", parameters)["result"]
        return found

    def _api(self, path: str, parameters: Mapping[str, str]) -> Any:
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]


def _labels(metric: Mapping[str, str]) -> Labels:
    return frozenset((name, value) for name, value in metric.items() if name not in {"__name__", "job"})


@contextmanager
def prometheus(
    binary: str,
    directory: Path,
    targets: Mapping[str, int],
    every_s: float = 1.0,
    rules: Sequence[Path] = (),
    alertmanager: int | None = None,
    scraping: Mapping[str, Any] | None = None,
) -> Iterator[Prometheus]:
    """A server that scrapes these ports of this machine; a target's name is its label `instance`. It evaluates the
    rules as often as it scrapes, and sends alerts to the Alertmanager on that port. `scraping` is more of how it
    scrapes.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    each = [{"targets": [f"127.0.0.1:{at}"], "labels": {"instance": name}} for name, at in targets.items()]
    interval = f"{round(every_s * 1000)}ms"
    receivers = [] if alertmanager is None else [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]
    settings = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "scrape_configs": [{"job_name": "msemon", "static_configs": each} | dict(scraping or {})],
        "rule_files": [str(rule) for rule in rules],
        "alerting": {"alertmanagers": receivers},
    }
    file, log = directory / "prometheus.yml", directory / "prometheus.log"
    file.write_text(json.dumps(settings))  # JSON is YAML
    command = [binary, f"--config.file={file}", f"--storage.tsdb.path={directory / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with log.open("wb") as output:
        process = child.start(command, output, os.environ)
    try:
        server = Prometheus(port)
        wait_until(lambda: server.ready() or process.poll() is not None, START_S, "Prometheus to be ready", 0.1)
        assert process.poll() is None, log.read_text()
        yield server
    finally:
        child.end(process)
