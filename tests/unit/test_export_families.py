"""The table of families and the choice among them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from msemon.core.view import SeriesKey
from msemon.export.families import DEFAULT_SEGMENT_METRICS, FAMILIES, OWN, PER_MODEL, SEGMENTED, Family, select
from support.views import Pairs, view_of

PAIRS: Pairs = [(12.0, 10.0, 1.0), (5.0, 9.0, 0.5), (3.0, 3.0, 2.0), (8.0, 1.0, 0.0)]
COUNTED = [pair for pair in PAIRS if pair[2] > 0]
WEIGHT = 3.5
SQUARED = 1.0 * 4 + 0.5 * 16
ABSOLUTE = 1.0 * 2 + 0.5 * 4
ERROR = 1.0 * 2 - 0.5 * 4


def value_of(name: str, pairs: Pairs = PAIRS) -> float:
    family = next(family for family in PER_MODEL if family.short == name)
    view = view_of({SeriesKey("m", "1"): pairs})
    assert family.values is not None
    return float(family.values(view, view.models, 0)[0])


def test_no_two_families_share_a_name() -> None:
    names = [family.stem for family in FAMILIES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_names_follow_the_conventions_of_prometheus(family: Family) -> None:
    assert family.name.startswith("msemon_")
    assert family.name.endswith("_total") == (family.kind == "counter")
    assert family.name.endswith("_info") == (family.kind == "info")
    assert not set(family.labels) & {"env", "service", "region", "stage", "type", "job", "instance", "le"}
    assert family.meaning.endswith(".")
    assert not set(family.meaning) & set('\\\n"'), "the renderer writes help texts as they are"


def test_every_segmented_family_has_a_twin_that_names_the_segment() -> None:
    assert [twin.name for twin in SEGMENTED] == [
        family.name.replace("msemon_", "msemon_segment_") for family in PER_MODEL if family.segments
    ]
    for twin in SEGMENTED:
        assert twin.labels[:4] == ("model", "version", "dimension", "segment")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mse", SQUARED / WEIGHT),
        ("rmse", math.sqrt(SQUARED / WEIGHT)),
        ("mae", ABSOLUTE / WEIGHT),
        ("bias", ERROR / WEIGHT),
        ("max_absolute_error", 4.0),
        ("window_pairs", 4.0),
        ("window_weight", WEIGHT),
        ("window_squared_error", SQUARED),
        ("window_absolute_error", ABSOLUTE),
        ("window_error", ERROR),
        ("pairs_total", 4.0),
        ("weight_total", WEIGHT),
        ("squared_error_total", SQUARED),
        ("absolute_error_total", ABSOLUTE),
        ("overprediction_total", 2.0),
        ("underprediction_total", 2.0),
        ("window_predictions", 5.0),
        ("window_labelled", 3.0),
        ("lifetime_pairs", 10.0),
        ("lifetime_weight", 20.0),
        ("lifetime_squared_error", 30.0),
        ("stream_timestamp_seconds", 1.7e9 + 1),
        ("last_pair_timestamp_seconds", 1.7e9 + 0.5),
        ("series", 1.0),
        ("series_limit", 1000.0),
        ("series_folded_total", 0.0),
    ],
)
def test_a_family_is_what_its_meaning_says(name: str, expected: float) -> None:
    assert value_of(name) == pytest.approx(expected, rel=1e-12)


def test_r2_is_one_minus_mse_over_the_labels_variance() -> None:
    mean = sum(w * y for _, y, w in COUNTED) / WEIGHT
    variance = sum(w * (y - mean) ** 2 for _, y, w in COUNTED) / WEIGHT
    assert value_of("r2") == pytest.approx(1 - SQUARED / WEIGHT / variance, abs=1e-12)


def test_bounds_and_standard_error_are_absent_below_seven_effective_pairs() -> None:
    assert all(math.isnan(value_of(name)) for name in ("mse_standard_error", "rmse_lower", "rmse_upper"))


def test_bounds_enclose_the_rmse_and_follow_the_published_formula() -> None:
    pairs = [(float(i), 0.0, 1.0) for i in range(1, 21)]
    squares = [p * p for p, _, _ in pairs]
    mse = sum(squares) / 20
    error = math.sqrt(sum((q - mse) ** 2 for q in squares) / 20 / 19)
    half = 1.96 * error / mse * math.sqrt(1 + 6 / math.sqrt(20))
    assert value_of("mse_standard_error", pairs) == pytest.approx(error, rel=1e-12)
    assert value_of("rmse_lower", pairs) == pytest.approx(math.sqrt(mse * math.exp(-half)), rel=1e-12)
    assert value_of("rmse_upper", pairs) == pytest.approx(math.sqrt(mse * math.exp(half)), rel=1e-12)


@pytest.mark.parametrize("pairs", [[], [(1.0, 2.0, 0.0)]], ids=["no pairs", "no weight"])
@pytest.mark.parametrize("name", [f.short for f in PER_MODEL if f.windowed and f.segments])
def test_a_window_without_pairs_or_without_weight_is_absent(name: str, pairs: Pairs) -> None:
    assert math.isnan(value_of(name, pairs))


def test_predictions_without_labels_show_that_none_was_labelled() -> None:
    view = view_of({SeriesKey("m", "1"): [], SeriesKey("idle", "1"): []})
    view.coverage[0] = np.array([[7, 0], [0, 0]])
    by_name = {family.short: family for family in PER_MODEL}
    for name, expected in (("window_predictions", 7.0), ("window_labelled", 0.0)):
        values = by_name[name].values
        assert values is not None
        waiting, idle = values(view, view.models, 0)
        assert waiting == expected
        assert math.isnan(idle)


def test_all_families_and_the_default_of_segments_are_chosen_by_default() -> None:
    selection = select()
    assert selection.models == PER_MODEL
    assert {f.name for f in selection.segments} == {f"msemon_segment_{name}" for name in DEFAULT_SEGMENT_METRICS}


def test_chosen_families_come_in_the_tables_order_however_they_are_named() -> None:
    selection = select(["window_pairs", "mse"], ["pairs_total", "rmse"])
    assert [family.name for family in selection.models] == ["msemon_mse", "msemon_window_pairs"]
    assert [family.name for family in selection.segments] == ["msemon_segment_rmse", "msemon_segment_pairs_total"]


def test_all_can_be_chosen_for_segments() -> None:
    assert select("all", "all").segments == SEGMENTED


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r'export\.metrics: there is no "rmsee"; the nearest is "rmse"'):
        select(["rmsee"])
    with pytest.raises(ValueError, match=r'export\.segment_metrics: .*"window_predictions"'):
        select(segment_metrics=["window_predictions"])


def test_the_daemons_own_families_are_not_for_choosing() -> None:
    with pytest.raises(ValueError, match="consumer_lag"):
        select([OWN[0].short, "consumer_lag"][1:])
