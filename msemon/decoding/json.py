"""JSON messages into columns of events: quickly where a message is plainly right, carefully where it is not."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, cast

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec.structs import astuple

from msemon.decoding.arrays import elements, is_array, spread
from msemon.decoding.columns import Columns
from msemon.decoding.documents import Item, Message
from msemon.decoding.fields import NAMES, Fields, Layout
from msemon.decoding.framing import is_framed, unframed
from msemon.decoding.judge import Judge
from msemon.decoding.quick import take_plain
from msemon.decoding.text import SHORTEST_LIMIT, Keys
from msemon.decoding.times import record_times
from msemon.events import Batch, Decoded, Reason

_TEXT: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)  # possessive: linear, also where a quote is not closed
_NOT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_DIGITS_READ: Final = 400  # of an integer; one with more is beyond any float, and reading it takes quadratic time
_BEYOND: Final = 10**_DIGITS_READ
_MAY_FAIL: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
NOTHING: Final[tuple[Any, ...]] = (None,) * len(NAMES)
_FIRST: Final = itemgetter(0)
_OPENS: Final = {ord("{")}


class JsonDecoder:
    r"""Decodes batches of JSON messages for one set of settings: an event each, or an array of events. Keeps caches,
    no other state.

    `segment_keys` are the members of `segments` to look at, in the order of the tail of `events.Key`. `fields` maps
    an event's names to dotted paths (`id = "request.id"`, a literal dot is `\.`); names not in it are where they are
    called. `max_future_us` is in microseconds; `label_length` (at least 9) in characters; `message_bytes`,
    `vector_length` and `json_depth` are the largest size, number of outputs and nesting of an event that is not
    `oversized`, `message_events` the most events of an array. Raises ValueError where paths are wrong or
    in each other's way.

    What the contract leaves open is decided so:

    - Where several reasons hold, the first of these is given: oversized, malformed, wrong_type, not_finite,
      missing_field, negative_weight, shape_mismatch, future. Size and nesting are judged before the message is
      parsed, so what is too large or too deep need not even be JSON; nesting counts in unknown fields too.
    - malformed: not UTF-8, not JSON (an empty value too), or JSON that is neither object nor array.
    - The events of an array are judged each for itself, in their order; an array in an array is malformed, an empty one
      missing_field. What concerns the array as a whole (size, nesting, too many events, no JSON) is one rejection.
    - Of members that stand twice the last counts. `NaN` and `Infinity`, which JSON does not have, are numbers that are
      not finite, and so harmless in a field nobody looks at.
    - not_finite goes for every number looked at: integers as id, version or segment value too.
    - An id or model that is empty text is wrong_type. An empty version or segment value stays empty.
    - A path that leads through something other than an object finds what is wrong_type; through null, nothing.
    - The segments of a label are not looked at.
    - Confluent's framing (`framing.py`) before a message is passed over.
    - A record timestamp ≤ 0 is none: an event without a `ts` then has no time, which is missing_field.
    """

    def __init__(
        self,
        *,
        segment_keys: Sequence[str],
        fields: Mapping[str, str],
        max_future_us: int,
        label_length: int,
        message_bytes: int,
        vector_length: int,
        json_depth: int,
        message_events: int = 10_000,
    ) -> None:
        if json_depth < 1:
            raise ValueError("json_depth must be at least 1: an event is an object")
        if label_length < SHORTEST_LIMIT:
            raise ValueError(f"label_length must be at least {SHORTEST_LIMIT}, for a cut value's `~` and 8 digits")
        self._layout = Layout(fields, segment_keys)
        self._max_future_us = max_future_us
        self.message_bytes = message_bytes
        self._json_depth = json_depth
        self._message_events = message_events
        quick = self._layout.quick
        self._keys = Keys(len(self._layout.segment_keys), label_length, None if quick is None else quick.segments)
        self._scratch = np.empty((2, 0), dtype=np.uint8)
        self._judge = Judge(vector_length)

    def decode(self, batch: Batch, wall_us: int) -> Decoded:
        """The events of a batch, in log order; never raises, whatever the bytes.

        `wall_us` is the wall clock: it judges `future` together with the records' own timestamps, and no record is
        taken to be later than it (`times.record_times`).
        Every event is counted in exactly one kind; every rejected one has one entry in `rejections`. Rows are the
        batch's own, but for batches with arrays in them: see `Decoded.records`.
        """
        return self._decode(batch, wall_us, None, framed=True)

    def most_events(self, batch: Batch) -> list[int] | None:
        """How many events each record may hold, told without decoding it; None where that is one each."""
        try:
            if set(map(_FIRST, batch.values)) <= _OPENS:  # type: ignore[arg-type]  # why it may raise
                return None
        except (TypeError, IndexError):  # one without a value, or an empty one
            pass
        most = self._message_events
        values = (unframed(value, self.message_bytes) for value in batch.values)
        return [min(value.count(b",") + 1, most) if value and is_array(value) else 1 for value in values]

    def _decode(self, batch: Batch, wall_us: int, refused: Mapping[int, Reason] | None, *, framed: bool) -> Decoded:
        """Arrays are taken apart once: with `refused`, by row, that has been done. `framed`: messages still may be."""
        claimed, horizon, kept = record_times(batch.timestamps_ms, wall_us, self._max_future_us)
        columns = Columns(self._keys)
        records = self._parsed(batch.values)
        rest: Sequence[int] = range(len(records))
        if self._layout.quick is not None and len(records) > 0:
            rest = np.flatnonzero(~take_plain(records, self._keys, claimed, horizon, columns)).tolist()
        if framed and any(is_framed(batch.values[row]) for row in rest):
            bare = dataclasses.replace(batch, values=[unframed(each, self.message_bytes) for each in batch.values])
            return self._decode(bare, wall_us, None, framed=False)
        if refused is None and any(is_array(batch.values[row]) for row in rest):
            apart = spread(batch, self._elements)
            decoded = self._decode(apart.batch, wall_us, apart.refused, framed=False)
            decoded.records = apart.records
            return decoded
        for row in rest:
            if refused and row in refused:
                columns.take(row, refused[row])
                continue
            self._add(row, batch.values[row], records[row], int(claimed[row]), int(horizon[row]), columns)
        return columns.decoded(batch, kept)

    def _parsed(self, values: Sequence[bytes | None]) -> list[tuple[Any, ...]]:
        """The fields of each value in the order of `NAMES`; `NOTHING` for those that need care."""
        if self._layout.quick is None or not values:
            return [NOTHING] * len(values)
        decode, fields_of, _ = self._layout.quick
        candidates = values
        if not self._all_fit(values):
            candidates = [value if value and fit else b"" for value, fit in zip(values, self._fit(values), strict=True)]
        parsed: list[tuple[Any, ...]] = []
        left = map(fields_of, map(cast("Callable[[Any], Any]", decode), candidates))
        while len(parsed) < len(values):
            try:
                parsed.extend(left)  # what came before an error stays, and the iterator goes on behind it
            except _MAY_FAIL:
                parsed.append(NOTHING)
        return parsed

    def _all_fit(self, values: Sequence[bytes | None]) -> bool:
        """Whether all values are surely fit for the quick way, as the usual batch is; at half the cost of `_fit`.

        A value nested deeper than `json_depth` has more opening brackets than that within its own length. So where
        any so many brackets that follow one another lie further apart than the largest value is long, none is.
        """
        try:
            largest = max(map(len, values))  # type: ignore[arg-type]  # a tombstone is why it may raise
        except TypeError:
            return False
        if largest > self.message_bytes:
            return False
        whole = b"".join(values)  # type: ignore[arg-type]
        if not whole.isascii():
            return False
        places = self._opening(whole).nonzero()[0]
        spans = places[self._json_depth :] - places[: -self._json_depth]
        return len(spans) == 0 or int(spans.min()) >= largest

    def _fit(self, values: Sequence[bytes | None]) -> Sequence[bool]:
        """Which values are fit for the quick way: there, in UTF-8, not too large, surely not nested too deep.

        UTF-8 is looked at here because msgspec does not in what it skips. All at once: counting brackets value by
        value costs a third of what decoding them does.
        """
        # What is too large is left out before it is copied: it may be a thousand times what is not.
        present = [value if value and len(value) <= self.message_bytes else b"" for value in values]
        sizes = np.fromiter(map(len, present), dtype=np.int64, count=len(present))
        whole = b"".join([*present, b" "])  # one byte more, so that an empty value at the end has a place to start
        brackets = np.add.reduceat(self._opening(whole).view(np.uint8), np.cumsum(sizes) - sizes, dtype=np.int64)
        fit = (sizes > 0) & (brackets <= self._json_depth)
        if not whole.isascii():
            fit &= np.fromiter((_text(value) is not None for value in present), dtype=np.bool_, count=len(present))
        return cast("list[bool]", fit.tolist())

    def _add(
        self, row: int, value: bytes | None, fields: tuple[Any, ...], claimed: int, horizon: int, columns: Columns
    ) -> None:
        """Judges one record, from its fields where it was parsed and else from its bytes."""
        if value is None:
            columns.tombstones += 1
            return
        found = self._find(value) if fields is NOTHING else _judgeable(fields)
        columns.take(row, found if isinstance(found, Reason) else self._judge.judge(found, claimed, horizon))

    def _elements(self, value: bytes) -> Sequence[bytes] | Reason:
        """The events of an array, or why it can't be taken apart."""
        if len(value) > self.message_bytes or self._too_deep(value):
            return Reason.OVERSIZED
        found = elements(value, _PARSER)
        if found is None:
            return Reason.MALFORMED
        if len(found) > self._message_events:
            return Reason.OVERSIZED
        return found or Reason.MISSING_FIELD

    def _find(self, value: bytes) -> Fields | Reason:
        document = self.parse(value)
        return document if isinstance(document, Reason) else self._layout.find(document)

    def parse(self, value: bytes) -> dict[str, Any] | Reason:
        """The object in a message, of plain Python values; numbers not finite or too long stay recognisable."""
        document = self.parse_any(value)
        return document if isinstance(document, dict | Reason) else Reason.MALFORMED

    def parse_any(self, value: bytes) -> Any:
        """Whatever JSON there is in a message, or the reason why there is none."""
        if len(value) > self.message_bytes or self._too_deep(value):
            return Reason.OVERSIZED
        text = _text(value)
        try:
            document = None if text is None else _PARSER.decode(text)
        except RecursionError:
            return Reason.OVERSIZED
        except ValueError:
            return Reason.MALFORMED
        return Reason.MALFORMED if text is None else document

    def _too_deep(self, value: bytes) -> bool:
        """Nested deeper than `json_depth`. Brackets in texts don't count; a first bound spares looking closer."""
        if value.count(b"[") + value.count(b"{") <= self._json_depth:
            return False
        steps = np.where(self._opening(_TEXT.sub(b"", value).translate(None, _NOT_BRACKETS)), 1, -1)
        return len(steps) > 0 and int(np.cumsum(steps).max()) > self._json_depth

    def _opening(self, value: bytes) -> npt.NDArray[np.bool_]:
        """Where a bracket opens; good until the next call. In memory that is used again: of a whole batch it is so
        much that the system's handing it out and taking it back cost three times the work.
        """
        if len(value) > self._scratch.shape[1]:
            self._scratch = np.empty((2, len(value)), dtype=np.uint8)
        marks, opening = self._scratch[:, : len(value)]
        np.bitwise_or(np.frombuffer(value, dtype=np.uint8), 0x20, out=marks)  # `[` is `{` without one bit
        found: npt.NDArray[np.bool_] = np.equal(marks, ord("{"), out=opening.view(np.bool_))
        return found


class JsonParser:
    """JSON as a parser of documents, for what CloudEvents carry. Reads as the decoder does where it takes care."""

    def __init__(self, decoder: JsonDecoder) -> None:
        self._decoder = decoder

    def parse(self, batch: Batch) -> list[Item] | None:
        """See `documents.Parser`."""
        return [self._item(value) for value in batch.values]

    def waits(self, _: Batch) -> bool:
        return False

    def _item(self, value: bytes | None) -> Item:
        if value is None:
            return None
        document = self._decoder.parse_any(unframed(value, self._decoder.message_bytes))
        return document if isinstance(document, Reason) else Message(document)


def _judgeable(fields: tuple[Any, ...]) -> Fields:
    """Fields as the judge takes them: segments as a tuple, not a struct."""
    found = Fields._make(fields)
    return found if found.segments is None else found._replace(segments=astuple(found.segments))


def _text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _integer(digits: str) -> int:
    return int(digits) if len(digits) <= _DIGITS_READ else _BEYOND


_PARSER: Final = json.JSONDecoder(parse_int=_integer)
