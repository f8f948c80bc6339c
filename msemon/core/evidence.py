"""A process's evidence of drift: the pane sums of its tasks added up, by place of the series in its ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from msemon.core import drift, moments
from msemon.core.drift import K, Sums
from msemon.core.panes import Block
from msemon.core.shape import Shape, Window
from msemon.core.task import Task
from msemon.events import Floats, Ints

_SECOND = 1_000_000
_OPEN = 3  # newest panes of a ring that pairs still come into: they are gone through each time, older ones if changed


class Share(NamedTuple):
    """What one task has of the watched series: their columns, by sid; −1 for none."""

    task: Task
    columns: Ints


class Place(NamedTuple):
    """One series' panes in a ring, oldest first, tasks merged."""

    numbers: list[int]
    sums: Sums  # (K, p)
    moments: Floats  # (FIELDS, p)


@dataclass(slots=True)
class _Closed:
    """What gamblers owned when the older panes of a ring had passed, and all that hangs on."""

    marks: Any
    owned: Sums


class Evidence:
    """Goes through the panes of all tasks; keeps where it came to as long as older panes stay what they were."""

    def __init__(self, shape: Shape) -> None:
        self._windows = shape.windows
        self._closed: list[_Closed | None] = [None for _ in shape.windows]

    def owned(self, shares: Sequence[Share], oldest: Sequence[Ints], since_us: Ints) -> list[Sums]:
        """By ring: log of what the gamblers of k series own (K, k).

        oldest[ring] (k,) as for windows; since_us (k,): panes that begin before are passed over.
        """
        return [
            self._ring(r, window, shares, np.maximum(oldest[r], -(-since_us // window.pane_us)))
            for r, window in enumerate(self._windows)
        ]

    def peak(self, ring: int, shares: Sequence[Share], first: Ints) -> Floats:
        """The most evidence (k,) that this ring alone has had at the end of any pane from `first` (k,) on."""
        owned, most = drift.no_money(first.size), np.zeros(first.size)
        others = [drift.no_money(first.size)] * (len(self._windows) - 1)
        for number in _numbers(shares, ring):
            owned = self._through(owned, ring, self._windows[ring], shares, [number], first)
            np.maximum(most, drift.evidence([owned, *others]), out=most)
        return most

    def _ring(self, r: int, window: Window, shares: Sequence[Share], first: Ints) -> Sums:
        numbers = _numbers(shares, r)
        closed, open_ = numbers[:-_OPEN], numbers[-_OPEN:]
        known, marks = self._closed[r], _marks(shares, r, closed, first)
        if known is None or known.marks != marks:
            known = self._closed[r] = _Closed(marks, drift.no_money(first.size))
            known.owned = self._through(known.owned, r, window, shares, closed, first)
        return self._through(known.owned, r, window, shares, open_, first)

    @staticmethod
    def _through(
        owned: Sums, r: int, window: Window, shares: Sequence[Share], numbers: Sequence[int], first: Ints
    ) -> Sums:
        for number in numbers:
            sums = _pane(shares, r, number, first.size)
            wanted = drift.has_pairs(sums) & (first <= number)
            if wanted.all():
                owned = drift.after_pane(owned, sums, window.pane_us / _SECOND)
            elif wanted.any():
                owned = np.where(wanted, drift.after_pane(owned, sums, window.pane_us / _SECOND), owned)
        return owned


def of_place(shares: Sequence[Share], ring: int, column: int, first: int) -> Place:
    """The panes from `first` on of the series at this column."""
    numbers: list[int] = []
    starts: list[int] = []
    sums: list[Sums] = []
    parts: list[Floats] = []
    for number in _numbers(shares, ring):
        held = [each for each in _held(shares, ring, number, column) if number >= first]
        if held:
            numbers.append(number)
            starts.append(len(parts))
            sums.append(np.sum([won for won, _ in held], axis=0, dtype=np.float32))
            parts += [part for _, part in held]
    if not numbers:
        return Place([], np.zeros((K, 0), np.float32), moments.empty(0))
    folded = moments.fold(np.stack(parts, axis=1), np.array(starts))
    return Place(numbers, np.stack(sums, axis=1), folded)


def _numbers(shares: Sequence[Share], ring: int) -> list[int]:
    return sorted(set().union(*(share.task.watch.rings[ring] for share in shares)))


def _marks(shares: Sequence[Share], ring: int, numbers: Sequence[int], first: Ints) -> Any:
    """Equal as long as going through these panes comes to the same."""
    rings = [share.task.watch.rings[ring] for share in shares]
    blocks = [(n, i, ring[n].life, ring[n].version) for n in numbers for i, ring in enumerate(rings) if n in ring]
    return blocks, [(share.task.partition, share.columns.tobytes()) for share in shares], first.tobytes()


def _pane(shares: Sequence[Share], ring: int, number: int, size: int) -> Sums:
    """The pane's sums (K, k) over the tasks."""
    out = np.zeros((K, size), np.float32)
    for share in shares:
        block = share.task.watch.rings[ring].get(number)
        if block is not None:
            sids = np.flatnonzero(block.index[: share.columns.size])
            columns = share.columns[sids]
            here = np.flatnonzero(columns >= 0)
            out[:, columns[here]] += block.data.take(block.index[sids[here]] - 1, axis=1)
    return out


def _held(shares: Sequence[Share], ring: int, number: int, column: int) -> Iterator[tuple[Sums, Floats]]:
    """(sums (K,), moments (FIELDS,)) of each task that has pairs of this series in this pane and bet on them."""
    for share in shares:
        won = share.task.watch.rings[ring].get(number)
        pane = share.task.windows.rings[ring].get(number)
        for sid in np.flatnonzero(share.columns == column).tolist():
            if won is not None and pane is not None and (sums := _column(won, sid)).any():
                yield sums, _column(pane, sid)


def _column(block: Block, sid: int) -> Any:
    if sid >= block.index.size or not block.index[sid]:
        return np.zeros(block.data.shape[0])
    return block.data[:, block.index[sid] - 1]
