"""A task's state as pieces: what a checkpoint saves and a restore is made of.

A piece is some columns and a little metadata under a name. Pieces say themselves which settings they belong to (a pane
its ring, a series its dimension), so changed settings drop what they concern and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy.typing as npt

PieceName = tuple[str | int, ...]


class BadState(Exception):
    """Pieces do not make a state: something is missing, or contradicts the rest."""


class Piece(NamedTuple):
    """Columns (one-dimensional, or two-dimensional with rows last) and metadata of plain types."""

    columns: dict[str, npt.NDArray[Any]]
    meta: dict[str, Any]


@dataclass(slots=True)
class Snapshot:
    """What a checkpoint needs: the pieces that changed since the last one, and the names of all there are."""

    partition: int
    offsets: dict[str, int]
    clocks: dict[str, int]
    changed: dict[PieceName, Piece]
    live: set[PieceName]
