"""The health of the pipeline as JSON, from the daemon's own metrics: whoever compares both sees the same numbers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import msgspec
from prometheus_client.registry import Collector

from msemon.export.families import PREFIX

_Samples = dict[str, list[tuple[Mapping[str, str], float]]]


def pipeline_json(registry: Collector) -> bytes:
    """What has not been heard of yet is null; counters that stand at 0 are left out of lists by reason or kind."""
    found: _Samples = defaultdict(list)
    for metric in registry.collect():
        for sample in metric.samples:
            if sample.name.startswith(PREFIX) and math.isfinite(sample.value):
                found[sample.name.removeprefix(PREFIX)].append((sample.labels, sample.value))
    return msgspec.json.encode(_told(found))


def _told(found: _Samples) -> dict[str, Any]:
    return {
        "events": _nested(found["events_total"], "topic", "kind"),
        "rejected": _nested(found["events_rejected_total"], "topic", "reason", only=True),
        "dead_letter_failures": _sum(found["dead_letter_failures_total"]),
        "newest": {
            "prediction": _one(found["last_prediction_timestamp_seconds"]),
            "label": _one(found["last_label_timestamp_seconds"]),
        },
        "join": {
            "matched": _sum(found["join_matched_total"]),
            "pending": _by(found["join_pending"], "side"),
            "expired": _by(found["join_expired_total"], "side"),
            "duplicates": _by(found["join_duplicates_total"], "side"),
            "evicted": _by(found["join_evicted_total"], "entry"),
            "conflicting_labels": _sum(found["join_conflicting_labels_total"]),
        },
        "lag": {
            "records": _one(found["consumer_lag_sum"]),
            "seconds": _one(found["consumer_lag_seconds"]),
            "partitions": _nested(found["consumer_lag"], "topic", "partition"),
        },
        "partitions": {
            "of_topics": _by(found["partitions"], "topic"),
            "assigned": _sum(found["partitions_assigned"]),
            "rebalances": _sum(found["rebalances_total"]),
        },
        "state": {
            "checkpoint": {
                "oldest": _one(found["checkpoint_timestamp_seconds"]),
                "duration_seconds": _one(found["checkpoint_duration_seconds"]),
                "bytes": _one(found["checkpoint_bytes"]),
                "failures": _sum(found["checkpoint_failures_total"]),
            },
            "restores": _by(found["restores_total"], "source"),
            "restore_seconds": _one(found["restore_duration_seconds"]),
            "rejected_snapshots": _by(found["snapshots_rejected_total"], "reason"),
            "incomplete_partitions": sorted(int(of["partition"]) for of, value in found["state_incomplete"] if value),
            "lost_records": _sum(found["offset_gap_records_total"]),
        },
        "kafka_errors": _by(found["kafka_errors_total"], "kind", only=True),
    }


def _sum(samples: list[tuple[Mapping[str, str], float]]) -> float:
    return sum(value for _, value in samples)


def _one(samples: list[tuple[Mapping[str, str], float]]) -> float | None:
    return samples[0][1] if samples else None


def _by(samples: list[tuple[Mapping[str, str], float]], label: str, *, only: bool = False) -> dict[str, float]:
    """By a label's value; `only` what is not 0."""
    return {labels[label]: value for labels, value in samples if value or not only}


def _nested(
    samples: list[tuple[Mapping[str, str], float]], outer: str, inner: str, *, only: bool = False
) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for labels, value in samples:
        of_outer = found.setdefault(labels[outer], {})
        if value or not only:
            of_outer[labels[inner]] = value
    return found
