"""F20: timestamps a day ahead, in the year 9999, at int64's end, negative, zero: rejected, counted, moving nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from msemon.events import Kind, Reason
from support.decoding import RECORD_MS, WALL_US, decode

DAY_US = 86_400_000_000
EVENTS = [{"id": 1, "label": 1}, {"id": 1, "model": "m", "prediction": 1}, {"model": "m", "prediction": 1, "label": 1}]
AHEAD = [
    (WALL_US + DAY_US) // 1_000_000,
    (WALL_US + DAY_US) // 1_000,
    WALL_US + DAY_US,
    (WALL_US + DAY_US) * 1_000,
    (WALL_US + DAY_US) / 1e6,
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-23:59",
    99_999_999_999,  # the last second that a number can name; larger ones are milliseconds
    2**63 - 1,
    2**63,
    2**64,
    9.2e18,
    10**30,
    1e30,
]
NO_TIMES: list[Any] = [
    0,
    -1,
    -0.0,
    -(2**63),
    -1e30,
    "1969-12-31T23:59:59Z",
    "1970-01-01T00:00:00Z",
    "0001-01-01T00:00:00Z",
]
NO_TIMES.append((WALL_US - 2**64) // 1_000_000)  # times a million it would wrap around to just before the wall clock
GOOD = {"id": "good", "label": 1, "ts": WALL_US - 1}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize(
    ("ts", "why"), [(ts, Reason.FUTURE) for ts in AHEAD] + [(ts, Reason.WRONG_TYPE) for ts in NO_TIMES]
)
def test_wild_event_times_are_rejected(event: dict[str, Any], ts: Any, why: Reason) -> None:
    """Each is counted under its reason, and only good events' times come out to move any clock."""
    decoded = decode(GOOD, event | {"ts": ts}, GOOD)
    assert decoded.rejections == [(1, why)]
    assert decoded.kinds[Kind.REJECTED] == 1
    assert decoded.labels.times.tolist() == [WALL_US - 1] * 2
    assert len(decoded.predictions.rows) == len(decoded.pairs.rows) == 0


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize(
    ("timestamp_ms", "why"),
    [
        ((WALL_US + DAY_US) // 1_000, Reason.FUTURE),
        (253_402_300_799_999, Reason.FUTURE),
        (2**63 - 1, Reason.FUTURE),
        (0, Reason.MISSING_FIELD),
        (-1, Reason.MISSING_FIELD),
        (-(2**63), Reason.MISSING_FIELD),
    ],
)
def test_wild_record_timestamps_are_rejected_where_they_are_the_event_time(
    event: dict[str, Any], timestamp_ms: int, why: Reason
) -> None:
    """An event without a ts lives by its record's timestamp, and falls with it."""
    assert decode(event, timestamps_ms=[timestamp_ms]).rejections == [(0, why)]


@pytest.mark.parametrize("timestamp_ms", [(WALL_US + DAY_US) // 1_000, 253_402_300_799_999, 2**63 - 1])
def test_a_wild_record_timestamp_beside_a_good_event_time_is_capped(timestamp_ms: int) -> None:
    """The event is good; the record's timestamp goes on as no more than the wall clock plus max_future."""
    decoded = decode(GOOD, timestamps_ms=[timestamp_ms])
    assert decoded.rejections == []
    assert decoded.labels.record_times.tolist() == [WALL_US]


def test_one_wild_time_among_many_costs_only_itself() -> None:
    """The whole batch's neighbours come through with their own times, whatever is among them."""
    wild = [json.dumps({"id": "w", "label": 1, "ts": ts}).encode() for ts in [*AHEAD, *NO_TIMES]]
    good = [json.dumps({"id": "g", "label": 1, "ts": WALL_US - 1_000 * i}).encode() for i in range(len(wild))]
    messages = [message for both in zip(good, wild, strict=True) for message in both]
    decoded = decode(*messages, timestamps_ms=[RECORD_MS] * len(messages))
    assert decoded.labels.times.tolist() == [WALL_US - 1_000 * i for i in range(len(good))]
    assert [row for row, _ in decoded.rejections] == list(range(1, len(messages), 2))
