"""Grafana's dashboards as Grafana reads them: their panels and queries, with variables filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from support.compose import DEPLOY

Json = dict[str, Any]
SOURCE = DEPLOY / "grafana" / "source" / "write.py"
FOLDER = DEPLOY / "grafana" / "dashboards"

ALL = "$__all"
"""Chosen for a variable: all that there is."""

_VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)(?::\w+)?\}")


class Query(NamedTuple):
    """What a panel asks Prometheus."""

    dashboard: str
    panel: Json
    target: Json

    @property
    def name(self) -> str:
        return f"{self.dashboard}: {self.panel['title']}: {self.target['refId']}"

    @property
    def expression(self) -> str:
        text: str = self.target["expr"]
        return text


def dashboards() -> dict[str, Json]:
    """The dashboards by the names of their files."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}


def panels(dashboard: Json) -> Iterator[Json]:
    """All panels, those of closed rows too, without the rows themselves."""
    for panel in dashboard["panels"]:
        yield from [panel] if panel["type"] != "row" else panel["panels"]


def queries() -> list[Query]:
    """What the panels of all dashboards ask."""
    return [
        Query(name, panel, target)
        for name, each in dashboards().items()
        for panel in panels(each)
        for target in panel["targets"]
    ]


def variables(dashboard: Json) -> dict[str, Json]:
    """The dashboard's variables by name, in the order in which Grafana resolves them."""
    return {each["name"]: each for each in dashboard["templating"]["list"]}


def used(text: str) -> set[str]:
    """The variables in a text, Grafana's own (`__…`) too."""
    return {match[1] or match[2] for match in _VARIABLE.finditer(text)}


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with its variables replaced; one that has no value is an error."""
    return _VARIABLE.sub(lambda match: values[match[1] or match[2]], text)
