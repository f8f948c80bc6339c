"""Events of one batch, gathered row by row and handed on as columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from msemon.decoding.judge import Event, Value
from msemon.decoding.text import Keys, clean
from msemon.events import Batch, Decoded, Floats, Ints, Key, Kind, Labels, Pairs, Predictions, Reason, Target

NAN = float("nan")


class Columns:
    """Gathers rows as tuples, which is quicker than a list a column, and turns them over once at the end.

    The quick way of the decoder appends to `predictions` and `labels` itself; everything else comes through `take`.
    """

    def __init__(self, keys: Keys, label_length: int) -> None:
        self._keys = keys
        self._limit = label_length
        self.predictions: list[tuple[int, int, bytes, Key, float, float]] = []
        self.labels: list[tuple[int, int, bytes, Target | None, float, float]] = []
        self.rejections: list[tuple[int, Reason]] = []
        self.tombstones = 0
        self._pairs: list[tuple[int, int, Key, float, float, float]] = []
        self._joined_pairs = 0
        self._predicted: dict[int, Floats] = {}
        self._labelled: dict[int, Floats] = {}
        self._paired: dict[int, tuple[Floats, Floats]] = {}

    def take(self, row: int, judged: Event | Reason) -> None:
        """Takes in an event, or why there is none. A pair with an id is a prediction and its label."""
        if isinstance(judged, Reason):
            self.rejections.append((row, judged))
        else:
            self._add(row, judged)

    def _add(self, row: int, event: Event) -> None:
        if event.prediction is None:
            self._add_label(row, event, self.target(event.model, event.version))
            return
        assert event.model is not None
        key = self._keys.key(event.model, event.version, event.segments)
        if event.id is None:
            self._add_pair(row, event, key)
            return
        self._add_prediction(row, event, key)
        if event.label is not None:
            self._add_label(row, event, (key[0], key[1]))
            self._joined_pairs += 1

    def target(self, model: str | None, version: str | int | None) -> Target | None:
        """Whom a label answers: None is everyone, None in a place anyone there."""
        if model is None and version is None:
            return None
        return (
            None if model is None else clean(model, self._limit),
            None if version is None else clean(str(version), self._limit),
        )

    def _add_prediction(self, row: int, event: Event, key: Key) -> None:
        value, outputs = _split(event.prediction)
        if outputs is not None:
            self._predicted[len(self.predictions)] = outputs
        assert event.id is not None
        weight = 1.0 if event.weight is None else event.weight
        self.predictions.append((row, event.time, event.id, key, value, weight))

    def _add_label(self, row: int, event: Event, target: Target | None) -> None:
        value, outputs = _split(event.label)
        if outputs is not None:
            self._labelled[len(self.labels)] = outputs
        assert event.id is not None
        weight = NAN if event.weight is None else event.weight
        self.labels.append((row, event.time, event.id, target, value, weight))

    def _add_pair(self, row: int, event: Event, key: Key) -> None:
        prediction, predicted = _split(event.prediction)
        label, labelled = _split(event.label)
        if predicted is not None and labelled is not None:
            self._paired[len(self._pairs)] = (predicted, labelled)
        weight = 1.0 if event.weight is None else event.weight
        self._pairs.append((row, event.time, key, prediction, label, weight))

    def decoded(self, batch: Batch, record_times: Ints) -> Decoded:
        """The columns; `record_times` is int64[n] over the whole batch."""
        offsets = np.asarray(batch.offsets, dtype=np.int64)
        rows, times, ids, keys, values, weights = _turn(self.predictions, 6)
        at = _ints(rows)
        predictions = Predictions(
            rows=at,
            offsets=offsets[at],
            times=_ints(times),
            record_times=record_times[at],
            ids=list(ids),
            keys=list(keys),
            values=_floats(values),
            vectors=self._predicted,
            weights=_floats(weights),
        )
        rows, times, ids, targets, values, weights = _turn(self.labels, 6)
        at = _ints(rows)
        labels = Labels(
            rows=at,
            offsets=offsets[at],
            times=_ints(times),
            record_times=record_times[at],
            ids=list(ids),
            targets=list(targets),
            values=_floats(values),
            vectors=self._labelled,
            weights=_floats(weights),
        )
        return Decoded(predictions, labels, self._whole(record_times), self.rejections, self._kinds())

    def _whole(self, record_times: Ints) -> Pairs:
        rows, times, keys, predictions, labels, weights = _turn(self._pairs, 6)
        at = _ints(rows)
        return Pairs(
            rows=at,
            times=_ints(times),
            record_times=record_times[at],
            keys=list(keys),
            predictions=_floats(predictions),
            labels=_floats(labels),
            vectors=self._paired,
            weights=_floats(weights),
        )

    def _kinds(self) -> dict[Kind, int]:
        return {
            Kind.PREDICTION: len(self.predictions) - self._joined_pairs,
            Kind.LABEL: len(self.labels) - self._joined_pairs,
            Kind.PAIR: len(self._pairs) + self._joined_pairs,
            Kind.TOMBSTONE: self.tombstones,
            Kind.REJECTED: len(self.rejections),
        }


def _split(value: Value | None) -> tuple[float, Floats | None]:
    """A number and None, or NaN and the outputs of a vector."""
    if isinstance(value, list):
        return NAN, np.array(value, dtype=np.float64)
    assert value is not None
    return value, None


def _turn(rows: Sequence[tuple[Any, ...]], width: int) -> Sequence[Sequence[Any]]:
    return list(zip(*rows, strict=True)) if rows else [()] * width


def _ints(values: Sequence[int]) -> Ints:
    return np.array(values, dtype=np.int64)


def _floats(values: Sequence[float]) -> Floats:
    return np.array(values, dtype=np.float64)
