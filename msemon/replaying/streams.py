"""What is replayed: streams of decoded events, one for each file or topic partition, each in its own log's order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np

from msemon.events import Decoded, Ints, Labels, Pairs, Predictions

FEW = 100
"""Events that a file gives first: where it begins is asked of all files before any of them is read on."""


class BadSource(Exception):
    """A source can't be read; the text is one line that names it and says why."""


class Stream(Protocol):
    """One file, or one partition of a topic."""

    topic: str  # a file's is its path
    partition: int

    def __iter__(self) -> Iterator[Decoded]:
        """Its events in order, some thousand at a time. Raises BadSource."""

    def progress(self) -> float:
        """The share of it that has been read, from 0 to 1."""


class OfOneTask:
    """A partition as a topic of its own: its events meet those of all others that are so."""

    partition = 0

    def __init__(self, stream: Stream) -> None:
        self.topic = f"{stream.topic}/{stream.partition}"
        self._stream = stream
        self.progress = stream.progress

    def __iter__(self) -> Iterator[Decoded]:
        return iter(self._stream)


def met(streams: Sequence[Stream]) -> Sequence[Stream]:
    """So that their events meet: a file has no partitions, so beside a topic of several, all are one task."""
    partitions: dict[str, set[int]] = {}
    for stream in streams:
        partitions.setdefault(stream.topic, set()).add(stream.partition)
    alike = len({frozenset(each) for each in partitions.values()}) == 1
    return streams if alike else [OfOneTask(stream) for stream in streams]


Part = Predictions | Labels | Pairs


@dataclass(slots=True)
class Head:
    """Decoded events that wait for their turn: those left of a piece, and at which time each is reached.

    A live daemon reads a record when it is written, so `when` is the largest record time so far. A file's records have
    no times of their own: those of its events stand for them.
    """

    decoded: Decoded
    rows: Ints  # (n,) rows of the piece that have events, ascending
    when: Ints  # (n,) µs, ascending

    @staticmethod
    def of(decoded: Decoded, before_us: int) -> Head | None:
        """`before_us` is the largest record time before. None where no row has an event."""
        parts: list[Part] = [decoded.predictions, decoded.labels, decoded.pairs]
        rows = np.concatenate([part.rows for part in parts])
        if not rows.size:
            return None
        times = np.concatenate([part.record_times for part in parts])
        order = np.argsort(rows, kind="stable")
        rows, times = rows[order], times[order]
        return Head(decoded, rows, np.maximum.accumulate(np.maximum(times, before_us)))

    @property
    def first_us(self) -> int:
        """When it begins."""
        return int(self.when[0])

    def until(self, limit_us: int) -> tuple[Decoded, int, Head | None]:
        """What is reached by `limit_us` (which is not before it begins), when its last is, and what is left."""
        reached = int(np.searchsorted(self.when, limit_us, side="right"))
        last_us = int(self.when[reached - 1])
        if reached == self.when.size:
            return self.decoded, last_us, None
        row = int(self.rows[reached])
        before, after = _cut(self.decoded, row)
        begin = int(np.searchsorted(self.rows, row))  # a pair with an id is two events of one row
        return before, last_us, Head(after, self.rows[begin:], self.when[begin:])


def _cut(decoded: Decoded, row: int) -> tuple[Decoded, Decoded]:
    """The events of the rows before `row`, and the others. Rejections and kinds, counted already, are in neither."""
    halves: list[tuple[Any, Any]] = []
    for part in (decoded.predictions, decoded.labels, decoded.pairs):
        at = int(np.searchsorted(part.rows, row))
        halves.append((_columns(part, 0, at), _columns(part, at, part.rows.size)))
    return Decoded(*(before for before, _ in halves)), Decoded(*(after for _, after in halves))


def _columns(part: Part, begin: int, end: int) -> Part:
    columns = {field.name: getattr(part, field.name)[begin:end] for field in fields(part) if field.name != "vectors"}
    columns["vectors"] = {i - begin: vector for i, vector in part.vectors.items() if begin <= i < end}
    return replace(part, **columns)


def by_event_time(decoded: Decoded) -> Decoded:
    """Events whose records have no time of their own: they are as if written when they happened."""
    for part in (decoded.predictions, decoded.labels, decoded.pairs):
        part.record_times = part.times
    return decoded
