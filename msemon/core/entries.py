"""One side of the join: entries in columns, in generations ordered by age, found by the digest of their id.

A generation is a block of consecutive rows. New entries go to the youngest block. Blocks are swept in turn, a few a
batch: what is to be forgotten leaves the index, an empty block is given back, and two neighbours that fit into one
are merged, so the rows held are at most about twice the entries. Rows move only then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from msemon.core.digest import Digests
from msemon.core.index import Hits, Index, Rows
from msemon.core.snapshot import BadState, Piece, PieceName
from msemon.events import Floats, Ints

BLOCK = 8192
_GROWTH = 1.1

DEAD, WAITING, REMEMBERED = 0, 1, 2
"""States of a row. Waiting: matched with nothing yet. Remembered: matched, kept to know repeats."""

_SAVED = ("digest", "time", "clock", "value", "record", "ref", "width")


@dataclass(slots=True)
class Block:
    """A generation: rows [start, start + used) of the columns.

    Rows never change but for their state, so a checkpoint writes both apart: what is `grown` (or was merged) anew as a
    whole, and of what is only `turned` the states.
    """

    start: int
    serial: int  # its name in checkpoints, never given again
    used: int = 0
    grown: bool = True
    turned: bool = True

    @property
    def rows(self) -> slice:
        return slice(self.start, self.start + self.used)


class Entries:
    """Columns of entries; every column has one value a row.

    digest, time, clock and record time (µs), value, width (0 for a number, else the outputs of a vector), ref (what
    the owner means by it), order (place in the log; only where asked for) and state. `weight` comes into being with
    the first weight that is not `plain_weight`, since most streams have none.
    """

    def __init__(self, plain_weight: float, *, ordered: bool, index: Index | None = None) -> None:
        """`index`: one that is shared with other stores."""
        self.blocks: list[Block] = []  # oldest first
        self.vectors: dict[int, Floats] = {}
        self.waiting = 0
        self.remembered = 0
        self._plain = plain_weight
        self._ordered = ordered
        self._free: list[int] = []
        self._capacity = 0
        self._swept = 0
        self._serial = 0
        self._turned = np.zeros(0, np.bool_)  # by place of a block in the columns: states have changed
        self.index = Index() if index is None else index
        self._number = self.index.add(self)
        self.digest: Digests = np.empty((0, 2), np.uint64)
        self.time: Ints = np.empty(0, np.int64)
        self.clock: Ints = np.empty(0, np.int64)
        self.value: Floats = np.empty(0, np.float64)
        self.record: Ints = np.empty(0, np.int64)
        self.ref: npt.NDArray[np.int32] = np.empty(0, np.int32)
        self.width: npt.NDArray[np.uint16] = np.empty(0, np.uint16)
        self.state: npt.NDArray[np.uint8] = np.empty(0, np.uint8)
        self.order: Ints = np.empty(0, np.int64)
        self.weight: Floats | None = None

    def __len__(self) -> int:
        return self.waiting + self.remembered

    @property
    def nbytes(self) -> int:
        """Bytes of columns and this store's share of the index, vectors left out."""
        share = self.index.nbytes * len(self) / max(1, len(self.index))
        return round(share) + sum(column.nbytes for column in self._columns())

    def among(self, hits: Hits) -> tuple[Ints, Rows, Rows]:
        """Positions, rows here and slots of what a look-up in the index has found of this store, whatever its state."""
        return hits.of(self._number)

    def append(
        self,
        digest: Digests,
        time: Ints,
        clock: Ints,
        value: Floats,
        weight: Floats,
        ref: Ints,
        width: Ints,
        state: npt.NDArray[np.uint8],
        order: Ints,
        record: Ints | None = None,
        slots: Rows | None = None,
    ) -> Rows:
        """Add n entries; gives their rows. `slots`: where the index has what they take the place of."""
        if self.weight is None and not self._all_plain(weight):
            self.weight = np.full(self._capacity, self._plain)
        rows = self._allocate(len(time))
        values: dict[str, npt.NDArray[Any]] = {
            "digest": digest, "time": time, "clock": clock, "value": value, "ref": ref, "width": width, "state": state,
            "record": np.zeros(len(time), np.int64) if record is None else record,
        }  # fmt: skip
        if self._ordered:
            values["order"] = order
        if self.weight is not None:
            values["weight"] = weight
        for begin, end in _stretches(rows):
            first = int(rows[begin])
            for name, given in values.items():
                getattr(self, name)[first : first + end - begin] = given[begin:end]
        waiting = int(np.count_nonzero(state == WAITING))
        self.waiting += waiting
        self.remembered += len(rows) - waiting
        if slots is None:
            self.index.insert(self._number, rows)
        else:
            self.index.replace(slots, self._number, rows)
        return rows

    def weights(self, rows: Rows) -> Floats:
        return np.full(len(rows), self._plain) if self.weight is None else self.weight[rows]

    def remember(self, rows: Rows) -> None:
        """These (distinct) rows have been matched."""
        fresh = int(np.count_nonzero(self.state[rows] == WAITING))
        self.state[rows] = REMEMBERED
        self._turned[rows // BLOCK] = True
        self.waiting -= fresh
        self.remembered += fresh

    def forget(self, rows: Rows) -> int:
        """Drop live rows; gives how many of them had waited."""
        if not rows.size:
            return 0
        self.index.remove(self._number, rows)
        return self.bury(rows)

    def bury(self, rows: Rows) -> int:
        """As `forget`, for rows whose place in the index others have taken."""
        waited = int(np.count_nonzero(self.state[rows] == WAITING))
        self.state[rows] = DEAD
        self._turned[rows // BLOCK] = True
        self.waiting -= waited
        self.remembered -= len(rows) - waited
        if self.vectors:
            for row in rows[self.width[rows] > 0].tolist():
                self.vectors.pop(row, None)
        return waited

    def sweep(self, effort: int, gone: Callable[[slice], npt.NDArray[np.bool_]]) -> int:
        """Look at the next blocks, about `effort` rows, and forget the rows for which `gone` says so.

        Gives how many forgotten entries had waited.
        """
        waited = 0
        looked = 0
        turns = len(self.blocks)
        while turns > 0 and looked < effort:
            turns -= 1
            self._swept = self._swept + 1 if self._swept + 1 < len(self.blocks) else 0
            block = self.blocks[self._swept]
            looked += block.used
            dead = gone(block.rows) & (self.state[block.rows] != DEAD)
            waited += self.forget(dead.nonzero()[0] + block.start)
            self._tidy(self._swept)
        return waited

    def oldest(self, state: int, count: int) -> Rows:
        """Up to `count` rows in this state from the oldest generations on."""
        rows: list[Rows] = []
        for block in self.blocks:
            if count <= 0:
                break
            found = np.flatnonzero(self.state[block.rows] == state)[:count] + block.start
            rows.append(found)
            count -= len(found)
        return np.concatenate(rows) if rows else np.empty(0, np.int64)

    def live(self) -> Rows:
        """All live rows, oldest generation first."""
        rows = [np.flatnonzero(self.state[block.rows] != DEAD) + block.start for block in self.blocks]
        return np.concatenate(rows) if rows else np.empty(0, np.int64)

    def touch(self, serials: Collection[int] | None = None) -> None:
        """These generations, or all, are to be written again with the next checkpoint."""
        for block in self.blocks:
            block.grown |= serials is None or block.serial in serials

    def pieces(self, name: str) -> Iterator[tuple[PieceName, Piece | None]]:
        """Every piece of this store by name, oldest generation first; None where it is as it was last time."""
        for block in self.blocks:
            turned = block.grown or bool(self._turned[block.start // BLOCK])
            yield (name, block.serial), self._whole(block) if block.grown else None
            yield (name, block.serial, "states"), self._states(block) if turned else None
            block.grown = False
            self._turned[block.start // BLOCK] = False

    def adopt(self, generations: Sequence[tuple[Piece, Piece]], refs: Ints) -> None:
        """Append what is alive of generations that `pieces` gave (whole and states, oldest first); `refs` are the
        values of their refs now. Raises BadState.
        """
        alive = [self._alive(whole, states) for whole, states in generations]
        self._reserve(sum(live.size for live, _ in alive))
        added: list[Rows] = []
        for (whole, _), (live, state) in zip(generations, alive, strict=True):
            added.append(self._put_back(whole.columns, live, state, refs))
        self.index.insert(self._number, np.concatenate([np.empty(0, np.int64), *added]))

    def _alive(self, whole: Piece, states: Piece) -> tuple[Rows, npt.NDArray[np.uint8]]:
        """Rows of a generation that are not dead, and their states. Raises BadState."""
        columns, rows = whole.columns, len(whole.columns.get("time", ()))
        planes = np.unpackbits(states.columns["planes"], axis=1, count=rows) if rows else np.zeros((2, 0), np.uint8)
        state = planes[0] + 2 * planes[1]
        wanted = {*_SAVED, *(["order"] if self._ordered else [])}
        fits = wanted <= columns.keys() and all(columns[c].shape[-1] == rows for c in columns.keys() - {"vectors"})
        if not fits or state.max(initial=DEAD) > REMEMBERED:
            raise BadState("the columns of a generation do not fit together")
        if len(columns.get("vectors", ())) != columns["width"].sum(dtype=np.int64):
            raise BadState("the vectors of a generation do not fit its widths")
        live = np.flatnonzero(state != DEAD)
        return live, state[live]

    def _put_back(
        self, columns: dict[str, npt.NDArray[Any]], live: Rows, state: npt.NDArray[np.uint8], refs: Ints
    ) -> Rows:
        """The rows that these now have; they are not in the index yet."""
        if "weight" in columns and self.weight is None:
            self.weight = np.full(self._capacity, self._plain)
        rows = self._allocate(live.size)
        self.digest[rows] = columns["digest"].T[live]
        for name in ("time", "clock", "value", "record", "width", *(["order"] if self._ordered else [])):
            getattr(self, name)[rows] = columns[name][live]
        self.ref[rows] = refs[columns["ref"][live]]  # a dead row's may be out of date
        self.state[rows] = state
        if self.weight is not None:
            self.weight[rows] = columns["weight"][live] if "weight" in columns else self._plain
        remembered = int(np.count_nonzero(state == REMEMBERED))
        self.waiting += live.size - remembered
        self.remembered += remembered
        wide = np.flatnonzero(columns["width"][live])
        if wide.size:
            ends = np.cumsum(columns["width"], dtype=np.int64)[live[wide]]
            for row, width, end in zip(rows[wide].tolist(), columns["width"][live[wide]].tolist(), ends, strict=True):
                self.vectors[row] = columns["vectors"][end - width : end].copy()
        return rows

    def _whole(self, block: Block) -> Piece:
        rows = block.rows
        columns: dict[str, npt.NDArray[Any]] = {
            "digest": np.ascontiguousarray(self.digest[rows].T),
            **{name: getattr(self, name)[rows].copy() for name in _SAVED[1:]},
        }
        if self._ordered:
            columns["order"] = self.order[rows].copy()
        if self.weight is not None:
            columns["weight"] = self.weight[rows].copy()
        wide = np.flatnonzero(columns["width"])
        held = [self.vectors.get(block.start + row) for row in wide.tolist()]
        for row, vector in zip(wide.tolist(), held, strict=True):
            if vector is None:  # dead
                columns["width"][row] = 0
        columns["vectors"] = np.concatenate([np.empty(0), *(vector for vector in held if vector is not None)])
        return Piece(columns, {})

    def _states(self, block: Block) -> Piece:
        state = self.state[block.rows]
        return Piece({"planes": np.packbits(np.stack([state & 1, state >> 1]), axis=1)}, {})

    def _all_plain(self, weight: Floats) -> bool:
        return bool(np.isnan(weight).all() if np.isnan(self._plain) else (weight == self._plain).all())

    def _columns(self) -> list[npt.NDArray[np.generic]]:
        columns: list[npt.NDArray[np.generic]] = [
            self.digest, self.time, self.clock, self.value, self.record, self.ref, self.width, self.state,
        ]  # fmt: skip
        if self._ordered:
            columns.append(self.order)
        if self.weight is not None:
            columns.append(self.weight)
        return columns

    def _allocate(self, n: int) -> Rows:
        rows: list[Rows] = []
        while n > 0:
            if not self.blocks or self.blocks[-1].used == BLOCK:
                self.blocks.append(Block(self._new_block(), self._serial))
                self._serial += 1
            block = self.blocks[-1]
            block.grown = True
            taken = min(n, BLOCK - block.used)
            first = block.start + block.used
            rows.append(np.arange(first, first + taken))
            block.used += taken
            n -= taken
        return np.concatenate(rows) if rows else np.empty(0, np.int64)

    def _new_block(self) -> int:
        if not self._free:
            self._widen(max(self._capacity + BLOCK, int(self._capacity * _GROWTH) // BLOCK * BLOCK))
        return self._free.pop()

    def _reserve(self, rows: int) -> None:
        """Make room for so many rows at once: columns that grow step by step are copied again and again."""
        lacking = -(-rows // BLOCK) - len(self._free)
        if lacking > 0:
            self._widen(self._capacity + lacking * BLOCK)

    def _widen(self, capacity: int) -> None:
        old, self._capacity = self._capacity, capacity
        for column in self._columns():
            # refcheck: views of a column never outlive a call of this class's methods
            column.resize((capacity, *column.shape[1:]), refcheck=False)
        self._turned.resize(capacity // BLOCK, refcheck=False)
        self._free.extend(range(capacity - BLOCK, old - 1, -BLOCK))

    def _tidy(self, place: int) -> None:
        block = self.blocks[place]
        live = (self.state[block.rows] != DEAD).nonzero()[0] + block.start
        if not live.size:
            del self.blocks[place]
            self._give_back(block)
        elif place + 1 < len(self.blocks) and 2 * live.size < BLOCK:
            young = self.blocks[place + 1]
            more = (self.state[young.rows] != DEAD).nonzero()[0] + young.start
            if live.size + more.size <= BLOCK:
                self._merge(place, np.concatenate([live, more]))

    def _merge(self, place: int, rows: Rows) -> None:
        """Move `rows`, the live ones of this block and the next younger, to the start of this block."""
        old, young = self.blocks[place], self.blocks[place + 1]
        target = np.arange(old.start, old.start + len(rows))
        self.index.move(self._number, rows, target)
        for column in self._columns():
            column[target] = column[rows]
        if self.vectors:
            places = zip(rows.tolist(), target.tolist(), strict=True)
            self.vectors.update({new: self.vectors.pop(row) for row, new in places if row in self.vectors})
        self.state[old.start + len(rows) : old.start + max(old.used, len(rows))] = DEAD
        old.used = len(rows)
        old.grown = True
        del self.blocks[place + 1]
        self._give_back(young)

    def _give_back(self, block: Block) -> None:
        self.state[block.rows] = DEAD
        self._free.append(block.start)


def _stretches(rows: Rows) -> list[tuple[int, int]]:
    """[begin, end) of the positions whose rows follow one another."""
    if not rows.size:
        return []
    cuts: list[int] = ((rows[1:] != rows[:-1] + 1).nonzero()[0] + 1).tolist()
    return list(pairwise([0, *cuts, len(rows)]))
