"""What is told of series: numbers by name, in columns over a table of a view."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from msemon.core import moments
from msemon.core.view import Table, Trend, View
from msemon.events import Floats, Ints
from msemon.export.status.listing import Index, Listing

_BASELINE, _UPPER, _LEARNT, _EVIDENCE, _THRESHOLD, _ACTIVE, _ALARMS = range(7)  # rows of a table's drift

_OF_MOMENTS: dict[str, Callable[[Floats], Floats]] = {
    "mse": moments.mse,
    "rmse": moments.rmse,
    "lower": lambda m: moments.rmse_bounds(m)[0],
    "upper": lambda m: moments.rmse_bounds(m)[1],
    "bias": moments.bias,
    "mae": moments.mae,
    "r2": moments.r2,
    "max_absolute_error": moments.max_absolute_error,
}


def windows(view: View, listing: Listing, part: bool, columns: Index) -> list[dict[str, Any]]:
    """For each of these columns of a table its windows that have pairs, by name."""
    table = view.segments if part else view.models
    found: list[dict[str, Any]] = [{} for _ in columns]
    for number, name in enumerate(view.windows):
        m = table.windows[number][:, columns]
        with np.errstate(all="ignore"):
            values: dict[str, Any] = {key: formula(m).tolist() for key, formula in _OF_MOMENTS.items()}
        pairs = moments.pairs(m)
        if part:
            values["share"] = shares(view, listing, number, columns).tolist()
        for i in np.flatnonzero(np.isfinite(pairs)).tolist():
            found[i][name] = {"pairs": int(pairs[i])} | {key: column[i] for key, column in values.items()}
    return found


def coverage(view: View, columns: Index) -> list[dict[str, Any]]:
    """For each of these models its windows with predictions, by name: how many, and how many have their label."""
    found: list[dict[str, Any]] = [{} for _ in columns]
    for name, counts in zip(view.windows, view.coverage, strict=True):
        for of_model, (predictions, labelled) in zip(found, counts[:, columns].T.tolist(), strict=True):
            if predictions or labelled:
                of_model[name] = {"predictions": predictions, "labelled": labelled}
    return found


def shares(view: View, listing: Listing, window: int, columns: Index) -> Floats:
    """These segments' parts of the squared error of their model and version; absent where that is 0."""
    with np.errstate(all="ignore"):
        whole = np.append(moments.squared_error(view.models.windows[window]), np.nan)[listing.total[columns]]
        share = moments.squared_error(view.segments.windows[window][:, columns]) / whole
    return np.where(np.isfinite(share), share, np.nan)


def drift(table: Table, columns: Index) -> list[dict[str, Any]]:
    """For each of these columns its baseline and what is known of drift from it."""
    return [_drift(row) for row in table.drift[:, columns].T.tolist()]


def _drift(row: list[float]) -> dict[str, Any]:
    known = np.isfinite(row)
    baseline = {"mse": row[_BASELINE], "upper_mse": row[_UPPER], "pairs": row[_LEARNT]} if known[_UPPER] else None
    if known[_ACTIVE]:
        state = "active" if row[_ACTIVE] else "steady"
    elif known[_UPPER]:
        state = "off"
    else:
        state = "learning" if known[_LEARNT] else "unknown"
    return {
        "baseline": baseline,
        "drift": {
            "state": state,
            "evidence": row[_EVIDENCE],
            "threshold": row[_THRESHOLD],
            "alarms": row[_ALARMS],
            "learnt_pairs": row[_LEARNT] if state == "learning" else None,
        },
    }


def lines(trend: Trend | None) -> list[dict[str, Any]]:
    """The trends of a view's chosen series, in the order in which they were chosen."""
    if trend is None:
        return []
    ends, rmse = trend.ends.tolist(), np.sqrt(trend.mse).tolist()
    return [{"end": end, "rmse": line} for end, line in zip(ends, rmse, strict=True)]


def about(trend: Trend | None) -> dict[str, Any] | None:
    """What the points of all trends have in common."""
    return None if trend is None else {"window": trend.window, "step_seconds": trend.step_s}


def drifting(table: Table) -> Ints:
    """1 for each column from alarm to recovery, else 0."""
    return np.asarray(table.drift[_ACTIVE] == 1.0, np.int64)


def sortable(view: View, listing: Listing, by: str, window: int) -> tuple[Floats, Floats]:
    """What models and segments are sorted by, a value a column; NaN where it is absent."""
    models, segments = _OVER[by](view, view.models, window), _OVER[by](view, view.segments, window)
    if by == "coverage":
        predictions, labelled = view.coverage[window].astype(np.float64)
        with np.errstate(all="ignore"):
            models = labelled / predictions
    if by == "share":
        segments = shares(view, listing, window, np.arange(segments.size))
    return models, segments


def _of_window(formula: Callable[[Floats], Floats]) -> Callable[[View, Table, int], Floats]:
    def values(_: View, table: Table, window: int) -> Floats:
        with np.errstate(all="ignore"):
            return formula(table.windows[window])

    return values


def _ratio(_: View, table: Table, window: int) -> Floats:
    with np.errstate(all="ignore"):
        return np.asarray(np.sqrt(moments.mse(table.windows[window]) / table.drift[_BASELINE]))


def _evidence(_: View, table: Table, __: int) -> Floats:
    with np.errstate(all="ignore"):
        near = table.drift[_EVIDENCE] / table.drift[_THRESHOLD]
    return np.asarray(near + np.where(table.drift[_ACTIVE] == 1.0, 1e6, 0.0))  # what has alarmed comes first


def _nothing(_: View, table: Table, __: int) -> Floats:
    return np.full(len(table.keys), np.nan)


_OVER: dict[str, Callable[[View, Table, int], Floats]] = {
    "rmse": _of_window(moments.rmse),
    "mse": _of_window(moments.mse),
    "bias": _of_window(moments.bias),
    "pairs": _of_window(moments.pairs),
    "ratio": _ratio,
    "drift": _evidence,
    "coverage": _nothing,
    "share": _nothing,
}
