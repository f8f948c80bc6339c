"""How many predictions each window saw, and how many of them have their label: exact counts by prediction time.

Predictions may run ahead of the windows by as long as labels take (`windows.clock = predicted`): by a month, in panes
of five seconds. So some panes share a block; half a million blocks would be too many to save and to look through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from msemon.core.panes import Block, Sheet, found, grouped, runs
from msemon.core.shape import Window
from msemon.events import Ints

TOGETHER = 32
"""Panes in a block: number n holds the panes n·TOGETHER … (n + 1)·TOGETHER − 1."""

_DENSE = 4  # so many possible (pane, series) an event are counted without sorting


class Counted(IntEnum):
    """What is counted; its counts are the rows value·TOGETHER … of a block, a row a pane."""

    PREDICTIONS = 0
    LABELLED = 1


PREDICTIONS = Counted.PREDICTIONS
LABELLED = Counted.LABELLED
BOTH = (PREDICTIONS, LABELLED)  # of a pair that comes whole
_ROWS = len(Counted) * TOGETHER
_FAR = 1 << 62


class Coverage:
    """Rings as in `windows.Windows`, with two counts a (series, pane): float64, exact below 2^53."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self.rings: list[dict[int, Block]] = [{} for _ in windows]
        self._pane_us = [window.pane_us for window in windows]

    def add(self, kinds: Sequence[Counted], sids: npt.NDArray[np.int32], times_us: Ints, oldest: Ints) -> None:
        """Count n predictions made at times_us (n,) in series sids (n,), −1 for none; oldest (n, R) as in Windows."""
        for r, ring in enumerate(self.rings):
            panes = times_us // self._pane_us[r]
            taken = ((panes >= oldest[:, r]) & (sids >= 0)).nonzero()[0]
            self._count(ring, kinds, panes[taken], sids[taken].astype(np.int64))

    @staticmethod
    def _count(ring: dict[int, Block], kinds: Sequence[Counted], panes: Ints, sids: Ints) -> None:
        panes, sids, counts = _tallied(panes, sids)
        numbers, within = np.divmod(panes, TOGETHER)
        for begin, end in runs(numbers):
            number = int(numbers[begin])
            block = ring.get(number)
            if block is None:
                block = ring[number] = Block(_ROWS)
            series, places = np.unique(sids[begin:end], return_inverse=True)
            columns = block.rows(series)[places]  # first, for it may replace block.data
            for kind in kinds:
                block.data[kind * TOGETHER + within[begin:end], columns] += counts[begin:end]
            block.dirty = True

    def adopt(self, ring: int, number: int, sids: Ints, data: npt.NDArray[np.float64]) -> None:
        """Put a restored block in its ring: counts data (rows, k), kept as they are, of distinct series sids (k,)."""
        if not sids.size:
            return
        if data.shape != (_ROWS, sids.size):
            raise ValueError("a pane of other columns")
        self.rings[ring][number] = Block.of(sids, data)

    def drop(self, oldest: Sequence[int]) -> None:
        """Forget in each ring r the blocks all of whose panes are below oldest[r]."""
        for ring, limit in zip(self.rings, oldest, strict=True):
            for number in [number for number in ring if number < limit // TOGETHER]:
                del ring[number]

    def release(self, sids: npt.NDArray[np.integer]) -> None:
        """These series ended and others will get their sids: erase whatever is left of them."""
        for ring in self.rings:
            for block in ring.values():
                block.clear(sids)


def _tallied(panes: Ints, sids: Ints) -> tuple[Ints, Ints, Ints]:
    """The distinct (pane, sid) in their order, and how often each stands there."""
    if not panes.size:
        return panes, sids, panes
    low, span = int(panes.min()), int(sids.max()) + 1
    if (int(panes.max()) - low + 1) * span <= _DENSE * panes.size:  # as almost always: no need to sort
        tally = np.bincount((panes - low) * span + sids)
        codes = tally.nonzero()[0]
        return codes // span + low, codes % span, tally[codes]
    order, starts = grouped(panes, sids)
    return panes[order[starts]], sids[order[starts]], np.diff(starts, append=order.size)


def counted(blocks: Mapping[int, Sheet], sids: Ints, oldest: Ints, newest: Ints) -> Ints:
    """Counts (2, k): predictions and labelled of each of these series (k,) in its panes oldest … newest, (k,) both."""
    out = np.zeros((len(Counted), sids.size), np.int64)
    first, last = oldest.min(initial=_FAR) // TOGETHER, newest.max(initial=-_FAR) // TOGETHER
    for number, sheet in blocks.items():
        if not first <= number <= last:
            continue
        here = np.flatnonzero(found(sheet.index, sids))
        panes = number * TOGETHER + np.arange(TOGETHER)[:, None]
        wanted = (oldest[here] <= panes) & (panes <= newest[here])
        counts = sheet.data.take(sheet.index[sids[here]] - 1, axis=1).reshape(len(Counted), TOGETHER, -1)
        out[:, here] += (counts * wanted).sum(axis=1).astype(np.int64)
    return out
