"""The JSON behind the status page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from msemon.core import moments
from msemon.core.view import DELAY_BOUNDS_S, SeriesKey, View
from msemon.export.pipeline import Pipeline
from msemon.export.status.asking import MOST_ROWS, MOST_TRENDS, SORTS, Asked, Sort, Wrong, model_of
from msemon.export.status.files import page_files
from msemon.export.status.listing import Directory
from msemon.export.status.model import Model
from msemon.export.status.pipeline import pipeline_json
from msemon.export.status.series import Page
from support.fleets import COUNTRIES, ETA, FRAUD, LOAD, PRICE, PRICE_OLD, fleet_site, fleet_view
from support.sites import FakeSite
from support.views import view_of

A, B = SeriesKey("a", "1"), SeriesKey("b", "")
PART = SeriesKey("a", "1", "country", "NL")
PAIRS = [(12.0, 10.0, 1.0), (5.0, 9.0, 0.5)]


@pytest.fixture
def small() -> View:
    return view_of({B: [], A: PAIRS}, {PART: PAIRS[:1]})


@pytest.fixture
def fleet() -> View:
    return fleet_view()


def asked(view: View | None, query: Mapping[str, str] | None = None) -> dict[str, Any]:
    page = Page(Asked.of(query or {}), Directory())
    if view is not None and Asked.of(query or {}).trend:
        view = FakeSite(shown=view).view(page.choose)
    found: dict[str, Any] = json.loads(page.answer(view))
    return found


def names(view: View, **query: str) -> list[tuple[str, ...]]:
    return [tuple(row[name] for name in SeriesKey._fields) for row in asked(view, query)["series"]]


def test_series_are_totals_before_their_parts_with_the_values_of_each_window(small: View) -> None:
    found = asked(small)
    assert (found["windows"], found["total"], found["trend"]) == (["5m", "1h"], 3, None)
    assert names(small) == [A, PART, B]
    total, part, silent = found["series"]
    assert total["windows"]["5m"] == {
        "pairs": 2,
        "mse": pytest.approx(8.0),
        "rmse": pytest.approx(8.0**0.5),
        "lower": None,
        "upper": None,
        "bias": pytest.approx(0.0),
        "mae": pytest.approx(8.0 / 3),
        "r2": pytest.approx(1.0 - 8.0 / (2.0 / 9.0)),
        "max_absolute_error": 4.0,
    }
    assert part["windows"]["1h"]["mse"] == pytest.approx(4.0)
    assert part["windows"]["1h"]["share"] == pytest.approx(4.0 / 12.0)
    assert "coverage" not in part
    assert silent["windows"] == {}, "no pairs, no window"
    assert silent["coverage"]["5m"] == {"predictions": 5, "labelled": 3}, "but what was predicted is told"


def test_before_there_is_a_view_there_are_no_series() -> None:
    found = asked(None, {"limit": "7"})
    assert (found["windows"], found["total"], found["limit"], found["series"]) == ([], 0, 7, [])


def test_series_come_in_pieces_whose_sum_is_all_of_them(fleet: View) -> None:
    whole = names(fleet)
    assert asked(fleet)["total"] == len(whole) == 15
    pieces = [row for offset in range(0, 15, 4) for row in names(fleet, offset=str(offset), limit="4")]
    assert pieces == whole
    assert names(fleet, offset="15") == []
    assert asked(fleet, {"limit": "0"})["total"] == 15


def test_series_are_filtered_by_every_part_of_their_names(fleet: View) -> None:
    assert names(fleet, kind="models") == [FRAUD, ETA, LOAD, PRICE_OLD, PRICE]
    assert {dimension for _, _, dimension, _ in names(fleet, kind="segments")} == {"country"}
    assert names(fleet, model="house-price", kind="models") == [PRICE_OLD, PRICE]
    assert len(names(fleet, model="house-price", version="2026-11", dimension="country")) == len(COUNTRIES)
    assert names(fleet, version="") == [FRAUD]
    assert names(fleet, search="ETA pl") == [(*ETA[:2], "country", "PL")], "every word, in any case"
    assert names(fleet, search="price NL") == [(*PRICE[:2], "country", "NL")]
    assert names(fleet, search="nobody") == []


def test_what_drifts_is_found_and_counted(fleet: View) -> None:
    assert names(fleet, drifting="true") == [ETA, (*ETA[:2], "country", "DE")]
    assert asked(fleet, {"model": "nobody"})["drifting"] == {"models": 1, "segments": 1}, "whatever is asked for"


def test_the_state_of_drift_is_a_word(fleet: View) -> None:
    rows = {row["model"] + row["version"]: row for row in asked(fleet, {"kind": "models"})["series"]}
    states = {name: row["drift"]["state"] for name, row in rows.items()}
    assert states == {
        "house-price2026-11": "steady",
        "house-price2026-10": "steady",
        "delivery-eta7": "active",
        "energy-load3": "learning",
        "claim-amount": "unknown",
    }
    assert rows["delivery-eta7"]["baseline"] == {"mse": 40.0, "upper_mse": 44.0, "pairs": 5000.0}
    assert rows["delivery-eta7"]["drift"] == {
        "state": "active", "evidence": 31.2, "threshold": 17.3, "alarms": 1.0, "learnt_pairs": None,
    }  # fmt: skip
    assert (rows["energy-load3"]["baseline"], rows["energy-load3"]["drift"]["learnt_pairs"]) == (None, 1234.0)
    fleet.models.drift[3:] = np.nan
    assert asked(fleet, {"model": "delivery-eta", "kind": "models"})["series"][0]["drift"]["state"] == "off"


@pytest.mark.parametrize("by", [sort for sort in SORTS if sort != "name"])
def test_sorting_is_by_value_both_ways_and_what_is_absent_comes_last(fleet: View, by: str) -> None:
    def value(row: dict[str, Any]) -> float | None:
        of = row["windows"].get("1h", {})
        match by:
            case "ratio":
                base = row["baseline"]
                return None if base is None or "mse" not in of else (of["mse"] / base["mse"]) ** 0.5
            case "drift":
                drift = row["drift"]
                active = 1e6 * (drift["state"] == "active")
                return None if drift["evidence"] is None else active + drift["evidence"] / drift["threshold"]
            case "coverage":
                covered = row.get("coverage", {}).get("1h")
                return None if covered is None else covered["labelled"] / covered["predictions"]
            case _:
                found: float | None = of.get(by)
                return found

    up = [value(row) for row in asked(fleet, {"sort": by, "window": "1h"})["series"]]
    down = [value(row) for row in asked(fleet, {"sort": f"-{by}", "window": "1h"})["series"]]
    known = [each for each in up if each is not None]
    assert len(set(known)) > 1
    assert up == [*sorted(known), *[None] * (15 - len(known))]
    assert down == [*sorted(known, reverse=True), *[None] * (15 - len(known))]
    assert names(fleet, sort="-name") == names(fleet)[::-1]


def test_the_shares_of_a_dimension_add_up_to_the_whole(small: View) -> None:
    whole = view_of({A: [*PAIRS, (1.0, 2.0, 3.0)]}, {PART: PAIRS, PART._replace(segment="DE"): [(1.0, 2.0, 3.0)]})
    shares = [row["windows"]["5m"]["share"] for row in asked(whole, {"kind": "segments"})["series"]]
    assert sum(shares) == pytest.approx(1.0)
    orphan = view_of({}, {PART: PAIRS})
    assert asked(orphan)["series"][0]["windows"]["5m"]["share"] is None


def test_trends_belong_to_the_rows_they_stand_in(fleet: View) -> None:
    found = asked(fleet, {"trend": "true", "sort": "-rmse", "limit": "9999"})
    assert found["trend"] == {"window": "1h", "step_seconds": 300.0}
    assert found["limit"] == MOST_TRENDS, "lines are long"
    for row in found["series"]:
        if row["windows"]:
            middle = np.nanmean([np.nan if each is None else each for each in row["trend"]["rmse"]])
            assert middle == pytest.approx(row["windows"]["5m"]["rmse"], rel=0.2)
        else:
            assert set(row["trend"]["rmse"]) == {None}


def test_a_listing_is_made_again_only_when_series_come_or_go(fleet: View) -> None:
    directory = Directory()
    first = directory.of(fleet)
    assert directory.of(fleet) is first
    other = fleet_view()
    assert directory.of(other) is not first


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"limit": "-1"}, "limit: a whole number"),
        ({"offset": "²"}, "offset: a whole number"),
        ({"limit": "9" * 10}, "limit: a whole number"),
        ({"sort": "size"}, "sort: one of name, rmse"),
        ({"sort": "--rmse"}, "sort: one of"),
        ({"kind": "x"}, "kind: one of all, models, segments"),
        ({"trend": "yes"}, "trend: one of true, false"),
        ({"modle": "a"}, "there is no parameter 'modle'; there are: dimension, drifting"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(query: dict[str, str], said: str) -> None:
    with pytest.raises(Wrong, match=f"^{said}") as refused:
        Asked.of(query)
    assert refused.value.status == 400


def test_a_window_that_is_not_there_is_refused(small: View) -> None:
    with pytest.raises(Wrong, match="there is no '7d'; there are 5m, 1h"):
        asked(small, {"window": "7d"})


def test_what_is_not_asked_for_is_the_usual() -> None:
    assert Asked.of({}) == Asked()
    assert Asked.of({"limit": "999999999"}).limit == MOST_ROWS
    assert Asked.of({"sort": "-bias", "search": "NL"}).sort == Sort("bias", True)
    with pytest.raises(Wrong, match="'model' is needed"):
        model_of({})


def model(view: View | None, name: str) -> dict[str, Any]:
    answer = Model(name, Directory())
    shown = None if view is None else FakeSite(shown=view).view(answer.choose)
    found: dict[str, Any] = json.loads(answer.answer(shown))
    return found


def test_a_model_is_its_versions_the_newest_first(fleet: View) -> None:
    found = model(fleet, "house-price")
    assert [each["version"] for each in found["versions"]] == ["2026-11", "2026-10"]
    assert found["versions_total"] == 2
    assert found["dimensions"] == {"country": len(COUNTRIES)}
    assert found["delay_bounds_seconds"] == list(DELAY_BOUNDS_S)
    newest = found["versions"][0]
    assert newest["windows"]["24h"]["mse"] == pytest.approx(float(moments.mse(fleet.models.windows[2])[0]))
    assert newest["coverage"]["1h"] == {"predictions": 500, "labelled": 400}
    assert newest["lifetime"] == {"pairs": 10.0, "weight": 20.0, "squared_error": 30.0}
    assert newest["segments"] == {"held": 1.0, "limit": 1000.0, "folded_pairs": 0.0}
    assert newest["label_delay"]["counts"][:3] == [4, 30, 80]
    assert len(newest["trend"]["rmse"]) == 12


def test_no_such_model_is_not_found(fleet: View) -> None:
    for view in (None, fleet):
        with pytest.raises(Wrong, match="no model 'x'") as refused:
            model(view, "x")
        assert refused.value.status == 404


def test_the_pipeline_is_what_the_metrics_say() -> None:
    found = json.loads(pipeline_json(fleet_site().registry))
    assert found["events"]["predictions"]["prediction"] == 1_204_500
    assert found["rejected"] == {"predictions": {}, "labels": {"wrong_type": 12}}
    assert found["join"]["matched"] == 965_100
    assert found["join"]["pending"] == {"prediction": 54_321, "label": 640}
    assert found["lag"]["records"] == 180
    assert found["lag"]["partitions"]["labels"] == {"0": 20, "1": 21, "2": 22, "3": 23}
    assert found["partitions"] == {"of_topics": {"predictions": 12, "labels": 12}, "assigned": 4, "rebalances": 2}
    assert found["state"]["checkpoint"]["bytes"] == 3_400_000
    assert found["state"]["restores"] == {"store": 4}
    assert found["state"]["incomplete_partitions"] == []


def test_what_has_not_been_heard_of_is_null() -> None:
    pipeline = Pipeline("kafka-python", ["t"])
    pipeline.state_incomplete.labels("10").set(1)
    pipeline.state_incomplete.labels("9").set(1)
    pipeline.state_incomplete.labels("1").set(0)
    found = json.loads(pipeline_json(pipeline.registry))
    assert found["lag"] == {"records": None, "seconds": None, "partitions": {}}
    assert found["state"]["checkpoint"] == {"oldest": None, "duration_seconds": None, "bytes": None, "failures": 0}
    assert found["state"]["incomplete_partitions"] == [9, 10]
    assert found["kafka_errors"] == {}


def test_the_page_is_made_of_files_that_nothing_else_is_needed_for() -> None:
    files = page_files()
    assert files["/"].content_type == "text/html; charset=utf-8"
    assert {"/static/main.js", "/static/status.css", "/static/icon.svg"} <= files.keys()
    for path, file in files.items():
        text = file.body.decode()
        allowed = text.replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in allowed, path
        assert "https:" not in allowed, path
        for mischief in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "style="):
            assert mischief not in text, f"{mischief} in {path}"
