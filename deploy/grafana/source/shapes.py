"""The few shapes that the dashboards are made of, as Grafana's JSON (schema version 39 and later)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
Steps = Sequence[tuple[float | None, str]]
"""Thresholds: from which value on which colour; the first from None, which is everything below."""

SOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
UIDS = {"Models": "msemon-models", "Model": "msemon-model", "Pipeline": "msemon-pipeline"}
NEUTRAL: Steps = ((None, "text"),)
STATES: list[Json] = [
    {
        "type": "value",
        "options": {
            "-1": {"text": "learning", "color": "blue", "index": 0},
            "0": {"text": "ok", "color": "green", "index": 1},
            "1": {"text": "drift", "color": "red", "index": 2},
        },
    }
]
"""How a state of drift is shown."""


@dataclass(frozen=True)
class Column:
    """A column of a table: an expression that has one sample for each row. `more` overrides the field's settings."""

    title: str
    expr: str
    unit: str = "short"
    steps: Steps = NEUTRAL
    more: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Dashboard:
    """A dashboard; rows are (title, height of its panels, panels with their widths, whether it begins closed)."""

    title: str
    description: str
    variables: Sequence[Json]
    rows: Sequence[tuple[str, int, Sequence[tuple[int, Json]], bool]]
    annotations: Sequence[Json]
    links: Sequence[Json]

    def to_json(self) -> Json:
        return {
            "uid": UIDS[self.title],
            "title": f"msemon: {self.title}",
            "description": self.description,
            "tags": ["msemon"],
            "schemaVersion": 39,
            "editable": True,
            "graphTooltip": 1,  # one crosshair through all panels
            "refresh": "30s",
            "time": {"from": "now-6h", "to": "now"},
            "timezone": "browser",
            "links": list(self.links),
            "annotations": {"list": list(self.annotations)},
            "templating": {"list": [DATA_SOURCE, *self.variables]},
            "panels": _placed(self.rows),
        }


def _placed(rows: Sequence[tuple[str, int, Sequence[tuple[int, Json]], bool]]) -> list[Json]:
    """The panels with their ids and places: each row under its heading, from left to right, 24 columns wide."""
    found: list[Json] = []
    number, y = 0, 0
    for title, height, members, closed in rows:
        heading = {"id": (number := number + 1), "type": "row", "title": title, "collapsed": closed}
        heading |= {"gridPos": {"h": 1, "w": 24, "x": 0, "y": y}}
        placed, x, y = [], 0, y + 1
        for width, panel in members:
            if x + width > 24:
                x, y = 0, y + height
            place = {"id": (number := number + 1), "gridPos": {"h": height, "w": width, "x": x, "y": y}}
            placed.append(place | panel)
            x += width
        y += height
        found += [heading | {"panels": placed if closed else []}, *([] if closed else placed)]
    return found


# Panels.


def lines(
    title: str,
    description: str,
    queries: Sequence[tuple[str, str]],
    unit: str = "short",
    *,
    steps: Steps = (),
    custom: Json | None = None,
    overrides: Sequence[Json] = (),
    limits: Json | None = None,
    short: bool = False,
) -> Json:
    """Time series of (expression, legend). Thresholds are drawn as dashed lines; `short`: names alone in the legend."""
    how: Json = {"lineWidth": 1, "fillOpacity": 0, "showPoints": "never", "spanNulls": False}
    how |= {"thresholdsStyle": {"mode": "dashed" if steps else "off"}} | (custom or {})
    how |= {} if "scaleDistribution" in how else {"axisSoftMin": 0}  # a logarithm has no 0
    defaults = {"unit": unit, "thresholds": _thresholds(steps or NEUTRAL), "custom": how} | (limits or {})
    defaults |= {"color": {"mode": "palette-classic"}}
    legend: Json = {"placement": "bottom", "showLegend": True}
    if short:
        legend |= {"displayMode": "list", "calcs": []}
    else:
        legend |= {"displayMode": "table", "calcs": ["lastNotNull", "max"], "sortBy": "Max", "sortDesc": True}
    return _panel("timeseries", title, description) | {
        "fieldConfig": {"defaults": defaults, "overrides": list(overrides)},
        "targets": [
            _target(ref, expr) | {"legendFormat": shown, "range": True}
            for ref, (expr, shown) in zip("ABCDEFG", queries, strict=False)
        ],
        "options": {
            "legend": legend,
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def stat(
    title: str,
    description: str,
    queries: Sequence[tuple[str, str]],
    unit: str = "short",
    *,
    steps: Steps = NEUTRAL,
    more: Json | None = None,
) -> Json:
    """Numbers of now, one for each (expression, name); a name is shown where it is not empty."""
    defaults = {"unit": unit, "thresholds": _thresholds(steps), "color": {"mode": "thresholds"}} | (more or {})
    return _panel("stat", title, description) | {
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            _target(ref, expr) | {"legendFormat": name, "instant": True, "range": False}
            for ref, (expr, name) in zip("ABCDEFG", queries, strict=False)
        ],
        "options": {
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "center",
            "orientation": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "value_and_name" if any(name for _, name in queries) else "value",
        },
    }


def table(
    title: str,
    description: str,
    keys: Sequence[tuple[str, str, Json]],
    columns: Sequence[Column],
    sort: str,
    *,
    falling: bool = True,
) -> Json:
    """A table of now. `keys` are the labels that make a row, as (label, title, overrides), and all that the columns'
    expressions may have.
    """
    refs = {column.title: re_id(column.title) for column in columns}
    values = {column.title: f"Value #{refs[column.title]}" if len(columns) > 1 else "Value" for column in columns}
    order = [label for label, _, _ in keys] + [values[column.title] for column in columns]
    names = {label: shown for label, shown, _ in keys} | {field: shown for shown, field in values.items()}
    overrides = [override(shown, **more) for _, shown, more in keys if more]
    overrides += [override(c.title, unit=c.unit, thresholds=_thresholds(c.steps), **c.more) for c in columns]
    return _panel("table", title, description) | {
        "fieldConfig": {"defaults": {"custom": {"align": "auto", "filterable": True}}, "overrides": overrides},
        "targets": [
            _target(refs[column.title], column.expr) | {"format": "table", "instant": True, "range": False}
            for column in columns
        ],
        "transformations": [
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True},
                    "indexByName": {field: place for place, field in enumerate(order)},
                    "renameByName": names,
                },
            },
        ],
        "options": {"showHeader": True, "cellHeight": "sm", "sortBy": [{"displayName": sort, "desc": falling}]},
    }


def override(name: str, /, **settings: Any) -> Json:
    """Other settings for the field of this name; `custom_x` is `custom.x`."""
    properties = [{"id": key.replace("custom_", "custom."), "value": value} for key, value in settings.items()]
    return {"matcher": {"id": "byName", "options": name}, "properties": properties}


def re_id(title: str) -> str:
    """A query's own name from a column's title.

    >>> re_id("95 % from")
    '95_from'
    """
    return "_".join("".join(each if each.isalnum() else " " for each in title).split())


def _panel(kind: str, title: str, description: str) -> Json:
    return {"type": kind, "title": title, "description": description, "datasource": SOURCE}


def _target(ref: str, expr: str) -> Json:
    return {"refId": ref, "datasource": SOURCE, "editorMode": "code", "expr": expr}


def _thresholds(steps: Steps) -> Json:
    return {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in steps]}


# What stands above the panels.

DATA_SOURCE: Json = {
    "name": "datasource",
    "label": "Data source",
    "type": "datasource",
    "query": "prometheus",
    "refresh": 1,
}


def variable(name: str, metric: str, *, label: str = "", many: bool = False, sort: int = 1) -> Json:
    """The values of a label. `many`: several may be chosen, and all are at first; else the first in `sort`'s order (1
    by the alphabet, 8 naturally and falling). `.*` for all, since a series may lack the label.
    """
    query = f"label_values({metric}, {name})"
    found: Json = {
        "name": name,
        "label": label or name.capitalize(),
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,  # with the time range
        "sort": sort,
        "multi": many,
        "includeAll": many,
    }
    return found | ({"allValue": ".*", "current": {"text": ["All"], "value": ["$__all"]}} if many else {})


def annotation(name: str, expr: str, colour: str, text: str, *, at_value: bool = False) -> Json:
    """Marks in all panels where the expression is above 0; `at_value`: where it says, in milliseconds."""
    return {
        "name": name,
        "datasource": SOURCE,
        "enable": True,
        "iconColor": colour,
        "expr": expr,
        "titleFormat": name,
        "textFormat": text,
        "useValueForTime": at_value,
    }


def link(title: str, tooltip: str, *names: str) -> Json:
    """A link to another dashboard, with these variables and the time range."""
    query = "&".join(f"${{{name}:queryparam}}" for name in ("datasource", *names))
    url = f"/d/{UIDS[title]}?{query}"
    return {
        "title": title,
        "tooltip": tooltip,
        "type": "link",
        "icon": "dashboard",
        "url": url,
        "keepTime": True,
        "includeVars": False,
        "targetBlank": False,
        "asDropdown": False,
        "tags": [],
    }


def to_model(*names: str, **fields: str) -> list[Json]:
    """For a cell: the link to *Model*, with variables of the dashboard, and others from the row's columns. Without
    `percentencode` Grafana would leave `&`, `#` and `+` of a name as they are.
    """
    parts = [f"${{{name}:queryparam}}" for name in ("datasource", *names)]
    parts += [f"var-{name}=${{__data.fields.{column}:percentencode}}" for name, column in fields.items()]
    url = f"/d/{UIDS['Model']}?{'&'.join([*parts, '${__url_time_range}'])}"
    return [{"title": "Look at it", "url": url, "targetBlank": False}]
