"""JSON messages into columns of events: quickly where a message is plainly right, carefully where it is not."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import msgspec
import numpy as np
from msgspec.structs import astuple

from msemon.decoding.columns import NAN, Columns
from msemon.decoding.fields import Fields, Layout
from msemon.decoding.judge import LARGEST, Judge
from msemon.decoding.text import SHORTEST_LIMIT, Keys
from msemon.decoding.times import from_number, from_text, record_times
from msemon.events import Batch, Decoded, Reason

_TEXT: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)  # possessive: linear, also where a quote is not closed
_NOT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_DIGITS_READ: Final = 400  # of an integer; one with more is beyond any float, and reading it takes quadratic time
_BEYOND: Final = 10**_DIGITS_READ
_PLAIN_INTEGER: Final = 2**63  # larger ones are judged with care
_MAY_FAIL: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class JsonDecoder:
    r"""Decodes batches of JSON messages, one event each, for one set of settings. Keeps caches, no other state.

    `segment_keys` are the members of `segments` to look at, in the order of the tail of `events.Key`. `fields` maps
    an event's names to dotted paths (`id = "request.id"`, a literal dot is `\.`); names not in it are where they are
    called. `max_future_us` is in microseconds; `label_length` (at least 9) in characters; `message_bytes`,
    `vector_length` and `json_depth` are the largest size, number of outputs and nesting of an event that is not
    `oversized`. Raises ValueError where paths are wrong or in each other's way.

    What the contract leaves open is decided so:

    - Where several reasons hold, the first of these is given: oversized, malformed, wrong_type, not_finite,
      missing_field, negative_weight, shape_mismatch, future. Size and nesting are judged before the message is
      parsed, so what is too large or too deep need not even be JSON; nesting counts in unknown fields too.
    - malformed: not UTF-8, not JSON (an empty value too), or JSON that is no object.
    - Of members that stand twice the last counts. `NaN` and `Infinity`, which JSON does not have, are numbers that are
      not finite, and so harmless in a field nobody looks at.
    - not_finite goes for every number looked at: integers as id, version or segment value too.
    - An id or model that is empty text is wrong_type. An empty version or segment value stays empty.
    - A path that leads through something other than an object finds what is wrong_type; through null, nothing.
    - The segments of a label are not looked at.
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
    ) -> None:
        if label_length < SHORTEST_LIMIT:
            raise ValueError(f"label_length must be at least {SHORTEST_LIMIT}, for a cut value's `~` and 8 digits")
        self._layout = Layout(fields, segment_keys)
        self._max_future_us = max_future_us
        self._label_length = label_length
        self._message_bytes = message_bytes
        self._json_depth = json_depth
        self._keys = Keys(len(self._layout.segment_keys), label_length)
        self._judge = Judge(vector_length)

    def decode(self, batch: Batch, wall_us: int) -> Decoded:
        """The events of a batch, in log order; never raises, whatever the bytes.

        `wall_us` is the wall clock: it judges `future` together with the records' own timestamps, and nothing else.
        Every record is counted in exactly one kind; every rejected one has one entry in `rejections`.
        """
        claimed, horizon, kept = record_times(batch.timestamps_ms, wall_us, self._max_future_us)
        columns = Columns(self._keys, self._label_length)
        self._read(batch.values, claimed.tolist(), horizon.tolist(), columns)
        return columns.decoded(batch, kept)

    def _read(
        self, values: Sequence[bytes | None], claimed: Sequence[int], horizon: Sequence[int], columns: Columns
    ) -> None:
        quick = self._layout.quick
        if quick is None or not values:
            for row, value in enumerate(values):
                self._add_carefully(row, value, claimed[row], horizon[row], columns)
            return
        decode, fields_of = quick
        known, predictions, labels = self._keys.known, columns.predictions, columns.labels
        for row, (value, plain, latest) in enumerate(zip(values, self._plain(values), horizon, strict=True)):
            try:
                ident, ts, prediction, label, weight, model, version, segments = fields_of(decode(value if plain else b""))
            except _MAY_FAIL:
                self._add_carefully(row, value, claimed[row], latest, columns)
                continue
            if type(ts) is int and _MILLISECONDS_FROM <= ts < _MILLISECONDS_TO:
                time = ts * 1_000
            else:
                time = claimed[row] if ts is None else _time(ts)
            if segments is not None:
                segments = astuple(segments)
            if 0 < time <= latest and type(ident) is str and ident and (weight is None or 0 <= weight <= LARGEST):
                if label is None and type(prediction) is float and -LARGEST <= prediction <= LARGEST:
                    key = known.get(raw_key(model, version, segments))
                    if key is not None:
                        predictions.append((row, time, ident.encode(), key, prediction, 1.0 if weight is None else weight))
                        continue
    def _plain(self, values: Sequence[bytes | None]) -> Sequence[bool]:
        """Which values are fit for the quick way: there, in UTF-8, not too large, surely not nested too deep.

        UTF-8 is looked at here because msgspec does not in what it skips. All at once for the usual batch: counting
        brackets message by message costs as much as a third of decoding them.
        """
        present = [value or b"" for value in values]
        sizes = np.fromiter(map(len, present), dtype=np.int64, count=len(present))
        whole = b"".join([*present, b" "])  # one byte more, so that an empty value at the end has a place to start
        opening = (np.frombuffer(whole, dtype=np.uint8) | 0x20) == ord("{")  # "[" is "{" without that bit
        brackets = np.add.reduceat(opening.view(np.uint8), np.cumsum(sizes) - sizes, dtype=np.int64)
        fit = (sizes > 0) & (sizes <= self._message_bytes) & (brackets <= self._json_depth)
        if not whole.isascii():
            fit &= np.fromiter((_text(value) is not None for value in present), dtype=np.bool_, count=len(present))
        return cast("list[bool]", fit.tolist())

    def _add_carefully(self, row: int, value: bytes | None, claimed: int, horizon: int, columns: Columns) -> None:
        if value is None:
            columns.tombstones += 1
            return
        document = self._parse(value)
        if isinstance(document, Reason):
            columns.take(row, document)
        else:
            columns.take(row, self._judge.judge(self._layout.find(document), claimed, horizon))

    def _parse(self, value: bytes) -> dict[str, Any] | Reason:
        """The object in a message, of plain Python values; numbers not finite or too long stay recognisable."""
        if len(value) > self._message_bytes or self._too_deep(value):
            return Reason.OVERSIZED
        text = _text(value)
        try:
            document = None if text is None else _PARSER.decode(text)
        except RecursionError:
            return Reason.OVERSIZED
        except ValueError:
            return Reason.MALFORMED
        return document if isinstance(document, dict) else Reason.MALFORMED

    def _too_deep(self, value: bytes) -> bool:
        """Nested deeper than `json_depth`. Brackets in texts don't count; a first bound spares looking closer."""
        if value.count(b"[") + value.count(b"{") <= self._json_depth:
            return False
        brackets = np.frombuffer(_TEXT.sub(b"", value).translate(None, _NOT_BRACKETS), dtype=np.uint8)
        steps = np.where((brackets | 0x20) == ord("{"), 1, -1)
        return len(brackets) > 0 and int(np.cumsum(steps).max()) > self._json_depth


def _text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _integer(digits: str) -> int:
    return int(digits) if len(digits) <= _DIGITS_READ else _BEYOND


_PARSER: Final = json.JSONDecoder(parse_int=_integer)
