"""The demo's table tells what the daemon's view holds."""

from __future__ import annotations

import math

import pytest
from rich.text import Text

from msemon.core.view import SeriesKey, View
from msemon.demo.table import Recent, Row, number, render, rows
from support.views import Pairs, view_of

PRICE = SeriesKey("price", "1")
OTHER = SeriesKey("embedding", "1")
FR = SeriesKey("price", "1", "country", "FR")
DE = SeriesKey("price", "1", "country", "DE")
FR_MOBILE = SeriesKey("price", "1", "country,device", "FR,mobile")
NOWHERE = SeriesKey("embedding", "1", "country", "__none__")
HALF_KNOWN = SeriesKey("embedding", "1", "country,device", "__none__,mobile")


def errors(*sizes: float) -> Pairs:
    return [(size, 0.0, 1.0) for size in sizes]


def view(**more: Pairs) -> View:
    segments = {FR: errors(2.0), DE: errors(3.0), FR_MOBILE: errors(4.0), NOWHERE: errors(5.0)}
    return view_of({PRICE: more.get("price", errors(3.0, 4.0)), OTHER: errors(1.0)}, segments)


def keys(shown: list[Row]) -> list[SeriesKey]:
    return [row.key for row in shown]


def test_a_row_has_the_windows_rmse_and_pairs() -> None:
    row = next(row for row in rows(view(), 0, Recent(15.0), 10) if row.key == PRICE)
    assert row.pairs == 2
    assert row.rmse == pytest.approx(math.sqrt(12.5))
    assert math.isnan(row.lower)  # too few pairs for bounds


def test_the_shortest_window_is_found_wherever_it_stands() -> None:
    swapped = view()
    swapped.models.windows[0] = view(price=errors(10.0)).models.windows[0]
    row = next(row for row in rows(swapped, 1, Recent(15.0), 10) if row.key == PRICE)
    assert row.rmse == pytest.approx(math.sqrt(12.5))


def test_totals_come_before_their_segments_and_simple_dimensions_before_others() -> None:
    assert keys(rows(view(), 0, Recent(15.0), 10)) == [OTHER, PRICE, DE, FR, FR_MOBILE]


def test_a_dimension_that_does_not_fit_is_left_out_whole_and_totals_never_are() -> None:
    assert keys(rows(view(), 0, Recent(15.0), 4)) == [OTHER, PRICE, DE, FR]
    assert keys(rows(view(), 0, Recent(15.0), 3)) == [OTHER, PRICE]
    assert keys(rows(view(), 0, Recent(15.0), 1)) == [OTHER, PRICE]


def test_only_segments_that_repeat_the_total_are_hidden() -> None:
    shown = keys(
        rows(view_of({OTHER: errors(1.0)}, {NOWHERE: errors(1.0), HALF_KNOWN: errors(1.0)}), 0, Recent(1.0), 9)
    )
    assert shown == [OTHER, HALF_KNOWN]


def test_the_rmse_now_is_that_of_what_the_counters_gained() -> None:
    recent = Recent(10.0)
    recent.add(0.0, view(price=errors(3.0)))
    recent.add(10.0, view(price=errors(3.0, 6.0, 6.0)))
    assert recent.rmse(PRICE) == pytest.approx(6.0)
    assert math.isnan(recent.rmse(OTHER))  # nothing new
    recent.add(20.0, view(price=errors(3.0, 6.0, 6.0, 8.0)))
    assert recent.rmse(PRICE) == pytest.approx(8.0)  # what came before the span has left it


def test_a_series_that_is_new_in_the_span_counts_from_zero() -> None:
    recent = Recent(10.0)
    recent.add(0.0, view_of({OTHER: errors(1.0)}))
    recent.add(5.0, view(price=errors(3.0, 4.0)))
    assert recent.rmse(PRICE) == pytest.approx(math.sqrt(12.5))


@pytest.mark.parametrize(("before", "after"), [((9.0, 9.0), (1.0,)), ((1.0, 1.0), (9.0,)), ((9.0,), (1.0, 1.0))])
def test_a_counter_that_began_anew_gives_no_number(before: tuple[float, ...], after: tuple[float, ...]) -> None:
    recent = Recent(10.0)
    recent.add(0.0, view(price=errors(*before)))
    recent.add(5.0, view(price=errors(*after)))
    assert math.isnan(recent.rmse(PRICE))


def test_without_samples_there_is_no_rmse_now() -> None:
    assert math.isnan(Recent(10.0).rmse(PRICE))


def drift(row: Row) -> str:
    """The cell that tells of drift."""
    (cell,) = render([row], "5m", 15.0).columns[-1].cells
    assert isinstance(cell, Text)
    return cell.plain


def test_a_row_has_its_baseline_as_rmse_and_its_evidence_beside_the_threshold() -> None:
    known = view()
    known.segments.drift[:, 0] = [16.0, 17.0, 100.0, 1.25, 21.0, 0.0, 0.0]
    (row,) = (row for row in rows(known, 0, Recent(15.0), 10) if row.key == FR)
    assert row.baseline == 4.0
    assert drift(row) == "1.2 / 21.0"


def test_an_alarm_is_told_whatever_the_evidence_is_by_now() -> None:
    known = view()
    known.segments.drift[:, 0] = [16.0, 17.0, 100.0, 0.0, 21.0, 1.0, 1.0]
    (row,) = (row for row in rows(known, 0, Recent(15.0), 10) if row.key == FR)
    assert drift(row) == "DRIFT"


def test_without_a_baseline_nothing_is_said_of_drift() -> None:
    known = view()
    known.segments.drift[:] = math.nan
    (row,) = (row for row in rows(known, 0, Recent(15.0), 10) if row.key == FR)
    assert math.isnan(row.baseline)
    assert drift(row) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [(45_123.4, "45,123"), (12.345, "12.35"), (0.05, "0.0500"), (-0.05, "-0.0500"), (math.nan, ""), (1000.0, "1,000")],
)
def test_numbers_keep_the_digits_that_matter(value: float, text: str) -> None:
    assert number(value) == text


def test_the_table_has_a_line_for_each_row_and_names_its_window() -> None:
    shown = rows(view(), 0, Recent(15.0), 10)
    table = render(shown, "5m", 15.0)
    assert table.row_count == len(shown)
    headings = [str(column.header) for column in table.columns]
    assert headings == ["model", "segment", "pairs", "RMSE 5m", "95 % bounds", "now", "baseline", "drift"]
