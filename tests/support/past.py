"""Histories for replays: events as files of every kind, and settings to read them by."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from msemon.settings import Settings, load

T0 = 1_760_000_400.0  # 2025-10-09T09:00:00Z: the beginning of an hour and of any shorter pane
SEGMENTS = '[["country"]]'

Event = dict[str, Any]


def settings(**flags: str) -> Settings:
    """By name with `__` for the dot, as in other tests."""
    named = {"segments": SEGMENTS} | {name.replace("__", "."): value for name, value in flags.items()}
    return load(named, environ={})


def pairs(n: int, seconds: float, seed: int = 1, drift_from: float | None = None, begin: float = T0) -> list[Event]:
    """Whole events of one model without ids, in the order of their time; from `drift_from` (0 to 1 of the time) on the
    errors of one country are three times as large.
    """
    rng = np.random.default_rng(seed)
    times = np.sort(begin + rng.random(n) * seconds)
    countries = rng.choice(["de", "fr", "us"], n)
    predictions, errors = rng.normal(100.0, 10.0, n), rng.normal(0.5, 3.0, n)
    if drift_from is not None:
        errors[(times > begin + drift_from * seconds) & (countries == "de")] *= 3.0
    return [
        {"model": "price", "prediction": p, "label": p - e, "ts": round(t, 6), "segments": {"country": c}}
        for p, e, t, c in zip(predictions.tolist(), errors.tolist(), times.tolist(), countries.tolist(), strict=True)
    ]


def halves(events: Sequence[Event], delay_s: float, seed: int = 2) -> tuple[list[Event], list[Event]]:
    """Predictions and labels of these, joined by id; labels in the order in which they come, late by chance."""
    late = np.random.default_rng(seed).exponential(delay_s, len(events))
    predictions = [{"id": i} | {k: v for k, v in event.items() if k != "label"} for i, event in enumerate(events)]
    labels = [
        {"id": i, "label": event["label"], "ts": round(event["ts"] + wait, 6)}
        for i, (event, wait) in enumerate(zip(events, late.tolist(), strict=True))
    ]
    return predictions, sorted(labels, key=lambda each: float(each["ts"]))


def lines(events: Sequence[Event]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def written(path: Path, events: Sequence[Event]) -> str:
    """A file of JSON Lines, compressed as its name says."""
    data = lines(events)
    if path.suffix == ".gz":
        data = gzip.compress(data)
    elif path.suffix == ".zst":
        half = len(data) // 2  # two frames, as parallel compressors write them
        data = b"".join(zstandard.ZstdCompressor().compress(part) for part in (data[:half], data[half:]))
    path.write_bytes(data)
    return str(path)


def columns(path: Path, events: Sequence[Event], **types: Any) -> str:
    """A Parquet file with a column for each field; `types` are arrow types by column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = list(dict.fromkeys(name for event in events for name in event))
    arrays = {name: pa.array([event.get(name) for event in events], types.get(name)) for name in names}
    pq.write_table(pa.table(arrays), path, row_group_size=5_000, write_page_checksum=True)
    return str(path)
