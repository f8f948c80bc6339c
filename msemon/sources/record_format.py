"""The records of a batch in Kafka's message format 2, taken apart in one loop.

kafka-python makes a dozen calls and three objects of each record and takes six times as long, more than all that is
done with an event afterwards.

Format: https://kafka.apache.org/documentation/#recordbatch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msemon.events import Batch, Headers

Row = tuple[int, int, bytes | None, bytes | None, Headers]
"""Offset, timestamp in ms, key, value, headers."""

_MOST_BITS = 63


def batch_of(topic: str, partition: int, rows: Sequence[Row], position: int = 0) -> Batch:
    """Records, at least one, as columns; `position` is where the client goes on, which may be beyond holes after the
    last one.
    """
    offsets, timestamps_ms, keys, values, headers = zip(*rows, strict=True)
    return Batch(
        topic=topic,
        partition=partition,
        offsets=offsets,
        timestamps_ms=timestamps_ms,
        values=values,
        next_offset=max(position, offsets[-1] + 1),
        size=sum(map(len, filter(None, values))),
        origin=lambda i: (keys[i], headers[i]),
    )


def rows(  # noqa: C901, PLR0912, PLR0915 (nothing but the same few lines a field: see below)
    buffer: bytes, at: int, count: int, first_offset: int, first_ms: int, appended_ms: int | None = None
) -> Iterator[Row]:
    """The `count` records that stand in `buffer` from `at` on, to its end.

    Offsets and timestamps are counted from the first; `appended_ms` is the timestamp of all where the log gives it.
    Raises ValueError and IndexError where the bytes are no such records; what comes before is given.
    """
    # Every number is a varint, and nearly every one of one byte or two: read here, since a call costs as much as both.
    for _ in range(count):
        size = buffer[at]
        if size < 0x80:
            at += 1
        elif (more := buffer[at + 1]) < 0x80:
            size += (more << 7) - 0x80
            at += 2
        else:
            size, at = _long(buffer, at)
        end = at + (size >> 1 ^ -(size & 1))
        at += 1  # attributes, of which there are none
        late = buffer[at]
        if late < 0x80:
            at += 1
        elif (more := buffer[at + 1]) < 0x80:
            late += (more << 7) - 0x80
            at += 2
        else:
            late, at = _long(buffer, at)
        further = buffer[at]
        if further < 0x80:
            at += 1
        elif (more := buffer[at + 1]) < 0x80:
            further += (more << 7) - 0x80
            at += 2
        else:
            further, at = _long(buffer, at)
        size = buffer[at]
        if size < 0x80:
            at += 1
        elif (more := buffer[at + 1]) < 0x80:
            size += (more << 7) - 0x80
            at += 2
        else:
            size, at = _long(buffer, at)
        key = None
        if not size & 1:  # a negative size is no key
            key = buffer[at : at + (size >> 1)]
            at += size >> 1
        size = buffer[at]
        if size < 0x80:
            at += 1
        elif (more := buffer[at + 1]) < 0x80:
            size += (more << 7) - 0x80
            at += 2
        else:
            size, at = _long(buffer, at)
        value = None
        if not size & 1:
            value = buffer[at : at + (size >> 1)]
            at += size >> 1
        headers: Headers = ()
        if buffer[at]:
            headers, at = _headers(buffer, at)
        else:
            at += 1
        if at != end:
            raise ValueError("a record of another size than it claims")
        time_ms = first_ms + (late >> 1 ^ -(late & 1)) if appended_ms is None else appended_ms
        yield first_offset + (further >> 1 ^ -(further & 1)), time_ms, key, value, headers
    if at != len(buffer):
        raise ValueError("bytes behind the last record")


def _headers(buffer: bytes, at: int) -> tuple[Headers, int]:
    """The headers that stand there, and where they end."""
    count, at = _number(buffer, at)
    found: list[tuple[str, bytes | None]] = []
    for _ in range(_size(count)):
        size, at = _number(buffer, at)
        name = buffer[at : at + _size(size)].decode(errors="replace")  # as Java reads it; some write Latin-1
        at += size
        size, at = _number(buffer, at)
        value = buffer[at : at + size] if size >= 0 else None
        at += max(0, size)
        found.append((name, value))
    if at > len(buffer):  # nothing stands behind the last header that would find it cut short
        raise ValueError("a header that ends behind its batch")
    return found, at


def _size(number: int) -> int:
    if number < 0:
        raise ValueError("a negative size")
    return number


def _number(buffer: bytes, at: int) -> tuple[int, int]:
    """The signed number that stands there, and where it ends."""
    number, at = _long(buffer, at)
    return number >> 1 ^ -(number & 1), at


def _long(buffer: bytes, at: int) -> tuple[int, int]:
    """A varint of any length, its sign still in the lowest bit, and where it ends."""
    number = shift = 0
    while True:
        byte = buffer[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
        if shift > _MOST_BITS:
            raise ValueError("a number of more than 64 bits")
