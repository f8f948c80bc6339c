"""The baseline file: JSON that says what each series' squared error is as long as nothing has drifted.

    {"format": 1, "baselines": [
        {"model": "price", "version": "7", "dimension": "country", "segment": "FR",
         "mse": 2.1e8, "upper_mse": 2.3e8, "pairs": 48211, "mean_weight": 1.0, "variance_ratio": 1.4, "cv": 1.5}]}

Only `model` and `mse` are required; docs/drift.md explains the rest. Times of change are looked at, so that a file that
is replaced is read anew.
"""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np

from msemon.core.baseline import Baseline, stake
from msemon.core.view import SeriesKey
from msemon.core.watch import ANY

FORMAT = 1
_MOST_PAIRS = 2**53  # kept as float64, where the whole numbers without a gap end


class BadFile(Exception):
    """A baseline file can't be used; the text says why."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One series."""

    model: str
    mse: float
    version: str | None = None  # none: every version that has no entry of its own
    dimension: str = ""
    segment: str = ""
    upper_mse: float | None = None  # none: the MSE
    pairs: int = 0
    mean_weight: float = 1.0
    variance_ratio: float = 1.0  # VIF, over blocks of 100 pairs
    cv: float | None = None  # s(q) / upper_mse; needed where the variance ratio is above 1
    standard_error: float | None = None  # of the mse, were errors independent; like the next two, for people
    overall_mse: float | None = None  # of all pairs, where the mse is that of the worst hour
    overall_standard_error: float | None = None

    @property
    def key(self) -> SeriesKey:
        return SeriesKey(self.model, ANY if self.version is None else self.version, self.dimension, self.segment)

    @property
    def upper(self) -> float:
        return self.mse if self.upper_mse is None else self.upper_mse

    def mistake(self) -> str | None:
        """What is wrong with it, if anything."""
        sound = (
            (0.0 < self.mse < math.inf, "mse: expected a finite number above 0"),
            (self.mse <= self.upper < math.inf, "upper_mse: expected a finite number, at least the mse"),
            (0 <= self.pairs <= _MOST_PAIRS, f"pairs: expected 0 to {_MOST_PAIRS}"),
            (0.0 < self.mean_weight < math.inf, "mean_weight: expected a finite number above 0"),
            (bool(self.dimension) == bool(self.segment), "dimension and segment: expected both or neither"),
            (0.0 <= self.variance_ratio < math.inf, "variance_ratio: expected a finite number, at least 0"),
            (self.cv is not None or self.variance_ratio <= 1.0, "cv: expected where the variance_ratio is above 1"),
            (self.cv is None or 0.0 < self.cv < math.inf, "cv: expected a finite number above 0"),
            *(
                (value is None or 0.0 <= value < math.inf, f"{name}: expected a finite number, at least 0")
                for name, value in (
                    ("standard_error", self.standard_error),
                    ("overall_mse", self.overall_mse),
                    ("overall_standard_error", self.overall_standard_error),
                )
            ),
        )
        return next((text for ok, text in sound if not ok), None)

    def baseline(self, tolerated_ratio: float) -> Baseline:
        scale = stake(np.array([self.variance_ratio]), np.array([self.cv or 1.0]), tolerated_ratio)
        return Baseline(self.mse, self.upper, self.pairs, self.mean_weight, float(scale[0]))


class Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    format: int
    baselines: list[Entry]


def entries(data: bytes) -> dict[SeriesKey, Entry]:
    """The entries of a file. Raises BadFile."""
    try:
        content = msgspec.json.decode(data, type=Content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadFile(str(error)) from None
    if content.format != FORMAT:
        raise BadFile(f"format {content.format}: expected {FORMAT}")
    out: dict[SeriesKey, Entry] = {}
    for i, entry in enumerate(content.baselines):
        if (mistake := entry.mistake()) is not None:
            raise BadFile(f"baselines[{i}] ({entry.model}): {mistake}")
        if entry.key in out:
            raise BadFile(f"baselines[{i}] ({entry.model}): a second entry of the same series")
        out[entry.key] = entry
    return out


def parsed(data: bytes, tolerated_ratio: float) -> dict[SeriesKey, Baseline]:
    """The baselines of a file. Raises BadFile."""
    return {key: entry.baseline(tolerated_ratio) for key, entry in entries(data).items()}


def written(baselines: list[Entry]) -> bytes:
    """A file of these entries."""
    return msgspec.json.format(msgspec.json.encode(Content(FORMAT, baselines)), indent=1) + b"\n"


class BaselineFile:
    """A file that may be replaced at any time."""

    def __init__(self, path: str, tolerated_ratio: float) -> None:
        self._path = Path(path)
        self._tolerated_ratio = tolerated_ratio
        self._mark: tuple[int, int, int] | None = None
        self._unread = ""  # why it could not be read last time

    def changed(self) -> dict[SeriesKey, Baseline] | None:
        """Its entries, where it is another since the last call. Raises BadFile, once for each change."""
        try:
            status = self._path.stat()
            mark = status.st_mtime_ns, status.st_size, status.st_ino
            if mark == self._mark:
                return None
            data = self._path.read_bytes()
        except OSError as error:
            self._mark, told = None, self._unread
            self._unread = str(error)
            if told == self._unread:
                return None
            raise BadFile(self._unread) from error
        self._mark, self._unread = mark, ""
        return parsed(data, self._tolerated_ratio)
