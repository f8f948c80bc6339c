"""A hash index from digests to rows of a store, a batch at a time.

Buckets of eight slots: a byte of tag each, all eight in one integer, and a row number of four bytes. A digest is looked
for in its home bucket, and in the next ones as long as buckets are full; only rows whose tags agree are looked at in
the store's own column of digests. Several rows may share a digest: a look-up gives all of them.

Every step handles the whole batch with numpy, and one suffices for nearly every event: a bucket is full for one in ten
where the table is fullest. Open addressing slot by slot took as many steps as the longest probe of a batch, a dozen,
and a random read of a digest for each of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from msemon.core.digest import Digests
from msemon.events import Ints

Rows = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

_SLOTS = 8
_EMPTY, _REMOVED, _LEAST_TAG = (np.uint64(n) for n in (0, 1, 2))  # what a slot's byte says; tags are of live rows
_SMALLEST = 128  # buckets
_FULL = 0.65  # of the slots, live and removed: beyond it the table is built anew
_GROWTH = 1.5

_ONE, _BYTE, _HALF, _HALF_BITS = (np.uint64(n) for n in (1, 0xFF, 0xFFFFFFFF, 32))
_EACH = np.uint64(0x0101010101010101)
_LOW = np.uint64(0x7F7F7F7F7F7F7F7F)
_TAKEN = np.uint64(0xFEFEFEFEFEFEFEFE)  # the bits that neither an empty nor a removed slot's byte has


class Index:
    """Multimap digest → rows. The digests column is given with each call, since the store may move it."""

    def __init__(self) -> None:
        self._clear(_SMALLEST)
        self._live = 0

    @property
    def nbytes(self) -> int:
        return self._tags.nbytes + self._rows.nbytes

    def lookup(self, column: Digests, wanted: Digests) -> tuple[Ints, Rows]:
        """All (position in `wanted`, row) whose digests are equal, in no particular order."""
        if not self._live:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        hits: list[Ints] = []
        rows_hit: list[Rows] = []
        for queries, slots in self._candidates(wanted):
            rows = self._rows[slots].astype(np.int64)
            theirs, mine = column[rows], wanted[queries]
            same = ((theirs[:, 0] == mine[:, 0]) & (theirs[:, 1] == mine[:, 1])).nonzero()[0]
            if same.size:  # a tag tells less than a digest
                hits.append(queries[same])
                rows_hit.append(rows[same])
        if not hits:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        return (hits[0], rows_hit[0]) if len(hits) == 1 else (np.concatenate(hits), np.concatenate(rows_hit))

    def insert(self, column: Digests, rows: Rows) -> None:
        """Add rows, whose digests stand in `column`. A row may be in the index once."""
        if self._used + len(rows) > _FULL * self._rows.size:
            self._rebuild(column, self._live + len(rows))
        self._place(column, rows)
        self._live += len(rows)

    def remove(self, column: Digests, rows: Rows) -> None:
        """Take rows out. Each must be in the index, with its digest still in `column`."""
        slots = self._slots_of(column, rows)
        # No search goes on behind a bucket that has an empty slot; in one that has none the slot stays in the way.
        passed = self._full[slots // _SLOTS]
        self._tag_of[slots] = np.where(passed, _REMOVED, _EMPTY)
        self._used -= len(rows) - int(np.count_nonzero(passed))
        self._live -= len(rows)

    def move(self, column: Digests, old: Rows, new: Rows) -> None:
        """Rows `old` are to be found as `new` from now on; called before the store moves them."""
        self._rows[self._slots_of(column, old)] = new

    def _clear(self, buckets: int) -> None:
        self._tags = np.zeros(buckets, np.uint64)
        self._tag_of = self._tags.view(np.uint8)  # the same by slot: the first slot has the lowest byte
        self._rows = np.zeros(buckets * _SLOTS, np.uint32)
        self._full = np.zeros(buckets, np.bool_)  # no empty slot: what was not found here may be in the next bucket
        self._used = 0  # slots that are not empty

    def _home(self, digests: Digests) -> tuple[Ints, Words]:
        """Each digest's first bucket and its tag."""
        # 32 random bits times the number of buckets, upper half: evenly spread, whatever the number (Lemire 2019).
        buckets = (digests[:, 0] & _HALF) * np.uint64(len(self._tags)) >> _HALF_BITS
        return buckets.astype(np.int64), np.maximum(digests[:, 1] & _BYTE, _LEAST_TAG)

    def _candidates(self, digests: Digests) -> Iterator[tuple[Ints, Rows]]:
        """(positions in `digests`, slots) whose tags agree, each once, until every bucket that may have one is seen."""
        buckets, tags = self._home(digests)
        patterns = tags * _EACH
        queries = np.arange(len(digests))
        while queries.size:
            matching = _zeros(self._tags[buckets] ^ patterns)
            at = matching.nonzero()[0]
            while at.size:
                bits = matching[at]
                yield queries[at], buckets[at] * _SLOTS + _lowest(bits)
                bits &= bits - _ONE
                matching[at] = bits
                at = at[bits != 0]
            full = self._full[buckets].nonzero()[0]
            queries, patterns, buckets = queries[full], patterns[full], self._next(buckets[full])

    def _slots_of(self, column: Digests, rows: Rows) -> Rows:
        slots = np.empty(len(rows), np.int64)
        found = 0
        for queries, candidates in self._candidates(column[rows]):
            right = np.flatnonzero(self._rows[candidates] == rows[queries])
            slots[queries[right]] = candidates[right]
            found += right.size
        if found < len(rows):
            raise KeyError("a row is not in the index")
        return slots

    def _place(self, column: Digests, rows: Rows) -> None:
        buckets, tags = self._home(column[rows])
        while rows.size:
            free = _zeros(self._tags[buckets] & _TAKEN)
            room = free.nonzero()[0]
            if room.size < rows.size:
                full = (free == 0).nonzero()[0]
                buckets[full] = self._next(buckets[full])
            into, marks = buckets[room], free[room]
            slots = into * _SLOTS + _lowest(marks)
            self._rows[slots] = rows[room]  # of several that want one slot the last wins …
            won = (self._rows[slots] == rows[room]).nonzero()[0]
            slots, marks = slots[won], marks[won]
            self._used += len(slots) - int(np.count_nonzero(self._tag_of[slots]))
            self._tag_of[slots] = tags[room[won]]
            self._full[into[won]] |= marks & (marks - _ONE) == 0
            left = np.ones(len(rows), np.bool_)  # … and the others go on
            left[room[won]] = False
            if len(won) == len(rows):
                return
            rows, buckets, tags = rows[left], buckets[left], tags[left]

    def _next(self, buckets: Ints) -> Ints:
        following = buckets + 1
        following[following == len(self._tags)] = 0
        return following

    def _rebuild(self, column: Digests, expected: int) -> None:
        rows = np.sort(self._rows[self._tag_of >= _LEAST_TAG]).astype(np.int64)  # sorted, to read the column in order
        self._clear(max(_SMALLEST, int(expected * _GROWTH / (_FULL * _SLOTS)) + 1))
        self._fill(column, rows)

    def _fill(self, column: Digests, rows: Rows) -> None:
        """As `_place`, into an empty table: sorted by bucket, each row's slot is known at once."""
        buckets, tags = self._home(column[rows])
        order = buckets << 32 | np.arange(len(rows))
        order.sort()
        order &= 0xFFFFFFFF
        buckets, tags, rows = buckets[order], tags[order], rows[order]
        places = np.arange(len(rows))
        first = np.ones(len(rows), np.bool_)
        first[1:] = buckets[1:] != buckets[:-1]
        rank = places - np.maximum.accumulate(np.where(first, places, 0))
        fits = rank < _SLOTS
        slots = buckets[fits] * _SLOTS + rank[fits]
        self._rows[slots] = rows[fits]
        self._tag_of[slots] = tags[fits]
        self._full[buckets[rank == _SLOTS - 1]] = True
        self._used = len(slots)
        self._place(column, rows[~fits])


def _zeros(words: Words) -> Words:
    """0x80 in every byte that is zero, exactly, and 0 in all others (Warren 2012, "Hacker's Delight", 6-1)."""
    out = words & _LOW
    out += _LOW
    out |= words
    out |= _LOW
    np.invert(out, out=out)
    return out


def _lowest(marks: Words) -> Ints:
    """Which byte the lowest mark, 0x80, of each stands in; 8 where there is none."""
    return np.bitwise_count(~marks & marks - _ONE).astype(np.int64) >> 3
