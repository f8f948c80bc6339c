"""A recording as columns: one row for each step, series and window that holds pairs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from msemon.replaying.recording import Recording, Series

_AT_ONCE = 1_000_000  # cells of one column
NAMES = ("time", "model", "version", "dimension", "segment", "window")
_PRESENT = "window_pairs"


def blocks(recording: Recording) -> Iterator[dict[str, Any]]:
    """Columns of equal length by name: `time` (datetime64[us], UTC), texts as object arrays, values as float64.

    Series by series, and for each its windows, so that one series' rows lie together in the order of time. What stands
    once a series (its baseline, drift and counters) is repeated for every window; a family that was not recorded for
    segments is NaN there.
    """
    size = max(1, _AT_ONCE // max(len(recording.times), 1))
    for series in (recording.models, recording.segments):
        for begin in range(0, len(series.keys), size):
            yield _block(recording, series, begin, min(begin + size, len(series.keys)))


def whole(recording: Recording) -> dict[str, Any]:
    """All of them."""
    parts = [*blocks(recording)]
    empty = {name: np.empty(0, "datetime64[us]" if name == "time" else object if name in NAMES else float)
             for name in names(recording)}  # fmt: skip
    return {name: np.concatenate([none, *(part[name] for part in parts)]) for name, none in empty.items()}


def names(recording: Recording) -> list[str]:
    """Of the columns, in their order."""
    return [*NAMES, *_value_names(recording)]


def _value_names(recording: Recording) -> list[str]:
    return list(dict.fromkeys(column.name for column in recording.models.columns if _is_value(column.label)))


def _is_value(label: tuple[str, str] | None) -> bool:
    return label is None or label[0] == "window"


def _block(recording: Recording, series: Series, begin: int, end: int) -> dict[str, Any]:
    own = {(c.name, c.label and c.label[1]): series.values(c, begin, end) for c in series.columns if _is_value(c.label)}
    parts: dict[str, list[Any]] = {name: [] for name in names(recording)}
    times = recording.times.astype("datetime64[us]")
    for place in range(end - begin):
        for window in recording.windows:
            steps = np.flatnonzero(np.isfinite(own[_PRESENT, window][:, place]))
            parts["time"].append(times[steps])
            for name, text in zip(NAMES[1:], (*series.keys[begin + place], window), strict=True):
                parts[name].append(np.full(steps.size, text, object))
            for name in _value_names(recording):
                values = own.get((name, window), own.get((name, None)))
                parts[name].append(np.full(steps.size, np.nan) if values is None else values[steps, place])
    return {name: np.concatenate(part) for name, part in parts.items()}
