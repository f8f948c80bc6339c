"""The fleet's baseline file: what its errors are by design, so that drift is judged from the first pair on.

`baselines.json` beside this module is what `python -m msemon.demo.baselines` prints.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from msemon.baseline_file import Entry, written
from msemon.demo.models import GROUPS, MODELS, Model, segment_rmse

FILE = Path(__file__).with_name("baselines.json")

_MARGIN = 1.08
"""Of the bound, on the MSE: designs hold to first order, `similarity` is 6 % above its own."""

_DIMENSIONS = (("country",), ("device",), ("country", "device"))
_NONE = "__none__"


def entries() -> list[Entry]:
    """The models and, of those that have any, the segments by country, by device, and by both."""
    return [entry for model in MODELS for entry in (_entry(model, (), ()), *_segments(model))]


def _segments(model: Model) -> Iterator[Entry]:
    for keys in _DIMENSIONS:
        values = itertools.product(*(GROUPS[key] for key in keys)) if model.segmented else [(_NONE,) * len(keys)]
        yield from (_entry(model, keys, each) for each in values)


def _entry(model: Model, keys: Sequence[str], values: Sequence[str]) -> Entry:
    rmse = segment_rmse(model, dict(zip(keys, values, strict=True)) if model.segmented else {})
    return Entry(
        model=model.name,
        mse=_rounded(rmse**2),
        dimension=",".join(keys),
        segment=",".join(values),
        upper_mse=_rounded(rmse**2 * _MARGIN),
    )


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


if __name__ == "__main__":
    sys.stdout.buffer.write(written(entries()))
