"""The series of a view for people: the JSON behind the page, and the page."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from msemon.core import moments
from msemon.core.view import SeriesKey, Table, View
from msemon.events import Floats

ROWS = 100
"""Models shown on the page."""

_COLUMNS = ("mse", "rmse", "lower", "upper", "bias", "pairs")

LINKS = (
    ("/metrics", "metrics, for Prometheus"),
    ("/api/v1/status", "status, as JSON"),
    ("/api/v1/series", "series, as JSON"),
    ("/-/healthy", "health"),
    ("/-/ready", "readiness"),
)

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem}"
    "table{border-collapse:collapse}th,td{padding:.2rem .8rem;text-align:left;border-bottom:1px solid #ccc}"
    "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}"
)
STYLE_HASH = f"sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}"
"""What a Content-Security-Policy has to allow for the page to look as meant."""


def series_json(view: View | None, model: str | None, offset: int, limit: int) -> bytes:
    """Totals and segments as one list, ordered by model, version, dimension and segment: a total before its parts.

    Rows [offset, offset + limit) of those of `model` (None: all). A value that is absent is null, a window without
    pairs is missing.
    """
    tables = [] if view is None else [view.models, view.segments]
    rows = sorted(
        (key, table, column)
        for table, each in enumerate(tables)
        for column, key in enumerate(each.keys)
        if model is None or key.model == model
    )
    shown = rows[offset : offset + limit]
    windows = [] if view is None else view.windows
    values: dict[tuple[int, int], dict[str, Any]] = {}
    for number, table in enumerate(tables):
        columns = [column for _, of, column in shown if of == number]
        for column, of_windows in zip(columns, _window_values(table, windows, columns), strict=True):
            values[number, column] = of_windows
    return msgspec.json.encode(
        {
            "windows": windows,
            "total": len(rows),
            "offset": offset,
            "limit": limit,
            "series": [key._asdict() | {"windows": values[table, column]} for key, table, column in shown],
        }
    )


def _window_values(table: Table, windows: Sequence[str], columns: list[int]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{} for _ in columns]
    for name, of_window in zip(windows, table.windows, strict=True):
        rows = _statistics(of_window[:, columns])
        for series, row in zip(found, rows.T.tolist(), strict=True):
            *statistics, pairs = row
            if np.isfinite(pairs):
                series[name] = dict(zip(_COLUMNS, [*statistics, int(pairs)], strict=True))
    return found


def _statistics(of_window: Floats) -> Floats:
    with np.errstate(all="ignore"):
        lower, upper = moments.rmse_bounds(of_window)
        return np.stack(
            [
                moments.mse(of_window),
                moments.rmse(of_window),
                lower,
                upper,
                moments.bias(of_window),
                moments.pairs(of_window),
            ]
        )


def index(view: View | None) -> bytes:
    """The page: links, and the RMSE of the first models by name."""
    links = "".join(f'<li><a href="{path}">{text}</a></li>' for path, text in LINKS)
    table = "<p>No state yet.</p>" if view is None else _table(view)
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>msemon</title>'
        f"<style>{_STYLE}</style></head><body><h1>msemon</h1>"
        f"<ul>{links}</ul><h2>RMSE by model</h2>{table}</body></html>\n"
    ).encode("utf-8", "replace")


def _table(view: View) -> str:
    order = sorted(range(len(view.models.keys)), key=view.models.keys.__getitem__)
    if not order:
        return "<p>No model yet.</p>"
    shown = order[:ROWS]
    with np.errstate(all="ignore"):
        columns = [moments.rmse(of_window[:, shown]).tolist() for of_window in view.models.windows]
    head = "".join(f'<th class="n">{html.escape(window)}</th>' for window in view.windows)
    body = "".join(
        _row(view.models.keys[i], values) for i, values in zip(shown, zip(*columns, strict=True), strict=True)
    )
    more = f"<p>{len(order) - ROWS} more models are not shown.</p>" if len(order) > ROWS else ""
    return f"<table><tr><th>model</th><th>version</th>{head}</tr>{body}</table>{more}"


def _row(key: SeriesKey, values: Sequence[float]) -> str:
    cells = "".join(f'<td class="n">{f"{value:.6g}" if np.isfinite(value) else "–"}</td>' for value in values)
    return f"<tr><td>{html.escape(key.model)}</td><td>{html.escape(key.version)}</td>{cells}</tr>"
