"""docs/dashboards.md and the dashboards say the same, both ways."""

from __future__ import annotations

import re

import pytest

from support.compose import ROOT
from support.dashboards import dashboards

PAGE = (ROOT / "docs" / "dashboards.md").read_text(encoding="utf-8")
ALL = dashboards()


def first_cells(section: str) -> list[str]:
    """What the rows of a section's table begin with."""
    return [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")][2:]


def sections() -> dict[str, str]:
    parts = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    return {part.partition("\n")[0]: part for part in parts}


def test_every_dashboard_is_on_the_page_by_title_and_uid() -> None:
    found = re.findall(r"^\| \*\*(.+?)\*\* \| `(.+?)` \|", PAGE, flags=re.MULTILINE)
    assert sorted(found) == sorted((each["title"], each["uid"]) for each in ALL.values())


@pytest.mark.parametrize("name", ALL)
def test_every_row_is_on_the_page_in_its_order(name: str) -> None:
    title = ALL[name]["title"].removeprefix("msemon: ")
    rows = [panel["title"] for panel in ALL[name]["panels"] if panel["type"] == "row"]
    shown = [re.sub(r": \$.*", "", row) if row.startswith("Now") else row.replace("$dimension", "…") for row in rows]
    assert first_cells(sections()[title]) == shown


def test_grafanas_version_is_that_of_its_types() -> None:
    (asked,) = re.findall(r"Grafana (\d+\.\d+) or newer", PAGE)
    pinned = re.findall(r"grafana-foundation-sdk==\d+!(\d+\.\d+)\.", (ROOT / "pyproject.toml").read_text())
    assert pinned == [asked]
