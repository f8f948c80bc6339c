"""Decoded batches of known events, for tests of the core."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from msemon.events import Decoded, Floats, Ints, Key, Kind, Labels, Pairs, Predictions, Target

SECOND = 1_000_000

Value = float | tuple[float, ...]


@dataclass(frozen=True)
class Event:
    """One usable record. With a prediction and a label it is a pair; times in µs."""

    time: int
    record_time: int
    id: str | None = None
    key: Key = ()  # (model, version, segment values …) of a prediction or a pair
    prediction: Value | None = None
    label: Value | None = None
    weight: float | None = None
    target: Target | None = None  # of a label alone

    @property
    def kind(self) -> Kind:
        if self.prediction is None:
            return Kind.LABEL
        return Kind.PREDICTION if self.label is None else Kind.PAIR


def predicted(time: int, id: str, value: Value = 0.0, key: Key = ("m", ""), weight: float | None = None) -> Event:  # noqa: A002
    """A prediction whose record was written when it was made."""
    return Event(time, time, id, key, prediction=value, weight=weight)


def labelled(
    time: int,
    id: str,  # noqa: A002
    value: Value = 0.0,
    target: Target | None = None,
    weight: float | None = None,
) -> Event:
    """A label whose record was written when it became known."""
    return Event(time, time, id, label=value, target=target, weight=weight)


def paired(
    time: int, prediction: Value, label: Value = 0.0, key: Key = ("m", ""), weight: float | None = None
) -> Event:
    """A pair without an id."""
    return Event(time, time, None, key, prediction, label, weight)


def decoded(events: Sequence[Event], first_offset: int = 0) -> Decoded:
    """What decoding makes of a batch of these events, row i at offset first_offset + i."""
    rows = list(enumerate(events))
    predictions = [(i, e) for i, e in rows if e.prediction is not None and e.id is not None]
    labels = [(i, e) for i, e in rows if e.label is not None and e.id is not None]
    pairs = [(i, e) for i, e in rows if e.id is None]
    return Decoded(
        Predictions(
            *_places(predictions, first_offset),
            ids=[(e.id or "").encode() for _, e in predictions],
            keys=[e.key for _, e in predictions],
            values=_numbers([e.prediction for _, e in predictions]),
            vectors=_vectors([e.prediction for _, e in predictions]),
            weights=_weights(predictions, 1.0),
        ),
        Labels(
            *_places(labels, first_offset),
            ids=[(e.id or "").encode() for _, e in labels],
            targets=[(e.key[0], e.key[1]) if e.kind == Kind.PAIR else e.target for _, e in labels],
            values=_numbers([e.label for _, e in labels]),
            vectors=_vectors([e.label for _, e in labels]),
            weights=_weights(labels, np.nan),
        ),
        _pairs(pairs),
        kinds=dict(Counter(e.kind for e in events)),
    )


def _pairs(pairs: list[tuple[int, Event]]) -> Pairs:
    rows, _, times, record_times = _places(pairs, 0)
    predictions, labels = [e.prediction for _, e in pairs], [e.label for _, e in pairs]
    whole, parts = _vectors(predictions), _vectors(labels)
    return Pairs(
        rows,
        times,
        record_times,
        keys=[e.key for _, e in pairs],
        predictions=_numbers(predictions),
        labels=_numbers(labels),
        vectors={i: (whole[i], parts[i]) for i in whole},
        weights=_weights(pairs, 1.0),
    )


def _places(events: list[tuple[int, Event]], first_offset: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Rows, offsets, times, record times."""
    columns = [(i, first_offset + i, e.time, e.record_time) for i, e in events]
    rows, offsets, times, record_times = np.array(columns, np.int64).reshape(-1, 4).T.copy()
    return rows, offsets, times, record_times


def _numbers(values: Sequence[Value | None]) -> Floats:
    return np.array([v if isinstance(v, float) else np.nan for v in values], np.float64)


def _vectors(values: Sequence[Value | None]) -> dict[int, Floats]:
    return {i: np.array(v) for i, v in enumerate(values) if isinstance(v, tuple)}


def _weights(events: list[tuple[int, Event]], plain: float) -> Floats:
    return np.array([plain if e.weight is None else e.weight for _, e in events], np.float64)
