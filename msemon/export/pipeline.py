"""What the daemon counts about itself: prometheus-client's metrics, made from the table of families."""

from __future__ import annotations

import contextlib
import math
import platform
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Info,
    Metric,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from prometheus_client.registry import Collector

from msemon import __version__
from msemon.events import Kind, Reason
from msemon.export.families import OWN

SIDES = ("prediction", "label")
ENTRIES = ("waiting", "remembered")

# It has no types of its own.
_openmetrics_of: Callable[[Collector], bytes] = openmetrics_exposition.generate_latest

_FAMILIES = {family.short: family for family in OWN}


class Pipeline:
    """The daemon's own metrics; an attribute is a metric without `msemon_` and `_total`.

    Gauges that nothing has been heard of yet are NaN, and so absent. What is known to be possible stands at 0 from
    the start, for `rate()` does not see a counter's first value.
    """

    def __init__(self, kafka_client: str = "kafka-python", topics: Sequence[str] = ()) -> None:
        self.registry = CollectorRegistry()
        self._events(topics)
        self._join()
        self._consumer()
        self.last_prediction_timestamp_seconds = self._unheard_of("last_prediction_timestamp_seconds")
        self.last_label_timestamp_seconds = self._unheard_of("last_label_timestamp_seconds")
        self._state()
        self.build_info = Info("msemon_build", _FAMILIES["build_info"].meaning, registry=self.registry)
        self.build_info.info(_build(kafka_client))
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def _events(self, topics: Sequence[str]) -> None:
        self.events = self._counter("events_total")
        self.events_rejected = self._counter("events_rejected_total")
        self.dead_letter_failures = self._counter("dead_letter_failures_total")
        self.schema_registry_errors = self._counter("schema_registry_errors_total")
        self.schemas_awaited = self._gauge("schemas_awaited")
        for topic in topics:
            for kind in Kind:
                self.events.labels(topic, kind)
            for reason in Reason:
                self.events_rejected.labels(topic, reason)

    def _join(self) -> None:
        self.join_pending = self._gauge("join_pending")
        self.join_matched = self._counter("join_matched_total")
        self.join_conflicting_labels = self._counter("join_conflicting_labels_total")
        self.join_evicted = self._counter("join_evicted_total")
        self.join_expired = self._counter("join_expired_total")
        self.join_duplicates = self._counter("join_duplicates_total")
        for entry in ENTRIES:
            self.join_evicted.labels(entry)
        for side in SIDES:
            self.join_pending.labels(side)
            self.join_expired.labels(side)
            self.join_duplicates.labels(side)

    def _consumer(self) -> None:
        self.consumer_lag = self._gauge("consumer_lag")
        self.consumer_lag_sum = self._unheard_of("consumer_lag_sum")
        self.consumer_lag_seconds = self._unheard_of("consumer_lag_seconds")
        self.offset_gap_records = self._counter("offset_gap_records_total")
        self.partitions = self._gauge("partitions")
        self.partitions_assigned = self._gauge("partitions_assigned")
        self.rebalances = self._counter("rebalances_total")
        self.kafka_errors = self._counter("kafka_errors_total")

    def _state(self) -> None:
        self.state_incomplete = self._gauge("state_incomplete")
        self.checkpoint_timestamp_seconds = self._unheard_of("checkpoint_timestamp_seconds")
        self.checkpoint_duration_seconds = self._unheard_of("checkpoint_duration_seconds")
        self.checkpoint_bytes = self._unheard_of("checkpoint_bytes")
        self.checkpoint_failures = self._counter("checkpoint_failures_total")
        self.snapshots_rejected = self._counter("snapshots_rejected_total")
        self.restores = self._counter("restores_total")
        self.restore_duration_seconds = self._unheard_of("restore_duration_seconds")

    def forget(self, topics: Collection[str], partitions: Iterable[int]) -> None:
        """Drop the gauges of partitions that are no longer ours; counters stay."""
        for partition in map(str, partitions):
            _remove(self.state_incomplete, partition)
            for topic in topics:
                _remove(self.consumer_lag, topic, partition)

    def _counter(self, name: str) -> Counter:
        family = _FAMILIES[name]
        return Counter(family.name, family.meaning, family.labels, registry=self.registry)

    def _gauge(self, name: str) -> Gauge:
        family = _FAMILIES[name]
        return Gauge(family.name, family.meaning, family.labels, registry=self.registry)

    def _unheard_of(self, name: str) -> Gauge:
        gauge = self._gauge(name)
        gauge.set(math.nan)
        return gauge


def _remove(gauge: Gauge, *labels: str) -> None:
    with contextlib.suppress(KeyError):  # raised by some versions where it was not there
        gauge.remove(*labels)


_DISTRIBUTIONS = {"librdkafka": "confluent-kafka"}


def _build(kafka_client: str) -> dict[str, str]:
    try:
        client = f"{kafka_client} {version(_DISTRIBUTIONS.get(kafka_client, kafka_client))}"
    except PackageNotFoundError:
        client = kafka_client
    return {"version": __version__, "python": platform.python_version(), "kafka_client": client}


def written(registry: Collector, openmetrics: bool) -> bytes:
    """The registry in Prometheus' text format 0.0.4 or OpenMetrics 1.0.0 with its `# EOF`."""
    present = _Present(registry)
    return _openmetrics_of(present) if openmetrics else generate_latest(present)


class _Present:
    """What a registry collects, less gauges that are not finite and the `_created` series."""

    def __init__(self, registry: Collector) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            kept = Metric(metric.name, metric.documentation, metric.type, metric.unit)
            kept.samples = [
                sample
                for sample in metric.samples
                if math.isfinite(sample.value) and not sample.name.endswith("_created")
            ]
            if kept.samples:
                yield kept
