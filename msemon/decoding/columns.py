"""Events of one batch, gathered row by row and handed on as columns."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import Any

import numpy as np
import numpy.typing as npt

from msemon.decoding.judge import Event, Value
from msemon.decoding.text import ANYONE, Keys
from msemon.events import Batch, Decoded, Floats, Ints, Kind, Labels, Pairs, Predictions, Reason, Target

NAN = float("nan")


Column = Sequence[Any] | npt.NDArray[Any]


class Rows:
    """Events of one kind: whole columns taken at once, rows added one by one, merged in log order at the end.

    The first column is the row in the batch. Outputs of vectors are kept by row.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._taken: list[Column] | None = None
        self._added: list[tuple[Any, ...]] = []
        self.vectors: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._added) + (0 if self._taken is None else len(self._taken[0]))

    def take(self, rows: Ints, chosen: npt.NDArray[np.bool_], *columns: Column) -> Ints:
        """Takes the chosen of columns that have these rows; gives the rows of what was taken. Once only."""
        if not chosen.all():
            mask = chosen.tolist()
            rows, columns = rows[chosen], tuple(_choose(column, mask) for column in columns)
        if len(rows) > 0:
            self._taken = [rows, *columns]
        return rows

    def add(self, *values: Any) -> None:
        """Adds a row."""
        self._added.append(values)

    def columns(self) -> list[Column]:
        """The columns, by row."""
        if not self._added:
            return [()] * self._width if self._taken is None else self._taken
        added = list(zip(*self._added, strict=True))
        if self._taken is None:
            return list(added)
        both = [[*taken, *one] for taken, one in zip(self._taken, added, strict=True)]
        order = np.argsort(both[0]).tolist()
        return [[column[i] for i in order] for column in both]

    def vectors_at(self, rows: Ints) -> dict[int, Any]:
        """The outputs by position in columns that have these rows."""
        positions = np.searchsorted(rows, np.fromiter(self.vectors, dtype=np.int64, count=len(self.vectors)))
        return dict(zip(positions.tolist(), self.vectors.values(), strict=True))


def _choose(column: Column, chosen: list[bool]) -> Column:
    return column[np.array(chosen)] if isinstance(column, np.ndarray) else list(compress(column, chosen))


class Columns:
    """Gathers the events of one batch: each record is taken by the quick way, or judged and then taken here."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self.predictions = Rows(6)  # row, time, id, key, value, weight
        self.labels = Rows(6)  # row, time, id, target, value, weight
        self.pairs = Rows(6)  # row, time, key, prediction, label, weight
        self.rejections: list[tuple[int, Reason]] = []
        self.tombstones = 0
        self._joined_pairs = 0

    def take(self, row: int, judged: Event | Reason) -> None:
        """Takes in an event, or why there is none. A pair with an id is a prediction and its label."""
        if isinstance(judged, Reason):
            self.rejections.append((row, judged))
        elif judged.prediction is None:
            target = self._keys.target(judged.model, judged.version)
            self._add_label(row, judged, None if target == ANYONE else target)
        else:
            self._add_predicted(row, judged)

    def _add_predicted(self, row: int, event: Event) -> None:
        assert event.model is not None  # or it would have been rejected
        key = self._keys.key(event.model, event.version, event.segments)
        prediction, outputs = _split(event.prediction)
        weight = 1.0 if event.weight is None else event.weight
        if event.id is None:
            label, labelled = _split(event.label)
            self.pairs.add(row, event.time, key, prediction, label, weight)
            if outputs is not None:
                self.pairs.vectors[row] = (outputs, labelled)
            return
        self.predictions.add(row, event.time, event.id, key, prediction, weight)
        if outputs is not None:
            self.predictions.vectors[row] = outputs
        if event.label is not None:
            self._add_label(row, event, (key[0], key[1]))
            self._joined_pairs += 1

    def _add_label(self, row: int, event: Event, target: Target | None) -> None:
        value, outputs = _split(event.label)
        self.labels.add(row, event.time, event.id, target, value, NAN if event.weight is None else event.weight)
        if outputs is not None:
            self.labels.vectors[row] = outputs

    def decoded(self, batch: Batch, record_times: Ints) -> Decoded:
        """The columns; `record_times` is int64[n] over the whole batch."""
        offsets = _ints(batch.offsets)
        predictions = self._predictions(offsets, record_times)
        labels = self._labels(offsets, record_times)
        return Decoded(predictions, labels, self._pairs(record_times), self.rejections, self._kinds())

    def _predictions(self, offsets: Ints, record_times: Ints) -> Predictions:
        rows, times, ids, keys, values, weights = self.predictions.columns()
        at = _ints(rows)
        return Predictions(
            rows=at,
            offsets=offsets[at],
            times=_ints(times),
            record_times=record_times[at],
            ids=list(ids),
            keys=list(keys),
            values=_floats(values),
            vectors=self.predictions.vectors_at(at),
            weights=_floats(weights),
        )

    def _labels(self, offsets: Ints, record_times: Ints) -> Labels:
        rows, times, ids, targets, values, weights = self.labels.columns()
        at = _ints(rows)
        return Labels(
            rows=at,
            offsets=offsets[at],
            times=_ints(times),
            record_times=record_times[at],
            ids=list(ids),
            targets=list(targets),
            values=_floats(values),
            vectors=self.labels.vectors_at(at),
            weights=_floats(weights),
        )

    def _pairs(self, record_times: Ints) -> Pairs:
        rows, times, keys, predictions, labels, weights = self.pairs.columns()
        at = _ints(rows)
        return Pairs(
            rows=at,
            times=_ints(times),
            record_times=record_times[at],
            keys=list(keys),
            predictions=_floats(predictions),
            labels=_floats(labels),
            vectors=self.pairs.vectors_at(at),
            weights=_floats(weights),
        )

    def _kinds(self) -> dict[Kind, int]:
        return {
            Kind.PREDICTION: len(self.predictions) - self._joined_pairs,
            Kind.LABEL: len(self.labels) - self._joined_pairs,
            Kind.PAIR: len(self.pairs) + self._joined_pairs,
            Kind.TOMBSTONE: self.tombstones,
            Kind.REJECTED: len(self.rejections),
        }


def _split(value: Value | None) -> tuple[float, Floats | None]:
    """A number and None, or NaN and the outputs of a vector."""
    assert value is not None  # or there would be no such event
    return (value, None) if isinstance(value, float) else (NAN, value)


def _ints(values: Column) -> Ints:
    if isinstance(values, range):  # which numpy would go through one by one
        return np.arange(values.start, values.stop, values.step)
    return np.asarray(values, dtype=np.int64)


def _floats(values: Column) -> Floats:
    return np.asarray(values, dtype=np.float64)
