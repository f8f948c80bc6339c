"""Where a task's series stand among a process's, and the columns of its panes read by these places."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from msemon.core import moments
from msemon.core.moments import Index
from msemon.core.panes import Sheet, found
from msemon.events import Floats, Ints


class Picked(NamedTuple):
    """The series of a task at some chosen places. Columns count these places from 0."""

    columns: Index  # of the places with one series …
    sids: Index  # … that series
    crowded: Index  # of the places with several, ascending, one a series …
    crowd: Index  # … these series


class Spread:
    """The place of each sid of a task, −1 for none, turned round. Folded series may stand at one place together."""

    def __init__(self, places: Ints, size: int) -> None:
        """Places (S,), each below `size`."""
        self.places = places
        self.size = size
        held = np.flatnonzero(places >= 0)
        alone = np.bincount(places[held], minlength=size)[places[held]] == 1
        self._one = np.full(size, -1, np.intp)
        self._one[places[held[alone]]] = held[alone]
        crowd = held[~alone]
        self._crowd = crowd[np.argsort(places[crowd], kind="stable")]

    def pick(self, places: Index) -> Picked:
        """The series at these distinct places (k,)."""
        one = self._one[places]
        columns = np.flatnonzero(one >= 0)
        if not self._crowd.size:
            return Picked(columns, one[columns], self._crowd, self._crowd)
        column = np.full(self.size, -1, np.intp)
        column[places] = np.arange(places.size)
        crowded = column[self.places[self._crowd]]
        chosen = np.flatnonzero(crowded >= 0)
        chosen = chosen[np.argsort(crowded[chosen], kind="stable")]
        return Picked(columns, one[columns], crowded[chosen], self._crowd[chosen])


def merge_pane(target: Floats, sheet: Sheet, picked: Picked, wanted: moments.Mask) -> None:
    """Merge a pane's moments at the picked places into target (FIELDS, k), into the columns with wanted (k,)."""
    rows = found(sheet.index, picked.sids)
    here = (rows > 0) & wanted[picked.columns]
    if here.all() and here.size == wanted.size:
        target[:] = moments.merge(target, sheet.data.take(rows - 1, axis=1))
    elif here.any():
        moments.merge_at(target, picked.columns[here], sheet.data.take(rows[here] - 1, axis=1))
    if picked.crowd.size:
        rows = found(sheet.index, picked.crowd)
        here = (rows > 0) & wanted[picked.crowded]
        columns, starts = np.unique(picked.crowded[here], return_index=True)
        moments.merge_at(target, columns, moments.fold(sheet.data.take(rows[here] - 1, axis=1), starts))
