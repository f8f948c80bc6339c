"""How the error of a few series went within a window: its panes as the points of a line.

Panes are what the window is kept in anyway, so a line needs no memory of its own, is exact, and outlives the process.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from msemon.core.moments import MEAN_Q, W
from msemon.core.panes import found
from msemon.core.rolling import Part
from msemon.core.shape import Window
from msemon.core.task import NEVER
from msemon.core.view import Trend
from msemon.events import Floats, Ints

POINTS = 60
"""Most points of a line."""


def trend(parts: Sequence[Part], ring: int, window: Window, places: Ints, now: Ints) -> Trend:
    """Lines of the series at distinct places (k,), each up to the pane of its own now: `now` (P,) by place, in µs.

    Where a window has more panes than points, a point is a fixed group of panes: so a line moves on, and what it has
    shown does not change shape. Σw·q and Σw are only added, so nothing cancels.
    """
    group = -(-window.panes // POINTS)
    points = -(-window.panes // group)
    known = now[places] != NEVER
    newest = np.where(known, now[places] // (window.pane_us * group), -1)
    rank = np.full(now.size, -1, np.int64)
    rank[places] = np.arange(places.size)
    sums = np.zeros((2, places.size, points))
    for part in parts:
        _add(sums, part, ring, group, rank, newest)
    with np.errstate(all="ignore"):
        mse = sums[0] / sums[1]
    step_s = window.pane_us * group / 1e6
    ends = np.where(known, (newest + 1) * step_s, np.nan)
    return Trend(window.name, step_s, ends, np.where(np.isfinite(mse), mse, np.nan))


def _add(sums: Floats, part: Part, ring: int, group: int, rank: Ints, newest: Ints) -> None:
    """Add one task's panes to sums (2, k, points)."""
    held = np.flatnonzero(part.places >= 0)
    sids = held[rank[part.places[held]] >= 0]
    who = rank[part.places[sids]]
    points = sums.shape[2]
    for number, sheet in part.rings[ring].items():
        at = points - 1 - (newest[who] - number // group)
        rows = found(sheet.index, sids)
        here = np.flatnonzero((rows > 0) & (at >= 0) & (at < points))
        if here.size:
            weight, mean = sheet.data[:, rows[here] - 1][[W, MEAN_Q]]
            np.add.at(sums[0], (who[here], at[here]), weight * mean)
            np.add.at(sums[1], (who[here], at[here]), weight)
