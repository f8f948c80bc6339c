"""The demo's table: RMSE by model and segment, as `/metrics` would tell it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from rich import box
from rich.table import Table as RichTable

from msemon.core import moments
from msemon.core.view import SeriesKey, Table, View

_WEIGHT, _SQUARED = 1, 2  # rows of View's counters

_NONE = "__none__"


class Row(NamedTuple):
    """One series' numbers, NaN where absent."""

    key: SeriesKey
    pairs: float  # in the shortest window, like the next three
    rmse: float
    lower: float
    upper: float
    longer: float  # RMSE in the second shortest window
    now: float  # RMSE over the last seconds, from the counters

    @property
    def ratio(self) -> float:
        """RMSE now by that of the longer window."""
        return self.now / self.longer if self.longer > 0.0 else math.nan


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


def rows(view: View, lengths_s: Sequence[float], recent: Recent, limit: int) -> list[Row]:
    """Each model's total and its segments: as many whole dimensions, the simplest first, as `limit` rows have room for.

    `lengths_s` are the lengths of `view.windows`. Series of models whose events carry none of a dimension's keys are
    left out: they repeat the total.
    """
    order = sorted(range(len(lengths_s)), key=lambda i: lengths_s[i])
    windows = (order[0], order[min(1, len(order) - 1)])
    shown = _rows(view.models, windows, recent)
    by_dimension: dict[str, list[Row]] = {}
    for row in _rows(view.segments, windows, recent):
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


def _rows(table: Table, windows: tuple[int, int], recent: Recent) -> list[Row]:
    near, far = (table.windows[i] for i in windows)
    lower, upper = moments.rmse_bounds(near)
    columns = [near[moments.N], moments.rmse(near), lower, upper, moments.rmse(far)]
    columns.append(np.array([recent.rmse(key) for key in table.keys]))
    return [Row(key, *map(float, numbers)) for key, *numbers in zip(table.keys, *columns, strict=True)]


def render(shown: Sequence[Row], names: tuple[str, str], span_s: float) -> RichTable:
    """The table for a terminal; `names` are those of the shortest and the second shortest window."""
    short, longer = names
    table = RichTable(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        caption=f"now: over the last {span_s:.0f} s, from the counters (in Prometheus: rate())",
        caption_justify="left",
    )
    for heading in ("model", "segment"):
        table.add_column(heading, no_wrap=True)
    for heading in ("pairs", f"RMSE {short}", "95 % bounds", f"RMSE {longer}", "now", f"now/{longer}"):
        table.add_column(heading, justify="right", no_wrap=True)
    model = ""
    for row in shown:
        if row.key.model != model and model:
            table.add_section()
        table.add_row(*_cells(row, row.key.model != model), style="" if row.key.dimension else "bold")
        model = row.key.model
    return table


def _cells(row: Row, first: bool) -> list[str]:
    bounds = "" if math.isnan(row.lower) else f"{number(row.lower)}–{number(row.upper)}"
    ratio = "" if math.isnan(row.ratio) else f"{row.ratio:.2f}"
    return [
        row.key.model if first else "",
        row.key.segment or "all",
        f"{row.pairs:,.0f}",
        number(row.rmse),
        bounds,
        number(row.longer),
        number(row.now),
        ratio,
    ]


def number(value: float) -> str:
    """Four to five digits that matter at its size; empty where absent."""
    if math.isnan(value):
        return ""
    if abs(value) >= 1_000.0:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 1.0 else f"{value:.4f}"
