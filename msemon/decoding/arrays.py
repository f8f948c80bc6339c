"""Messages that hold several events: a JSON array, each of its elements an event of its own."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from msemon.events import Batch, Ints, Reason

_SPACE: Final = b" \t\n\r"
_ELEMENTS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_WHITE: Final = json.decoder.WHITESPACE  # type: ignore[attr-defined]


class Spread(NamedTuple):
    """A batch with a row for each event, where that row came from, and what can't be taken apart."""

    batch: Batch
    records: Ints  # by row: index into the batch as it was
    refused: dict[int, Reason]  # by row


def is_array(value: bytes | None) -> bool:
    """Whether a message begins as a JSON array does."""
    return value is not None and (value[:1] == b"[" or value[:16].lstrip(_SPACE)[:1] == b"[")


def spread(batch: Batch, elements_of: Callable[[bytes], Sequence[bytes] | Reason]) -> Spread:
    """Every array of the batch replaced by its elements, in their order; the other records as they are.

    Their offsets and timestamps are those of their record.
    """
    values: list[bytes | None] = []
    records: list[int] = []
    refused: dict[int, Reason] = {}
    for row, value in enumerate(batch.values):
        elements = elements_of(value) if value is not None and is_array(value) else [value]
        if isinstance(elements, Reason):
            refused[len(values)] = elements
            elements = [b""]
        values += elements
        records += [row] * len(elements)
    at = np.array(records, dtype=np.int64)
    made = dataclasses.replace(
        batch,
        offsets=[batch.offsets[row] for row in records],
        timestamps_ms=[batch.timestamps_ms[row] for row in records],
        values=values,
        origin=lambda i: batch.origin(records[i]),
    )
    return Spread(made, at, refused)


def elements(value: bytes, parser: json.JSONDecoder) -> list[bytes] | None:
    """The elements of an array as they are written; None where it is no JSON, or no UTF-8.

    msgspec takes it apart; where it finds something it does not know (`NaN`, which an element may be rejected for but
    not its neighbours), the careful parser does.
    """
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return None
    try:
        return [bytes(element) for element in _ELEMENTS.decode(value)]
    except (msgspec.MsgspecError, RecursionError):
        return _carefully(text, parser)


def _carefully(text: str, parser: json.JSONDecoder) -> list[bytes] | None:
    found: list[bytes] = []
    at = _after_space(text, text.index("[") + 1)
    try:
        while True:
            _, end = parser.raw_decode(text, at)
            found.append(text[at:end].encode())
            at = _after_space(text, end)
            closes = text[at : at + 1] == "]"
            if closes and not text[at + 1 :].strip(" \t\n\r"):
                return found
            if closes or text[at : at + 1] != ",":
                return None
            at = _after_space(text, at + 1)
    except (ValueError, RecursionError):
        return None


def _after_space(text: str, at: int) -> int:
    match: Any = _WHITE.match(text, at)
    return int(match.end())
