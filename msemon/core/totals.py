"""Running sums that lose nothing, and a process's counters by series."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from msemon.core.series import OTHER
from msemon.core.view import DELAY_BOUNDS_S, SeriesKey
from msemon.events import Floats, Ints


class Compensated:
    """`rows` sums for each of a growing number of places, with what rounding took kept beside them.

    Neumaier 1974: after any number of additions a sum is as good as one of exact terms rounded once or twice.
    """

    def __init__(self, rows: int) -> None:
        self._high = np.zeros((rows, 0))
        self._low = np.zeros((rows, 0))

    def add(self, places: npt.NDArray[np.integer], values: Floats) -> None:
        """Add values (rows, k) at k distinct places."""
        if not places.size:
            return
        self._grow(int(places.max()) + 1)
        old = self._high[:, places]
        with np.errstate(over="ignore", invalid="ignore"):
            new = old + values
            lost = np.where(np.abs(old) >= np.abs(values), (old - new) + values, (values - new) + old)
        self._high[:, places] = new
        self._low[:, places] += lost

    def sums(self, size: int) -> Floats:
        """Sums (rows, size) of the first `size` places."""
        self._grow(size)
        with np.errstate(invalid="ignore"):
            return np.asarray(self._high[:, :size] + self._low[:, :size])

    def parts(self, size: int) -> tuple[Floats, Floats]:
        """High and low parts, each (rows, size), of the first `size` places."""
        self._grow(size)
        return self._high[:, :size], self._low[:, :size]

    def take(self, place: int) -> Floats:
        """High and low parts (2, rows) of one place, which then is 0."""
        self._grow(place + 1)
        parts = np.stack([self._high[:, place], self._low[:, place]])
        self._high[:, place] = self._low[:, place] = 0.0
        return parts

    def put(self, place: int, parts: Floats) -> None:
        """Set one place to what `take` gave."""
        self._grow(place + 1)
        self._high[:, place], self._low[:, place] = parts

    def _grow(self, size: int) -> None:
        have = self._high.shape[1]
        if size > have:
            more = np.zeros((self._high.shape[0], max(size, have * 3 // 2, 16) - have))
            self._high = np.concatenate([self._high, more], axis=1)
            self._low = np.concatenate([self._low, more], axis=1)


class Ledger:
    """The process's own counters by series, from 0 at its start. Partitions come and go without changing them.

    A series has a place here as long as a task holds it, and for one longest window after it was last counted.
    """

    def __init__(self, total_series_limit: int) -> None:
        self.keys: list[SeriesKey | None] = []
        self.version = 0  # goes up whenever a place changes hands
        self._limit = total_series_limit
        self._places: dict[SeriesKey, int] = {}
        self._free: list[int] = []
        self._segments = 0
        self._counters = Compensated(6)
        self._delay_sum = Compensated(1)
        self._delays = np.zeros((0, len(DELAY_BOUNDS_S) + 1), np.int64)
        self._folded = np.zeros(0, np.int64)
        self._touched = np.zeros(0, np.int64)

    def places(self, keys: list[SeriesKey | None]) -> Ints:
        """The place of each key, -1 for None; new ones made, segments beyond the limit folded."""
        found = [self._place(key) if key is not None else -1 for key in keys]
        return np.array(found, np.int64)

    def shared(self, keys: list[SeriesKey | None]) -> npt.NDArray[np.bool_]:
        """Which of these, just placed, have no place of their own: they are folded here."""
        if self._segments < self._limit:
            return np.zeros(len(keys), np.bool_)
        return np.array([key is not None and key not in self._places for key in keys], np.bool_)

    def count(self, places: Ints, sums: Floats, wall_us: int) -> None:
        """Add sums (6, k): pairs, Σw, Σw·q, Σw·|e|, over- and underprediction. Places may repeat."""
        distinct, merged = places, sums
        ordered = np.sort(places)
        if (ordered[1:] == ordered[:-1]).any():
            distinct, column = np.unique(places, return_inverse=True)
            merged = np.zeros((len(sums), len(distinct)))
            for row, values in zip(merged, sums, strict=True):
                np.add.at(row, column, values)
        self._counters.add(distinct, merged)
        self._size_up()
        self._touched[distinct] = wall_us

    def delayed(self, places: Ints, delays_us: Ints) -> None:
        """Put one label delay a place and position into the histogram."""
        if not places.size:
            return
        self._size_up()
        seconds = delays_us / 1e6
        np.add.at(self._delays, (places, np.searchsorted(DELAY_BOUNDS_S, seconds)), 1)
        distinct = np.bincount(places).nonzero()[0]
        self._delay_sum.add(distinct, np.bincount(places, seconds)[None, distinct].astype(np.float64))

    def folded(self, places: Ints) -> None:
        """Count one folded pair a position."""
        if places.size:
            self._size_up()
            np.add.at(self._folded, places, 1)

    def counters(self, places: Ints) -> Floats:
        """(6, k)"""
        return self._counters.sums(len(self.keys))[:, places]

    def delay_histogram(self, places: Ints) -> tuple[Ints, Floats]:
        """Counts (k, buckets) by bucket, and sums (k,) in seconds."""
        self._size_up()
        return self._delays[places], self._delay_sum.sums(len(self.keys))[0, places]

    def folds(self, places: Ints) -> Floats:
        self._size_up()
        return self._folded[places].astype(np.float64)

    def expire(self, held: npt.NDArray[np.bool_], before_us: int) -> list[tuple[SeriesKey, Floats]]:
        """Drop the series that no task holds (by place) and that were last counted before this time; gives their
        counters (6,).
        """
        self._size_up()
        gone = []
        for place in np.flatnonzero(~held & (self._touched[: len(self.keys)] < before_us)).tolist():
            key = self.keys[place]
            if key is None:
                continue
            self.keys[place] = None
            self.version += 1
            del self._places[key]
            self._free.append(place)
            self._segments -= bool(key.dimension and key.segment != OTHER)
            gone.append((key, self._counters.take(place).sum(axis=0)))
            self._delay_sum.take(place)
            self._delays[place] = 0
            self._folded[place] = 0
        return gone

    def _place(self, key: SeriesKey) -> int:
        place = self._places.get(key)
        if place is not None:
            return place
        if key.dimension and key.segment != OTHER:
            if self._segments >= self._limit:
                return self._place(key._replace(segment=OTHER))
            self._segments += 1
        place = self._free.pop() if self._free else len(self.keys)
        if place == len(self.keys):
            self.keys.append(None)
        self.keys[place] = key
        self.version += 1
        self._places[key] = place
        return place

    def _size_up(self) -> None:
        missing = len(self.keys) - len(self._touched)
        if missing > 0:
            missing += len(self._touched) // 2
            self._touched = np.concatenate([self._touched, np.zeros(missing, np.int64)])
            self._folded = np.concatenate([self._folded, np.zeros(missing, np.int64)])
            self._delays = np.concatenate([self._delays, np.zeros((missing, self._delays.shape[1]), np.int64)])
