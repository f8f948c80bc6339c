"""Grafana's dashboards on a live msemon: two replicas on Apache Kafka, a Prometheus with the project's rules.

Every query of every panel and mark is asked with the variables filled in from what their own queries offer, as Grafana
does it; first while both replicas run, then with one of them stopped. The alerts' durations are divided by 60.
"""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random

import pytest
from kafka import KafkaProducer

from support.alerting import RECORDS, write_shortened
from support.dashboards import Json, Query, dashboards, filled, queries, variables
from support.histories import PARTITIONS, Event, label, prediction
from support.prometheus import Prometheus, Sample, prometheus
from support.running import Daemon, Labels, daemon
from support.tools import PROMETHEUS, needs
from support.topics import create_topics, unique
from support.waiting import wait_until

ALL = dashboards()
SPREAD = {"price": 3.0, "load": 1.0}  # of the errors; the baseline of price was taken from smaller ones
COUNTRIES = ("de", "fr", "it")
MSE = {"price": 1.0, "load": 1.0}
BASELINE = {
    "format": 1,
    "baselines": [{"model": model, "mse": mse, "upper_mse": mse * 1.2} for model, mse in MSE.items()]
    + [
        {"model": model, "dimension": "country", "segment": country, "mse": mse, "upper_mse": mse * 1.2}
        for model, mse in MSE.items()
        for country in COUNTRIES
    ],
}
CHOSEN = {"model": "price", "version": "7", "window": "10m", "dimension": "country"}
"""Where a variable has one value, this one, which must be among those offered."""

TIMES = {"__rate_interval": "5s", "__range": "60s"}

pytestmark = pytest.mark.timeout(300)


class Fleet(threading.Thread):
    """Two models and two versions of one, predictions first and labels a little later; some events can't be used."""

    def __init__(self, bootstrap: str, predictions: str, labels: str) -> None:
        super().__init__(daemon=True)
        self._topics = predictions, labels
        self._producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=20)
        self._end = threading.Event()

    def run(self) -> None:
        random, ids = Random(5), count()
        while not self._end.wait(0.1):
            for country in COUNTRIES:
                self._request(random, f"request {next(ids)}", country)
            self._producer.send(self._topics[1], b"no JSON", partition=0)

    def _request(self, random: Random, ident: str, country: str) -> None:
        truth, at = random.gauss(100, 10), time.time_ns() // 1000
        for model, version in (("price", "7"), ("price", "8"), ("load", "1")):
            said = truth + random.gauss(0.2, SPREAD[model])
            asked = prediction(ident, model, said, at - 500_000, version=version, segments={"country": country})
            self._send(self._topics[0], asked)
        self._send(self._topics[1], label(ident, truth, at))

    def _send(self, topic: str, event: Event) -> None:
        record = event.record()
        self._producer.send(
            topic, record.value, key=record.key, partition=record.partition, timestamp_ms=record.timestamp_ms
        )

    def close(self) -> None:
        self._end.set()
        self.join(timeout=10)
        self._producer.close(timeout=10)


@dataclass(frozen=True)
class World:
    """A server that knows all of it, and two moments that are asked about."""

    server: Prometheus
    began_s: float
    both_s: float  # both replicas run
    one_s: float  # one has been stopped

    def over_time(self, expression: str, end_s: float) -> dict[Labels, list[Sample]]:
        """Its values every second from the beginning until then, and just then."""
        return self.server.matrix(expression, math.ceil(end_s - self.began_s), 1.0, end_s)


@contextmanager
def replicas(kafka: str, directory: Path, topics: list[str]) -> Iterator[dict[str, Daemon]]:
    """Two of one group that share the partitions."""
    baselines = directory / "baselines.json"
    baselines.write_text(json.dumps(BASELINE))
    settings = {
        "kafka.bootstrap_servers": kafka,
        "kafka.topics": topics,
        "kafka.group_id": unique("group"),
        "kafka.client_options": json.dumps({"heartbeat_interval_ms": 500}),
        "state.store": "kafka",
        "state.topic": unique("state"),
        "state.interval": "1s",
        "windows.lengths": ["1m", "10m"],
        "segments": [["country"]],
        "baseline.file": str(baselines),
    }
    with ExitStack() as stack:
        both = {name: stack.enter_context(daemon(directory / f"{name}.log", settings, ready=False)) for name in "ab"}
        wait_until(lambda: all(each.ready and len(each.status()["partitions"]) == PARTITIONS // 2
                               for each in both.values()), 90, "the partitions to be split", 0.2)  # fmt: skip
        yield both


@pytest.fixture(scope="module")
def world(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    binary, directory = needs(PROMETHEUS), tmp_path_factory.mktemp("dashboards")
    topics = [unique("predictions"), unique("labels")]
    create_topics(kafka, dict.fromkeys(topics, PARTITIONS))
    alerts = write_shortened(directory / "rules", 60)[1]
    with replicas(kafka, directory, topics) as both, closing(Fleet(kafka, *topics)) as fleet:
        fleet.start()
        targets = {name: each.port for name, each in both.items()}
        began_s = time.time()
        with prometheus(binary, directory / "prometheus", targets, rules=[RECORDS, alerts]) as server:
            # The segments' bounds come last: each needs seven pairs on both replicas.
            bounds = "job_model_version_dimension_segment_window:msemon_segment_rmse_upper:merge"
            wait_until(lambda: len(server.vector(bounds)) == 3 * 3 * 2, 60, "all bounds", 0.2)
            alarm = 'ALERTS{alertname="MsemonModelDrift",alertstate="firing",model="price",version="7"}'
            wait_until(lambda: server.vector(alarm), 60, "the drift to be alerted", 0.2)
            often = "count_over_time(up[1m]) > 10"
            wait_until(lambda: len(server.vector(often)) == 2, 60, "scrapes enough for rates", 0.2)
            both_s = time.time()
            both["b"].stop()
            moved = "sum(increase(msemon_rebalances_total[5s])) > 0"
            wait_until(lambda: server.vector(moved), 60, "the rebalance", 0.2)
            down = 'ALERTS{alertname="MsemonTargetDown",alertstate="firing"}'
            wait_until(lambda: server.vector(down), 60, "the missing replica to be alerted", 0.2)
            wait_until(lambda: server.vector(bounds), 60, "bounds of one replica", 0.2)
            yield World(server, began_s, both_s, time.time())


def offered(server: Prometheus, variable: Json, values: Mapping[str, str]) -> list[str]:
    """What Grafana would list for it."""
    match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
    assert match, variable
    return server.label_values(match[2], filled(match[1], values))


def resolved(server: Prometheus, dashboard: Json) -> dict[str, str]:
    """Its variables' values: all where many may be chosen, one by one and then as `.*`."""
    values = dict(TIMES)
    for name, variable in list(variables(dashboard).items())[1:]:
        found = offered(server, variable, values)
        assert found, name
        assert variable["includeAll"] or CHOSEN.get(name, found[0]) in found, (name, found)
        values[name] = variable["allValue"] if variable["includeAll"] else CHOSEN.get(name, found[0])
    return values


def asked(world: World, query: Query, time_s: float) -> dict[Labels, list[float]]:
    """What comes back: the finite values by their labels, over the time until then where it is asked over a range."""
    text = filled(query.expression, resolved(world.server, ALL[query.dashboard]))
    if query.target["range"]:
        found = world.over_time(text, time_s)
        values = {labels: [sample.value for sample in samples] for labels, samples in found.items()}
    else:
        values = {labels: [value] for labels, value in world.server.vector(text, time_s).items()}
    finite = {labels: [each for each in those if math.isfinite(each)] for labels, those in values.items()}
    return {labels: those for labels, those in finite.items() if those}


def shown(legend: str, labels: Mapping[str, str]) -> str:
    """A line's name."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), legend)


@pytest.mark.parametrize("query", queries(), ids=lambda query: query.name)
def test_a_query_returns_data_with_one_replica_and_with_two(world: World, query: Query) -> None:
    for time_s in (world.both_s, world.one_s):
        found = asked(world, query, time_s)
        assert found, filled(query.expression, resolved(world.server, ALL[query.dashboard]))


@pytest.mark.parametrize("query", [each for each in queries() if "legendFormat" in each.target], ids=lambda q: q.name)
def test_no_two_lines_of_a_panel_have_one_name(world: World, query: Query) -> None:
    """Replicas are merged or told apart: else two lines would be called the same."""
    for time_s in (world.both_s, world.one_s):
        labels = [dict(each) for each in asked(world, query, time_s)]
        names = [shown(query.target["legendFormat"], each) for each in labels]
        assert len(set(names)) == len(names), names


@pytest.mark.parametrize("query", [each for each in queries() if each.panel["type"] == "table"], ids=lambda q: q.name)
def test_a_column_has_one_value_for_each_row(world: World, query: Query) -> None:
    """No other labels than those that the table's other columns have too: merging them would make rows of their own."""
    order = query.panel["transformations"][1]["options"]["indexByName"]
    rows = {name for name in order if not name.startswith("Value")}
    for labels in asked(world, query, world.both_s):
        assert {name for name, _ in labels} <= rows


@pytest.mark.parametrize("name", ALL)
def test_marks_are_where_something_happened(world: World, name: str) -> None:
    values = resolved(world.server, ALL[name])
    for mark in ALL[name]["annotations"]["list"]:
        found = world.over_time(filled(mark["expr"], values), world.one_s)
        times = [sample.value / 1000 if mark["useValueForTime"] else sample.time_s
                 for samples in found.values() for sample in samples if sample.value > 0]  # fmt: skip
        assert times, mark["name"]
        assert all(world.began_s - 120 < each < world.one_s + 1 for each in times), mark["name"]


def test_a_model_is_what_its_replicas_are_together(world: World) -> None:
    """The number in the table, from what both have scraped."""
    (query,) = [each for each in queries() if each.name == "msemon-models: All models: RMSE"]
    sums = [
        world.server.vector(f"sum(msemon_window_{each}{{model='price',version='7',window='10m'}})", world.both_s)
        for each in ("squared_error", "weight")
    ]
    (squared,), (weight,) = (list(each.values()) for each in sums)
    found = asked(world, query, world.both_s)[frozenset({("model", "price"), ("version", "7")})]
    assert found == [pytest.approx(math.sqrt(squared / weight), rel=0.05)], "but for the scrape that came between"
