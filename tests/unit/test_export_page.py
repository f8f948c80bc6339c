"""The page and the JSON behind it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from msemon.core.view import SeriesKey, View
from msemon.export.page import ROWS, index, series_json
from support.views import view_of

A, B = SeriesKey("a", "1"), SeriesKey("b", "")
PART = SeriesKey("a", "1", "country", "NL")
PAIRS = [(12.0, 10.0, 1.0), (5.0, 9.0, 0.5)]


@pytest.fixture
def view() -> View:
    return view_of({B: [], A: PAIRS}, {PART: PAIRS[:1]})


def asked(view: View | None, model: str | None = None, offset: int = 0, limit: int = 100) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(series_json(view, model, offset, limit))
    return found


def test_series_are_totals_before_their_parts_with_the_values_of_each_window(view: View) -> None:
    found = asked(view)
    assert found["windows"] == ["5m", "1h"]
    assert found["total"] == 3
    assert [(row["model"], row["dimension"], row["segment"]) for row in found["series"]] == [
        ("a", "", ""),
        ("a", "country", "NL"),
        ("b", "", ""),
    ]
    total = found["series"][0]["windows"]["5m"]
    assert total == {
        "mse": pytest.approx(8.0),
        "rmse": pytest.approx(8.0**0.5),
        "lower": None,
        "upper": None,
        "bias": pytest.approx(0.0),
        "pairs": 2,
    }
    assert found["series"][1]["windows"]["1h"]["mse"] == pytest.approx(4.0)
    assert found["series"][2]["windows"] == {}, "no pairs, no window"


def test_series_can_be_of_one_model_and_in_pieces(view: View) -> None:
    assert [row["segment"] for row in asked(view, model="a")["series"]] == ["", "NL"]
    second = asked(view, offset=1, limit=1)
    assert second["total"] == 3
    assert [row["segment"] for row in second["series"]] == ["NL"]
    assert asked(view, offset=3)["series"] == []
    assert asked(view, model="nobody")["total"] == 0


def test_before_there_is_a_view_there_are_no_series() -> None:
    assert asked(None) == {"windows": [], "total": 0, "offset": 0, "limit": 100, "series": []}
    assert b"No state yet" in index(None)


def test_the_page_links_to_everything_and_shows_the_rmse(view: View) -> None:
    page = index(view).decode()
    for path in ("/metrics", "/api/v1/status", "/api/v1/series", "/-/healthy", "/-/ready"):
        assert f'href="{path}"' in page
    assert "<td>a</td><td>1</td>" in page
    assert "2.82843" in page
    assert "–" in page, "a window without pairs"


def test_text_of_users_cannot_become_markup() -> None:
    page = index(view_of({SeriesKey("<script>alert(1)</script>", '"><img>'): PAIRS}, windows=["<b>"])).decode()
    assert "<script" not in page
    assert "<img" not in page
    assert "<b>" not in page


def test_the_page_shows_the_first_models_by_name_and_counts_the_rest() -> None:
    page = index(view_of({SeriesKey(f"m{i:04}", ""): PAIRS for i in reversed(range(ROWS + 7))})).decode()
    assert page.count("<tr>") == ROWS + 1
    assert "m0000" in page
    assert f"m{ROWS:04}" not in page
    assert "7 more models" in page
