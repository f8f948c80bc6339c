"""Windows that are merged anew only where panes changed: what they come to, what that costs, what they keep."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from msemon.core import moments, rolling
from msemon.core.moments import Errors
from msemon.core.panes import shed
from msemon.core.rolling import Part, Rolling
from msemon.core.shape import Window
from msemon.core.windows import Windows
from msemon.events import Floats, Ints

SHAPE = (Window("short", 1, 60), Window("long", 9, 20))
FAR = 1 << 40


class Tasks:
    """The panes of some tasks, the places of their series, and windows that follow them."""

    def __init__(self, count: int, series: int, size: int) -> None:
        self.rng = np.random.default_rng(7)
        self.windows = [Windows(SHAPE) for _ in range(count)]
        self.places = [self.rng.permutation(size)[:series].astype(np.int64) for _ in range(count)]
        self.size = size
        self.rolling = Rolling(SHAPE)

    def put(self, task: int, sids: Ints, times: Ints) -> None:
        values = self.rng.normal(size=sids.size) * 10.0 ** self.rng.integers(-3, 4)
        errors = Errors.of_scalars(values, np.zeros(sids.size), self.rng.choice([0.1, 1.0, 3.0], sids.size))
        self.windows[task].add(sids[:, None].astype(np.int32), errors, times, np.zeros((sids.size, 2), np.int64))

    def parts(self) -> list[Part]:
        return [
            Part(places, [{number: block.hold() for number, block in ring.items()} for ring in windows.rings])
            for windows, places in zip(self.windows, self.places, strict=True)
        ]

    def let_go(self, parts: Sequence[Part]) -> None:
        for windows, part in zip(self.windows, parts, strict=True):
            for ring, sheets in zip(windows.rings, part.rings, strict=True):
                for number, sheet in sheets.items():
                    ring[number].let_go(sheet)

    def merged(self, oldest: Sequence[Ints], by: Rolling | None = None) -> list[Floats]:
        parts = self.parts()
        try:
            return (by or self.rolling).merged(parts, oldest)
        finally:
            self.let_go(parts)

    def anew(self, oldest: Sequence[Ints]) -> list[Floats]:
        return self.merged(oldest, Rolling(SHAPE))

    def since(self, short: int, long: int = 0) -> list[Ints]:
        return [np.full(self.size, short), np.full(self.size, long)]


def full(series: int = 100, tasks: int = 1, panes: int = 61) -> Tasks:
    """Every series has a pair in every short pane."""
    made = Tasks(tasks, series, series)
    for task in range(tasks):
        for pane in range(panes):
            made.put(task, np.arange(series), np.full(series, pane))
    return made


@pytest.fixture
def merges(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many columns each merge had, as they happen."""
    sizes: list[int] = []
    merge = moments.merge

    def counting(a: Floats, b: Floats) -> Floats:
        sizes.append(a.shape[1])
        return merge(a, b)

    monkeypatch.setattr(moments, "merge", counting)
    return sizes


def test_what_is_kept_changes_no_bit_whatever_happened_to_the_panes() -> None:
    """Late pairs, series that end, sids and places that change hands, panes that go, windows that move either way."""
    tasks = Tasks(3, series=40, size=60)
    rng = tasks.rng
    for step in range(0, 200, 4):
        for task in range(3):
            sids = rng.integers(0, 40, rng.integers(0, 30))
            late = rng.random(sids.size) < 0.2
            tasks.put(task, sids, np.where(late, rng.integers(max(0, step - 70), step + 1, sids.size), step))
        if rng.random() < 0.1:
            tasks.windows[1].release(rng.integers(0, 40, 3))
        if rng.random() < 0.1:  # a series ends here and another takes its sid, at another place; some are folded
            places = tasks.places[2].copy()
            places[rng.integers(0, 40, 2)] = rng.choice([-1, 3, int(rng.integers(0, 60))])
            tasks.places[2] = places
        if rng.random() < 0.2:
            for windows in tasks.windows:
                windows.drop([step - 64, (step - 190) // 9])
        if rng.random() < 0.2:  # some series have gone on further than others
            for ring in tasks.windows[0].rings:
                shed(ring, np.where(rng.random(40) < 0.6, FAR, 0), max(ring, default=0) - int(rng.integers(0, 8)))
        behind = rng.choice([0, 0, 0, 30, -20], 60)
        oldest = [np.maximum(step - 60 - behind, 0), np.maximum((step - behind) // 9 - 20, 0)]
        oldest[0][rng.integers(0, 60, 5)] = FAR
        for kept, anew in zip(tasks.merged(oldest), tasks.anew(oldest), strict=True):
            np.testing.assert_array_equal(kept.view(np.int64), anew.view(np.int64))


def test_series_at_one_place_are_merged_there_over_all_tasks() -> None:
    tasks = full(series=4, tasks=2)
    tasks.places = [np.array([0, 1, 1, 1]), np.array([1, 2, -1, 0])]
    pairs, *_ = tasks.merged(tasks.since(0))[0]
    assert pairs.tolist() == [2 * 61, 4 * 61, 61, 0]


def test_a_window_costs_a_quarter_of_its_panes(merges: list[int]) -> None:
    tasks = full()
    tasks.merged(tasks.since(1))
    for oldest in range(2, 9):
        merges.clear()
        tasks.merged([tasks.since(oldest)[0], tasks.since(0, FAR)[1]])
        assert sum(merges) <= 14 * 100, "at most 7 panes of the group it begins in, and 7 groups"


def test_the_newest_pane_costs_itself_and_a_merge_a_group(merges: list[int]) -> None:
    tasks = full()
    oldest = [tasks.since(0)[0], tasks.since(0, FAR)[1]]
    tasks.merged(oldest)
    tasks.put(0, np.arange(100), np.full(100, 60))
    merges.clear()
    tasks.merged(oldest)
    assert sum(merges) <= (2 + 8) * 100, "pane 60 and what was before it in its group, and 8 groups"


def test_a_late_pair_costs_the_series_written_to_and_their_neighbours(merges: list[int]) -> None:
    tasks = full(series=1000)
    oldest = [tasks.since(0)[0], tasks.since(0, FAR)[1]]
    tasks.merged(oldest)
    merges.clear()
    tasks.merged(oldest)
    unchanged = sum(merges)
    tasks.put(0, np.array([500]), np.array([20]))
    merges.clear()
    tasks.merged(oldest)
    assert 0 < sum(merges) - unchanged - 1 <= 8 * 4, "eight panes of a stretch of four, and the pair itself"


def test_what_is_kept_takes_a_quarter_of_the_panes_at_most() -> None:
    dense, sparse = full(series=1000), Tasks(1, series=1000, size=1000)
    for pane in range(61):
        sparse.put(0, np.arange(pane % 8, 1000, 8), np.full(125, pane))
    for tasks, part in ((dense, 0.125), (sparse, 0.0)):
        tasks.merged(tasks.since(0))
        held = sum(block.data.nbytes for block in tasks.windows[0].blocks())
        kept = sum(group.sums.data.nbytes for ring in tasks.rolling._groups for group in ring.values())
        assert part <= kept / held <= 0.25


def test_sums_that_no_window_needs_any_more_are_forgotten() -> None:
    tasks = full()
    tasks.merged(tasks.since(0))
    before = len(tasks.rolling._groups[0])
    tasks.merged(tasks.since(24, FAR))
    assert len(tasks.rolling._groups[0]) == before - 3
    assert not tasks.rolling._groups[1]


def test_panes_that_went_and_came_back_are_others() -> None:
    """Others have gone on from all panes of a group, and one that lags comes into them, between two looks."""
    tasks = Tasks(1, series=20, size=20)
    tasks.places = [np.arange(20)]
    others = np.arange(1, 20)
    for _ in range(3):
        for pane in range(24, 32):
            tasks.put(0, others, np.full(19, pane))
    oldest = [np.where(tasks.places[0] == 0, 0, 140), np.full(20, FAR)]
    tasks.merged(oldest)
    assert tasks.rolling._groups[0], "what they were is known"
    shed(tasks.windows[0].rings[0], oldest[0], 130)
    assert not tasks.windows[0].rings[0]
    for pane in range(24, 32):
        tasks.put(0, np.array([0]), np.array([pane]))
    pairs, *_ = tasks.merged(oldest)[0]
    assert pairs.tolist() == [8.0] + [0.0] * 19


def test_a_merge_that_fails_leaves_nothing_half_known(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = full(series=8)
    oldest = tasks.since(0)
    tasks.merged(oldest)
    tasks.places = [np.roll(tasks.places[0], 1)]
    with monkeypatch.context() as broken:
        broken.setattr(rolling, "merge_pane", _fails)
        with pytest.raises(MemoryError):
            tasks.merged(oldest)
    for kept, anew in zip(tasks.merged(oldest), tasks.anew(oldest), strict=True):
        np.testing.assert_array_equal(kept, anew)


def _fails(*_: object) -> None:
    raise MemoryError


def test_what_is_held_does_not_change_while_batches_and_ends_go_on() -> None:
    """A sheet stays as it was; the block goes on with copies, once, and only while it is held."""
    tasks = full(series=50, panes=3)
    (part,) = tasks.parts()
    before = {number: sheet.data.copy() for number, sheet in part.rings[0].items()}
    index = part.rings[0][2].index.copy()
    tasks.put(0, np.arange(50), np.full(50, 2))
    tasks.put(0, np.arange(50, 400), np.full(350, 2))
    tasks.windows[0].release(np.arange(10))
    for number, sheet in part.rings[0].items():
        np.testing.assert_array_equal(sheet.data, before[number])
    np.testing.assert_array_equal(part.rings[0][2].index, index)
    tasks.let_go([part])
    data = tasks.windows[0].rings[0][1].data
    tasks.put(0, np.arange(50), np.full(50, 1))
    assert tasks.windows[0].rings[0][1].data is data, "copied when the series ended, and not again"
