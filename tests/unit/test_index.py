"""The hash index is a multimap that stays right through growth, removal, rebuilding and moves."""

from __future__ import annotations

import numpy as np
import pytest

from msemon.core.digest import Digests
from msemon.core.index import Index


def column_of(rng: np.random.Generator, n: int) -> Digests:
    return rng.integers(0, 1 << 63, (n, 2)).astype(np.uint64)


class Store:
    """Digests by row."""

    def __init__(self, digest: Digests) -> None:
        self.digest = digest


def index_of(*columns: Digests) -> Index:
    """An index of stores that have these digests."""
    index = Index()
    for number, column in enumerate(columns):
        assert index.add(Store(column)) == number
    return index


def found(index: Index, wanted: Digests, store: int = 0) -> set[tuple[int, int]]:
    q, rows, _ = index.lookup(wanted).of(store)
    return set(zip(q.tolist(), rows.tolist(), strict=True))


def test_every_row_is_found_and_nothing_else_while_rows_come_and_go():
    rng = np.random.default_rng(1)
    column = column_of(rng, 20_000)
    index = index_of(column)
    live: set[int] = set()
    for turn in range(60):
        new = np.setdiff1d(rng.integers(0, 20_000, 900), sorted(live))
        index.insert(0, new)
        live |= set(new.tolist())
        gone = rng.permutation(sorted(live))[: len(live) // (2 if turn % 10 == 9 else 20)]
        index.remove(0, gone)
        live -= set(gone.tolist())
        asked = rng.integers(0, 20_000, 3000)
        assert found(index, column[asked]) == {(q, row) for q, row in enumerate(asked.tolist()) if row in live}


def test_rows_with_one_digest_are_all_found_and_removed_one_by_one():
    column = np.zeros((50, 2), np.uint64)
    index = index_of(column)
    index.insert(0, np.arange(50))
    assert found(index, column[:1]) == {(0, row) for row in range(50)}
    index.remove(0, np.arange(0, 50, 2))
    assert found(index, column[:2]) == {(q, row) for row in range(1, 50, 2) for q in (0, 1)}


def test_a_digest_that_shares_only_its_first_half_is_not_found():
    column = np.array([[7, 1], [7, 2]], np.uint64)
    index = index_of(column)
    index.insert(0, np.array([0, 1]))
    assert found(index, np.array([[7, 2], [7, 3]], np.uint64)) == {(0, 1)}


def test_moved_rows_are_found_at_their_new_places_even_where_old_and_new_places_overlap():
    rng = np.random.default_rng(2)
    column = column_of(rng, 100)
    column[1] = column[0]
    index = index_of(column)
    old, new = np.arange(10, 60), np.arange(0, 50)
    index.insert(0, old)
    index.move(0, old, new)
    column[new] = column[old].copy()
    assert found(index, column[:50]) == {(int(n), int(n)) for n in new}


def test_a_steady_stream_of_rows_never_fills_the_table_with_removed_slots():
    rng = np.random.default_rng(3)
    column = column_of(rng, 300_000)
    index = index_of(column)
    index.insert(0, np.arange(300_000))
    largest = index.nbytes
    assert largest <= 300_000 * 16, "at least a quarter of the slots is live"
    index.remove(0, np.arange(1000, 300_000))
    for begin in [*range(1000, 299_000, 1000)] * 2:  # a stream of rows of which 1,000 live at a time
        index.insert(0, np.arange(begin, begin + 1000))
        index.remove(0, np.arange(begin, begin + 1000))
    assert index.nbytes <= largest
    assert len(found(index, column[:1000])) == 1000


def test_a_row_that_is_not_there_is_an_error_and_no_endless_search():
    index = index_of(np.ones((1, 2), np.uint64))
    with pytest.raises(KeyError):
        index.remove(0, np.array([0]))


def test_buckets_that_run_over_are_searched_on_into_the_next_and_from_the_last_into_the_first():
    last = np.uint64(0xFFFFFFFF)  # the home of all of these
    column = np.array([[last, tag] for tag in range(40)], np.uint64)
    index = index_of(column)
    index.insert(0, np.arange(40))
    assert found(index, column) == {(row, row) for row in range(40)}
    index.remove(0, np.arange(0, 40, 3))  # holes must not hide what lies behind them
    left = [row for row in range(40) if row % 3]
    assert found(index, column) == {(row, row) for row in left}
    index.insert(0, np.arange(0, 40, 3))
    assert found(index, column) == {(row, row) for row in range(40)}


def test_digests_whose_tags_agree_are_told_apart():
    column = np.array([[home, tag << 8] for home in range(3) for tag in range(200)], np.uint64)
    index = index_of(column)
    index.insert(0, np.arange(len(column)))
    assert found(index, column) == {(row, row) for row in range(len(column))}


def test_rows_survive_a_rebuild_in_which_many_share_a_bucket():
    rng = np.random.default_rng(4)
    column = column_of(rng, 5_000)
    column[:60, 0] = 5
    index = index_of(column)
    for begin in range(0, 5_000, 250):
        index.insert(0, np.arange(begin, begin + 250))
    assert found(index, column) == {(row, row) for row in range(5_000)}


def test_stores_that_share_an_index_are_told_apart_and_a_row_takes_anothers_place():
    rng = np.random.default_rng(5)
    column = column_of(rng, 3_000)
    index = index_of(column, column[::-1].copy(), column)
    index.insert(0, np.arange(3_000))
    index.insert(1, np.arange(0, 3_000, 2))
    hits = index.lookup(column)
    assert (np.diff(hits.queries) >= 0).all()
    assert found(index, column) == {(row, row) for row in range(3_000)}
    assert found(index, column, 1) == {(2_999 - row, row) for row in range(0, 3_000, 2)}
    assert found(index, column, 2) == set()
    _, rows, slots = hits.of(0)
    index.replace(slots[:100], 2, rows[:100])
    assert found(index, column) == {(row, row) for row in range(100, 3_000)}
    assert found(index, column, 2) == {(row, row) for row in range(100)}
    index.remove(2, np.arange(100))
    assert len(index) == 2_900 + 1_500
