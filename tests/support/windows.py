"""What windows come to, from panes alone: every series stands at the place of its own sid."""

from __future__ import annotations

import numpy as np

from msemon.core.coverage import Coverage, counted
from msemon.core.rolling import Part, Rolling
from msemon.core.shape import Window
from msemon.core.windows import Windows
from msemon.events import Floats, Ints


def part_of(windows: Windows, size: int) -> Part:
    """The panes as they stand, of the series below `size`."""
    longest = max((block.index.size for block in windows.blocks()), default=0)
    places = np.arange(max(longest, size))
    places[size:] = -1
    return Part(places, [{number: block.hold() for number, block in ring.items()} for ring in windows.rings])


def let_go(windows: Windows, part: Part) -> None:
    for ring, sheets in zip(windows.rings, part.rings, strict=True):
        for number, sheet in sheets.items():
            if number in ring:
                ring[number].let_go(sheet)


def merged(windows: Windows, ring: int, oldest: Ints, panes: int = 60) -> Floats:
    """Moments (FIELDS, S): per series the merge of this ring's panes from oldest[sid] on, oldest (S,)."""
    part = part_of(windows, oldest.size)
    try:
        return Rolling([Window("", 1, panes)] * len(windows.rings)).merged([part], [oldest] * len(windows.rings))[ring]
    finally:
        let_go(windows, part)


def covered(coverage: Coverage, ring: int, oldest: Ints, newest: Ints) -> Ints:
    """Counts (2, S): predictions and labelled of each sid in its panes oldest[sid] … newest[sid], both (S,)."""
    sheets = {number: block.hold() for number, block in coverage.rings[ring].items()}
    try:
        return counted(sheets, np.arange(oldest.size), oldest, newest)
    finally:
        for number, sheet in sheets.items():
            coverage.rings[ring][number].let_go(sheet)
