"""The names of a view's series in order, and which of them are asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from msemon.core.view import SeriesKey, View
from msemon.export.status.asking import Asked

Index = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Listing:
    """All series of a view ordered by model, version, dimension and segment: a total before its parts."""

    names: tuple[list[SeriesKey], list[SeriesKey]]  # the view's own, of models and of segments
    keys: list[SeriesKey]
    texts: list[str]  # what is searched
    part: npt.NDArray[np.bool_]  # whether it is a segment
    column: Index  # in the view's models, or in its segments
    total: Index  # (segments,) column of the model that a segment is part of, −1 where that is not shown

    @staticmethod
    def of(view: View) -> Listing:
        tables = view.models.keys, view.segments.keys
        order = sorted((key, part, column) for part, keys in enumerate(tables) for column, key in enumerate(keys))
        column_of = {key: column for column, key in enumerate(view.models.keys)}
        return Listing(
            names=tables,
            keys=[key for key, _, _ in order],
            texts=["\n".join(key).lower() for key, _, _ in order],
            part=np.array([part for _, part, _ in order], np.bool_),
            column=np.array([column for _, _, column in order], np.intp),
            total=np.array([column_of.get(SeriesKey(*key[:2]), -1) for key in view.segments.keys], np.intp),
        )

    def is_of(self, view: View) -> bool:
        """Whether the view has the same series in the same columns."""
        return view.models.keys is self.names[0] and view.segments.keys is self.names[1]

    def wanted(self, asked: Asked) -> Index:
        """Rows of the series that are asked for by name."""
        chosen = np.ones(len(self.keys), np.bool_)
        if asked.kind != "all":
            chosen &= self.part == (asked.kind == "segments")
        for field in ("model", "version", "dimension"):
            if (value := getattr(asked, field)) is not None:
                of_key = SeriesKey._fields.index(field)
                chosen &= np.fromiter((key[of_key] == value for key in self.keys), np.bool_, len(self.keys))
        for word in asked.search.split():
            chosen &= np.fromiter((word in text for text in self.texts), np.bool_, len(self.keys))
        return np.flatnonzero(chosen)


class Directory:
    """The listing of whatever view comes, made anew only when series have come or gone: sorting a hundred thousand
    names at each question would keep Kafka waiting. For one thread at a time.
    """

    def __init__(self) -> None:
        self._listing: Listing | None = None

    def of(self, view: View) -> Listing:
        if self._listing is None or not self._listing.is_of(view):
            self._listing = Listing.of(view)
        return self._listing
