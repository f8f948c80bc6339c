"""Panes: what a batch puts where, what a window then says, and what is forgotten."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest

from msemon.core import moments, panes
from msemon.core.coverage import LABELLED, PREDICTIONS, TOGETHER, Coverage
from msemon.core.moments import Errors
from msemon.core.panes import Block, grouped
from msemon.core.shape import Window
from msemon.core.windows import NEVER, Windows, sums
from msemon.events import Floats, Ints
from support.windows import covered, merged

SHAPE = (Window("short", 10, 6), Window("long", 40, 6))


def scalars(errors: list[float], weights: list[float] | None = None) -> Errors:
    e = np.array(errors, float)
    return Errors.of_scalars(e, np.zeros(e.size), np.array(weights, float) if weights else np.ones(e.size))


def put(
    windows: Windows, times: list[int], errors: list[float], sids: list[list[int]] | None = None, oldest: int = 0
) -> list[bool]:
    """Add pairs, in series 0 unless said otherwise, to all panes from `oldest` on (in every ring)."""
    table = np.array(sids or [[0]] * len(times), np.int32)
    limit = np.full((len(times), len(windows.rings)), oldest)
    return [bool(took) for took in windows.add(table, scalars(errors), np.array(times, np.int64), limit)]


def window(windows: Windows, ring: int, oldest: list[int]) -> Floats:
    return merged(windows, ring, np.array(oldest, np.int64))


def ints(values: list[int]) -> Ints:
    return np.array(values, np.int64)


def small(values: list[int]) -> npt.NDArray[np.int32]:
    return np.array(values, np.int32)


def test_a_pair_goes_to_the_pane_of_its_time_in_every_ring() -> None:
    """Panes are [k·s, (k+1)·s): the edge belongs to the later one; out of order makes no difference."""
    windows = Windows(SHAPE)
    put(windows, [39, 40, 9, 10], [1.0, 2.0, 3.0, 4.0])
    assert sorted(windows.rings[0]) == [0, 1, 3, 4]
    assert sorted(windows.rings[1]) == [0, 1]
    short = [moments.squared_error(window(windows, 0, [pane]))[0] for pane in (0, 1, 2, 4)]
    assert short == pytest.approx([30.0, 21.0, 5.0, 4.0], rel=1e-14)
    long = [moments.squared_error(window(windows, 1, [pane]))[0] for pane in (0, 1)]
    assert long == pytest.approx([30.0, 4.0], rel=1e-14)


def test_times_before_the_epoch_have_panes_too() -> None:
    """Pane numbers round down, not towards zero."""
    windows = Windows(SHAPE)
    put(windows, [-1], [1.0], oldest=-5)
    assert list(windows.rings[0]) == [-1]


def test_each_ring_takes_what_its_window_still_covers() -> None:
    """A late pair goes where any ring still wants it; add says whether one did."""
    windows = Windows(SHAPE)
    oldest = np.array([[5, 1], [5, 2], [4, 1], [-9, 9]])
    took = windows.add(np.zeros((4, 1), np.int32), scalars([1.0, 2.0, 4.0, 8.0]), np.full(4, 45), oldest)
    assert took.tolist() == [True, False, True, True]
    assert moments.squared_error(window(windows, 0, [-99]))[0] == 16.0 + 64.0
    assert moments.squared_error(window(windows, 1, [-99]))[0] == 1.0 + 16.0


def test_a_refused_pair_does_not_ride_along_with_a_taken_one() -> None:
    """Two series in one pane of one batch: the ring that refuses one of them holds the other alone."""
    windows = Windows(SHAPE)
    windows.add(np.array([[0], [1]], np.int32), scalars([1.0, 2.0]), ints([5, 5]), np.array([[1, 0], [0, 0]]))
    np.testing.assert_array_equal(moments.squared_error(window(windows, 0, [0, 0])), [np.nan, 4.0])
    np.testing.assert_array_equal(moments.squared_error(window(windows, 1, [0, 0])), [1.0, 4.0])


def test_combined_pane_numbers_do_not_overflow_into_each_other() -> None:
    """Pairs 2^32 panes apart stay apart even where the pane numbers of two rings would wrap around 64 bits."""
    windows = Windows((Window("a", 1, 60), Window("b", 1, 60)))
    never = 1 << 50
    oldest = np.array([[0, never], [0, never], [never, 0], [never, 0]])
    times = ints([0, 1 << 32, 0, (1 << 32) - 2])
    windows.add(np.zeros((4, 1), np.int32), scalars([1.0, 2.0, 3.0, 4.0]), times, oldest)
    assert [sorted(ring) for ring in windows.rings] == [[0, 1 << 32], [0, (1 << 32) - 2]]


def test_a_pair_counts_in_each_of_its_series() -> None:
    """Each column of sids is one series; −1 is none; a pair without any series is still judged by its time."""
    windows = Windows(SHAPE)
    assert put(windows, [5, 5, 5], [1.0, 2.0, 3.0], [[0, 2], [0, -1], [-1, -1]]) == [True] * 3
    m = window(windows, 0, [0, 0, 0])
    np.testing.assert_array_equal(moments.squared_error(m), [5.0, np.nan, 1.0])


def test_each_series_has_its_own_oldest_pane() -> None:
    """merged() cuts every series where its own window begins."""
    windows = Windows(SHAPE)
    put(windows, [5, 15, 25, 5, 15, 25], [1.0, 2.0, 3.0] * 2, [[0]] * 3 + [[1]] * 3)
    np.testing.assert_array_equal(moments.squared_error(window(windows, 0, [1, 2])), [13.0, 9.0])


def test_merged_answers_for_series_it_never_saw() -> None:
    """More or fewer series may be asked for than there are."""
    windows = Windows(SHAPE)
    put(windows, [5, 5], [1.0, 2.0], [[0], [3]])
    assert window(windows, 0, [0, 0]).shape == (moments.FIELDS, 2)
    assert moments.pairs(window(windows, 0, [0] * 9))[3] == 1


def test_a_slow_ring_folds_what_fast_panes_kept_apart() -> None:
    """Pairs of one batch in different short panes but one long pane become one merge there."""
    windows = Windows(SHAPE)
    put(windows, [35, 5, 25, 15, 5], [1.0, 2.0, 3.0, 4.0, 5.0], [[0, 1]] * 5)
    assert moments.squared_error(window(windows, 1, [0, 0])).tolist() == pytest.approx([55.0, 55.0], rel=1e-14)
    assert moments.squared_error(window(windows, 0, [1, 2])).tolist() == pytest.approx([26.0, 10.0], rel=1e-14)


def test_an_error_of_1e12_leaves_no_trace_once_its_pane_has_left() -> None:
    """What comes after a huge error is right to 1e-12, while it is in the window's ring and after it was dropped."""
    windows = Windows(SHAPE)
    rng = np.random.default_rng(5)
    put(windows, [5], [1e12])
    later = (rng.normal(size=500) * 1e-3).tolist()
    times = rng.integers(10, 70, 500).tolist()
    for i in range(0, 500, 50):
        put(windows, times[i : i + 50], later[i : i + 50])
    exact = sum((Fraction(x) ** 2 for x in later), Fraction(0)) / 500
    before = moments.mse(window(windows, 0, [1]))[0]
    windows.drop([1, 1])
    for value in (before, moments.mse(window(windows, 0, [-99]))[0]):
        assert abs(Fraction(float(value)) - exact) <= exact / 10**12


def test_drop_forgets_whole_panes_by_ring() -> None:
    """Each ring forgets below its own limit, and the memory goes with it."""
    windows = Windows(SHAPE)
    put(windows, [5, 15, 45, 85], [1.0, 2.0, 3.0, 4.0])
    windows.drop([1, 2])
    assert [sorted(ring) for ring in windows.rings] == [[1, 4, 8], [2]]


def test_latest_is_the_newest_pane_of_the_longest_ring() -> None:
    """Per series, over batches in any order; NEVER where there is none or it was dropped."""
    windows = Windows(tuple(reversed(SHAPE)))
    put(windows, [90, 10, 50], [1.0] * 3, [[2], [0], [2]])
    put(windows, [40], [1.0], [[2]])
    assert windows.latest()[:3].tolist() == [0, NEVER, 2]
    windows.drop([1, 0])
    assert windows.latest()[:3].tolist() == [NEVER, NEVER, 2]


def test_latest_ignores_pairs_the_longest_ring_refused() -> None:
    """A pair that only a shorter ring takes does not keep a series alive."""
    windows = Windows(SHAPE)
    windows.add(np.zeros((1, 1), np.int32), scalars([1.0]), ints([50]), np.array([[0, 9]]))
    assert (windows.latest() == NEVER).all()


def test_a_released_series_is_erased_everywhere() -> None:
    """Whoever gets the sid next starts empty in every pane of every ring, and others keep theirs."""
    windows = Windows(SHAPE)
    put(windows, [5, 45, 5, 45], [1.0, 2.0, 3.0, 4.0], [[0], [0], [1], [1]])
    for block in windows.blocks():
        block.dirty = False
    windows.release(ints([0, 70]))
    for ring in range(2):
        np.testing.assert_array_equal(moments.squared_error(window(windows, ring, [0, 0])), [np.nan, 25.0])
        assert (window(windows, ring, [0])[:, 0] == 0).all()
    assert windows.latest()[:2].tolist() == [NEVER, 1]
    assert all(block.dirty for block in windows.blocks())
    put(windows, [5], [6.0])
    assert moments.squared_error(window(windows, 0, [0]))[0] == 36.0


def test_only_touched_blocks_are_dirty() -> None:
    """A checkpoint saves the panes a batch touched and no other."""
    windows = Windows(SHAPE)
    put(windows, [5, 95], [1.0, 1.0])
    for block in windows.blocks():
        block.dirty = False
    put(windows, [95], [1.0])
    assert [{pane: block.dirty for pane, block in ring.items()} for ring in windows.rings] == [
        {0: False, 9: True},
        {0: False, 2: True},
    ]


def test_a_block_holds_only_the_series_of_its_pane() -> None:
    """At most 136 bytes a series and pane, the slack of growth included, and held() gives them back by sid."""
    windows = Windows(SHAPE[:1])
    for begin in range(0, 3000, 100):
        put(windows, [5] * 100, [float(i) for i in range(begin, begin + 100)], [[i] for i in range(begin, begin + 100)])
    put(windows, [15], [1.0], [[2999]])
    (full, sparse) = (windows.rings[0][pane] for pane in (0, 1))
    assert (full.data.nbytes + full.index.nbytes) / 3000 <= 136 * 1.05
    assert sparse.data.shape[1] <= 4
    sids, columns = full.held()
    np.testing.assert_array_equal(sids, np.arange(3000))
    np.testing.assert_array_equal(moments.max_absolute_error(columns), np.arange(3000))


def test_no_pairs_and_nothing_taken_change_nothing() -> None:
    """An empty batch and a batch that is too late make no pane."""
    windows = Windows(SHAPE)
    none = np.zeros((0, 2))
    assert windows.add(none.astype(np.int32), scalars([]), ints([]), none.astype(np.int64)).size == 0
    assert put(windows, [5, 6], [1.0, 2.0], oldest=7) == [False, False]
    assert not list(windows.blocks())


def test_a_wildly_scattered_batch_lands_where_it_should() -> None:
    """Times over the whole of what a timestamp can be need more than 63 bits to sort, and sort all the same."""
    windows = Windows(tuple(Window(str(us), us, 60) for us in (1, 7, 11)))
    times = [0, 10**17, 5 * 10**16, 0, 10**17]
    put(windows, times, [1.0, 2.0, 3.0, 4.0, 5.0], [[1], [100_000], [2], [1], [100_000]])
    for ring in range(3):
        m = moments.squared_error(window(windows, ring, [0] * 100_001))
        assert (m[1], m[2], m[100_000]) == (17.0, 9.0, 29.0)


@pytest.mark.parametrize("reach", [5, 1 << 62])
def test_grouping_sorts_stably_by_both_keys(reach: int) -> None:
    """Packed or not, the order is that of a stable sort and each group begins where a key changes."""
    rng = np.random.default_rng(1)
    major, minor = rng.choice([-reach // 2, 0, 3, reach // 2], 200), rng.integers(0, 4, 200)
    order, starts = grouped(major, minor)
    want = sorted(range(200), key=lambda i: (major[i], minor[i], i))
    assert order.tolist() == want
    keys = [(major[i], minor[i]) for i in want]
    assert starts.tolist() == [i for i in range(200) if i == 0 or keys[i] != keys[i - 1]]
    assert [x.size for x in grouped(ints([]), ints([]))] == [0, 0]
    assert panes.runs(ints([])) == []


def test_sums_add_a_batch_up_by_series() -> None:
    """n, Σw, Σw·q, Σw·|e|, Σw·over and Σw·under, in each series of a pair; zero weights count in n only."""
    errors = scalars([2.0, -1.0, 3.0, 9.0], [1.0, 2.0, 0.5, 0.0])
    sids, table = sums(np.array([[4, 1], [4, -1], [4, 1], [4, -1]], np.int32), errors)
    assert sids.tolist() == [1, 4]
    assert sids.dtype == np.int32
    assert table[:, 0].tolist() == [2, 1.5, 8.5, 3.5, 3.5, 0.0]
    assert table[:, 1].tolist() == [4, 3.5, 10.5, 5.5, 3.5, 2.0]
    assert sums(np.full((2, 2), -1, np.int32), scalars([1.0, 2.0]))[1].shape == (6, 0)


def test_coverage_counts_predictions_and_labels_apart() -> None:
    """Both are counted by prediction time, per series, between the oldest and the newest pane asked for."""
    coverage = Coverage(SHAPE)
    every = np.zeros((4, 2), np.int64)
    coverage.add([PREDICTIONS], small([0, 0, 1, -1]), ints([5, 15, 15, 15]), every)
    coverage.add([PREDICTIONS], small([0]), ints([25]), every[:1])
    coverage.add([LABELLED], small([0, 0]), ints([15, 15]), np.array([[1, 0], [2, 9]]))
    assert covered(coverage, 0, ints([0, 0, 0]), ints([9, 9, 9])).tolist() == [[3, 1, 0], [1, 0, 0]]
    assert covered(coverage, 0, ints([1, 2]), ints([1, 9])).tolist() == [[1, 0], [1, 0]]
    assert covered(coverage, 1, ints([0, 0]), ints([9, 9])).tolist() == [[3, 1], [1, 0]]


def test_coverage_counts_many_series() -> None:
    """A pane counts more series than it first had room for, in one batch and in several."""
    coverage = Coverage(SHAPE)
    for batch in (small([7, 7, 3]), np.arange(50, dtype=np.int32)):
        coverage.add([PREDICTIONS], batch, np.full(batch.size, 5), np.zeros((batch.size, 2), np.int64))
    want = [1] * 50
    want[7], want[3] = 3, 2
    assert covered(coverage, 0, ints([0] * 50), ints([0] * 50))[PREDICTIONS].tolist() == want


def test_coverage_drops_and_releases_like_windows() -> None:
    """Dropped blocks and released series are gone from the counts; a block goes with the last of its panes."""
    coverage = Coverage(SHAPE)
    later = 10 * TOGETHER + 5
    coverage.add([PREDICTIONS], small([0, 1, 0, 1]), ints([5, 5, later, later]), np.zeros((4, 2), np.int64))
    coverage.drop([TOGETHER - 1, 0])
    assert [sorted(ring) for ring in coverage.rings] == [[0, 1], [0]]
    coverage.drop([TOGETHER, 0])
    assert [sorted(ring) for ring in coverage.rings] == [[1], [0]]
    coverage.release(small([0]))
    assert covered(coverage, 1, ints([0, 0]), ints([9, 9])).tolist() == [[0, 2], [0, 0]]


def test_growth_is_geometric() -> None:
    """One more than there is room for makes room for half as much again; a big need is met exactly."""
    assert (panes.dense_length(101, 100), panes.dense_length(1000, 100)) == (150, 1000)


def test_a_block_grows_without_losing_what_it_holds() -> None:
    """Rows keep their place while columns and index grow."""
    block = Block(2)
    for sid in (3, 0, 900, 17, 5, 6, 7):
        rows = block.rows(ints([sid]))
        block.data[:, rows] = [[sid], [1]]
    sids, columns = block.held()
    assert sids.tolist() == [0, 3, 5, 6, 7, 17, 900]
    assert columns[0].tolist() == sids.tolist()


def test_series_are_shed_where_their_own_windows_have_gone_on() -> None:
    """Whole panes where nobody needs them, and of the rest half or more at a time; never what is still needed."""
    windows = Windows(SHAPE)
    put(windows, [5] * 3 + [15] * 3 + [25] * 3, [1.0, 2.0, 3.0] * 3, [[0], [1], [2]] * 3)
    ring = windows.rings[0]
    held = ring[1].hold()
    for block in ring.values():
        block.dirty = False
    panes.shed(ring, ints([1, 3, 3]), 2)
    assert {pane: block.held()[0].tolist() for pane, block in ring.items()} == {1: [0], 2: [0, 1, 2]}
    assert [block.dirty for block in ring.values()] == [True, False]
    assert moments.squared_error(ring[1].held()[1]).tolist() == [1.0]
    assert moments.squared_error(held.data)[:3].tolist() == [1.0, 4.0, 9.0], "who holds a sheet keeps it"
    put(windows, [15, 15], [5.0, 7.0], [[1], [0]])  # a late one
    assert moments.squared_error(ring[1].held()[1]).tolist() == [50.0, 25.0]
    panes.shed(ring, ints([0, 0, 3]), 3)
    assert [block.held()[0].tolist() for block in ring.values()] == [[0, 1], [0, 1, 2]], "a third is not worth it"


def test_the_first_series_of_a_block_are_changes_like_all_others() -> None:
    """An empty block is filled in one go; who holds it empty sees it empty, and who looks again sees all."""
    block = Block(2)
    before = block.hold()
    sids = ints([7, 2, 40, 11, 3])
    rows = block.rows(sids)
    block.data[:, rows] = sids
    after = block.hold()
    assert (before.used, before.index.size, before.data.size) == (0, 0, 0)
    assert sorted(after.since(before.version).tolist()) == sorted(sids.tolist())
    assert block.held()[1][0].tolist() == [2, 3, 7, 11, 40]
    rows = block.rows(ints([7, 99]))
    block.data[:, rows] += 1.0
    assert block.held()[1][0].tolist() == [2, 3, 8, 11, 40, 1]
    assert {7, 99} <= set(block.hold().since(after.version).tolist())
    assert after.data[0, after.index[7] - 1] == 7
