"""One event's fields, judged: an event that can be used, or the reason why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from msemon.decoding.fields import WRONG, Fields
from msemon.decoding.text import Raw
from msemon.decoding.times import from_number, from_text
from msemon.events import Floats, Reason

LARGEST: Final = 1e75
"""No number may be larger in size: its square, times a weight and added up, must stay finite."""

PRECEDENCE: Final = (
    Reason.OVERSIZED,
    Reason.MALFORMED,
    Reason.WRONG_TYPE,
    Reason.NOT_FINITE,
    Reason.MISSING_FIELD,
    Reason.NEGATIVE_WEIGHT,
    Reason.SHAPE_MISMATCH,
    Reason.FUTURE,
)
"""Which reason is given where several hold: the first of these."""

Value = float | Floats


@dataclass(slots=True)
class Event:
    """A usable event: a prediction, a label, or both. Texts as they came, not yet cleaned."""

    time: int  # microseconds
    id: bytes | None
    model: str | None
    version: str | int | None
    prediction: Value | None
    label: Value | None
    weight: float | None
    segments: tuple[Raw, ...] | None


class Judge:
    """Judges one event at a time, by the contract's table of fields.

    What of an event is looked at: everything the contract lists for its kind, and nothing else; so a label's segments
    are ignored whatever they are. An id or model that is empty text is `wrong_type`.
    """

    def __init__(self, vector_length: int) -> None:
        self._vector_length = vector_length

    def judge(self, fields: Fields, claimed: int, horizon: int) -> Event | Reason:
        """The event, or why it can't be used.

        `claimed` is its time where it states none (0: it has none at all), `horizon` the latest it may have, both in
        microseconds.
        """
        wrong: set[Reason] = set()
        event = Event(
            time=_time(fields.ts, claimed, wrong),
            id=_identity(fields.id, wrong),
            model=_name(fields.model, wrong),
            version=_version(fields.version, wrong),
            prediction=self._value(fields.prediction, wrong),
            label=self._value(fields.label, wrong),
            weight=_number(fields.weight, wrong),
            segments=None if fields.prediction is None else _segments(fields.segments, wrong),
        )
        if not _complete(fields):
            wrong.add(Reason.MISSING_FIELD)
        if event.weight is not None and event.weight < 0:
            wrong.add(Reason.NEGATIVE_WEIGHT)
        if event.prediction is not None and event.label is not None and _size(event.prediction) != _size(event.label):
            wrong.add(Reason.SHAPE_MISMATCH)
        if event.time > horizon:
            wrong.add(Reason.FUTURE)
        return min(wrong, key=PRECEDENCE.index) if wrong else event

    def _value(self, value: Any, wrong: set[Reason]) -> Value | None:
        if not isinstance(value, list):
            return _number(value, wrong)
        if len(value) > self._vector_length:
            wrong.add(Reason.OVERSIZED)
            return None
        return _outputs(value, wrong)


def _complete(fields: Fields) -> bool:
    """Has what its kind requires: a label its id, a prediction its model and id, a pair its model."""
    if fields.prediction is None:
        return fields.label is not None and fields.id is not None
    return fields.model is not None and (fields.id is not None or fields.label is not None)


def _size(value: Value) -> int:
    """Outputs of a vector; 0 for a number, so that it never matches a list."""
    return 0 if isinstance(value, float) else len(value)


def _number(value: Any, wrong: set[Reason]) -> float | None:
    if value is None:
        return None
    if type(value) is not float and type(value) is not int:  # no booleans
        wrong.add(Reason.WRONG_TYPE)
        return None
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not -LARGEST <= number <= LARGEST:
        wrong.add(Reason.NOT_FINITE)
        return None
    return number


def _outputs(value: list[Any], wrong: set[Reason]) -> Floats | None:
    if not value or not set(map(type, value)) <= {float, int}:
        wrong.add(Reason.WRONG_TYPE)
        return None
    try:
        outputs = np.array(value, dtype=np.float64)
    except OverflowError:
        outputs = np.array([np.inf])
    if not np.abs(outputs).max() <= LARGEST:  # NaN is not either
        wrong.add(Reason.NOT_FINITE)
        return None
    return outputs


def _integer(value: Any, wrong: set[Reason]) -> int | None:
    if type(value) is int:
        return None if _number(value, wrong) is None else value
    wrong.add(Reason.WRONG_TYPE)
    return None


def _identity(value: Any, wrong: set[Reason]) -> bytes | None:
    """UTF-8; a lone surrogate is kept as its own three bytes, which no valid text has, so ids stay distinct."""
    text = _version(value, wrong)
    if text == "":
        wrong.add(Reason.WRONG_TYPE)
    return None if text is None else str(text).encode("utf-8", "surrogatepass")


def _name(value: Any, wrong: set[Reason]) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    wrong.add(Reason.WRONG_TYPE)
    return None


def _version(value: Any, wrong: set[Reason]) -> str | int | None:
    return value if value is None or isinstance(value, str) else _integer(value, wrong)


def _segments(value: Any, wrong: set[Reason]) -> tuple[Raw, ...] | None:
    if value is None:
        return None
    if value is WRONG:
        wrong.add(Reason.WRONG_TYPE)
        return None
    return tuple(each if isinstance(each, bool) else _version(each, wrong) for each in value)


def _time(ts: Any, claimed: int, wrong: set[Reason]) -> int:
    if ts is None:
        if claimed <= 0:
            wrong.add(Reason.MISSING_FIELD)
        return claimed
    if isinstance(ts, str):
        time = from_text(ts)
    else:
        if _number(ts, wrong) is None:
            return 0
        time = from_number(ts)
    if time <= 0:
        wrong.add(Reason.WRONG_TYPE)
    return time
