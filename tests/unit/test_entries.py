"""A side of the join: columns that hold what was put in, are swept, merged and reused, and take little memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from msemon.core.digest import Digester, Digests
from msemon.core.entries import BLOCK, DEAD, REMEMBERED, WAITING, Entries
from msemon.core.index import Rows
from msemon.core.moments import Mask
from msemon.events import Floats, Ints

Numbers = Sequence[int] | Ints

DIGEST = Digester(b"key")


def digests(names: Numbers) -> Digests:
    return DIGEST([b"%d" % n for n in names])


def add(store: Entries, numbers: Numbers, weight: Sequence[float] | Floats | None = None, width: int = 0) -> Rows:
    n = len(numbers)
    names = np.asarray(numbers)
    return store.append(
        digests(numbers), names * 2, names * 3, names / 4, np.ones(n) if weight is None else np.asarray(weight, float),
        names % 7, np.full(n, width), np.full(n, WAITING, np.uint8), names * 5,
    )  # fmt: skip


def rows_of(store: Entries, names: Numbers) -> Rows:
    q, rows, _ = store.among(store.index.lookup(digests(names)))
    out = np.full(len(names), -1)
    out[q] = rows
    return out


def assert_holds(store: Entries, numbers: Numbers) -> None:
    names = np.asarray(numbers)
    rows = rows_of(store, numbers)
    assert (rows >= 0).all()
    assert (store.time[rows] == names * 2).all()
    assert (store.clock[rows] == names * 3).all()
    assert (store.value[rows] == names / 4).all()
    assert (store.ref[rows] == names % 7).all()


def sweep_all(store: Entries, gone: Callable[[slice], Mask]) -> int:
    return store.sweep(1 << 40, gone)


def older(store: Entries, clock: int, rows: slice) -> Mask:
    return store.clock[rows] < clock


def test_what_is_put_in_is_found_with_all_its_columns_over_many_blocks():
    store = Entries(1.0, ordered=True)
    for begin in range(0, 5 * BLOCK, 3000):
        add(store, range(begin, begin + 3000))
    assert_holds(store, range(0, 5 * BLOCK, 17))
    rows = rows_of(store, range(100))
    assert (store.order[rows] == np.arange(100) * 5).all()
    assert len(store) == store.waiting >= 5 * BLOCK


def test_entries_that_live_on_keep_their_columns_weights_and_vectors_when_blocks_are_merged():
    store = Entries(1.0, ordered=False)
    count = 6 * BLOCK
    rows = add(store, range(count), weight=[n + 0.5 for n in range(count)], width=2)
    for name, row in enumerate(rows.tolist()):
        store.vectors[row] = np.array([name, -name])
    kept = np.arange(0, count, 10)
    for _ in range(4):
        sweep_all(store, lambda rows: store.clock[rows] % 30 != 0)
    assert_holds(store, kept)
    places = rows_of(store, kept)
    assert (store.weights(places) == kept + 0.5).all()
    assert [store.vectors[row][0] for row in places.tolist()] == kept.tolist()
    assert len(store.vectors) == len(store) == len(kept)
    assert len(store.blocks) == 1
    assert (rows_of(store, kept + 1) == -1).all()


def test_oldest_stays_oldest_after_merging():
    store = Entries(1.0, ordered=False)
    add(store, range(4 * BLOCK))
    for _ in range(3):
        sweep_all(store, lambda rows: store.clock[rows] % 9 != 0)
    add(store, range(4 * BLOCK, 4 * BLOCK + 100))
    clocks = store.clock[store.live()]
    assert (np.diff(clocks) > 0).all()
    assert store.clock[store.oldest(WAITING, 5)].tolist() == [0, 9, 18, 27, 36]


def test_given_back_blocks_are_reused_so_a_steady_stream_needs_no_new_memory():
    store = Entries(1.0, ordered=False)
    sizes = []
    for turn in range(300):
        now = turn * 1000
        add(store, range(now, now + 1000))
        store.sweep(8192, partial(older, store, 3 * (now - 20_000)))
        sizes.append(store.nbytes)
    assert len(set(sizes[100:])) == 1
    assert_holds(store, range(280_000, 300_000))


def test_every_block_is_swept_in_turn_even_while_blocks_go():
    store = Entries(1.0, ordered=False)
    add(store, range(10 * BLOCK))
    waited = 0
    for _ in range(10):
        waited += store.sweep(1, lambda rows: np.ones(rows.stop - rows.start, np.bool_))
    assert waited == 10 * BLOCK
    assert len(store) == 0
    assert store.blocks == []
    assert store.sweep(1 << 20, lambda rows: np.ones(rows.stop - rows.start, np.bool_)) == 0


def test_counts_follow_remembering_and_forgetting():
    store = Entries(1.0, ordered=False)
    rows = add(store, range(10))
    store.remember(rows[:4])
    store.remember(rows[:4])
    assert (store.waiting, store.remembered) == (6, 4)
    assert store.forget(rows[2:6]) == 2
    assert (store.waiting, store.remembered, len(store)) == (4, 2, 6)
    assert store.state[rows].tolist() == [REMEMBERED] * 2 + [DEAD] * 4 + [WAITING] * 4
    assert store.forget(rows[:0]) == 0


def test_a_weight_column_comes_with_the_first_weight_that_is_not_plain_and_outlives_growth():
    plain = Entries(np.nan, ordered=True)
    rows = add(plain, range(10), weight=[np.nan] * 10)
    assert np.isnan(plain.weights(rows)).all()
    without = plain.nbytes
    heavy = add(plain, [10], weight=[0.0])
    assert plain.nbytes > without
    add(plain, range(11, 3 * BLOCK), weight=[np.nan] * (3 * BLOCK - 11))
    assert np.isnan(plain.weights(rows)).all()
    assert plain.weights(heavy).tolist() == [0.0]


def test_an_entry_takes_at_most_eighty_bytes_with_its_digest_in_a_large_store():
    store = Entries(1.0, ordered=False)
    for begin in range(0, 1_000_000, 50_000):
        add(store, range(begin, begin + 50_000))
    assert store.nbytes / len(store) <= 64 + 16, "64 beside the id, whose place the digest's 16 bytes take"
