"""Series numbers: places are limited, what is beyond them is folded, and what ends frees its place."""

from __future__ import annotations

import numpy as np

from msemon.core.names import Names
from msemon.core.series import OTHER, Series, escape
from msemon.core.shape import Shape, Window
from msemon.core.view import SeriesKey
from msemon.events import Key


def shape(series: int = 1000, models: int = 1000, total: int = 100_000) -> Shape:
    window = Window("5m", 5_000_000, 60)
    return Shape((window,), True, ("country", "tier"), ((0,), (1, 0)), 1, 1, series, models, total)


def keys_of(series: Series, names: Names, keys: list[Key]) -> list[list[SeriesKey | None]]:
    return [[series.keys[sid] for sid in row] for row in series.of_combos(names, names.combos_of(keys)).tolist()]


def test_a_combo_has_its_total_and_a_series_for_each_dimension_in_the_dimensions_order():
    assert keys_of(Series(shape()), Names(), [("m", "1", "NL", "gold")]) == [
        [SeriesKey("m", "1"), SeriesKey("m", "1", "country", "NL"), SeriesKey("m", "1", "tier,country", "gold,NL")]
    ]


def test_commas_and_backslashes_in_values_can_not_make_two_segments_one():
    names, series = Names(), Series(shape())
    rows = keys_of(
        series, names, [("m", "", "a,b", "c"), ("m", "", "b", "c,a"), ("m", "", "b", "c\\"), ("m", "", ",b", "c\\")]
    )
    assert len({row[2] for row in rows}) == 4
    assert rows[0][2] == SeriesKey("m", "", "tier,country", "c,a\\,b")
    assert escape("a\\,b") == "a\\\\\\,b"


def test_beyond_the_limit_a_model_s_segments_are_folded_by_dimension_and_known_ones_are_not():
    names, series = Names(), Series(shape(series=3))
    keys: list[Key] = [("m", "", "NL", "x"), ("m", "", "DE", "x"), ("n", "", "FR", "x"), ("m", "", "NL", "x")]
    rows = keys_of(series, names, keys)
    assert [[key.segment for key in row[1:] if key] for row in rows] == [
        ["NL", "x,NL"], ["DE", OTHER], ["FR", "x,FR"], ["NL", "x,NL"],
    ]  # fmt: skip
    sids = series.of_combos(names, names.combos_of(keys[:2]))
    assert [series.segments(int(sid)) for sid in sids[:, 0]] == [3, 3]
    assert series.folded[sids].tolist() == [[0, 0, 0], [0, 0, 1]]


def test_beyond_the_total_limit_segments_of_every_model_are_folded():
    names, series = Names(), Series(shape(total=2))
    rows = keys_of(series, names, [("m", "", "NL", "x"), ("n", "", "NL", "x")])
    assert [key.segment for row in rows for key in row[1:] if key] == ["NL", "x,NL", OTHER, OTHER]


def test_models_beyond_the_limit_are_one_model_with_nothing_but_folded_segments():
    names, series = Names(), Series(shape(models=1))
    rows = keys_of(series, names, [("m", "1", "NL", "x"), ("m", "2", "NL", "x"), ("n", "", "DE", "y")])
    assert rows[1] == rows[2]
    assert rows[1] == [
        SeriesKey(OTHER, ""),
        SeriesKey(OTHER, "", "country", OTHER),
        SeriesKey(OTHER, "", "tier,country", OTHER),
    ]
    assert (series.folded[series.of_combos(names, np.array([1]))] == 1).all()
    assert series.totals(names, np.array([0, 1, 2])).tolist() == series.of_combos(names, np.arange(3))[:, 0].tolist()


def test_a_series_that_ends_gives_its_place_and_number_to_the_next():
    names, series = Names(), Series(shape(series=2))
    old: list[Key] = [("m", "", "NL", "x")]
    before = series.of_combos(names, names.combos_of(old))[0].tolist()
    new: list[Key] = [("m", "", "DE", "x")]
    assert [key.segment for key in keys_of(series, names, new)[0][1:] if key] == [OTHER, OTHER]
    version = series.version
    series.end(before[1:])
    assert series.version > version
    assert series.changed(version).tolist() == sorted(before[1:])
    version = series.version
    assert [key.segment for key in keys_of(series, names, new)[0][1:] if key] == ["DE", "x,DE"]
    assert series.changed(version).tolist() == sorted(before[1:])
    assert series.changed(series.version).tolist() == []
    sids = series.of_combos(names, names.combos_of(new))[0].tolist()
    assert set(sids) == set(before)
    assert series.total_of[sids].tolist() == [before[0]] * 3
    assert [key.segment for key in keys_of(series, names, old)[0][1:] if key] == [OTHER, OTHER]


def test_a_model_ends_with_its_segments_in_any_order_and_can_come_back():
    for backwards in (False, True):
        names, series = Names(), Series(shape(models=1))
        sids = series.of_combos(names, names.combos_of([("m", "", "NL", "x")]))[0].tolist()
        series.end(sids[::-1] if backwards else sids)
        series.end(sids)
        assert len(series) == 0
        assert keys_of(series, names, [("n", "", "DE", "y")])[0][1] == SeriesKey("n", "", "country", "DE")
        assert keys_of(series, names, [("m", "", "NL", "x")])[0][0] == SeriesKey(OTHER, "")


def test_renumbered_names_find_their_old_series():
    names, series = Names(), Series(shape())
    keys: list[Key] = [("m", "", str(n), "x") for n in range(20)]
    before = series.of_combos(names, names.combos_of(keys))
    names.collect(np.array([7, 3]), np.array([0]))
    series.forget_lookups()
    assert series.of_combos(names, names.combos_of(keys[::-1])).tolist() == before[::-1].tolist()
