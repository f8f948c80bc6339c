"""A recording as OpenMetrics with timestamps, for `promtool tsdb create-blocks-from openmetrics`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import numpy as np

from msemon.core.view import SeriesKey
from msemon.events import Floats
from msemon.export.families import Selection
from msemon.export.render import escaped, header, texts
from msemon.replaying.recording import Column, Recording, Series

_AT_ONCE = 4_000_000  # values


def written(recording: Recording, selection: Selection, labels: Mapping[str, str]) -> Iterator[bytes]:
    """The whole text, family by family and within one series by series, as OpenMetrics wants it.

    `labels` are added to every sample: Prometheus' own `job` and `instance`, which a scrape would have given.
    """
    stamps = [b" %d.%06d" % divmod(time, 1_000_000) for time in recording.times.tolist()]
    for series, families in ((recording.models, selection.models), (recording.segments, selection.segments)):
        wanted = [column for column in series.columns if column.family in families]
        for family, columns in groupby(wanted, lambda column: column.family):
            yield header(family, openmetrics=True)
            yield from _family(series, list(columns), labels, stamps)
    yield b"# EOF\n"


def _family(
    series: Series, columns: Sequence[Column], labels: Mapping[str, str], stamps: Sequence[bytes]
) -> Iterator[bytes]:
    histogram = any(column.suffix for column in columns)
    size = max(1, _AT_ONCE // (max(len(stamps), 1) * len(columns)))
    for begin in range(0, len(series.keys), size):
        values = [series.values(column, begin, begin + size) for column in columns]
        for place, key in enumerate(series.keys[begin : begin + size]):
            heads = [_head(column, key, labels) for column in columns]
            if histogram:  # one metric: all its samples at one time, then the next time
                yield from _together(heads, [each[:, place] for each in values], stamps)
            else:
                for head, each in zip(heads, values, strict=True):
                    yield from _together([head], [each[:, place]], stamps)


def _together(heads: Sequence[bytes], values: Sequence[Floats], stamps: Sequence[bytes]) -> Iterator[bytes]:
    there = np.flatnonzero(np.isfinite(values[0]))
    if there.size:
        written = [texts(each[there]) for each in values]
        yield b"".join(
            head + written[i][j] + stamps[step] + b"\n"
            for j, step in enumerate(there.tolist())
            for i, head in enumerate(heads)
        )


def _head(column: Column, key: SeriesKey, labels: Mapping[str, str]) -> bytes:
    own = {name: value for name, value in key._asdict().items() if name in column.family.labels}
    pairs = own | dict([column.label] if column.label else []) | dict(labels)
    text = ",".join(f'{name}="{escaped(value)}"' for name, value in sorted(pairs.items()))
    return f"{column.family.name}{column.suffix}{{{text}}} ".encode("utf-8", "replace")
