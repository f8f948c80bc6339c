"""Windows of a process as merges of panes, of which only what changed is merged again.

A ring's panes stand in *groups* of fixed, aligned size g ≈ √panes: group j is the panes j·g … (j + 1)·g − 1. The sum
of a group is kept; a window is the rest of the group it begins in, pane by pane, and then whole groups, oldest first.
So a window of 60 panes costs about 15 merges and not 60, and what it comes to is a function of its panes alone,
to the bit: not of which sums were at hand, nor of how the panes came to be. Nothing is ever subtracted.

A pane that was written to since a group was last summed costs that group's sum for the series written to, and no more.
Sums are kept only where they are at most a quarter of the columns they sum, so that all of them together take at most
a quarter of the panes' memory (an eighth where one task's panes are full), and a column a series and window more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from msemon.core import moments
from msemon.core.moments import Index
from msemon.core.panes import Block, Sheet, found
from msemon.core.shape import Window
from msemon.core.spread import Picked, Spread, merge_pane
from msemon.events import Floats, Ints

_AT_ONCE = 8192  # places merged at a time: few enough to stay in the cache, enough for numpy's cost a call not to show
_WORTH = 4  # columns that a kept one sums, at least


class Part(NamedTuple):
    """What one task gives to the windows."""

    places: Ints  # by sid; −1: none
    rings: Sequence[Mapping[int, Sheet]]  # a window's panes by number


class _Pane(NamedTuple):
    number: int
    part: int  # index of the task
    sheet: Sheet


class _Seen(NamedTuple):
    """Which block a pane was, and how far it had come: a pane that went and came back is another block."""

    life: int
    version: int


@dataclass(slots=True)
class _Group:
    """A group's sum by place, made from panes as of these versions."""

    sums: Block = field(default_factory=lambda: Block(moments.FIELDS))
    before: _Group | None = None  # of the panes before the newest, in the group that holds it
    seen: dict[tuple[int, int], _Seen] = field(default_factory=dict)  # by pane and part


class Rolling:
    """The windows of some tasks, which must stay the same ones in the same order. For one thread at a time."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self._spans = [1 << (window.panes.bit_length() // 2) for window in windows]
        self._groups: list[dict[int, _Group]] = [{} for _ in windows]
        self._places: list[Ints] = []
        self._spreads: list[Spread] = []

    def merged(self, parts: Sequence[Part], oldest: Sequence[Ints]) -> list[Floats]:
        """By window: moments (FIELDS, P) by place, of the panes from oldest[window] (P,) on."""
        try:
            moved = self._spread(parts, oldest[0].size)
            return [self._window(ring, parts, moved, each) for ring, each in enumerate(oldest)]
        except BaseException:
            self._groups = [{} for _ in self._spans]  # some may not know of what moved
            raise

    def _spread(self, parts: Sequence[Part], size: int) -> Index:
        """Note where series stand now; gives the places at which a series left or took over an old one's sid."""
        moved = [np.zeros(0, np.int64)]
        for before, part in zip(self._places, parts, strict=False):
            if before is not part.places:
                changed = np.flatnonzero(before != part.places[: before.size])
                moved += [before[changed], part.places[changed]]
        self._places = [part.places for part in parts]
        known = {id(spread.places): spread for spread in self._spreads if spread.size == size}
        self._spreads = [known.get(id(part.places)) or Spread(part.places, size) for part in parts]
        places = np.unique(np.concatenate(moved))
        return places[places >= 0]

    def _window(self, ring: int, parts: Sequence[Part], moved: Index, oldest: Ints) -> Floats:
        out = moments.empty(oldest.size)
        span, sums = self._spans[ring], self._groups[ring]
        begin = int(oldest.min(initial=np.iinfo(np.int64).max)) // span
        groups = {number: panes for number, panes in _grouped(ring, parts, span) if number >= begin}
        for number in [number for number in sums if number not in groups]:
            del sums[number]
        for number, panes in groups.items():
            if (oldest <= number * span).any():
                sums[number] = self._summed(sums.get(number), panes, moved, newest=number == max(groups))
        for places in _stretches(np.arange(oldest.size)):
            picked = [spread.pick(places) for spread in self._spreads]
            some = moments.empty(places.size)
            for number, panes in groups.items():
                _merge_group(some, number * span, panes, picked, sums.get(number), places, oldest[places])
            out[:, places] = some
        for number, group in list(sums.items()):
            if group.sums.used * _WORTH > sum(pane.sheet.used for pane in groups[number]):
                del sums[number]
        return out

    def _summed(self, group: _Group | None, panes: Sequence[_Pane], moved: Index, newest: bool) -> _Group:
        """A group's sum as of now, from what it was before. The newest pane changes all the time: what is before it in
        its group is kept too.
        """
        now = {(pane.number, pane.part): pane.sheet for pane in panes}
        if group is None or any(pane not in now or seen.life != now[pane].life for pane, seen in group.seen.items()):
            group = _Group()
        closed = [pane for pane in panes if newest and pane.number < panes[-1].number]
        group.before = self._summed(group.before, closed, moved, newest=False) if closed else None
        places = self._stale(group, panes, moved)
        group.sums.rows(places)  # makes them
        for some in _stretches(places):
            column = moments.empty(some.size)
            if group.before is not None:
                _merge_sums(column, group.before.sums, some, np.ones(some.size, np.bool_))
            picked = [spread.pick(some) for spread in self._spreads]
            for pane in panes[len(closed) :]:
                merge_pane(column, pane.sheet, picked[pane.part], np.ones(some.size, np.bool_))
            group.sums.data[:, found(group.sums.index, some) - 1] = column
        group.seen = {pane: _Seen(sheet.life, sheet.version) for pane, sheet in now.items()}
        return group

    def _stale(self, group: _Group, panes: Sequence[_Pane], moved: Index) -> Index:
        """The places at which a group's sum is no longer that of its panes."""
        stale = np.zeros(self._spreads[0].size, np.bool_)
        stale[moved] = True
        for pane in panes:
            places = self._places[pane.part]
            seen = group.seen.get((pane.number, pane.part))
            changed = places[pane.sheet.since(0 if seen is None else seen.version)]
            stale[changed[changed >= 0]] = True
        return np.flatnonzero(stale)


def _grouped(ring: int, parts: Sequence[Part], span: int) -> Iterator[tuple[int, list[_Pane]]]:
    """(number, panes) of each group that has any, oldest first; a pane's tasks in their order."""
    panes = [_Pane(number, i, sheet) for i, part in enumerate(parts) for number, sheet in part.rings[ring].items()]
    groups: dict[int, list[_Pane]] = {}
    for pane in sorted(panes, key=lambda pane: pane[:2]):
        groups.setdefault(pane.number // span, []).append(pane)
    yield from groups.items()


def _stretches(places: Index) -> Iterator[Index]:
    for begin in range(0, places.size, _AT_ONCE):
        yield places[begin : begin + _AT_ONCE]


def _merge_group(
    target: Floats, first: int, panes: Sequence[_Pane], picked: Sequence[Picked], group: _Group | None, places: Index,
    oldest: Ints,
) -> None:  # fmt: skip
    """Merge a group whose first pane is `first` into target (FIELDS, k): its sum where the window began before, or the
    panes from oldest (k,) on."""
    whole = oldest <= first
    for pane in panes:
        begun = ~whole & (oldest <= pane.number)
        if begun.any():
            merge_pane(target, pane.sheet, picked[pane.part], begun)
    if group is not None and whole.any():
        _merge_sums(target, group.sums, places, whole)


def _merge_sums(target: Floats, sums: Block, places: Index, wanted: moments.Mask) -> None:
    """Merge the sums at these places (k,) into target (FIELDS, k), into the columns with wanted (k,)."""
    rows = found(sums.index, places)
    here = wanted & (rows > 0)
    if here.all():
        target[:] = moments.merge(target, sums.data.take(rows - 1, axis=1))
    elif here.any():
        columns = np.flatnonzero(here)
        moments.merge_at(target, columns, sums.data.take(rows[columns] - 1, axis=1))
