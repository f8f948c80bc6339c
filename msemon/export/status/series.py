"""Some series of a view as JSON: filtered, sorted and cut to a page here, so that a browser never gets all of them."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from msemon.core.view import View
from msemon.export.status import values
from msemon.export.status.asking import Asked, Wrong
from msemon.export.status.listing import Directory, Index, Listing


class Page:
    """The answer to one question."""

    def __init__(self, asked: Asked, directory: Directory) -> None:
        self._asked = asked
        self._directory = directory

    def choose(self, view: View) -> tuple[Index, Index]:
        """Columns of the models and of the segments on this page. Raises Wrong."""
        listing, rows = self._directory.of(view), self._rows(view)[1]
        part = listing.part[rows]
        return listing.column[rows[~part]], listing.column[rows[part]]

    def answer(self, view: View | None) -> bytes:
        """Raises Wrong."""
        asked = self._asked
        total, shown = (0, []) if view is None else self._shown(view)
        return msgspec.json.encode(
            {
                "windows": [] if view is None else view.windows,
                "total": total,
                "offset": asked.offset,
                "limit": asked.limit,
                "drifting": {
                    "models": 0 if view is None else int(values.drifting(view.models).sum()),
                    "segments": 0 if view is None else int(values.drifting(view.segments).sum()),
                },
                "trend": None if view is None else values.about(view.trend),
                "series": shown,
            }
        )

    def _shown(self, view: View) -> tuple[int, list[dict[str, Any]]]:
        listing = self._directory.of(view)
        total, rows = self._rows(view)
        told: dict[int, dict[str, Any]] = {}
        lines = iter(values.lines(view.trend))  # of models, then of segments, as `choose` gave them
        for part, table in enumerate((view.models, view.segments)):
            mine = rows[listing.part[rows] == bool(part)]
            columns = listing.column[mine]
            covered = iter(values.coverage(view, columns) if not part else [])
            of_windows = values.windows(view, listing, bool(part), columns)
            for row, each, drift in zip(mine.tolist(), of_windows, values.drift(table, columns), strict=True):
                told[row] = listing.keys[row]._asdict() | {"windows": each} | drift
                if not part:
                    told[row]["coverage"] = next(covered)
                if view.trend is not None:
                    told[row]["trend"] = next(lines)
        return total, [told[row] for row in rows.tolist()]

    def _rows(self, view: View) -> tuple[int, Index]:
        """How many series the filters leave, and the rows of the listing that are on this page."""
        asked, listing = self._asked, self._directory.of(view)
        window = window_of(view, asked.window)
        rows = listing.wanted(asked)
        if asked.drifting:
            active = values.drifting(view.models), values.drifting(view.segments)
            rows = rows[_by_row(listing, rows, active) == 1]
        if asked.sort.by != "name":
            column = _by_row(listing, rows, values.sortable(view, listing, asked.sort.by, window))
            column = np.where(np.isfinite(column), -column if asked.sort.descending else column, np.inf)
            rows = rows[np.argsort(column, kind="stable")]  # what is absent comes last, ties by name
        elif asked.sort.descending:
            rows = rows[::-1]
        return rows.size, rows[asked.offset : asked.offset + asked.limit]


def window_of(view: View, name: str | None) -> int:
    """Index of a window; None is the first. Raises Wrong."""
    if name is None:
        return 0
    if name not in view.windows:
        raise Wrong(f"window: there is no {name!r}; there are {', '.join(view.windows)}")
    return view.windows.index(name)


def _by_row(listing: Listing, rows: Index, columns: tuple[Any, Any]) -> Any:
    """Values of models and segments as values of these rows."""
    both = np.concatenate(columns)
    return both[listing.column[rows] + np.where(listing.part[rows], columns[0].size, 0)]
