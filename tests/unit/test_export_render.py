"""The text of the per-series families."""

from __future__ import annotations

import math

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from msemon.core.view import SeriesKey
from msemon.export.families import select
from msemon.export.render import Renderer, render, texts
from support.views import go_text, view_of

A, B = SeriesKey("a", "1"), SeriesKey("b", "")
PART = SeriesKey("a", "1", "country,tier", "NL,gold")
PAIRS = [(12.0, 10.0, 1.0), (5.0, 9.0, 0.5)]


def lines_of(exposition: bytes, name: str) -> list[str]:
    return [line for line in exposition.decode().splitlines() if line.startswith((f"{name}{{", f"{name}_"))]


@pytest.mark.parametrize(
    "value",
    [
        *(0.0, -0.0, 1.0, -1.0, 0.1, 1 / 3, 1e-4, 9.999e-5, 1e-5, -1e-7, 1e-300, 5e-324),
        *(999999.0, 999999.9999999999, 1e6, 1234567.0, -1e6, 1e7, 10_000_000.5, 123456789.125, -123456789.5),
        *(1e15, 9007199254740993.0, 9999999999999998.0, 1e16, 1.5e16, -1e16, 1e17, 1e21, 1e22, 1700000000.25),
        *(1.7976931348623157e308, -1.7976931348623157e308),
    ],
)
def test_a_value_is_written_as_prometheus_client_does(value: float) -> None:
    assert texts(np.array([value])) == [go_text(value).encode()]


def test_no_values_are_no_texts() -> None:
    assert texts(np.empty(0)) == []


def test_totals_and_segments_are_different_families_with_the_contracts_labels() -> None:
    exposition = render(view_of({A: PAIRS}, {PART: PAIRS}), openmetrics=False, selection=select())
    assert lines_of(exposition, "msemon_mse")[0].startswith('msemon_mse{model="a",version="1",window="5m"} 8.0')
    assert 'msemon_pairs_total{model="a",version="1"} 2.0' in exposition.decode().splitlines()
    assert lines_of(exposition, "msemon_segment_mse")[1].startswith(
        'msemon_segment_mse{dimension="country,tier",model="a",segment="NL,gold",version="1",window="1h"} '
    )


def test_what_is_absent_has_no_line_and_an_empty_family_no_header() -> None:
    view = view_of({A: PAIRS, B: []})
    view.lifetime[:, :] = math.nan
    view.stream_time[:] = [math.inf, 5.0]
    exposition = render(view, openmetrics=False, selection=select())
    assert [line.split("}")[0] for line in lines_of(exposition, "msemon_mse")] == [
        'msemon_mse{model="a",version="1",window="5m"',
        'msemon_mse{model="a",version="1",window="1h"',
    ]
    assert b"msemon_lifetime" not in exposition
    assert b"msemon_rmse_lower" not in exposition, "two pairs have no bounds"
    assert lines_of(exposition, "msemon_stream_timestamp_seconds") == [
        'msemon_stream_timestamp_seconds{model="b",version=""} 5.0'
    ]
    assert b"NaN" not in exposition
    assert b"Inf " not in exposition


def test_an_empty_view_is_empty_text() -> None:
    assert render(view_of({}), openmetrics=False, selection=select()) == b""


def test_the_delay_histogram_is_cumulative_and_ends_at_infinity() -> None:
    view = view_of({A: PAIRS})
    view.delays[0] = 2
    view.delay_sum[0] = 12.5
    text = render(view, openmetrics=False, selection=select(["label_delay_seconds"])).decode()
    (family,) = text_string_to_metric_families(text)
    buckets = [sample for sample in family.samples if sample.name.endswith("_bucket")]
    assert [float(bucket.labels["le"]) for bucket in buckets][:3] == [1.0, 5.0, 15.0]
    assert buckets[-2].labels["le"] == "2.592e+06", "thirty days"
    assert buckets[-1].labels["le"] == "+Inf"
    assert [bucket.value for bucket in buckets] == [2.0 * i for i in range(1, len(buckets) + 1)]
    assert {sample.name: sample.value for sample in family.samples[-2:]} == {
        "msemon_label_delay_seconds_count": 30.0,
        "msemon_label_delay_seconds_sum": 12.5,
    }


def test_openmetrics_names_a_counters_family_without_its_suffix() -> None:
    exposition = render(view_of({A: PAIRS}), openmetrics=True, selection=select(["pairs_total"]))
    assert exposition.startswith(b"# HELP msemon_pairs Pairs since")
    assert b"\n# TYPE msemon_pairs counter\nmsemon_pairs_total{" in exposition
    assert b"# EOF" not in exposition, "the daemon's own metrics follow"


def test_hostile_label_text_is_escaped_and_stays_one_line() -> None:
    hostile = SeriesKey('m"}\n# HELP x \\', "v\r\x00")
    text = render(view_of({hostile: PAIRS}), openmetrics=False, selection=select(["window_weight"])).decode()
    assert text.count("\n") == 4
    assert '{model="m\\"}\\n# HELP x \\\\",version="v\r\x00",window="5m"} 1.5' in text
    (family,) = text_string_to_metric_families(text)
    assert family.samples[0].labels["model"] == hostile.model


def test_a_lone_surrogate_costs_its_own_text_and_not_the_scrape() -> None:
    exposition = render(view_of({SeriesKey("m\ud800", ""): PAIRS}), openmetrics=False, selection=select())
    assert b'model="m?"' in exposition


def test_only_the_labels_of_the_last_view_are_kept() -> None:
    renderer = Renderer(select())
    b"".join(renderer.blocks(view_of({A: PAIRS, B: PAIRS}, {PART: PAIRS}), openmetrics=False))
    kept = renderer._models._known[A]
    b"".join(renderer.blocks(view_of({A: PAIRS}), openmetrics=False))
    assert set(renderer._models._known) == {A}
    assert renderer._models._known[A] is kept
    assert renderer._segments._known == {}


def test_a_series_keeps_its_own_values_when_others_come_and_go() -> None:
    renderer = Renderer(select(["window_weight"]))
    for models in ({B: [(0.0, 0.0, 2.0)], A: PAIRS}, {A: PAIRS}, {A: PAIRS, B: [(0.0, 0.0, 2.0)]}):
        exposition = b"".join(renderer.blocks(view_of(models, windows=["5m"]), openmetrics=False))
        assert 'msemon_window_weight{model="a",version="1",window="5m"} 1.5\n' in exposition.decode()
