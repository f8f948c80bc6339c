"""docs/metrics.md and the table of families say the same, both ways."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from msemon.events import Kind, Reason
from msemon.export.families import DEFAULT_SEGMENT_METRICS, FAMILIES, OWN, PER_MODEL, Family

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
SUFFIXES = re.compile(r"_(bucket|sum|count)$")

Row = tuple[str, ...]
"""Name, kind, labels, for a model's family whether per segment, and the meaning."""


def rows(page: str) -> dict[str, Row]:
    """Every table row that begins with a family, by its name."""
    lines = [line for line in page.splitlines() if line.startswith("| `msemon_")]
    cells = [tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]) for line in lines]
    names = [row[0].strip("`") for row in cells]
    assert len(names) == len(set(names)), "a family is described twice"
    return dict(zip(names, cells, strict=True))


def expected(family: Family) -> Row:
    """The row of a family, without its meaning."""
    beside = [label for label in family.labels if family in OWN or label not in {"model", "version"}]
    row = (f"`{family.name}`", family.kind, ", ".join(f"`{label}`" for label in beside))
    if family in OWN:
        return row
    if not family.segments:
        return (*row, "never")
    return (*row, "default" if family.short in DEFAULT_SEGMENT_METRICS else "on request")


def test_every_family_has_a_row_and_every_row_a_family() -> None:
    assert set(rows(PAGE)) == {family.name for family in (*PER_MODEL, *OWN)}


@pytest.mark.parametrize("family", [*PER_MODEL, *OWN], ids=lambda family: family.name)
def test_a_row_tells_kind_labels_and_meaning(family: Family) -> None:
    *row, meaning = rows(PAGE)[family.name]
    assert tuple(row) == expected(family)
    assert len(meaning) >= 3


def test_no_name_on_the_page_is_of_no_family() -> None:
    known = {family.name for family in FAMILIES}
    named = set(re.findall(r"\bmsemon_[a-z0-9_]*[a-z0-9]", PAGE))
    of_histogram = {SUFFIXES.sub("", name) for name in named}
    assert of_histogram - known <= {"msemon_segment"}, "the prefix alone is explained"


@pytest.mark.parametrize("value", [*Kind, *Reason])
def test_the_values_of_kind_and_reason_are_listed(value: str) -> None:
    listed = " ".join(rows(PAGE)["msemon_events_total"] + rows(PAGE)["msemon_events_rejected_total"])
    assert f"`{value}`" in listed


def test_a_missing_or_surplus_row_would_be_noticed() -> None:
    first = next(line for line in PAGE.splitlines() if line.startswith("| `msemon_mse`"))
    assert set(rows(PAGE.replace(first + "\n", ""))) != set(rows(PAGE))
    assert "msemon_other" in rows(PAGE + first.replace("msemon_mse", "msemon_other"))
