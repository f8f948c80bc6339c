"""What every ring of panes is made of: blocks of columns by series, and the sort that groups a batch."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from msemon.core.moments import Index
from msemon.events import Ints

_FIRST_ROWS = 4
_STRETCH = 2  # when rows changed is remembered for 2 ** this many together: a byte a row
_LIVES = count()


def dense_length(needed: int, held: int) -> int:
    """The next length of an array that must hold `needed` and holds `held`.

    Half as much again, so that growth costs a constant per entry and at most a third is idle.
    """
    return max(needed, held + held // 2)


def grouped(major: Ints, minor: npt.NDArray[Any]) -> tuple[Index, Index]:
    """(order, starts): the positions sorted by (major, minor), ties in place, and where each distinct pair begins.

    Both keys and the position are packed into one integer where 63 bits suffice, for sorting values is ten times
    faster than a stable argsort. `minor` must not be negative.
    """
    n = major.size
    if not n:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    low, span, bits = int(major.min()), int(minor.max()) + 1, n.bit_length()
    if ((int(major.max()) - low + 1) * span) << bits < 1 << 63:
        packed = ((major - low) * span + minor) << bits
        packed |= np.arange(n)
        packed.sort()
        order = packed & ((1 << bits) - 1)
        keys = packed >> bits
        changes = keys[1:] != keys[:-1]
    else:
        order = np.lexsort((minor, major))
        first, second = major[order], minor[order]
        changes = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    return order, np.concatenate(([0], changes.nonzero()[0] + 1))


def runs(values: Ints) -> list[tuple[int, int]]:
    """[begin, end) of each run of equal values."""
    if not values.size:
        return []
    cuts: list[int] = ((values[1:] != values[:-1]).nonzero()[0] + 1).tolist()
    return list(pairwise([0, *cuts, values.size]))


def found(index: npt.NDArray[np.int32], sids: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """Row + 1 of each of these series (k,) by the index of a block, 0 where it has none. No sid is negative."""
    if not sids.size or sids.max() < index.size:
        return index.take(sids)
    rows = np.zeros(sids.size, np.int32)
    known = sids < index.size
    rows[known] = index[sids[known]]
    return rows


@dataclass(frozen=True, slots=True)
class Sheet:
    """A block as it stood at one moment; nothing writes to these arrays as long as the block is held (`Block.hold`)."""

    index: npt.NDArray[np.int32]
    data: npt.NDArray[Any]
    used: int
    stamps: npt.NDArray[np.int32]
    version: int
    life: int  # as in `Block`

    def since(self, version: int) -> Ints:
        """The series whose columns may have changed since this version: all that did, and some of their neighbours."""
        if version >= self.version:
            return np.zeros(0, np.int64)
        held: Ints = np.flatnonzero(self.index)
        changed: Ints = held[self.stamps[(self.index[held] - 1) >> _STRETCH] > version]
        return changed


class Block:
    """One pane's columns (fields, rows), a row for each series that has something in this pane.

    The unit that is dropped, and that a checkpoint saves when `dirty`. An all-zero column is an empty one. While
    somebody holds a sheet of it, whoever writes first moves on to copies of the arrays and leaves the sheet its own.
    """

    __slots__ = ("_holders", "_stamps", "data", "dirty", "index", "life", "used", "version")

    def __init__(self, fields: int, dtype: npt.DTypeLike = np.float64) -> None:
        # index[sid] is the row + 1 and 0 for none: untouched zero pages of a long index cost no memory.
        self.index = np.zeros(0, np.int32)
        self.data: npt.NDArray[Any] = np.zeros((fields, 0), dtype)
        self.used = 0
        self.dirty = False
        self.version = 0  # goes up with every write
        self._stamps = np.zeros(0, np.int32)  # by stretch of rows: version of its last write
        self._holders = 0
        self.life = next(_LIVES)  # another in each block, and whenever a block goes on with fewer series

    @classmethod
    def of(cls, sids: Index, data: npt.NDArray[Any]) -> Block:
        """A block that holds these columns (fields, k) of distinct series (k,); it keeps `data` itself."""
        block = cls(0)
        block.index = np.zeros(int(sids.max(initial=-1)) + 1, np.int32)
        block.index[sids] = np.arange(1, sids.size + 1)
        block.data = data
        block.used = sids.size
        block.dirty = True
        block._stamp(np.arange(sids.size))
        return block

    def rows(self, sids: npt.NDArray[Any]) -> Index:
        """Rows to write to of these distinct series, made where there are none yet.

        `data` may be another array afterwards.
        """
        self._own()
        if not self.used and sids.size:
            return self._first(sids)
        longest = int(sids.max(initial=-1)) + 1
        if longest > self.index.size:
            self.index = _widened(self.index, dense_length(longest, self.index.size))
        rows = self.index[sids]
        if not rows.all():
            new = (rows == 0).nonzero()[0]
            rows[new] = np.arange(self.used + 1, self.used + new.size + 1)
            self.index[sids[new]] = rows[new]
            self.used += new.size
            if self.used > self.data.shape[1]:
                self.data = _widened(self.data, dense_length(self.used, self.data.shape[1]))
        out: Index = np.subtract(rows, 1, dtype=np.intp)
        self._stamp(out)
        return out

    def _first(self, sids: npt.NDArray[Any]) -> Index:
        """`rows` of an empty block, in a quarter of the steps: a replay is new panes for the most part."""
        self.index = np.zeros(int(sids.max()) + 1, np.int32)
        self.index[sids] = np.arange(1, sids.size + 1)
        self.data = np.zeros((len(self.data), max(sids.size, _FIRST_ROWS)), self.data.dtype)
        self.used = sids.size
        self.version += 1
        self._stamps = np.empty((self.data.shape[1] >> _STRETCH) + 1, np.int32)
        self._stamps.fill(self.version)
        return np.arange(sids.size)

    def hold(self) -> Sheet:
        """The block as it stands now, for reading on any thread until `let_go`."""
        self._holders += 1
        return Sheet(self.index, self.data, self.used, self._stamps, self.version, self.life)

    def let_go(self, sheet: Sheet) -> None:
        """Nobody reads this sheet any more. On the thread that writes, or with whatever keeps that from writing."""
        if sheet.data is self.data:
            self._holders -= 1

    def held(self) -> tuple[Index, npt.NDArray[Any]]:
        """(sids, columns) of all that is here, in order of sid: what a checkpoint saves."""
        sids = np.flatnonzero(self.index)
        rows = self.index[sids] - 1
        if (rows[1:] > rows[:-1]).all() and rows.size == self.used:
            return sids, self.data[:, : self.used].copy()  # several times as fast as taking one by one
        return sids, self.data.take(rows, axis=1)

    def clear(self, sids: npt.NDArray[Any]) -> None:
        """Empty these series' columns; whoever gets the sid next gets the row with it."""
        rows = self.index[sids[sids < self.index.size]]
        rows = rows[rows > 0] - 1
        if rows.size:
            self._own()
            self.data[:, rows] = 0.0
            self._stamp(rows)
            self.dirty = True

    def shed(self, sids: npt.NDArray[Any]) -> None:
        """Keep the columns of these series (k,), which are here, and no others. Whoever holds a sheet keeps it."""
        self.data = self.data.take(self.index[sids] - 1, axis=1)
        self.index = np.zeros(int(sids.max(initial=-1)) + 1, np.int32)
        self.index[sids] = np.arange(1, sids.size + 1)
        self.used, self._holders = sids.size, 0
        self._stamps = np.zeros((sids.size >> _STRETCH) + 1, np.int32)
        self._stamp(np.arange(sids.size))
        self.life = next(_LIVES)
        self.dirty = True

    def _own(self) -> None:
        """Before writing: whoever holds a sheet keeps these arrays, and we go on with copies."""
        if self._holders:
            self.index, self.data, self._stamps = self.index.copy(), self.data.copy(), self._stamps.copy()
            self._holders = 0

    def _stamp(self, rows: npt.NDArray[Any]) -> None:
        """These rows are being written to."""
        stretches = (self.data.shape[1] >> _STRETCH) + 1
        if stretches > self._stamps.size:
            self._stamps = _widened(self._stamps, stretches)
        self.version += 1
        self._stamps[rows >> _STRETCH] = self.version


def shed(ring: dict[int, Block], oldest: Ints, before: int) -> None:
    """Forget in the panes below `before` the series (S,) whose own oldest pane is above them.

    A block is made smaller only where half of it goes, so that all of it is copied, and saved, once more at most.
    """
    for pane in [pane for pane in ring if pane < before]:
        sids = np.flatnonzero(ring[pane].index)
        kept = sids[oldest[sids] <= pane]
        if not kept.size:
            del ring[pane]
        elif 2 * kept.size <= sids.size:
            ring[pane].shed(kept)


def _widened(array: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
    wider = np.zeros((*array.shape[:-1], length), array.dtype)
    wider[..., : array.shape[-1]] = array
    return wider
