"""docs/alerts.md, the runbooks and the rules say the same, both ways."""

from __future__ import annotations

import re

import pytest

from msemon.export import families
from support import alerting
from support.compose import ROOT

PAGE = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
RUNBOOKS = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "runbooks").glob("*.md")}
ALERTS = alerting.alerts()
SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]


def rows(page: str) -> dict[str, tuple[str, ...]]:
    """Every table row that begins with an alert, by its name: meaning, severity, runbook."""
    lines = [line for line in page.splitlines() if line.startswith("| `Msemon")]
    cells = [tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in lines]
    names = [row[0].strip("`") for row in cells]
    assert len(names) == len(set(names)), "an alert is described twice"
    return {name: row[1:] for name, row in zip(names, cells, strict=True)}


def test_every_alert_has_a_row_and_every_row_an_alert() -> None:
    assert list(rows(PAGE)) == list(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_a_row_tells_meaning_severity_and_runbook(name: str) -> None:
    meaning, severity, runbook = rows(PAGE)[name]
    assert len(meaning.split()) > 2
    assert severity == ALERTS[name]["labels"]["severity"]
    assert runbook == f"[runbook](runbooks/{name}.md)"


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    assert set(RUNBOOKS) == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_a_runbook_has_its_sections_and_something_in_each(name: str) -> None:
    title, *parts = re.split(r"^## ", RUNBOOKS[name], flags=re.MULTILINE)
    assert title.strip() == f"# {name}"
    assert [part.splitlines()[0] for part in parts] == SECTIONS
    assert all(len(part.split()) > 8 for part in parts), "a section says something"


@pytest.mark.parametrize("name", ["alerts.md", *RUNBOOKS])
def test_a_page_names_only_metrics_records_and_alerts_that_there_are(name: str) -> None:
    text = PAGE if name == "alerts.md" else RUNBOOKS[name]
    known = {family.name for family in families.FAMILIES}
    recorded = set(alerting.records())
    known |= {record.split(":")[1] for record in recorded} | {"msemon_segment"}  # the prefix is explained
    assert set(re.findall(r"\bmsemon_[a-z0-9_]*[a-z0-9]", text)) <= known
    assert set(re.findall(r"\bjob_\w+:\w+:\w+", text)) <= recorded
    assert set(re.findall(r"\bMsemon[A-Z]\w+", text)) <= set(ALERTS)


def test_every_record_is_on_the_page() -> None:
    for record in alerting.records():
        level, metric, operation = record.split(":")
        short = re.sub("^msemon_(segment_)?(window)?", "", metric)
        assert f"{short}:{operation}`" in PAGE, record
        assert level in PAGE
