"""Every metric family that is exported: one table, which the renderer, the daemon's own metrics and the docs follow."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from msemon.core import moments
from msemon.core.view import Table, View
from msemon.events import Floats

PREFIX = "msemon_"
SEGMENT_PREFIX = "msemon_segment_"

Kind = Literal["gauge", "counter", "histogram", "info"]
Values = Callable[[View, Table, int], Floats]
"""(view, its table of models or of segments, index of the window) → a value for each key of the table, NaN where
absent. The window means nothing to a family without that label."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family. `name` is whole: with the prefix, and `_total` or `_info` where the kind has it."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str
    values: Values | None = None  # None: the histogram, and what the daemon counts itself
    segments: bool = False  # stands again for every segment

    @property
    def short(self) -> str:
        """The name as the settings know it."""
        return self.name.removeprefix(PREFIX)

    @property
    def windowed(self) -> bool:
        return "window" in self.labels

    @property
    def stem(self) -> str:
        """The family's name in OpenMetrics, where a suffix belongs to the sample."""
        return self.name.removesuffix("_total").removesuffix("_info")

    def twin(self) -> Family:
        """The same for every segment. A family of its own, so that a sum never counts a total beside its parts."""
        labels = (*self.labels[:2], "dimension", "segment", *self.labels[2:])
        name = SEGMENT_PREFIX + self.short
        return Family(name, self.kind, labels, f"{self.meaning} For one segment.", self.values)


_MODEL = ("model", "version")
_WINDOW = (*_MODEL, "window")


def _of_moments(formula: Callable[[Floats], Floats]) -> Values:
    def values(_: View, table: Table, window: int) -> Floats:
        with np.errstate(all="ignore"):  # what overflows is not finite, and so absent
            return formula(table.windows[window])

    return values


def _counter(row: int) -> Values:
    return lambda _, table, __: table.counters[row]


def _coverage(row: int) -> Values:
    def values(view: View, _: Table, window: int) -> Floats:
        counts = view.coverage[window]
        return np.where(counts.any(axis=0), counts[row], np.nan)

    return values


def _lifetime(row: int) -> Values:
    return lambda view, _, __: view.lifetime[row]


def _drift(row: int) -> Values:
    return lambda _, table, __: table.drift[row]


def _window(name: str, meaning: str, values: Values, segments: bool = True) -> Family:
    return Family(PREFIX + name, "gauge", _WINDOW, meaning, values, segments)


def _total(name: str, meaning: str, row: int) -> Family:
    return Family(f"{PREFIX}{name}_total", "counter", _MODEL, meaning, _counter(row), segments=True)


def _gauge(name: str, meaning: str, values: Values, segments: bool = False) -> Family:
    return Family(PREFIX + name, "gauge", _MODEL, meaning, values, segments)


PER_MODEL: tuple[Family, ...] = (
    _window("mse", "Mean squared error of the window, in the label's unit squared.", _of_moments(moments.mse)),
    _window("rmse", "Root of the mean squared error of the window, in the label's unit.", _of_moments(moments.rmse)),
    _window("mae", "Mean absolute error of the window, in the label's unit.", _of_moments(moments.mae)),
    _window(
        "bias",
        "Mean of prediction minus label in the window, in the label's unit: above 0 the model predicts too much.",
        _of_moments(moments.bias),
    ),
    _window(
        "r2",
        "Share of the label's variance in the window that the model explains, without unit: 1 is perfect, "
        "0 as good as the mean, below 0 worse.",
        _of_moments(moments.r2),
    ),
    _window(
        "mse_standard_error",
        "Standard error of the window's mean squared error, in the label's unit squared.",
        _of_moments(moments.standard_error),
    ),
    _window(
        "rmse_lower",
        "Lower 95 % bound of the window's RMSE, in the label's unit.",
        _of_moments(lambda of_window: moments.rmse_bounds(of_window)[0]),
    ),
    _window(
        "rmse_upper",
        "Upper 95 % bound of the window's RMSE, in the label's unit.",
        _of_moments(lambda of_window: moments.rmse_bounds(of_window)[1]),
    ),
    _window(
        "max_absolute_error",
        "Largest absolute error in the window, in the label's unit: one outlier can carry an MSE.",
        _of_moments(moments.max_absolute_error),
    ),
    _window("window_pairs", "Pairs in the window.", _of_moments(moments.pairs)),
    _window("window_weight", "Sum of the weights in the window.", _of_moments(moments.weight)),
    _window(
        "window_squared_error",
        "Sum of weight times squared error in the window, in the label's unit squared.",
        _of_moments(moments.squared_error),
    ),
    _window(
        "window_absolute_error",
        "Sum of weight times absolute error in the window, in the label's unit.",
        _of_moments(moments.absolute_error),
    ),
    _window(
        "window_error",
        "Sum of weight times (prediction minus label) in the window, in the label's unit.",
        _of_moments(moments.error),
    ),
    _window("window_predictions", "Predictions made in the window.", _coverage(0), segments=False),
    _window("window_labelled", "Predictions made in the window whose label has come.", _coverage(1), segments=False),
    _total("pairs", "Pairs since the process began.", 0),
    _total("weight", "Sum of the weights of all pairs since the process began.", 1),
    _total(
        "squared_error", "Sum of weight times squared error since the process began, in the label's unit squared.", 2
    ),
    _total("absolute_error", "Sum of weight times absolute error since the process began, in the label's unit.", 3),
    _total(
        "overprediction",
        "Sum of weight times the excess of prediction over label since the process began, in the label's unit.",
        4,
    ),
    _total(
        "underprediction",
        "Sum of weight times the excess of label over prediction since the process began, in the label's unit.",
        5,
    ),
    _gauge("lifetime_pairs", "Pairs of all time; moves with the state between processes.", _lifetime(0)),
    _gauge("lifetime_weight", "Sum of the weights of all time; moves with the state between processes.", _lifetime(1)),
    _gauge(
        "lifetime_squared_error",
        "Sum of weight times squared error of all time, in the label's unit squared; "
        "moves with the state between processes.",
        _lifetime(2),
    ),
    _gauge("baseline_mse", "Mean squared error of the baseline, in the label's unit squared.", _drift(0), True),
    _gauge(
        "baseline_upper_mse",
        "Upper bound of the baseline's mean squared error, which drift is measured from, in the label's unit squared.",
        _drift(1),
        True,
    ),
    _gauge("baseline_pairs", "Pairs of the baseline; while it is being learnt those seen so far.", _drift(2), True),
    _gauge("drift_evidence", "Natural logarithm of the evidence of drift, at least 0.", _drift(3), True),
    _gauge("drift_threshold", "Where evidence of drift alarms.", _drift(4), True),
    _gauge("drift_active", "1 from an alarm of drift to recovery, else 0.", _drift(5), True),
    Family(
        "msemon_drift_alarms_total",
        "counter",
        _MODEL,
        "Alarms of drift since the process began.",
        _drift(6),
        segments=True,
    ),
    Family(
        "msemon_label_delay_seconds",
        "histogram",
        _MODEL,
        "Seconds from a prediction's time to its label's, at least 0, of joined pairs since the process began.",
    ),
    _gauge(
        "last_pair_timestamp_seconds",
        "Record time at which the last pair became complete, in seconds since the epoch.",
        lambda view, _, __: view.last_pair,
    ),
    _gauge(
        "stream_timestamp_seconds",
        "Stream time: the largest pair time seen, in seconds since the epoch; the wall clock does not move it.",
        lambda view, _, __: view.stream_time,
    ),
    _gauge(
        "series",
        "Segment series with a place of their own, in the partition that holds the most.",
        lambda view, _, __: view.series,
    ),
    _gauge("series_limit", "Most segment series that are held.", lambda view, _, __: view.series_limit),
    Family(
        "msemon_series_folded_total",
        "counter",
        _MODEL,
        "Pairs counted in the segment __other__ since the process began, because the limit of series was reached.",
        lambda view, _, __: view.folded,
    ),
)
"""What stands per model and version, some of it per segment too, in the order of the exposition."""


def _own(kind: Kind, name: str, meaning: str, *labels: str) -> Family:
    return Family(PREFIX + name, kind, labels, meaning)


OWN: tuple[Family, ...] = (
    _own("counter", "events_total", "Records read, by what they turned out to be.", "topic", "kind"),
    _own("counter", "events_rejected_total", "Records, or answers of a label, that could not be used.",
         "topic", "reason"),
    _own("gauge", "join_pending", "Entries of the join that wait for their other half.", "side"),
    _own("counter", "join_matched_total", "Pairs that the join made of a prediction and a label."),
    _own("counter", "join_conflicting_labels_total", "Repeated labels whose value differs from the first."),
    _own("counter", "join_evicted_total", "Entries given up early because join.max_pending was reached.", "entry"),
    _own("counter", "join_expired_total", "Entries that never found their other half in time.", "side"),
    _own("counter", "join_duplicates_total", "Repeats of what had come before.", "side"),
    _own("gauge", "consumer_lag", "Records not yet processed.", "topic", "partition"),
    _own("gauge", "consumer_lag_sum", "Records not yet processed, over all partitions of this process."),
    _own("gauge", "consumer_lag_seconds",
         "Seconds from the record time that is reached to now, where it is furthest back; 0 where nothing waits."),
    _own("gauge", "last_prediction_timestamp_seconds", "Time of the newest prediction, in seconds since the epoch."),
    _own("gauge", "last_label_timestamp_seconds", "Time of the newest label, in seconds since the epoch."),
    _own("counter", "dead_letter_failures_total", "Rejected records that could not be sent to the dead-letter topic."),
    _own("counter", "schema_registry_errors_total", "Requests to the schema registry that gave no answer to go by."),
    _own("gauge", "schemas_awaited", "Schemas that records wait for, because the registry has not given them yet."),
    _own("gauge", "state_incomplete", "1 where the state of a partition could not be had whole.", "partition"),
    _own("counter", "offset_gap_records_total", "Records passed over: gone before their turn, or unreadable.",
         "topic", "partition"),
    _own("gauge", "checkpoint_timestamp_seconds",
         "When the oldest of the last checkpoints became durable, in seconds since the epoch."),
    _own("gauge", "checkpoint_duration_seconds", "Seconds that the last checkpoint took to write."),
    _own("gauge", "checkpoint_bytes", "Bytes that the last checkpoint wrote."),
    _own("counter", "checkpoint_failures_total", "Checkpoints that did not become durable."),
    _own("counter", "snapshots_rejected_total", "Stored snapshots that were refused while restoring.", "reason"),
    _own("counter", "restores_total", "Partitions taken over, by where their state came from.", "source"),
    _own("gauge", "restore_duration_seconds", "Seconds that the last restore took."),
    _own("gauge", "partitions", "Partitions of the topic.", "topic"),
    _own("gauge", "partitions_assigned", "Partition numbers that this process owns."),
    _own("counter", "kafka_errors_total", "Requests and connections that failed, by what the cluster would not do.",
         "kind"),
    _own("counter", "rebalances_total", "Changes of this process's partitions."),
    _own("info", "build_info", "Versions of msemon, Python and the Kafka client.", "version", "python", "kafka_client"),
)  # fmt: skip
"""What the daemon counts about itself."""

SEGMENTED: tuple[Family, ...] = tuple(family.twin() for family in PER_MODEL if family.segments)
FAMILIES: tuple[Family, ...] = (*PER_MODEL, *SEGMENTED, *OWN)
"""All families of this project, the twins for segments included."""

DEFAULT_SEGMENT_METRICS = (
    "mse", "rmse", "rmse_lower", "rmse_upper", "bias", "window_pairs", "window_weight", "window_squared_error",
    "baseline_mse", "baseline_upper_mse", "baseline_pairs",
    "drift_evidence", "drift_threshold", "drift_active", "drift_alarms_total",
    "pairs_total", "weight_total", "squared_error_total",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Selection:
    """The families to render. What the daemon counts about itself is always exported and is not listed here."""

    models: tuple[Family, ...]
    segments: tuple[Family, ...]  # twins


def select(
    metrics: Sequence[str] | Literal["all"] = "all",
    segment_metrics: Sequence[str] | Literal["all"] = DEFAULT_SEGMENT_METRICS,
) -> Selection:
    """The families that settings `export.metrics` and `export.segment_metrics` name, without prefix, in table order.

    Raises ValueError for a name that no family has, saying which is nearest.
    """
    models = _chosen(metrics, PER_MODEL, "metrics")
    twins = _chosen(segment_metrics, [family for family in PER_MODEL if family.segments], "segment_metrics")
    return Selection(models, tuple(family.twin() for family in twins))


def _chosen(names: Sequence[str] | Literal["all"], known: Iterable[Family], setting: str) -> tuple[Family, ...]:
    by_name = {family.short: family for family in known}
    if names == "all":
        return tuple(by_name.values())
    for name in names:
        if name not in by_name:
            nearest = difflib.get_close_matches(name, by_name, n=1, cutoff=0)
            raise ValueError(f'export.{setting}: there is no "{name}"; the nearest is "{nearest[0]}"')
    return tuple(family for name, family in by_name.items() if name in names)
