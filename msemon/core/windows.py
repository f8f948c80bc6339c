"""The panes of one task: moments of the error by series and pane of event time, one ring of panes a window length.

Panes are numbered time // pane_us. `rolling` merges them into windows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from msemon.core import moments
from msemon.core.moments import Errors, Index, Mask
from msemon.core.panes import Block, dense_length, grouped, runs
from msemon.core.shape import Window
from msemon.events import Floats, Ints

NEVER = -(1 << 62)
"""Older than every pane."""

_AT_ONCE = 2048  # columns merged at a time, so that what is worked on stays in the cache
_DENSE_CELLS = 1 << 40  # combined pane numbers above this are renumbered, so that they can't overflow

Sids = npt.NDArray[np.int32]
Ring = dict[int, Block]
_Part = tuple[Block, npt.NDArray[np.int64], slice]  # series of one block and where they stand in a batch's columns


class Groups(NamedTuple):
    """Pairs of a batch, sorted: group j is the run of `who` from starts[j] on, pairs of one series in one cell."""

    who: Index  # (entries,) positions in the batch
    starts: Index  # (g,)
    sids: Ints  # (g,) ascending within a cell
    panes: Ints  # (g, R) of each ring
    taken: Mask  # (g, R): by which rings


class Windows:
    """The rings of one task. `rings[r]` maps a pane's number to its block, for windows[r].

    One sort and one reduction serve a batch in all rings: pairs with the same panes in every ring form a *cell*, and a
    group is one series in one cell. Groups of different cells that share a pane of a slow ring are folded, and the
    columns of all touched blocks then go through a single merge; only finding, taking and putting back columns is done
    block by block. So a batch scattered over a hundred panes costs a hundred lookups, not a hundred merges.
    """

    def __init__(self, windows: Sequence[Window]) -> None:
        self.rings: list[Ring] = [{} for _ in windows]
        self._pane_us = np.array([window.pane_us for window in windows], np.int64)
        self._longest = max(range(len(windows)), key=lambda r: windows[r].pane_us * windows[r].panes)
        self._latest: Ints = np.zeros(0, np.int64)

    def add(self, sids: Sids, errors: Errors, times_us: Ints, oldest: Ints) -> Mask:
        """Count n pairs; says of each (n,) whether any ring took it. sids and oldest as in `group`."""
        accepted, groups = self.group(sids, times_us, oldest)
        self.count(groups, errors)
        return accepted

    def group(self, sids: Sids, times_us: Ints, oldest: Ints) -> tuple[Mask, Groups]:
        """Sort n pairs into the rings' panes; says of each (n,) whether any ring takes it.

        sids (n, d): pair i counts in each of its d series; −1 is none. oldest (n, R): ring r takes pair i where its
        pane is not below oldest[i, r].
        """
        panes = times_us[:, None] // self._pane_us
        taken: Mask = panes >= oldest
        accepted: Mask = reduce(np.logical_or, taken.T)  # `any` of short rows takes twenty times as long
        entries = np.flatnonzero((sids >= 0) & accepted[:, None])
        who = entries // sids.shape[1]
        sid = sids.ravel()[entries].astype(np.int64)
        order, starts = grouped(_cells(panes, taken)[who], sid)
        who = who[order]
        first = who[starts]
        return accepted, Groups(who, starts, sid[order[starts]], panes[first], taken[first])

    def count(self, groups: Groups, errors: Errors) -> None:
        """Merge the pairs into their panes."""
        if groups.sids.size:
            self._merge(groups.sids, groups.panes, groups.taken, moments.reduce(errors, groups.who, groups.starts))

    def _merge(self, sids: Ints, panes: Ints, taken: Mask, groups: Floats) -> None:
        """Merge groups (FIELDS, g), sorted by cell and sid, of series sids (g,) into the rings' panes (g, R)."""
        sources: list[Floats] = []
        parts: list[_Part] = []
        width = 0
        for r, ring in enumerate(self.rings):
            if not taken[:, r].any():
                continue
            source, pane, sid = _by_pane(groups, panes[:, r], sids, taken[:, r])
            if r == self._longest:
                self._note(sid, pane)
            parts += _parts(ring, pane, sid, width)
            sources.append(source)
            width += sid.size
        _merge_parts(parts, _side_by_side(sources))

    def _note(self, sids: Ints, panes: Ints) -> None:
        needed = int(sids.max()) + 1
        if needed > self._latest.size:
            wider = np.full(dense_length(needed, self._latest.size), NEVER, np.int64)
            wider[: self._latest.size] = self._latest
            self._latest = wider
        np.maximum.at(self._latest, sids, panes)

    def drop(self, oldest: Sequence[int]) -> None:
        """Forget in each ring r the panes below oldest[r]."""
        for ring, limit in zip(self.rings, oldest, strict=True):
            for pane in [pane for pane in ring if pane < limit]:
                del ring[pane]
        self._latest[self._latest < oldest[self._longest]] = NEVER

    def latest(self) -> Ints:
        """Per series (S,) the newest pane of the longest ring that holds a pair of it; NEVER for none.

        S is one more than the largest sid seen so far, or greater.
        """
        return self._latest.copy()

    def release(self, sids: npt.NDArray[np.integer]) -> None:
        """These series ended and others will get their sids: erase whatever is left of them."""
        for block in self.blocks():
            block.clear(sids)
        self._latest[sids[sids < self._latest.size]] = NEVER

    def adopt(self, ring: int, pane: int, sids: Ints, data: Floats) -> None:
        """Put a restored pane in its ring: columns data (FIELDS, k), kept as they are, of distinct series sids (k,)."""
        if not sids.size:
            return
        if data.shape != (moments.FIELDS, sids.size):
            raise ValueError("a pane of other columns")
        self.rings[ring][pane] = Block.of(sids, data)
        if ring == self._longest:
            full = data[moments.N] > 0
            if full.any():
                self._note(sids[full], np.full(int(full.sum()), pane, np.int64))

    def blocks(self) -> Iterator[Block]:
        """Every block of every ring."""
        for ring in self.rings:
            yield from ring.values()


def _cells(panes: Ints, taken: Mask) -> Ints:
    """Numbers (n,), from 0, equal for pairs that are taken into the same panes by all rings. panes, taken (n, R)."""
    cells = np.zeros(len(panes), np.int64)
    count = 1
    for r in range(panes.shape[1]):
        column, ok = panes[:, r], taken[:, r]
        if not ok.any():
            continue
        low, high = int(column[ok].min()), int(column[ok].max())
        step = np.where(ok, column - low + 1, 0)
        span = high - low + 2
        if count * span > _DENSE_CELLS:
            step, span = _renumbered(step)
            cells, count = _renumbered(cells)
        cells = cells * span + step
        count *= span
    return cells


def _renumbered(values: Ints) -> tuple[Ints, int]:
    distinct, places = np.unique(values, return_inverse=True)
    return places.astype(np.int64), distinct.size


def _by_pane(groups: Floats, panes: Ints, sids: Ints, taken: Mask) -> tuple[Floats, Ints, Ints]:
    """The groups that one ring takes, one a (pane, series) and sorted so: their columns, panes and sids."""
    if taken.all() and (sids[1:] > sids[:-1]).all() and panes[0] == panes[-1] and (panes == panes[0]).all():
        return groups, panes, sids  # a single cell, as almost always
    columns = taken.nonzero()[0]
    order, starts = grouped(panes[columns], sids[columns])
    columns = columns[order]
    firsts = columns[starts]
    return moments.fold(groups.take(columns, axis=1), starts), panes[firsts], sids[firsts]


def _parts(ring: Ring, panes: Ints, sids: Ints, offset: int) -> Iterator[_Part]:
    """Cut columns sorted by pane into one part a block; blocks that do not exist yet are made."""
    for begin, end in runs(panes):
        pane = int(panes[begin])
        block = ring.get(pane)
        if block is None:
            block = ring[pane] = Block(moments.FIELDS)
        yield block, sids[begin:end], slice(offset + begin, offset + end)


def _merge_parts(parts: Sequence[_Part], source: Floats) -> None:
    """Merge source (FIELDS, k) into the blocks its columns belong to: taken together, merged, put back."""
    places = [block.rows(sids) for block, sids, _ in parts]
    held = [block.data.take(rows, axis=1) for (block, _, _), rows in zip(parts, places, strict=True)]
    whole = _side_by_side(held)
    merged = np.empty_like(whole)
    for begin in range(0, source.shape[1], _AT_ONCE):
        some = slice(begin, begin + _AT_ONCE)
        merged[:, some] = moments.merge(whole[:, some], source[:, some])
    for (block, _, columns), rows in zip(parts, places, strict=True):
        block.data[:, rows] = merged[:, columns]
        block.dirty = True


def _side_by_side(columns: list[Floats]) -> Floats:
    return columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)


def sums(sids: Sids, errors: Errors) -> tuple[Sids, Floats]:
    """(distinct sids (k,) ascending, sums (6, k)) of a batch, for counters that only ever grow.

    Rows: n, Σw, Σw·q, Σw·|e|, Σw·max(e, 0), Σw·max(−e, 0). sids (n, d), −1 is none.
    """
    entries = np.flatnonzero(sids >= 0)
    sid = sids.ravel()[entries]
    order, starts = grouped(np.zeros(sid.size, np.int64), sid)
    out = np.zeros((6, starts.size))
    if not starts.size:
        return np.zeros(0, np.int32), out
    who = (entries // sids.shape[1])[order]
    out[0] = np.diff(starts, append=who.size)
    columns = (errors.w, errors.w * errors.q, errors.w * errors.a, errors.w * errors.over, errors.w * errors.under)
    for row, column in enumerate(columns, start=1):
        out[row] = np.add.reduceat(column[who], starts)
    return sid[order[starts]], out
