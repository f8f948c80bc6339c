"""Messages that some parser has made plain documents of, into columns of events: every encoding but bare JSON.

A document is what JSON would have made of the message: objects, lists, texts, numbers, booleans, None. From there on
all encodings are one: the same paths, the same judge, the same reasons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import numpy as np

from msemon.decoding.columns import Columns
from msemon.decoding.fields import NAMES, Layout
from msemon.decoding.judge import Judge
from msemon.decoding.quick import take_plain
from msemon.decoding.text import SHORTEST_LIMIT, Keys
from msemon.decoding.times import record_times
from msemon.events import Batch, Decoded, Reason

_NOTHING: Final[tuple[Any, ...]] = (None,) * len(NAMES)
_EVENT_BYTES: Final = 8  # that an event of an array takes, nearly always, at least


class Message(NamedTuple):
    """What a record says: a document, or a list of them; and the time of an event that states none, as RFC 3339."""

    document: Any
    time: str | None = None


Item = Message | Reason | None
"""A record: what it says, why it can't be read, or nothing where it has no value."""


class Parser(Protocol):
    """From bytes to documents, for one encoding."""

    def parse(self, batch: Batch) -> list[Item] | None:
        """An item for each record; None where that must wait for something (a schema). Never raises."""

    def waits(self, batch: Batch) -> bool:
        """Whether `parse` has told that this batch must wait and would do so again; without a look at its records."""


class _Events(NamedTuple):
    """Every event of a batch, a row each."""

    items: list[Item]
    records: list[int]  # by row: index into the batch


class DocumentDecoder:
    """Decodes batches through a parser. The settings and the rules are those of `json.JsonDecoder`."""

    def __init__(
        self,
        parser: Parser,
        *,
        segment_keys: Sequence[str],
        fields: Mapping[str, str],
        max_future_us: int,
        label_length: int,
        vector_length: int,
        message_events: int,
    ) -> None:
        if label_length < SHORTEST_LIMIT:
            raise ValueError(f"label_length must be at least {SHORTEST_LIMIT}, for a cut value's `~` and 8 digits")
        self._parser = parser
        self._layout = Layout(fields, segment_keys)
        self._max_future_us = max_future_us
        self._message_events = message_events
        quick = self._layout.quick
        self._keys = Keys(len(self._layout.segment_keys), label_length, None if quick is None else quick.segments)
        self._judge = Judge(vector_length)

    def decode(self, batch: Batch, wall_us: int) -> Decoded | None:
        """The events of a batch, in log order; None where it has to wait. Never raises, whatever the bytes."""
        parsed = None if self._parser.waits(batch) else self._parser.parse(batch)
        if parsed is None:
            return None
        events = self._spread(parsed)
        at = np.array(events.records, dtype=np.int64)
        whole = not any(isinstance(item, Message) and isinstance(item.document, list) for item in parsed)
        own = [batch.timestamps_ms[record] for record in events.records]
        claimed, horizon, kept = record_times(own, wall_us, self._max_future_us)
        columns = Columns(self._keys)
        values = [self._plain(item) for item in events.items]
        rest: Sequence[int] = range(len(values))
        if values:
            rest = np.flatnonzero(~take_plain(values, self._keys, claimed, horizon, columns)).tolist()
        for row in rest:
            self._add(row, events.items[row], int(claimed[row]), int(horizon[row]), columns)
        decoded = columns.decoded(batch if whole else _at(batch, at), kept)
        decoded.records = None if whole else at
        return decoded

    def most_events(self, batch: Batch) -> list[int] | None:
        """As `json.JsonDecoder.most_events`, only guessed: what a message holds shows when it is parsed."""
        return [len(value or b"") // _EVENT_BYTES + 1 for value in batch.values]

    def _spread(self, parsed: list[Item]) -> _Events:
        """A row for each event: of lists, one for each of their elements."""
        events = _Events([], [])
        for record, item in enumerate(parsed):
            found: list[Item] = [item]
            if isinstance(item, Message) and isinstance(item.document, list):
                found = [Message(each, item.time) for each in item.document] or [Reason.MISSING_FIELD]
                if len(found) > self._message_events:
                    found = [Reason.OVERSIZED]
            events.items.extend(found)
            events.records.extend([record] * len(found))
        return events

    def _plain(self, item: Item) -> tuple[Any, ...]:
        """Fields as the quick way takes them; `_NOTHING` for what needs care."""
        quick, message = self._layout.quick, self._layout.message
        if quick is None or not isinstance(item, Message):
            return _NOTHING
        try:
            values = quick.values(msgspec.convert(item.document, message))
        except (msgspec.MsgspecError, RecursionError):
            return _NOTHING
        if any(value != value for value in values):  # noqa: PLR0124 (NaN, which stands for nothing on the quick way)
            return _NOTHING
        return values if item.time is None or values[1] is not None else (values[0], item.time, *values[2:])

    def _add(self, row: int, item: Item, claimed: int, horizon: int, columns: Columns) -> None:
        if item is None:
            columns.tombstones += 1
        elif isinstance(item, Reason):
            columns.take(row, item)
        elif not isinstance(item.document, dict):
            columns.take(row, Reason.MALFORMED)
        else:
            fields = self._layout.find(item.document)
            if fields.ts is None:
                fields = fields._replace(ts=item.time)
            columns.take(row, self._judge.judge(fields, claimed, horizon))


def _at(batch: Batch, records: Any) -> Batch:
    """A batch of rows as `Columns` wants it: only the offsets matter to it."""
    return Batch(
        topic=batch.topic,
        partition=batch.partition,
        offsets=[batch.offsets[record] for record in records],
        timestamps_ms=[],
        values=[],
        next_offset=batch.next_offset,
        size=batch.size,
        origin=batch.origin,
    )
