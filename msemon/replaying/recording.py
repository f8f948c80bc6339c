"""Every value of every series, step by step: kept in temporary files, read by column."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from msemon.core.view import DELAY_BOUNDS_S, SeriesKey, Table, View
from msemon.events import Floats, Ints
from msemon.export.families import Family, Selection
from msemon.export.render import texts


class Column(NamedTuple):
    """One sample a series has at each step."""

    family: Family
    suffix: str = ""  # of the family's name
    label: tuple[str, str] | None = None  # beside the series' own

    @property
    def name(self) -> str:
        """Without any prefix: the same for a model and for a segment."""
        return self.family.short.removeprefix("segment_") + self.suffix


def _columns(families: Sequence[Family], windows: Sequence[str]) -> list[Column]:
    out: list[Column] = []
    for family in families:
        if family.values is None:  # the histogram
            bounds = [text.decode() for text in texts(np.array(DELAY_BOUNDS_S))]  # as the daemon writes them
            out += [Column(family, "_bucket", ("le", bound)) for bound in bounds]
            out += [Column(family, "_bucket", ("le", "+Inf")), Column(family, "_count"), Column(family, "_sum")]
        elif family.windowed:
            out += [Column(family, label=("window", window)) for window in windows]
        else:
            out.append(Column(family))
    return out


class Series:
    """The series of one table over time, models or segments. NaN where absent, as before a series' first step."""

    def __init__(self, families: Sequence[Family], windows: Sequence[str]) -> None:
        self.columns = _columns(families, windows)
        self.keys: list[SeriesKey] = []
        self._windows = list(windows)
        self._places: dict[SeriesKey, int] = {}
        self._known: list[int] = []  # series at each step
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this does
        weakref.finalize(self, self._file.close)

    def add(self, view: View, table: Table) -> None:
        """A step more."""
        for key in table.keys:
            if key not in self._places:
                self._places[key] = len(self.keys)
                self.keys.append(key)
        values = np.full((len(self.columns), len(self.keys)), np.nan)
        values[:, [self._places[key] for key in table.keys]] = self._values(view, table)
        self._known.append(len(self.keys))
        self._file.write(values.tobytes())

    def values(self, column: Column, begin: int = 0, end: int | None = None) -> Floats:
        """(steps, series from `begin` to `end`)"""
        row, height, start = self.columns.index(column), len(self.columns), 0
        end = len(self.keys) if end is None else min(end, len(self.keys))
        out = np.full((len(self._known), end - begin), np.nan)
        for step, known in enumerate(self._known):
            if known > begin:
                part = min(end, known) - begin
                self._file.seek(8 * (start + row * known + begin))
                out[step, :part] = np.frombuffer(self._file.read(8 * part))
            start += height * known
        self._file.seek(0, 2)
        return out

    def column(self, name: str, window: str | None = None) -> Column | None:
        """That of a family by its name without prefix; None where it was not recorded."""
        label = None if window is None else ("window", window)
        return next((c for c in self.columns if c.name == name and c.label == label), None)

    def find(self, name: str, window: str | None = None) -> Floats | None:
        """(steps, series): its values."""
        column = self.column(name, window)
        return None if column is None else self.values(column)

    def _values(self, view: View, table: Table) -> Floats:
        rows: list[Floats] = []
        for column in self.columns:
            if column.family.values is not None:
                window = self._windows.index(column.label[1]) if column.label else 0
                rows.append(column.family.values(view, table, window))
            elif column.suffix == "_sum":
                rows.append(view.delay_sum)
            elif column.suffix == "_count":
                rows.append(view.delays.sum(axis=1).astype(np.float64))
            else:
                bucket = sum(before.family is column.family for before in self.columns[: len(rows)])
                rows.append(view.delays[:, : bucket + 1].sum(axis=1).astype(np.float64))
        return np.array(rows).reshape(len(rows), len(table.keys))


class Recording:
    """What the views of a replay showed, one after the other."""

    def __init__(self, windows: Sequence[str], selection: Selection) -> None:
        self.windows = list(windows)
        self.models = Series(selection.models, windows)
        self.segments = Series(selection.segments, windows)
        self._times: list[int] = []

    def add(self, at_us: int, view: View) -> None:
        """The view at this time, later than those before."""
        self._times.append(at_us)
        self.models.add(view, view.models)
        self.segments.add(view, view.segments)

    @property
    def times(self) -> Ints:
        """(steps,) µs"""
        return np.array(self._times, np.int64)
