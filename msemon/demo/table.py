"""The demo's table: RMSE by model and segment, as `/metrics` would tell it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from msemon.core import moments
from msemon.core.view import SeriesKey, Table, View

_WEIGHT, _SQUARED = 1, 2  # rows of View's counters
_BASELINE, _EVIDENCE, _THRESHOLD, _ACTIVE = 0, 3, 4, 5  # rows of View's drift

_NONE = "__none__"


class Row(NamedTuple):
    """One series' numbers, NaN where absent."""

    key: SeriesKey
    pairs: float  # in the shortest window, like the next three
    rmse: float
    lower: float
    upper: float
    now: float  # RMSE over the last seconds, from the counters
    baseline: float  # RMSE
    evidence: float  # of drift: a natural logarithm, like where it alarms
    threshold: float
    active: float  # 1 from an alarm to the recovery


class Recent:
    """RMSE over the last `span_s` seconds: √(increase of Σw·q / increase of Σw), as Prometheus would take rates."""

    def __init__(self, span_s: float) -> None:
        self.span_s = span_s
        self._samples: deque[tuple[float, dict[SeriesKey, tuple[float, float]]]] = deque()

    def add(self, now_s: float, view: View) -> None:
        """Note the counters at `now_s`, seconds on any clock that does not go back."""
        sample = {
            key: (float(table.counters[_WEIGHT, i]), float(table.counters[_SQUARED, i]))
            for table in (view.models, view.segments)
            for i, key in enumerate(table.keys)
        }
        self._samples.append((now_s, sample))
        while len(self._samples) > 1 and self._samples[1][0] <= now_s - self.span_s:
            self._samples.popleft()

    def rmse(self, key: SeriesKey) -> float:
        """NaN where the span has no pair of the series, or it began anew."""
        if not self._samples:
            return math.nan
        before = self._samples[0][1].get(key, (0.0, 0.0))
        after = self._samples[-1][1].get(key, (0.0, 0.0))
        weight, squared = after[0] - before[0], after[1] - before[1]
        return math.sqrt(squared / weight) if weight > 0.0 and squared >= 0.0 else math.nan


def rows(view: View, shortest: int, recent: Recent, limit: int) -> list[Row]:
    """Each model's total and its segments: as many whole dimensions, the simplest first, as `limit` rows have room for.

    `shortest` is the place of the shortest window in `view.windows`. Series of models whose events carry none of a
    dimension's keys are left out: they repeat the total.
    """
    shown = _rows(view.models, shortest, recent)
    by_dimension: dict[str, list[Row]] = {}
    for row in _rows(view.segments, shortest, recent):
        if set(row.key.segment.split(",")) != {_NONE}:
            by_dimension.setdefault(row.key.dimension, []).append(row)
    for dimension in sorted(by_dimension, key=_simplicity):
        if len(shown) + len(by_dimension[dimension]) > limit:
            break
        shown += by_dimension[dimension]
    return sorted(shown, key=lambda row: (row.key[:2], _simplicity(row.key.dimension), row.key.segment))


def _simplicity(dimension: str) -> tuple[int, str]:
    """Sorts the total first, then by the number of keys."""
    return (dimension.count(",") + 1 if dimension else 0, dimension)


def _rows(table: Table, window: int, recent: Recent) -> list[Row]:
    near = table.windows[window]
    lower, upper = moments.rmse_bounds(near)
    columns = [near[moments.N], moments.rmse(near), lower, upper]
    columns.append(np.array([recent.rmse(key) for key in table.keys]))
    columns += [np.sqrt(table.drift[_BASELINE]), *table.drift[[_EVIDENCE, _THRESHOLD, _ACTIVE]]]
    return [Row(key, *map(float, numbers)) for key, *numbers in zip(table.keys, *columns, strict=True)]


def render(shown: Sequence[Row], window: str, span_s: float) -> RichTable:
    """The table for a terminal; `window` is the name of the shortest window."""
    table = RichTable(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        caption=f"now: RMSE of the last {span_s:.0f} s (in Prometheus: from rates)\n"
        "drift: evidence / where it alarms, natural logarithms",
        caption_justify="left",
    )
    for heading in ("model", "segment"):
        table.add_column(heading, no_wrap=True)
    for heading in ("pairs", f"RMSE {window}", "95 % bounds", "now", "baseline", "drift"):
        table.add_column(heading, justify="right", no_wrap=True)
    model = ""
    for row in shown:
        if row.key.model != model and model:
            table.add_section()
        table.add_row(*_cells(row, row.key.model != model), style="" if row.key.dimension else "bold")
        model = row.key.model
    return table


def _cells(row: Row, first: bool) -> list[str | Text]:
    bounds = "" if math.isnan(row.lower) else f"{number(row.lower)}–{number(row.upper)}"
    return [
        row.key.model if first else "",
        row.key.segment or "all",
        f"{row.pairs:,.0f}",
        number(row.rmse),
        bounds,
        number(row.now),
        number(row.baseline),
        _drift(row),
    ]


def _drift(row: Row) -> Text:
    """Evidence beside its threshold, an alarm in words and colour; nothing without a baseline."""
    if math.isnan(row.evidence):
        return Text()
    if row.active:
        return Text("DRIFT", style="bold red")
    return Text(f"{row.evidence:.1f} / {row.threshold:.1f}")


def number(value: float) -> str:
    """Four to five digits that matter at its size; empty where absent."""
    if math.isnan(value):
        return ""
    if abs(value) >= 1_000.0:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 1.0 else f"{value:.4f}"
