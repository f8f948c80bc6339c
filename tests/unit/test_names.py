"""Names as integers: models, label targets, segment combinations."""

from __future__ import annotations

import numpy as np

from msemon.core.names import Names, grown
from msemon.events import Key


def test_equal_keys_have_one_number_and_share_their_model():
    names = Names()
    combos = names.combos_of([("m", "1", "NL"), ("m", "2", "NL"), ("m", "1", "DE"), ("m", "1", "NL")])
    assert combos.tolist() == [0, 1, 2, 0]
    assert names.model_of.tolist() == [0, 1, 0]
    assert names.models == [("m", "1"), ("m", "2")]
    assert names.combos_of([("m", "1", "DE")]).tolist() == [2]


def test_a_target_covers_the_models_whose_given_parts_it_names():
    names = Names()
    names.combos_of([("m", ""), ("m", "2"), ("n", "2")])
    targets = names.targets_of([None, ("m", None), ("m", "2"), (None, "2"), ("2", None), ("o", "")])
    covered = [[bool(names.covers(np.array([t]), np.array([model]))[0]) for model in range(3)] for t in targets]
    assert covered == [
        [True, True, True],
        [True, True, False],
        [False, True, False],
        [False, True, True],
        [False, False, False],
        [False, False, False],
    ]


def test_a_target_covers_a_model_that_comes_after_it():
    names = Names()
    targets = names.targets_of([("late", "1"), ("late", "2")])
    names.combos_of([("late", "1")])
    assert names.covers(targets, np.array([0, 0])).tolist() == [True, False]


def test_collecting_keeps_what_is_in_use_under_new_numbers_and_forgets_the_rest():
    names = Names()
    keys: list[Key] = [("m", str(n % 3), str(n)) for n in range(100)]
    names.combos_of(keys)
    targets = names.targets_of([None, ("m", None), ("m", "1"), ("gone", None)])
    combos, aims = names.collect(np.array([5, 70, 5]), np.array([targets[2], 0]))
    assert [names.combos[combos[n]] for n in (5, 70)] == [keys[5], keys[70]]
    assert (np.delete(combos, [5, 70]) == -1).all()
    assert names.models == [("m", "2"), ("m", "1")]
    assert names.targets == [None, ("m", "1")]
    assert aims.tolist() == [0, -1, 1, -1]
    assert names.covers(aims[[2, 2]], names.model_of[combos[[5, 70]]]).tolist() == [False, True]
    assert names.combos_of([keys[0]]).tolist() == [2]


def test_names_are_outgrown_when_far_more_are_known_than_could_be_in_use():
    names = Names()
    names.combos_of([("m", "", str(n)) for n in range(6000)])
    assert names.outgrown(100)
    assert not names.outgrown(1000)


def test_grown_columns_keep_what_they_held_and_fill_the_rest():
    column = grown(np.arange(3), 5, -1)
    assert column[:3].tolist() == [0, 1, 2]
    assert len(column) >= 5
    assert (column[3:] == -1).all()
    assert grown(column, 4) is column
    assert grown(np.zeros((0, 4), np.int64), 2, 7).shape[1] == 4
