"""Batches as a source would deliver them, made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from msemon.events import Batch, Decoded, Labels, Pairs, Predictions


def batch(
    topic: str,
    partition: int = 0,
    values: Sequence[bytes | None] = (b"",),
    first_offset: int = 0,
    timestamps_ms: Sequence[int] | None = None,
    size: int | None = None,
) -> Batch:
    """Consecutive records without keys; `size` may claim another number of bytes than they have."""
    count = len(values)
    return Batch(
        topic=topic,
        partition=partition,
        offsets=range(first_offset, first_offset + count),
        timestamps_ms=list(timestamps_ms) if timestamps_ms is not None else [0] * count,
        values=list(values),
        next_offset=first_offset + count,
        size=sum(len(value or b"") for value in values) if size is None else size,
        origin=lambda _: (None, ()),
    )


def decoded(predictions: Sequence[int] = (), labels: Sequence[int] = (), pairs: Sequence[int] = ()) -> Decoded:
    """Events of these times (microseconds) and nothing else worth looking at."""
    return Decoded(
        predictions=Predictions(
            *_columns(predictions), ids=[b"i"] * len(predictions), keys=[("m", "")] * len(predictions),
            values=np.zeros(len(predictions)), vectors={}, weights=np.ones(len(predictions)),
        ),
        labels=Labels(
            *_columns(labels), ids=[b"i"] * len(labels), targets=[None] * len(labels),
            values=np.zeros(len(labels)), vectors={}, weights=np.ones(len(labels)),
        ),
        pairs=Pairs(
            rows=np.arange(len(pairs)), times=np.array(pairs, np.int64), record_times=np.array(pairs, np.int64),
            keys=[("m", "")] * len(pairs), predictions=np.zeros(len(pairs)), labels=np.zeros(len(pairs)),
            vectors={}, weights=np.ones(len(pairs)),
        ),
    )  # fmt: skip


def _columns(times: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """rows, offsets, times, record times."""
    at = np.array(times, np.int64)
    rows = np.arange(len(times), dtype=np.int64)
    return rows, rows, at, at
