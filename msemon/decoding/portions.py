"""Batches cut by the events that they may hold: a record may be an array of thousands, and a batch 30,000 such records.

What is decoded at a time takes memory, and time in which the loop stands still; bytes do not tell how much.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from msemon.events import Batch

MOST_EVENTS = 100_000
"""That a portion may hold, but for one that is a single record."""


def portions(batch: Batch, most_events: Sequence[int] | None, limit: int = MOST_EVENTS) -> Iterator[Batch]:
    """The batch in portions of consecutive records; whole where no record holds more than one event.

    `most_events` is how many each record may hold, None where that is one each.
    """
    if most_events is None or sum(most_events) <= limit:
        yield batch
        return
    begin = held = 0
    for row, more in enumerate(most_events):
        if row > begin and held + more > limit:
            yield _portion(batch, begin, row)
            begin, held = row, 0
        held += more
    yield _portion(batch, begin, len(most_events))


def latest(batch: Batch, most_events: Sequence[int] | None, limit: int) -> Batch:
    """Its last records, as many as hold no more than `limit` events and at least one: for whoever wants a sample."""
    begin, held = len(batch.offsets), 0
    while begin > 0:
        held += 1 if most_events is None else most_events[begin - 1]
        if held > limit and begin < len(batch.offsets):
            break
        begin -= 1
    return batch if begin == 0 else _portion(batch, begin, len(batch.offsets))


def _portion(batch: Batch, begin: int, end: int) -> Batch:
    values = batch.values[begin:end]
    return dataclasses.replace(
        batch,
        offsets=batch.offsets[begin:end],
        timestamps_ms=batch.timestamps_ms[begin:end],
        values=values,
        next_offset=batch.next_offset if end == len(batch.offsets) else batch.offsets[end - 1] + 1,
        size=sum(map(len, filter(None, values))),
        origin=lambda i: batch.origin(begin + i),
    )
