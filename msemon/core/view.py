"""What a process knows at one moment, merged over its tasks: the exporter's input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from msemon.events import Floats

Counts = npt.NDArray[np.int64]

_HOUR, _DAY = 3600.0, 86400.0
DELAY_BOUNDS_S = (
    1.0, 5.0, 15.0, 60.0, 300.0, 900.0, _HOUR, 4 * _HOUR, 12 * _HOUR, _DAY, 3 * _DAY, 7 * _DAY, 14 * _DAY, 30 * _DAY,
)  # fmt: skip
"""Upper bounds of the label-delay histogram, in seconds: 1 s to 30 d."""


DRIFT_ROWS = 7
"""Baseline MSE, its upper bound, its pairs; evidence, threshold, 1 from alarm to recovery, alarms."""


class SeriesKey(NamedTuple):
    """A series' name. Clean text, not yet escaped for Prometheus; dimension and segment are empty for a total."""

    model: str
    version: str
    dimension: str = ""
    segment: str = ""


@dataclass(slots=True)
class Table:
    """k series in columns."""

    keys: list[SeriesKey]
    windows: list[Floats]  # per window: moments (10, k)
    counters: Floats  # (6, k): pairs, weight, squared, absolute, over-, underprediction
    drift: Floats  # (DRIFT_ROWS, k), NaN: absent


class Trend(NamedTuple):
    """How the MSE of k series went within one window, in points of equal length, the oldest first."""

    window: str
    step_s: float  # a point
    ends: Floats  # (k,) unix seconds at which the newest point ends, NaN where there is none
    mse: Floats  # (k, points), NaN where a point has no pairs


@dataclass(slots=True)
class View:
    """One consistent picture. Times are unix seconds; NaN stands for absent."""

    windows: list[str]
    models: Table
    segments: Table
    coverage: list[Counts]  # per window (2, models): predictions made, of which labelled
    lifetime: Floats  # (3, models): pairs, weight, squared error
    stream_time: Floats  # (models,)
    last_pair: Floats  # (models,)
    series: Floats  # (models,) segment series held
    series_limit: Floats  # (models,)
    folded: Floats  # (models,) pairs that went to a folded series since the process began
    delays: Counts  # (models, len(DELAY_BOUNDS_S) + 1), per bucket, not cumulative
    delay_sum: Floats  # (models,) seconds
    partitions: frozenset[int] = frozenset()  # whose state is shown
    trend: Trend | None = None  # of the series that were chosen, where any were


Choose = Callable[[View], tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]
"""Columns of a view's models and of its segments whose trend is wanted."""
