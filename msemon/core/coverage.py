"""How many predictions each window saw, and how many of them have their label: exact counts by prediction time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from msemon.core.panes import Block, Sheet, found, grouped, runs
from msemon.core.shape import Window
from msemon.events import Ints

_DENSE = 4  # so many possible (pane, series) an event are counted without sorting


class Counted(IntEnum):
    """What is counted; the value is the row."""

    PREDICTIONS = 0
    LABELLED = 1


PREDICTIONS = Counted.PREDICTIONS
LABELLED = Counted.LABELLED
BOTH = slice(0, len(Counted))  # of a pair that comes whole


class Coverage:
    """Rings of panes as in `windows.Windows`, with two counts a (series, pane): float64, exact below 2^53."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self.rings: list[dict[int, Block]] = [{} for _ in windows]
        self._pane_us = [window.pane_us for window in windows]

    def add(self, kind: Counted | slice, sids: npt.NDArray[np.int32], times_us: Ints, oldest: Ints) -> None:
        """Count n predictions made at times_us (n,) in series sids (n,), −1 for none; oldest (n, R) as in Windows."""
        for r, ring in enumerate(self.rings):
            panes = times_us // self._pane_us[r]
            taken = ((panes >= oldest[:, r]) & (sids >= 0)).nonzero()[0]
            self._count(ring, kind, panes[taken], sids[taken].astype(np.int64))

    @staticmethod
    def _count(ring: dict[int, Block], kind: Counted | slice, panes: Ints, sids: Ints) -> None:
        panes, sids, counts = _tallied(panes, sids)
        for begin, end in runs(panes):
            block = ring.setdefault(int(panes[begin]), Block(len(Counted)))
            rows = block.rows(sids[begin:end])  # first, for it may replace block.data
            block.data[kind, rows] += counts[begin:end]
            block.dirty = True

    def adopt(self, ring: int, pane: int, sids: Ints, data: npt.NDArray[np.float64]) -> None:
        """Put a restored pane in its ring: counts data (2, k), kept as they are, of distinct series sids (k,)."""
        if not sids.size:
            return
        if data.shape != (len(Counted), sids.size):
            raise ValueError("a pane of other columns")
        self.rings[ring][pane] = Block.of(sids, data)

    def drop(self, oldest: Sequence[int]) -> None:
        """Forget in each ring r the panes below oldest[r]."""
        for ring, limit in zip(self.rings, oldest, strict=True):
            for pane in [pane for pane in ring if pane < limit]:
                del ring[pane]

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


def counted(panes: Mapping[int, Sheet], sids: Ints, oldest: Ints, newest: Ints) -> Ints:
    """Counts (2, k): predictions and labelled of each of these series (k,) in its panes oldest … newest, (k,) both."""
    out = np.zeros((len(Counted), sids.size), np.int64)
    for number, sheet in panes.items():
        rows = found(sheet.index, sids)
        here = ((rows > 0) & (oldest <= number) & (number <= newest)).nonzero()[0]
        out[:, here] += sheet.data[:, rows[here] - 1].astype(np.int64)
    return out
