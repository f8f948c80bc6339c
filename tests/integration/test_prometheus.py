"""A real Prometheus scrapes two replicas of one group every second: what its queries say is what the oracle says."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from random import Random

import pandas as pd
import pytest
from kafka import KafkaProducer

from support.histories import PARTITIONS, Event, joined, label, prediction, records
from support.oracle import EXACT, Window, means_of, sums_of, windows_of
from support.prometheus import Prometheus, prometheus
from support.running import Daemon, daemon
from support.tools import PROMETHEUS, needs
from support.topics import create_topics, unique
from support.waiting import wait_until

MODELS = {"steady": 1.0, "wild": 40.0}  # by the spread of their errors
LENGTHS, PANES = ["5m", "10s"], 5
LIVE_S = 6.0
TICK_S = 0.25


@dataclass
class Traffic:
    """What was produced, in two parts: before the range that is asked about, and within it."""

    producer: KafkaProducer
    predictions: str
    labels: str
    random: Random = field(default_factory=lambda: Random(7))
    warm: tuple[list[Event], list[Event]] = field(default_factory=lambda: ([], []))
    live: tuple[list[Event], list[Event]] = field(default_factory=lambda: ([], []))
    _count: Iterator[int] = field(default_factory=itertools.count)

    def send(self, into: tuple[list[Event], list[Event]], count: int) -> None:
        """So many predictions of each model with their labels, now."""
        at = time.time_ns() // 1_000_000 * 1000
        predicted, labelled = [], []
        for _ in range(count):
            ident = f"request {next(self._count)}"
            truth = self.random.gauss(100, 10)
            segments = {"country": self.random.choice(["de", "fr"])}
            for model, spread in MODELS.items():
                said = truth + spread * (1 + self.random.random())
                weight = round(self.random.uniform(0.1, 3), 2)
                predicted.append(prediction(ident, model, said, at, segments=segments, weight=weight))
            labelled.append(label(ident, truth, at))
        for topic, events, kept in ((self.predictions, predicted, into[0]), (self.labels, labelled, into[1])):
            for each in records(events):
                self.producer.send(
                    topic, each.value, key=each.key, partition=each.partition, timestamp_ms=each.timestamp_ms
                )
            kept.extend(events)
        self.producer.flush(timeout=20)

    def events(self) -> dict[str, int]:
        return {
            self.predictions: len(self.warm[0]) + len(self.live[0]),
            self.labels: len(self.warm[1]) + len(self.live[1]),
        }


@dataclass
class World:
    """All of it once the traffic is over and the last of it scraped."""

    server: Prometheus
    replicas: dict[str, Daemon]
    partitions: dict[str, list[int]]  # by replica
    live: pd.DataFrame
    all: pd.DataFrame
    processed_s: float  # all that was produced had been worked off
    done_s: float  # and had been scraped
    range_s: float  # from before the live traffic to `done_s`

    def of(self, pairs: pd.DataFrame, model: str, replica: str | None = None) -> pd.DataFrame:
        mine = pairs[pairs["model"] == model]
        return mine if replica is None else mine[mine["partition"].isin(self.partitions[replica])]


def split(replicas: dict[str, Daemon]) -> bool:
    """Whether each replica has half of the partitions."""
    return all(len(each.status()["partitions"]) == PARTITIONS // 2 and each.ready for each in replicas.values())


def come(replicas: dict[str, Daemon], counts: dict[str, int]) -> bool:
    """Whether all of these records have been worked off, by whichever replica."""
    scrapes = [each.scrape() for each in replicas.values()]
    return all(sum(sum(scrape.events(topic).values()) for scrape in scrapes) == n for topic, n in counts.items())


@pytest.fixture(scope="module")
def world(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    binary = needs(PROMETHEUS)
    directory = tmp_path_factory.mktemp("prometheus")
    producer = KafkaProducer(bootstrap_servers=kafka)
    traffic = Traffic(producer, unique("predictions"), unique("labels"))
    create_topics(kafka, {traffic.predictions: PARTITIONS, traffic.labels: PARTITIONS})
    settings = {
        "kafka.bootstrap_servers": kafka,
        "kafka.topics": [traffic.predictions, traffic.labels],
        "kafka.group_id": unique("group"),
        "windows.lengths": LENGTHS,
        "windows.panes": PANES,
        "segments": [["country"]],
        "kafka.client_options": json.dumps({"heartbeat_interval_ms": 500}),  # the first hears of the second so soon
    }
    with (
        closing(producer),
        daemon(directory / "a.log", settings, ready=False) as a,
        daemon(directory / "b.log", settings, ready=False) as b,
    ):
        replicas = {"a": a, "b": b}
        wait_until(lambda: split(replicas), 60, "the partitions to be split")
        with prometheus(binary, directory, {name: each.port for name, each in replicas.items()}) as server:
            yield played(server, replicas, traffic)


def played(server: Prometheus, replicas: dict[str, Daemon], traffic: Traffic) -> World:
    # rate() guesses that a counter began within the range where its first sample there is small beside its growth;
    # so there is as much traffic before the range as in it.
    for _ in range(4):
        traffic.send(traffic.warm, 50)
    wait_until(lambda: come(replicas, traffic.events()), 30, "the first events")
    scraped(server, time.time())
    began_s = scraped(server, time.time()) - 0.01  # so just before it and just after it each counter has been scraped
    until_s = time.monotonic() + LIVE_S
    while time.monotonic() < until_s:
        began = time.monotonic()
        traffic.send(traffic.live, 10)
        time.sleep(max(0.0, TICK_S - (time.monotonic() - began)))  # the rate of the traffic, not a wait for anything
    wait_until(lambda: come(replicas, traffic.events()), 30, "all events")
    processed_s = time.time()
    scraped(server, time.time())
    done_s = time.time()
    whole = joined(traffic.warm[0] + traffic.live[0], traffic.warm[1] + traffic.live[1], ["country"])
    return World(
        server=server,
        replicas=replicas,
        partitions={name: each.status()["partitions"] for name, each in replicas.items()},
        live=joined(*traffic.live, ["country"]).pairs,
        all=whole.pairs,
        processed_s=processed_s,
        done_s=done_s,
        range_s=done_s - began_s,
    )


def scraped(server: Prometheus, after_s: float) -> float:
    """When both replicas have been scraped since `after_s`: the earlier of these scrapes."""

    def last() -> list[float]:
        found = server.samples("msemon_pairs_total{model='wild'}", 60)
        return [samples[-1].time_s for samples in found.values()]

    wait_until(lambda: len(last()) == 2 and min(last()) > after_s, 10, "a scrape of both replicas")
    return min(last())


def by(name: str, found: dict[frozenset[tuple[str, str]], float]) -> dict[str, float]:
    """A vector by the value of one label."""
    return {dict(labels)[name]: value for labels, value in found.items()}


def test_window_gauges_are_the_oracles(world):
    """All windowed families of each replica, totals and segments."""
    checked = 0
    for replica, model in itertools.product(world.replicas, MODELS):
        pairs = world.of(world.all, model, replica)
        parts = [("msemon_", "", pairs)]
        parts += [("msemon_segment_", f',segment="{value}"', part) for value, part in pairs.groupby("country")]
        for prefix, more, part in parts:
            for name, wanted in means_of(part).items():
                selector = f'{prefix}{name}{{instance="{replica}",model="{model}",window="5m"{more}}}'
                for found in world.server.vector(selector, world.done_s).values():
                    assert wanted.near(found), selector
                    checked += 1
    assert checked > 100


def test_adding_up_the_replicas_gives_the_merged_rmse(world):
    """What the documentation says to write in Grafana."""
    sums = [
        "sum by (model) (msemon_window_squared_error{window='5m'})",
        "sum by (model) (msemon_window_weight{window='5m'})",
    ]
    merged = by("model", world.server.vector(f"sqrt({sums[0]} / {sums[1]})", world.done_s))
    averaged = by("model", world.server.vector("avg by (model) (msemon_rmse{window='5m'})", world.done_s))
    assert merged.keys() == MODELS.keys()
    for model in MODELS:
        truth = means_of(world.of(world.all, model))["rmse"].value
        assert merged[model] == pytest.approx(truth, rel=EXACT)
        assert averaged[model] != pytest.approx(truth, rel=1e-6), "an average of RMSEs is another number"


def test_rates_of_the_counters_give_the_mse_of_what_came_in_the_range(world):
    """Of each replica exactly: rate() stretches both counters by the same factor, which cancels out."""
    quotient = "rate(msemon_squared_error_total[{0}]) / rate(msemon_weight_total[{0}])".format(_range(world))
    found = world.server.vector(quotient, world.done_s)
    assert len(found) == len(MODELS) * 2
    for labels, value in found.items():
        names = dict(labels)
        truth = means_of(world.of(world.live, names["model"], names["instance"]))["mse"].value
        assert value == pytest.approx(truth, rel=1e-9), names


def test_rates_over_both_replicas_give_the_merged_mse(world):
    """The replicas are not scraped at the same instants, so rate() stretches each a little differently: by less than
    two scrape intervals of the range, and so much at most the quotient may lean to the one or the other.
    """
    rates = [f"sum by (model) (rate(msemon_{name}_total[{_range(world)}]))" for name in ("squared_error", "weight")]
    found = by("model", world.server.vector(f"{rates[0]} / {rates[1]}", world.done_s))
    assert found.keys() == MODELS.keys()
    for model, value in found.items():
        parts = [sums_of(world.of(world.live, model, replica)) for replica in world.replicas]
        squared = [part["squared_error_total"].value for part in parts]
        weight = [part["weight_total"].value for part in parts]
        stretch = 1 + 2 / (world.range_s - 2)
        leaning = [(squared[i] * stretch + squared[1 - i]) / (weight[i] * stretch + weight[1 - i]) for i in (0, 1)]
        assert min(leaning) * (1 - 1e-9) <= value <= max(leaning) * (1 + 1e-9), model
        assert value == pytest.approx(sum(squared) / sum(weight), rel=0.02), model


def test_counters_grow_by_exactly_what_came(world):
    """Without rate()'s guess about the ends of the range: the difference of two sums."""
    for model in MODELS:
        truth = sums_of(world.of(world.live, model))
        for name, wanted in truth.items():
            total = f"sum(msemon_{name}{{model='{model}'}})"
            grown = f"{total} - {total.replace('})', f'}} offset {_range(world)})')}"
            (value,) = world.server.vector(grown, world.done_s).values()
            assert value == pytest.approx(wanted.value, rel=1e-10), name


def test_a_short_window_lets_go_of_its_pairs_pane_by_pane(world):
    """Every scrape of the window of ten seconds shows the panes of its own instant, until there are none."""
    (short,) = [window for window in windows_of(LENGTHS, PANES) if window.name == "10s"]
    selector = "msemon_window_pairs{window='10s'}"
    wait_until(lambda: not world.server.vector(selector), 30, "the window to be empty", 0.2)
    range_s = time.time() - world.processed_s
    durations = world.server.samples("scrape_duration_seconds", range_s)
    sizes = set()
    for labels, samples in world.server.samples(selector, range_s).items():
        names = dict(labels)
        pairs = world.of(world.all, names["model"], names["instance"])
        took = dict(durations[frozenset({("instance", names["instance"])})])
        for at, value in samples:
            if not math.isnan(value):
                assert value in possible(short, pairs, at, took[at]), (names, at)
                sizes.add(value)
    assert len(sizes) >= 3, "it was seen to shrink"


def possible(window: Window, pairs: pd.DataFrame, from_s: float, took_s: float) -> set[int]:
    """The sizes of the window at any time during a scrape."""
    ends = [round(from_s * 1e6), round((from_s + took_s) * 1e6)]
    return {int(window.holds(pairs["time_us"], end).sum()) for end in ends}


def test_no_scrape_has_failed_and_openmetrics_is_spoken(world):
    """No scrape was refused, whole or in part; counters were named as OpenMetrics names them.

    On a machine that is busy enough a scrape may take longer than the second it is given: such a one tells nothing.
    """
    range_s = time.time() - world.done_s + world.range_s
    durations = world.server.samples("scrape_duration_seconds", range_s)
    scrapes = world.server.samples("up", range_s)
    assert len(scrapes) == 2
    for labels, samples in scrapes.items():
        took = dict(durations[labels])
        in_time = [up for at, up in samples if took[at] < 1.0]
        assert len(in_time) > len(samples) / 2
        assert set(in_time) == {1.0}
    own = world.server.own()
    refused = {name: value for (name, _), value in own.samples.items() if name.startswith("prometheus_target_scrapes_")}
    assert len(refused) >= 5
    assert set(refused.values()) == {0.0}, refused
    kinds = world.server.metadata()
    assert kinds["msemon_squared_error"] == "counter"
    assert "msemon_squared_error_total" not in kinds
    assert kinds["msemon_label_delay_seconds"] == "histogram"


def _range(world: World) -> str:
    return f"{round(world.range_s * 1000)}ms"
