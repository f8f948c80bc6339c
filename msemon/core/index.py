"""A hash index from digests to rows of a store, a batch at a time.

Open addressing in one table of row numbers (4 bytes a slot); digests stay in the store's own column. Several rows may
share a digest: a look-up gives all of them. Every step handles the whole batch with numpy; a probe goes on for those
queries only that have not yet come to an empty slot. Probes step by 1, 2, 3, … (which visits every slot of a table
whose size is a power of two), since a batch takes as many steps as its longest probe, and linear probing's longest
grows with the clusters.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from msemon.core.digest import Digests
from msemon.events import Ints

Rows = npt.NDArray[np.int64]

_EMPTY = np.uint32(0xFFFFFFFF)
_REMOVED = np.uint32(0xFFFFFFFE)
_SMALLEST = 1024
_FULL = 0.6  # of live and removed slots: rebuilt beyond it; probes stay short
_REBUILT = 0.4  # of live slots after a rebuild, at most


class Index:
    """Multimap digest → rows. The digests column is given with each call, since the store may move it."""

    def __init__(self) -> None:
        self._table = np.full(_SMALLEST, _EMPTY, np.uint32)
        self._live = 0
        self._used = 0  # live and removed

    @property
    def nbytes(self) -> int:
        return self._table.nbytes

    def lookup(self, column: Digests, wanted: Digests) -> tuple[Ints, Rows]:
        """All (position in `wanted`, row) whose digests are equal, in no particular order."""
        hits: list[Ints] = []
        rows_hit: list[Rows] = []
        mask = len(self._table) - 1
        active = np.arange(len(wanted))
        slots = (wanted[:, 0] & np.uint64(mask)).astype(np.int64)
        step = 0
        while active.size:
            found = self._table[slots]
            going = found != _EMPTY
            if not going.all():
                active, slots, found = active[going], slots[going], found[going]
            real = np.flatnonzero(found != _REMOVED)
            rows = found[real].astype(np.int64)
            queries = active[real]
            same = (column[rows] == wanted[queries]).all(axis=1)
            if same.any():
                hits.append(queries[same])
                rows_hit.append(rows[same])
            step += 1
            slots = (slots + step) & mask
        if not hits:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        return np.concatenate(hits), np.concatenate(rows_hit)

    def insert(self, column: Digests, rows: Rows) -> None:
        """Add rows, whose digests stand in `column`. A row may be in the index once."""
        if self._used + len(rows) > _FULL * len(self._table):
            self._rebuild(column, self._live + len(rows))
        self._place(column, rows)
        self._live += len(rows)

    def remove(self, column: Digests, rows: Rows) -> None:
        """Take rows out. Each must be in the index, with its digest still in `column`."""
        self._table[self._slots_of(column, rows)] = _REMOVED
        self._live -= len(rows)

    def move(self, column: Digests, old: Rows, new: Rows) -> None:
        """Rows `old` are to be found as `new` from now on; called before the store moves them."""
        self._table[self._slots_of(column, old)] = new.astype(np.uint32)

    def _slots_of(self, column: Digests, rows: Rows) -> Rows:
        mask = len(self._table) - 1
        slots = (column[rows, 0] & np.uint64(mask)).astype(np.int64)
        active = np.flatnonzero(self._table[slots] != rows)
        step = 0
        while active.size:
            if (self._table[slots[active]] == _EMPTY).any():
                raise KeyError("a row is not in the index")
            step += 1
            slots[active] = (slots[active] + step) & mask
            active = active[self._table[slots[active]] != rows[active]]
        return np.asarray(slots)

    def _place(self, column: Digests, rows: Rows) -> None:
        mask = len(self._table) - 1
        narrow = rows.astype(np.uint32)
        slots = (column[rows, 0] & np.uint64(mask)).astype(np.int64)
        step = 0
        while narrow.size:
            step += 1
            before = self._table[slots]
            free = before >= _REMOVED
            self._table[slots[free]] = narrow[free]  # of several that want one slot the last wins …
            placed = free & (self._table[slots] == narrow)
            self._used += int(np.count_nonzero(before[placed] == _EMPTY))
            left = ~placed  # … and the others go on
            slots, narrow = (slots[left] + step) & mask, narrow[left]

    def _rebuild(self, column: Digests, expected: int) -> None:
        rows = self._table[self._table < _REMOVED].astype(np.int64)
        size = len(self._table)
        while expected > _REBUILT * size:
            size *= 2
        while size > _SMALLEST and expected < _REBUILT * size / 4:
            size //= 2
        self._table = np.full(size, _EMPTY, np.uint32)
        self._used = 0
        self._place(column, rows)
