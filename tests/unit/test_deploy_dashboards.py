"""Grafana's dashboards: what their source makes of them, held against Grafana's own types and Prometheus' parser."""

from __future__ import annotations

import enum
import json
import re
import subprocess
import sys
import typing
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

from msemon.export.families import FAMILIES, select
from support import alerting
from support.dashboards import FOLDER, SOURCE, Json, dashboards, filled, panels, queries, used, variables
from support.tools import PROMTOOL, needs

ALL = dashboards()
VALUES = {"__rate_interval": "1m", "__range": "6h", "window": "1h", "job": "msemon", "model": "price", "version": "7"}
VALUES |= {"dimension": "country", "segment": "de|fr", "instance": ".*", "topic": "labels"}
OTHERS = {"up", "ALERTS", "ALERTS_FOR_STATE", "scrape_samples_scraped", "scrape_duration_seconds"}  # Prometheus' own
OTHERS |= {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds"}
OTHERS |= {"process_open_fds", "process_max_fds"}  # prometheus-client's
EACH = pytest.mark.parametrize("name", ALL)


def test_what_is_kept_is_what_the_source_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(SOURCE), str(tmp_path)], check=True, timeout=60)
    written = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    kept = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()}
    assert set(written) == set(kept)
    assert [name for name in written if written[name] != kept[name]] == [], f"run python {SOURCE.name}"


# Grafana's types.

UNTYPED = {"titleFormat", "textFormat", "useValueForTime"}
"""Of Prometheus' annotations, which Grafana's types leave to the data source."""


def lost(given: Any, kept: Any, path: str = "") -> Iterator[str]:
    """What stands in the one document and not, or otherwise, in the other."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            yield from lost(value, kept[key], f"{path}.{key}") if key in kept else [f"{path}.{key}"]
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for i, pair in enumerate(zip(given, kept, strict=True)):
            yield from lost(*pair, f"{path}[{i}]")
    elif given != kept:
        yield f"{path}: {given!r} is {kept!r}"


def no_members(value: object, path: str = "") -> Iterator[str]:
    """The fields of enumerated types that hold something else, in Grafana's objects and what is in them."""
    if isinstance(value, list):
        for i, each in enumerate(value):
            yield from no_members(each, f"{path}[{i}]")
    elif hasattr(value, "to_json"):
        hints = typing.get_type_hints(type(value))
        for name, each in vars(value).items():
            kinds = [kind for kind in (hints.get(name), *typing.get_args(hints.get(name))) if isinstance(kind, type)]
            enums = [kind for kind in kinds if issubclass(kind, enum.Enum)]
            if enums and each is not None and each not in {member.value for kind in enums for member in kind}:
                yield f"{path}.{name}: {each!r}"
            yield from no_members(each, f"{path}.{name}")


@EACH
def test_grafana_knows_every_field_of_a_dashboard(name: str) -> None:
    register_default_plugins()
    typed = Dashboard.from_json(ALL[name])
    kept = json.loads(JSONEncoder(sort_keys=True).encode(typed))
    missing = list(lost(ALL[name], kept))
    assert [each for each in missing if each.rpartition(".")[2] not in UNTYPED] == []
    assert {each.rpartition(".")[2] for each in missing} == UNTYPED
    assert list(no_members(typed)) == []


def test_a_field_or_a_member_that_grafana_does_not_know_is_found() -> None:
    register_default_plugins()
    wrong = json.loads(json.dumps(ALL["msemon-models"]))
    panel = next(each for each in panels(wrong) if each["type"] == "timeseries")
    panel["options"]["tooltip"] |= {"mode": "some", "colour": "red"}
    typed = Dashboard.from_json(wrong)
    kept = json.loads(JSONEncoder(sort_keys=True).encode(typed))
    assert any(each.endswith("tooltip.colour") for each in lost(wrong, kept))
    assert any(each.endswith("tooltip.mode: 'some'") for each in no_members(typed))


def settings_of(panel: Json) -> Iterator[tuple[str, Any]]:
    """Field settings, general ones and those for single fields."""
    yield from panel["fieldConfig"]["defaults"].items()
    for each in panel["fieldConfig"]["overrides"]:
        yield from ((prop["id"], prop["value"]) for prop in each["properties"])


@EACH
def test_every_number_has_a_unit_that_grafana_knows(name: str) -> None:
    known = {value for value in vars(units).values() if isinstance(value, str)}
    for panel in panels(ALL[name]):
        found = [value for key, value in settings_of(panel) if key == "unit"]
        assert found, panel["title"]
        assert set(found) <= known, panel["title"]


# What a reader meets.


@EACH
def test_a_dashboard_has_a_name_that_links_can_rely_on(name: str) -> None:
    assert ALL[name]["uid"] == name
    assert "id" not in ALL[name]
    assert ALL[name]["tags"] == ["msemon"]
    assert ALL[name]["description"].endswith(".")


@EACH
def test_every_panel_says_what_it_shows(name: str) -> None:
    for panel in panels(ALL[name]):
        assert len(panel["description"].split()) >= 5, panel["title"]
        assert panel["description"].endswith("."), panel["title"]


def test_no_panel_stands_twice() -> None:
    asked = Counter(
        frozenset(each["expr"] for each in panel["targets"]) for one in ALL.values() for panel in panels(one)
    )
    assert [set(exprs) for exprs, times in asked.items() if times > 1] == []
    for one in ALL.values():
        titles = Counter(panel["title"] for panel in panels(one))
        assert max(titles.values()) == 1, titles


@EACH
def test_panels_fill_their_rows_and_do_not_overlap(name: str) -> None:
    everything = [each for panel in ALL[name]["panels"] for each in (panel, *panel.get("panels", ()))]
    assert len({panel["id"] for panel in everything}) == len(everything)
    cells = Counter(
        (x, y)
        for panel in everything
        for at in [panel["gridPos"]]
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    )
    assert max(cells.values()) == 1
    assert max(x for x, _ in cells) == 23
    repeated = [panel["gridPos"]["y"] for panel in panels(ALL[name]) if "repeat" in panel]
    for y in {panel["gridPos"]["y"] for panel in panels(ALL[name])} - set(repeated):
        assert sum((x, y) in cells for x in range(24)) == 24, "a row ends at the right edge"


@EACH
def test_everything_takes_its_data_source_from_the_first_variable(name: str) -> None:
    source, *others = variables(ALL[name]).values()
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    asking = [*others, *ALL[name]["annotations"]["list"], *panels(ALL[name])]
    asking += [target for panel in panels(ALL[name]) for target in panel["targets"]]
    assert all(each["datasource"] == {"type": "prometheus", "uid": "${datasource}"} for each in asking)


@EACH
def test_a_marks_text_names_labels_that_its_expression_has(name: str) -> None:
    for mark in ALL[name]["annotations"]["list"]:
        assert not used(mark["textFormat"]), "Grafana fills in labels there, and no variables"
        kept = re.search(r"\bby \(([^)]*)\)", mark["expr"])
        labels = set(re.findall(r"\{\{(\w+)\}\}", mark["textFormat"]))
        assert kept is None or labels == set(kept[1].split(", ")), mark["name"]


@EACH
def test_every_variable_is_there_and_used(name: str) -> None:
    known = list(variables(ALL[name]))
    texts = [json.dumps(panel) for panel in ALL[name]["panels"]] + [json.dumps(ALL[name]["annotations"])]
    met = {each for text in texts for each in used(text) if not each.startswith("__")}
    for place, each in enumerate(known[1:], 1):
        earlier = used(variables(ALL[name])[each]["query"]["query"])
        assert earlier <= set(known[:place]), "a variable depends on those before it"
        met |= earlier
    assert met == set(known)


def links(dashboard: Json) -> Iterator[str]:
    """Where one gets to from it."""
    yield from (each["url"] for each in dashboard["links"])
    for panel in panels(dashboard):
        yield from (each["url"] for key, value in settings_of(panel) if key == "links" for each in value)


def test_links_lead_to_the_other_dashboards_with_variables_that_they_have() -> None:
    alerts = ["/" + alert["annotations"]["dashboard_url"] for alert in alerting.alerts().values()]
    for name, one in [*ALL.items(), ("alerts", {"links": [{"url": url} for url in alerts], "panels": []})]:
        urls = list(links(one))
        assert {re.findall(r"^/d/([\w-]+)\?", url)[0] for url in urls} >= set(ALL) - {name}
        for url in urls:
            target, _, query = url.removeprefix("/d/").partition("?")
            passed = {*re.findall(r"var-(\w+)=", query), *re.findall(r"\{(\w+):queryparam\}", query)}
            assert passed <= set(variables(ALL[target])), url
            if name != "alerts":
                assert {*re.findall(r"\{(\w+):queryparam\}", query)} <= set(variables(one)), url
                assert "datasource" in passed


def test_a_name_of_any_characters_can_be_linked_to() -> None:
    urls = [url for one in ALL.values() for url in links(one) if "__data.fields" in url]
    assert urls
    for url in urls:
        assert not re.findall(r"=\$\{__data\.fields\.\w+\}", url), "else & and # stay as they are"


# What is asked.


@EACH
def test_only_what_is_exported_or_recorded_is_asked_for(name: str) -> None:
    known = {family.name for family in FAMILIES} | set(alerting.records()) | OTHERS
    known |= {family.name + "_bucket" for family in FAMILIES if family.kind == "histogram"}
    texts = [target["expr"] for panel in panels(ALL[name]) for target in panel["targets"]]
    texts += [each["expr"] for each in ALL[name]["annotations"]["list"]]
    job, *others = list(variables(ALL[name]).values())[1:]
    of_job = "build_info" if name == "msemon-pipeline" else "pairs_total"
    assert job["query"]["query"] == f"label_values(msemon_{of_job}, job)"
    texts += [each["query"]["query"] for each in others]
    for text in texts:
        metrics = set(re.findall(r"([\w:]+)\{", text))
        assert metrics, text
        assert metrics <= known, text
        assert not re.search(r"\b(msemon_|job_)[\w:]+(?![\w:{])", text), "every metric is asked for by its job"
        assert all('job="$job"' in each for each in re.findall(r"\{([^}]*)\}", text))


@pytest.mark.parametrize("name", ["msemon-models", "msemon-model"])
def test_the_past_has_what_is_chosen_among(name: str) -> None:
    """A replay's blocks have the series of models and segments, and nothing of the daemon's own."""
    past = select()
    known = {family.name for family in (*past.models, *past.segments)}
    asked = [each["query"]["query"] for each in list(variables(ALL[name]).values())[1:]]
    assert {re.findall(r"label_values\((\w+)", each)[0] for each in asked} <= known


def test_promtool_accepts_every_expression(tmp_path: Path) -> None:
    texts = [query.expression for query in queries()]
    texts += [each["expr"] for one in ALL.values() for each in one["annotations"]["list"]]
    rules = [{"record": f"panel:{i}", "expr": filled(each, VALUES)} for i, each in enumerate(texts)]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    command = [needs(PROMTOOL), "check", "rules", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout
