"""The quick way: plain events of a parsed batch taken a column at a time.

It only ever accepts. Whatever it has no answer for (vectors, odd types, numbers out of bounds, a model or segment seen
for the first time) is left to be judged one by one. A loop over events with the same checks took 1.6 times as long.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, compress
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from msgspec.structs import astuple

from msemon.decoding.columns import Columns
from msemon.decoding.judge import LARGEST
from msemon.decoding.text import ANYONE, Keys, RawKey, raw_key
from msemon.decoding.times import from_number, from_numbers, from_text
from msemon.events import Floats, Ints, Key, Target

Bools = npt.NDArray[np.bool_]
Column = tuple[Any, ...]

_MAX: Final = int(np.iinfo(np.int64).max)


def take_plain(records: Sequence[Column], keys: Keys, claimed: Ints, horizon: Ints, columns: Columns) -> Bools:
    """Takes the plain events into `columns`; True for each record that was taken.

    `records` (at least one) are values in the order of `fields.NAMES`, of the types that `fields.Quick` promises.
    `claimed` and `horizon` as in `times.record_times`.
    """
    ident, ts, prediction, label, weight, model, version, segments = zip(*records, strict=True)
    times, ids = _times(ts, claimed), _ids(ident)
    predictions, unpredicted = _floats(prediction)
    labels, unlabelled = _floats(label)
    weights, unweighted = _floats(weight)
    usable = (times > 0) & (times <= horizon) & (unweighted | ((weights >= 0) & (weights <= LARGEST)))
    joinable = usable & _there(ids)
    predicted, labelled = np.abs(predictions) <= LARGEST, np.abs(labels) <= LARGEST  # NaN, where there is none, is not
    taken = np.zeros(len(records), dtype=np.bool_)

    only_label = joinable & labelled & unpredicted
    if only_label.any():
        targets, known = _targets(model, version, only_label, keys)
        only_label &= known
        taken |= only_label
        columns.labels.take(only_label, times, ids, targets, labels, weights)
    if predicted.any():
        found = _keys_found(model, version, segments, keys)
        predicted &= usable & _there(found)
        weights = np.where(unweighted, 1.0, weights)
        only_prediction = predicted & joinable & unlabelled
        columns.predictions.take(only_prediction, times, ids, found, predictions, weights)
        taken |= only_prediction
        pair = predicted & labelled
        if pair.any():
            pair &= ~_there(ident)
            columns.pairs.take(pair, times, found, predictions, labels, weights)
            taken |= pair
    return taken


def _floats(column: Column) -> tuple[Floats, Bools]:
    """A column of floats, lists and None: its floats, else NaN; and where it has None."""
    if _nothing(column):
        return np.full(len(column), np.nan), np.ones(len(column), dtype=np.bool_)
    try:
        floats = np.array(column, dtype=np.float64)  # None becomes NaN, which JSON has no other way to
    except (TypeError, ValueError):
        floats = np.empty((0, 0))
    if floats.ndim == 1:
        return floats, np.isnan(floats)
    floats = np.array([value if type(value) is float else None for value in column], dtype=np.float64)  # lists among
    return floats, ~_there(column)


def _times(column: Column, claimed: Ints) -> Ints:
    """Microseconds of each `ts`: the claimed time where it is None, ≤ 0 where it is none that can be used."""
    if _nothing(column):
        return claimed
    kinds = set(map(type, column))
    absent = type(None) in kinds
    numbers = _numbers([0 if ts is None else ts for ts in column] if absent else column, kinds - {type(None)})
    if numbers is not None:
        times = from_numbers(numbers)
        return np.where(_there(column), times, claimed) if absent else times
    own = claimed.tolist()
    return np.array([min(_time(ts, own[i]), _MAX) for i, ts in enumerate(column)], dtype=np.int64)


def _numbers(column: Sequence[Any], kinds: set[type]) -> Ints | Floats | None:
    """A column all of one kind of number that `from_numbers` takes; None for any other."""
    if kinds == {int}:
        try:
            whole = np.array(column, dtype=np.int64)
        except OverflowError:
            return None
        return whole if whole.min() >= 0 else None
    if kinds == {float}:
        floats = np.array(column, dtype=np.float64)
        return floats if floats.min() >= 0 and floats.max() < 1e17 else None
    return None


def _time(ts: float | str | None, claimed: int) -> int:
    if ts is None:
        return claimed
    if isinstance(ts, str):
        return from_text(ts)
    return from_number(ts) if 0 < ts <= LARGEST else 0


def _ids(column: Column) -> list[bytes | None]:
    """UTF-8 of texts and integers; None where there is no id that can be used."""
    if set(map(type, column)) == {str} and all(column):
        try:
            return list(map(str.encode, column))
        except UnicodeEncodeError:  # a lone surrogate, which documents may have
            pass
    return [_id(each) for each in column]


def _id(ident: str | int | None) -> bytes | None:
    if isinstance(ident, int):
        return str(ident).encode() if -LARGEST <= ident <= LARGEST else None
    return ident.encode("utf-8", "surrogatepass") if ident else None  # as `judge` has it


def _targets(model: Column, version: Column, labels: Bools, keys: Keys) -> tuple[Sequence[Target | None], Bools]:
    """Whom these labels answer, and where that is known."""
    chosen = labels.tolist()
    if all(_nothing(list(compress(column, chosen))) for column in (model, version)):  # mostly predictions do
        return [None] * len(model), np.ones(len(model), dtype=np.bool_)
    found = list(map(keys.targets.get, zip(model, version, strict=True)))
    return [None if target == ANYONE else target for target in found], _there(found)


def _keys_found(model: Column, version: Column, segments: Column, keys: Keys) -> list[Key | None]:
    """The clean key of each prediction where it is known."""
    found = list(map(keys.plain.get, zip(model, version, segments, strict=True)))
    if found.count(None) > model.count(None):  # without a model there is none
        rest = [i for i, key in enumerate(found) if key is None and model[i] is not None]
        if rest:
            raw = _raw_keys(*(tuple(column[i] for i in rest) for column in (model, version, segments)))
            for i, key in zip(rest, map(keys.known.get, raw), strict=True):
                found[i] = key
    return found


def _raw_keys(model: Column, version: Column, segments: Column) -> Iterable[RawKey]:
    """As `text.raw_key`, for whole columns; segments are structs or None."""
    if _nothing(segments):
        return zip(model, version, strict=True)
    values = [None if each is None else astuple(each) for each in segments]
    if bool in set(map(type, chain.from_iterable(each or () for each in values))) or None in values:
        return list(map(raw_key, model, version, values))
    return zip(model, version, values, strict=True)


def _nothing(column: Sequence[Any]) -> bool:
    return column[0] is None and column.count(None) == len(column)


def _there(column: Sequence[Any]) -> Bools:
    if None not in column:
        return np.ones(len(column), dtype=np.bool_)
    return np.array([value is not None for value in column])
