"""The quick way: plain events of a parsed batch taken a column at a time.

It only ever accepts. Whatever it has no answer for (vectors, odd types, numbers out of bounds, a model or segment seen
for the first time) is left to be judged one by one. A loop over events with the same checks took 1.6 times as long.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, compress, repeat
from operator import is_not, itemgetter
from typing import Any, Final, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from msgspec.structs import astuple

from msemon.decoding.columns import Columns
from msemon.decoding.fields import NAMES
from msemon.decoding.judge import LARGEST
from msemon.decoding.text import ANYONE, Keys, RawKey, raw_key
from msemon.decoding.times import from_number, from_numbers, from_text
from msemon.events import Floats, Ints, Key, Target

Bools = npt.NDArray[np.bool_]
Column = tuple[Any, ...]

_PREDICTION: Final = itemgetter(NAMES.index("prediction"))
_MAX: Final = int(np.iinfo(np.int64).max)


class _Part(NamedTuple):
    """Records of a batch in columns: those that say what they predict, or those that do not.

    Apart, for where a topic has both, each of their columns is half None, and all that is done with it took half as
    long again.
    """

    rows: Ints  # in the batch
    fields: Iterator[Column]  # in the order of `fields.NAMES`
    claimed: Ints
    horizon: Ints


def take_plain(records: Sequence[Column], keys: Keys, claimed: Ints, horizon: Ints, columns: Columns) -> Bools:
    """Takes the plain events into `columns`; True for each record that was taken.

    `records` (at least one) are values in the order of `fields.NAMES`, of the types that `fields.Quick` promises.
    `claimed` and `horizon` as in `times.record_times`.
    """
    taken = np.zeros(len(records), dtype=np.bool_)
    predicts = np.frombuffer(bytes(map(is_not, map(_PREDICTION, records), repeat(None))), dtype=np.bool_)
    for chosen, take in ((predicts, _take_predicted), (~predicts, _take_labels)):
        rows = chosen.nonzero()[0]
        if rows.size:
            some = records if rows.size == len(records) else compress(records, chosen.tobytes())
            part = _Part(rows, zip(*some, strict=True), claimed[rows], horizon[rows])
            for each in take(part, keys, columns):
                taken[each] = True
    return taken


def _take_predicted(part: _Part, keys: Keys, columns: Columns) -> list[Ints]:
    """Takes predictions, and pairs without an id; gives the rows of both."""
    ident, ts, prediction, label, weight, model, version, segments = part.fields
    times, ids, found = _times(ts, part.claimed), _ids(ident), _keys_found(model, version, segments, keys)
    predictions, _ = _floats(prediction)
    labels, unlabelled = _floats(label)
    weights, unweighted = _floats(weight)
    plain = _usable(part, times, weights, unweighted) & _there(found) & (np.abs(predictions) <= LARGEST)
    weights = np.where(unweighted, 1.0, weights)
    alone = plain & unlabelled & _there(ids)
    rows = [columns.predictions.take(part.rows, alone, times, ids, found, predictions, weights)]
    if not unlabelled.all():
        pair = plain & (np.abs(labels) <= LARGEST) & ~_there(ident)
        rows.append(columns.pairs.take(part.rows, pair, times, found, predictions, labels, weights))
    return rows


def _take_labels(part: _Part, keys: Keys, columns: Columns) -> list[Ints]:
    """Takes labels; gives their rows."""
    ident, ts, _, label, weight, model, version, _ = part.fields
    times, ids = _times(ts, part.claimed), _ids(ident)
    labels, _ = _floats(label)
    weights, unweighted = _floats(weight)
    targets, known = _targets(model, version, keys)
    plain = _usable(part, times, weights, unweighted) & known & _there(ids) & (np.abs(labels) <= LARGEST)
    return [columns.labels.take(part.rows, plain, times, ids, targets, labels, weights)]


def _usable(part: _Part, times: Ints, weights: Floats, unweighted: Bools) -> Bools:
    """Which have a time and a weight that can be used. NaN, where there is no number, is not within any bounds."""
    return (times > 0) & (times <= part.horizon) & (unweighted | ((weights >= 0) & (weights <= LARGEST)))


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
    try:
        ids = list(map(str.encode, column))
        if all(ids):
            return cast("list[bytes | None]", ids)
    except (TypeError, UnicodeEncodeError):  # no text, or in it a lone surrogate, which documents may have
        pass
    return [_id(each) for each in column]


def _id(ident: str | int | None) -> bytes | None:
    if isinstance(ident, int):
        return str(ident).encode() if -LARGEST <= ident <= LARGEST else None
    return ident.encode("utf-8", "surrogatepass") if ident else None  # as `judge` has it


def _targets(model: Column, version: Column, keys: Keys) -> tuple[Sequence[Target | None], Bools]:
    """Whom labels answer, and where that is known."""
    if _nothing(model) and _nothing(version):
        return [None] * len(model), np.ones(len(model), dtype=np.bool_)
    found = list(map(keys.targets.get, zip(model, version, strict=True)))
    return [None if target == ANYONE else target for target in found], _there(found)


def _keys_found(model: Column, version: Column, segments: Column, keys: Keys) -> list[Key | None]:
    """The clean key of each prediction where it is known."""
    found = list(map(keys.plain.get, zip(model, version, segments, strict=True)))
    if not all(found):
        rest = [i for i, key in enumerate(found) if key is None and model[i] is not None]
        if rest:  # without a model there is none
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
    if all(column) or None not in column:
        return np.ones(len(column), dtype=np.bool_)
    return np.array([value is not None for value in column])
