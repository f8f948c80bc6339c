"""The series of a task: one for each model, one for each segment of each dimension, as small integers (sids).

The first `series_limit` segments of a model have a place of their own; what comes beyond is folded into the segment
`__other__` of its dimension, so the segments of a dimension always add up to the total. Models beyond `models_limit`
are the model `__other__`. A series that ends gives its place, and its sid, back.
"""

from __future__ import annotations

import numpy as np

from msemon.core.names import Names, grown
from msemon.core.shape import Shape
from msemon.core.view import SeriesKey
from msemon.events import Ints, Key

OTHER = "__other__"

_UNPLACED = -1


def escape(value: str) -> str:
    """A segment value as it stands in the `segment` label, where commas join values."""
    return value.replace("\\", "\\\\").replace(",", "\\,")


class Series:
    """Gives sids to models and combos, and remembers whose they are.

    `keys[sid]` is None for a free sid; `total_of[sid]` is the sid of the series' model; `version` goes up whenever a
    sid changes hands.
    """

    def __init__(self, shape: Shape) -> None:
        self.keys: list[SeriesKey | None] = []
        self.version = 0
        self._shape = shape
        self._total_of = np.empty(0, np.int64)
        self._folded = np.empty(0, np.int64)
        self._changed = np.empty(0, np.int64)  # by sid: the version at which it last changed hands
        self._sids: dict[SeriesKey, int] = {}
        self._free: list[int] = []
        self._segments: dict[int, int] = {}  # by total sid: segments with a place of their own
        self._by_model = np.empty(0, np.int64)  # by model number of Names
        self._by_combo = np.empty((0, 1 + len(shape.dimensions)), np.int64)

    def __len__(self) -> int:
        return len(self._sids)

    @property
    def total_of(self) -> Ints:
        return self._total_of[: len(self.keys)]

    def totals(self, names: Names, models: Ints) -> Ints:
        """Total sids of model numbers, new ones placed."""
        self._by_model = grown(self._by_model, len(names.models), _UNPLACED)
        sids = self._by_model[models]
        if (sids == _UNPLACED).any():
            for model in np.unique(models[sids == _UNPLACED]).tolist():
                self._by_model[model] = self._place_model(names.models[model])
            sids = self._by_model[models]
        return sids

    def of_combos(self, names: Names, combos: Ints) -> Ints:
        """Sids (n, 1 + dimensions) of combos: the total, then one for each dimension; new ones placed in order."""
        self._by_combo = grown(self._by_combo, len(names.combos), _UNPLACED)
        sids = self._by_combo[combos]
        unplaced = sids[:, 0] == _UNPLACED
        if unplaced.any():
            for combo in dict.fromkeys(combos[unplaced].tolist()):
                total = int(self.totals(names, names.model_of[[combo]])[0])
                self._by_combo[combo] = [total, *self._place_segments(total, names.combos[combo])]
            sids = self._by_combo[combos]
        return sids

    @property
    def folded(self) -> Ints:
        """By sid: 1 where a series stands for others."""
        return self._folded[: len(self.keys)]

    def changed(self, since: int) -> Ints:
        """The sids that have changed hands since this version."""
        return np.flatnonzero(self._changed[: len(self.keys)] > since)

    def segments(self, total: int) -> int:
        """How many segments of this model have a place of their own."""
        return self._segments.get(total, 0)

    def end(self, sids: list[int]) -> None:
        """These series are over; their sids may be given to others. A model ends with or after its segments."""
        for sid in sids:
            key = self.keys[sid]
            if key is None:
                continue
            self.keys[sid] = None
            self._changed[sid] = self.version + 1
            del self._sids[key]
            self._free.append(sid)
            if not key.dimension:
                self._segments.pop(sid, None)
            elif key.segment != OTHER and (total := int(self._total_of[sid])) in self._segments:
                self._segments[total] -= 1
        self.forget_lookups()

    def forget_lookups(self) -> None:
        """Models or combos have been renumbered, or sids freed: look everything up anew."""
        self.version += 1
        self._by_model = np.empty(0, np.int64)
        self._by_combo = self._by_combo[:0]

    def adopt(self, key: SeriesKey) -> int:
        """Give a series of a restored state its place, whatever the limits say now; totals before their segments."""
        sid = self._new(key)
        total = sid if not key.dimension else self._sids[SeriesKey(key.model, key.version)]
        self._total_of[sid] = total
        if key.model != OTHER and not key.dimension:
            self._segments[sid] = 0
        elif key.dimension and key.segment != OTHER:
            self._segments[total] += 1
        return sid

    def _place_model(self, name: tuple[str, str]) -> int:
        key = SeriesKey(*name)
        if key not in self._sids and len(self._segments) >= self._shape.models_limit:
            key = SeriesKey(OTHER, "")
        sid = self._sids.get(key)
        if sid is None:
            sid = self._new(key)
            self._total_of[sid] = sid
            if key.model != OTHER:
                self._segments[sid] = 0
        return sid

    def _place_segments(self, total: int, combo: Key) -> list[int]:
        owner = self.keys[total]
        assert owner is not None
        sids = []
        for number, dimension in enumerate(self._shape.dimensions):
            text = ",".join(escape(combo[2 + i]) for i in dimension) if owner.model != OTHER else OTHER
            name = self._shape.dimension_name(number)
            sid = self._sids.get(SeriesKey(owner.model, owner.version, name, text))
            if sid is None:
                full = (
                    text == OTHER
                    or self._segments[total] >= self._shape.series_limit
                    or len(self._sids) - len(self._segments) >= self._shape.total_series_limit
                )
                key = SeriesKey(owner.model, owner.version, name, OTHER if full else text)
                sid = self._sids.get(key)
                if sid is None:
                    sid = self._new(key)
                    self._total_of[sid] = total
                    if not full:
                        self._segments[total] += 1
            sids.append(sid)
        return sids

    def _new(self, key: SeriesKey) -> int:
        if self._free:
            sid = self._free.pop()
        else:
            sid = len(self.keys)
            self.keys.append(None)
            self._total_of = grown(self._total_of, len(self.keys))
            self._folded = grown(self._folded, len(self.keys))
            self._changed = grown(self._changed, len(self.keys))
        self.version += 1
        self.keys[sid] = key
        self._sids[key] = sid
        self._folded[sid] = OTHER in (key.model, key.segment)
        self._changed[sid] = self.version
        return sid
