"""One model as JSON: its versions side by side."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import numpy as np

from msemon.core.view import DELAY_BOUNDS_S, View
from msemon.export.status import values
from msemon.export.status.asking import MOST_TRENDS, Wrong
from msemon.export.status.listing import Directory, Index, Listing


class Model:
    """The answer for one model by name."""

    def __init__(self, name: str, directory: Directory) -> None:
        self.name = name
        self._directory = directory

    def choose(self, view: View) -> tuple[Index, Index]:
        """Columns of its versions. Raises Wrong where there are none."""
        return self._versions(view)[:MOST_TRENDS], np.zeros(0, np.intp)

    def answer(self, view: View | None) -> bytes:
        """Raises Wrong where there is no such model."""
        if view is None:
            raise Wrong(f"there is no model {self.name!r} yet", 404)
        columns = self._versions(view)
        shown = columns[:MOST_TRENDS]
        listing = self._directory.of(view)
        return msgspec.json.encode(
            {
                "model": self.name,
                "windows": view.windows,
                "trend": values.about(view.trend),
                "versions_total": columns.size,
                "versions": self._told(view, listing, shown),
                "dimensions": self._dimensions(view),
                "delay_bounds_seconds": DELAY_BOUNDS_S,
            }
        )

    def _versions(self, view: View) -> Index:
        """Columns of the model's versions, that with the newest pair first."""
        columns = [column for column, key in enumerate(view.models.keys) if key.model == self.name]
        if not columns:
            raise Wrong(f"there is no model {self.name!r} here", 404)
        found = np.array(columns, np.intp)
        return found[np.argsort(-np.nan_to_num(view.last_pair[found]), kind="stable")]

    def _dimensions(self, view: View) -> dict[str, int]:
        """How many segments there are in each dimension."""
        counts = Counter(key.dimension for key in view.segments.keys if key.model == self.name)
        return dict(sorted(counts.items()))

    def _told(self, view: View, listing: Listing, columns: Index) -> list[dict[str, Any]]:
        of_windows = values.windows(view, listing, False, columns)
        parts = zip(
            columns.tolist(), of_windows, values.coverage(view, columns), values.drift(view.models, columns),
            strict=True,
        )  # fmt: skip
        told = [
            {"version": view.models.keys[column].version, "windows": each, "coverage": covered}
            | drift
            | _whole(view, column)
            for column, each, covered, drift in parts
        ]
        for version, line in zip(told, values.lines(view.trend), strict=False):
            version["trend"] = line
        return told


def _whole(view: View, column: int) -> dict[str, Any]:
    """What stands for a version as a whole."""
    pairs, weight, squared = view.lifetime[:, column].tolist()
    return {
        "lifetime": {"pairs": pairs, "weight": weight, "squared_error": squared},
        "stream_time": float(view.stream_time[column]),
        "last_pair": float(view.last_pair[column]),
        "segments": {
            "held": float(view.series[column]),
            "limit": float(view.series_limit[column]),
            "folded_pairs": float(view.folded[column]),
        },
        "label_delay": {"counts": view.delays[column].tolist(), "sum_seconds": float(view.delay_sum[column])},
    }
