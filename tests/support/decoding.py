"""Batches and decoders for tests: one call from messages to decoded columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from msemon.decoding import JsonDecoder
from msemon.events import Batch, Decoded, Kind, Reason

WALL_US = 1_732_260_000_000_000
RECORD_MS = WALL_US // 1_000 - 1_000
MAX_FUTURE_US = 300_000_000

Message = bytes | dict[str, Any] | None


def decoder(**changed: Any) -> JsonDecoder:
    """A decoder with the contract's defaults and the segment keys country and tier."""
    settings: dict[str, Any] = {
        "segment_keys": ("country", "tier"),
        "fields": {},
        "max_future_us": MAX_FUTURE_US,
        "label_length": 128,
        "message_bytes": 1_000_000,
        "vector_length": 4_096,
        "json_depth": 32,
    }
    return JsonDecoder(**(settings | changed))


def careful(**changed: Any) -> JsonDecoder:
    """The same without the quick way: every message is parsed by the standard library and judged field by field."""
    made = decoder(**changed)
    made._layout.quick = None
    return made


def batch(messages: Sequence[Message], timestamps_ms: Sequence[int] | None = None) -> Batch:
    values = [json.dumps(each).encode() if isinstance(each, dict) else each for each in messages]
    return Batch(
        topic="events",
        partition=0,
        offsets=[100 + 2 * row for row in range(len(values))],
        timestamps_ms=[RECORD_MS] * len(values) if timestamps_ms is None else timestamps_ms,
        values=values,
        next_offset=100 + 2 * len(values),
        size=sum(len(value or b"") for value in values),
        origin=lambda row: (None, ()),
    )


def decode(*messages: Message, timestamps_ms: Sequence[int] | None = None, **changed: Any) -> Decoded:
    """Decodes by both ways, insists that they agree, and answers.

    The quick way twice: only names that it has seen before are taken at once.
    """
    events, quick = batch(messages, timestamps_ms), decoder(**changed)
    first, again = quick.decode(events, WALL_US), quick.decode(events, WALL_US)
    expected = plain(careful(**changed).decode(events, WALL_US))
    assert plain(first) == expected
    assert plain(again) == expected
    assert_accounted(again, len(messages))
    return again


def reason(message: Message, timestamp_ms: int = RECORD_MS, **changed: Any) -> Reason | None:
    """Why a message is rejected; None where it isn't."""
    rejections = decode(message, timestamps_ms=[timestamp_ms], **changed).rejections
    return rejections[0][1] if rejections else None


def assert_accounted(decoded: Decoded, records: int) -> None:
    """Every record, or every event of one that holds several, is exactly one kind, and each kind's rows are there."""
    if decoded.records is not None:
        assert set(decoded.records.tolist()) == set(range(records))
        records = len(decoded.records)
    assert sum(decoded.kinds.values()) == records
    rejected = [row for row, _ in decoded.rejections]
    predicted, labelled = decoded.predictions.rows.tolist(), decoded.labels.rows.tolist()
    both = set(predicted) & set(labelled)
    paired = decoded.pairs.rows.tolist()
    for rows in (rejected, predicted, labelled, paired):
        assert rows == sorted(set(rows))
    assert decoded.kinds[Kind.REJECTED] == len(rejected)
    assert decoded.kinds[Kind.PAIR] == len(paired) + len(both)
    assert decoded.kinds[Kind.PREDICTION] == len(predicted) - len(both)
    assert decoded.kinds[Kind.LABEL] == len(labelled) - len(both)
    seen = sorted(rejected + paired + sorted(set(predicted) | set(labelled)))
    assert len(seen) == len(set(seen)) == records - decoded.kinds[Kind.TOMBSTONE]


def plain(part: Any) -> Any:
    """Anything decoded as plain comparable values, to the last bit; NaN equals NaN."""
    if hasattr(part, "__dataclass_fields__"):
        return {name: plain(getattr(part, name)) for name in part.__dataclass_fields__}
    if hasattr(part, "tolist"):
        return (str(part.dtype), part.shape, part.tobytes())
    if isinstance(part, dict):
        return {key: plain(value) for key, value in part.items()}
    if isinstance(part, tuple) and any(hasattr(each, "tolist") for each in part):
        return tuple(plain(each) for each in part)
    return part
