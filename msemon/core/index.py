"""A hash index from digests to rows of a few stores, a batch at a time.

Buckets of eight slots: a byte of tag each, all eight in one integer, and four bytes that tell store and row. A digest
is looked for in its home bucket, and in the next ones as long as buckets are full; only rows whose tags agree are
looked at in their store's own column of digests. Several rows may share a digest: a look-up gives all of them. One
index serves all stores of a join, since an event asks each of them for the same id.

Every step handles the whole batch with numpy, and one suffices for nearly every event: a bucket is full for one in ten
where the table is fullest. Open addressing slot by slot took as many steps as the longest probe of a batch, a dozen,
and a random read of a digest for each of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from msemon.core.digest import Digests
from msemon.events import Ints

Rows = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

_SLOTS = 8
_STORE_BITS = 2  # of a slot's four bytes; the rest is the row
_EMPTY, _REMOVED, _LEAST_TAG = (np.uint64(n) for n in (0, 1, 2))  # what a slot's byte says; tags are of live rows
_SMALLEST = 128  # buckets
_FULL = 0.65  # of the slots, live and removed: beyond it the table is built anew
_SMALL, _GROWTH, _SMALL_GROWTH = 200_000, 1.5, 4.0  # entries: building anew costs little memory and much time at first

_ONE, _BYTE, _HALF, _HALF_BITS = (np.uint64(n) for n in (1, 0xFF, 0xFFFFFFFF, 32))
_EACH = np.uint64(0x0101010101010101)
_LOW = np.uint64(0x7F7F7F7F7F7F7F7F)
_TAKEN = np.uint64(0xFEFEFEFEFEFEFEFE)  # the bits that neither an empty nor a removed slot's byte has


_FAR = 1 << 62


class TooMany(Exception):
    """More rows than were wanted at a time."""


class Store(Protocol):
    """What the index asks of a store: digests by row."""

    digest: Digests


class Hits(NamedTuple):
    """What a look-up found: positions of queries, ascending, the store and row of each, and where the index has it."""

    queries: Ints
    stores: Ints
    rows: Rows
    slots: Rows

    def of(self, store: int) -> tuple[Ints, Rows, Rows]:
        """(queries, rows, slots) in one store."""
        mine = (self.stores == store).nonzero()[0]
        if mine.size == self.stores.size:
            return self.queries, self.rows, self.slots
        return self.queries[mine], self.rows[mine], self.slots[mine]


class Index:
    """Multimap digest → rows of stores."""

    def __init__(self) -> None:
        self._stores: list[Store] = []
        self._clear(_SMALLEST)
        self._live = 0

    @property
    def nbytes(self) -> int:
        return self._tags.nbytes + self._places.nbytes + self._full.nbytes

    def __len__(self) -> int:
        return self._live

    def add(self, store: Store) -> int:
        """Serve this store too; gives its number here."""
        assert len(self._stores) < 1 << _STORE_BITS
        self._stores.append(store)
        return len(self._stores) - 1

    def lookup(self, wanted: Digests, most: int = _FAR) -> Hits:
        """All rows with one of the wanted digests. Slots hold until the next `insert`.

        Raises TooMany where there are more than `most`, unless a single digest has them.
        """
        found: list[tuple[Ints, Ints, Rows]] = []
        count = 0
        for queries, slots in self._candidates(wanted) if self._live else ():
            places = self._places[slots].astype(np.int64)
            theirs, mine = self._digests(places), wanted[queries]
            same = ((theirs[:, 0] == mine[:, 0]) & (theirs[:, 1] == mine[:, 1])).nonzero()[0]
            if same.size:  # a tag tells less than a digest
                found.append((queries[same], places[same], slots[same]))
                if (count := count + same.size) > most and len(wanted) > 1:
                    raise TooMany
        if not found:
            return Hits(*np.empty((4, 0), np.int64))
        queries, places, slots = found[0] if len(found) == 1 else map(np.concatenate, zip(*found, strict=True))
        if len(found) > 1:
            order = np.argsort(queries, kind="stable")
            queries, places, slots = queries[order], places[order], slots[order]
        return Hits(queries, places & (1 << _STORE_BITS) - 1, places >> _STORE_BITS, slots)

    def insert(self, store: int, rows: Rows) -> None:
        """Add rows of a store, whose digests stand there. A row may be in the index once."""
        if self._used + len(rows) > _FULL * self._places.size:
            self._rebuild(self._live + len(rows))
        self._place(rows << _STORE_BITS | store, self._stores[store].digest[rows])
        self._live += len(rows)

    def remove(self, store: int, rows: Rows) -> None:
        """Take rows out. Each must be in the index, with its digest still in the store."""
        slots = self._slots_of(store, rows)
        # No search goes on behind a bucket that has an empty slot; in one that has none the slot stays in the way.
        passed = self._full[slots // _SLOTS]
        self._tag_of[slots] = np.where(passed, _REMOVED, _EMPTY)
        self._used -= len(rows) - int(np.count_nonzero(passed))
        self._live -= len(rows)

    def move(self, store: int, old: Rows, new: Rows) -> None:
        """Rows `old` are to be found as `new` from now on; called before the store moves them."""
        self.replace(self._slots_of(store, old), store, new)

    def replace(self, slots: Rows, store: int, rows: Rows) -> None:
        """What a look-up found in these slots makes way for rows of the same digests."""
        self._places[slots] = rows << _STORE_BITS | store

    def _clear(self, buckets: int) -> None:
        self._tags = np.zeros(buckets, np.uint64)
        self._tag_of = self._tags.view(np.uint8)  # the same by slot: the first slot has the lowest byte
        self._places = np.zeros(buckets * _SLOTS, np.uint32)  # row and store
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
            if at.size:
                bits = matching[at]
                yield queries[at], buckets[at] * _SLOTS + _lowest(bits)
                bits &= bits - _ONE
                if (more := bits.nonzero()[0]).size:
                    which, slots = bits[more].view(np.uint8).reshape(-1, _SLOTS).nonzero()
                    at = at[more[which]]
                    yield queries[at], buckets[at] * _SLOTS + slots
            full = self._full[buckets].nonzero()[0]
            queries, patterns, buckets = queries[full], patterns[full], self._next(buckets[full])

    def _digests(self, places: Ints) -> Digests:
        numbers, rows = places & (1 << _STORE_BITS) - 1, places >> _STORE_BITS
        digests: Digests = np.empty((len(places), 2), np.uint64)
        for number, store in enumerate(self._stores):
            mine = (numbers == number).nonzero()[0]
            digests[mine] = store.digest[rows[mine]]
        return digests

    def _slots_of(self, store: int, rows: Rows) -> Rows:
        slots = np.empty(len(rows), np.int64)
        places = rows << _STORE_BITS | store
        found = 0
        for queries, candidates in self._candidates(self._stores[store].digest[rows]):
            right = (self._places[candidates] == places[queries]).nonzero()[0]
            slots[queries[right]] = candidates[right]
            found += right.size
        if found < len(rows):
            raise KeyError("a row is not in the index")
        return slots

    def _place(self, places: Ints, digests: Digests) -> None:
        buckets, tags = self._home(digests)
        while places.size:
            free = _zeros(self._tags[buckets] & _TAKEN)
            room = free.nonzero()[0]
            if room.size < places.size:
                full = (free == 0).nonzero()[0]
                buckets[full] = self._next(buckets[full])
            into, marks = buckets[room], free[room]
            slots = into * _SLOTS + _lowest(marks)
            self._places[slots] = places[room]  # of several that want one slot the last wins …
            won = (self._places[slots] == places[room]).nonzero()[0]
            slots, marks = slots[won], marks[won]
            self._used += len(slots) - int(np.count_nonzero(self._tag_of[slots]))
            self._tag_of[slots] = tags[room[won]]
            self._full[into[won]] |= marks & (marks - _ONE) == 0
            if len(won) == len(places):
                return
            left = np.ones(len(places), np.bool_)  # … and the others go on
            left[room[won]] = False
            places, buckets, tags = places[left], buckets[left], tags[left]

    def _next(self, buckets: Ints) -> Ints:
        following = buckets + 1
        following[following == len(self._tags)] = 0
        return following

    def _rebuild(self, expected: int) -> None:
        places = self._places[self._tag_of >= _LEAST_TAG].astype(np.int64)
        growth = _SMALL_GROWTH if expected < _SMALL else _GROWTH
        self._clear(max(_SMALLEST, int(expected * growth / (_FULL * _SLOTS)) + 1))
        numbers = places & (1 << _STORE_BITS) - 1
        # sorted, so that the columns of digests are read in their order
        self._fill(np.concatenate([np.sort(places[numbers == number]) for number in range(len(self._stores))]))

    def _fill(self, places: Ints) -> None:
        """As `_place`, into an empty table: sorted by bucket, nearly every place's slot is known at once."""
        buckets, tags = self._home(self._digests(places))
        order = buckets << 32 | np.arange(len(places))
        order.sort()
        order &= 0xFFFFFFFF
        buckets, tags, places = buckets[order], tags[order], places[order]
        at = np.arange(len(places))
        first = np.ones(len(places), np.bool_)
        first[1:] = buckets[1:] != buckets[:-1]
        rank = at - np.maximum.accumulate(np.where(first, at, 0))
        fits = rank < _SLOTS
        slots = buckets[fits] * _SLOTS + rank[fits]
        self._places[slots] = places[fits]
        self._tag_of[slots] = tags[fits]
        self._full[buckets[rank == _SLOTS - 1]] = True
        self._used = len(slots)
        rest = places[~fits]
        self._place(rest, self._digests(rest))


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
