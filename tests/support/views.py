"""Views of known pairs, and what prometheus-client makes of the same samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TextIO

import numpy as np
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from prometheus_client.openmetrics.parser import text_fd_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from msemon.core import moments
from msemon.core.view import DELAY_BOUNDS_S, DRIFT_ROWS, SeriesKey, Table, Trend, View
from msemon.events import Floats
from msemon.export.families import Family, Selection

Pairs = Sequence[tuple[float, float, float]]
"""(prediction, label, weight) each."""

# prometheus-client gives no types for these.
go_text: Callable[[float], str] = floatToGoString
openmetrics_of: Callable[[Collector], bytes] = openmetrics_exposition.generate_latest
openmetrics_families: Callable[[TextIO], Iterable[Metric]] = text_fd_to_metric_families


def accumulated(pairs: Pairs) -> Floats:
    """Moments (FIELDS, 1)."""
    if not pairs:
        return moments.empty(1)
    errors = moments.Errors.of_scalars(*np.array(pairs, float).T)
    return moments.reduce(errors, np.arange(len(pairs)), np.array([0]))


def table_of(windows: int, series: Mapping[SeriesKey, Pairs]) -> Table:
    """A table in which every window and the counters hold the same pairs."""
    columns = [accumulated(pairs) for pairs in series.values()]
    joined = np.concatenate(columns, axis=1) if columns else moments.empty(0)
    counters = np.zeros((6, len(columns)))
    for column, pairs in zip(counters.T, series.values(), strict=True):
        for prediction, label, weight in pairs:
            e = prediction - label
            column += [1, weight, weight * e * e, weight * abs(e), weight * max(e, 0), weight * max(-e, 0)]
    drift = np.arange(DRIFT_ROWS)[:, None] + np.arange(len(columns)) / 8.0
    return Table(list(series), [joined.copy() for _ in range(windows)], counters, drift)


def view_of(
    models: Mapping[SeriesKey, Pairs],
    segments: Mapping[SeriesKey, Pairs] | None = None,
    windows: Sequence[str] = ("5m", "1h"),
) -> View:
    """A view of known pairs; what else there is to know is small numbers that differ."""
    n = len(models)
    numbers = np.arange(1.0, n + 1)
    delays = np.outer(np.arange(n), np.arange(len(DELAY_BOUNDS_S) + 1)).astype(np.int64)
    return View(
        windows=list(windows),
        models=table_of(len(windows), models),
        segments=table_of(len(windows), segments or {}),
        coverage=[np.array([[5] * n, [3] * n]) for _ in windows],
        lifetime=np.array([numbers * 10, numbers * 20, numbers * 30]),
        stream_time=1.7e9 + numbers,
        last_pair=1.7e9 + numbers / 2,
        series=numbers,
        series_limit=numbers * 1000,
        folded=numbers - 1,
        delays=delays,
        delay_sum=numbers * 0.5,
    )


def trend_of(view: View, models: moments.Index, segments: moments.Index) -> Trend:
    """A wave about the MSE of the first window, of twelve points of 5 minutes; the second row has a gap."""
    mse = np.concatenate([moments.mse(view.models.windows[0])[models], moments.mse(view.segments.windows[0])[segments]])
    wave = 1.0 + 0.3 * np.sin(np.arange(12) / 2.0 + np.arange(mse.size)[:, None])
    wave[1:2, 4:7] = np.nan
    return Trend("1h", 300.0, np.full(mse.size, 1.7e9), mse[:, None] * wave)


def large_view(models: int, segments: int, windows: Sequence[str] = ("5m", "1h", "24h")) -> View:
    """A view of random pairs: `models` models of `segments` segments each."""
    random = np.random.default_rng(0)

    def drawn() -> Pairs:
        return [(float(p), float(y), 1.0) for p, y in random.normal(200.0, 50.0, (8, 2))]

    totals = {SeriesKey(f"model-{i}", "2024-01"): drawn() for i in range(models)}
    parts = {
        SeriesKey(key.model, key.version, "country,tier", f"c{i},gold"): drawn()
        for key in totals
        for i in range(segments)
    }
    return view_of(totals, parts, windows)


class Reference:
    """A prometheus-client collector that yields the samples of a view, one object a sample."""

    def __init__(self, view: View, selection: Selection) -> None:
        self._view = view
        self._selection = selection

    def collect(self) -> Iterator[Metric]:
        for family in self._selection.models:
            yield from self._metric(family, self._view.models)
        for family in self._selection.segments:
            yield from self._metric(family, self._view.segments)

    def _metric(self, family: Family, table: Table) -> Iterator[Metric]:
        metric: Metric
        if family.values is None:
            metric = self._histogram(family)
        else:
            kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
            metric = kind(family.name, family.meaning, labels=family.labels)
            for i, window in enumerate(self._view.windows if family.windowed else [""]):
                for key, value in zip(table.keys, family.values(self._view, table, i), strict=True):
                    if math.isfinite(value):
                        labels = key._asdict() | {"window": window}
                        metric.add_metric([labels[name] for name in family.labels], value)
        if metric.samples:
            yield metric

    def _histogram(self, family: Family) -> HistogramMetricFamily:
        metric = HistogramMetricFamily(family.name, family.meaning, labels=family.labels)
        bounds = [go_text(bound) for bound in (*DELAY_BOUNDS_S, math.inf)]
        for key, row, total in zip(self._view.models.keys, self._view.delays, self._view.delay_sum, strict=True):
            cumulative = [float(row[: i + 1].sum()) for i in range(len(row))]
            metric.add_metric(list(key[:2]), list(zip(bounds, cumulative, strict=True)), float(total))
        return metric
