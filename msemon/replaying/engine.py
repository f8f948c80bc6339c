"""Streams through the daemon's own process: in the order of their time, looked at from step to step.

Nothing here joins, counts or judges: that is `core`, moved on as the daemon's loop moves it, with the time of the log
in place of the wall clock.
"""

from __future__ import annotations

import heapq
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from msemon.baseline_file import BaselineFile
from msemon.core.alarms import Change
from msemon.core.process import Process
from msemon.core.shape import Shape
from msemon.core.task import NEVER, Outcome
from msemon.core.view import SeriesKey, View
from msemon.events import Decoded, Floats, Kind, Reason
from msemon.replaying.streams import Head, Stream
from msemon.settings import Settings
from msemon.wiring import shape_of

_ENDED = (1 << 63) - 1  # the clock of a stream of which nothing more can come

Each = Callable[[int, View], None]
"""Called with the time of a step (µs) and the view at it."""


@dataclass(slots=True)
class Tally:
    """What a replay did, beside what the view has."""

    kinds: Counter[tuple[str, Kind]] = field(default_factory=Counter)  # by stream
    rejections: Counter[tuple[str, Reason]] = field(default_factory=Counter)
    matched: int = 0
    duplicates: int = 0
    conflicting: int = 0
    evicted: int = 0
    waiting: tuple[int, int] = (0, 0)  # predictions and labels left at the end
    first_us: int = NEVER  # record times of what was replayed
    last_us: int = NEVER

    @property
    def events(self) -> int:
        return sum(self.kinds.values())

    @property
    def usable(self) -> int:
        return sum(count for (_, kind), count in self.kinds.items() if kind in (Kind.PREDICTION, Kind.LABEL, Kind.PAIR))


@dataclass(frozen=True, slots=True)
class Episode:
    """A change of drift, and when it was seen."""

    at_us: int
    change: Change


class Engine:
    """One replay. Every `step_us` drift is looked for, and `each` is shown the view; `tick` is called with each piece
    that was read. `shape` is the settings' own where it is None.
    """

    def __init__(
        self,
        settings: Settings,
        streams: Sequence[Stream],
        step_us: int,
        each: Each | None = None,
        tick: Callable[[Tally], None] = lambda _: None,
        shape: Shape | None = None,
    ) -> None:
        """Raises BadFile where the settings name a baseline file that can't be used."""
        self.tally = Tally()
        self.episodes: list[Episode] = []
        self.ended: dict[SeriesKey, Floats] = {}  # counters (6,), of all times that a series has ended
        self.process = Process(sorted({s.topic for s in streams}), shape or shape_of(settings), lambda: os.urandom(16))
        self.process.on_ended = self._ended
        self._streams = streams
        self._step_us = step_us
        self._each = each
        self._tick = tick
        self._max_pending = settings.join.max_pending
        windows = self.process.shape.windows
        self._remembered_us = max(window.pane_us * (window.panes + 1) for window in windows)
        partitions = {stream.partition for stream in streams}
        self.process.partitions = max(partitions, default=-1) + 1
        if settings.baseline.file is not None and self.process.shape.drift:
            self.process.give(BaselineFile(settings.baseline.file, settings.drift.tolerated_ratio).changed() or {})
        for partition in sorted(partitions):
            self.process.start(partition).born_with = self.process.partitions

    def run(self) -> View:
        """Everything, from the first event to the last; gives the view as the last was reached. Raises BadSource."""
        pieces = [iter(stream) for stream in self._streams]
        waiting: list[tuple[int, int, Head]] = []
        for i in range(len(pieces)):
            self._next(i, pieces[i], NEVER, waiting)
        boundary = NEVER
        while waiting:
            when, i, head = heapq.heappop(waiting)
            if boundary == NEVER:
                self.tally.first_us = when
                boundary = self._after(when)
            boundary = self._steps(boundary, when)
            decoded, last_us, rest = head.until(boundary)
            self._apply(self._streams[i], decoded, last_us)
            if rest is not None:
                heapq.heappush(waiting, (rest.first_us, i, rest))
            else:
                self._next(i, pieces[i], int(head.when[-1]), waiting)
        if boundary != NEVER:
            self._look(boundary)
        self.tally.waiting = self.process.waiting()
        return self.process.view(self.tally.last_us)

    def _next(self, i: int, pieces: Iterator[Decoded], before_us: int, waiting: list[tuple[int, int, Head]]) -> None:
        """The stream's next piece that has events takes its place in the queue."""
        stream = self._streams[i]
        clocks = self.process.tasks[stream.partition].clocks
        for decoded in pieces:
            self.tally.kinds.update({(stream.topic, kind): count for kind, count in decoded.kinds.items() if count})
            self.tally.rejections.update((stream.topic, reason) for _, reason in decoded.rejections)
            self._tick(self.tally)
            if (head := Head.of(decoded, before_us)) is not None:
                # A lower bound of the clocks of all that is to come of it, known before its turn: without it the join
                # would forget nothing until the last of many files has begun.
                clocks[stream.topic] = max(clocks[stream.topic], _first_time(decoded))
                heapq.heappush(waiting, (head.first_us, i, head))
                return
        clocks[stream.topic] = _ENDED

    def _after(self, time_us: int) -> int:
        """The first boundary of steps that is not before this time."""
        return -(-time_us // self._step_us) * self._step_us

    def _steps(self, boundary: int, when: int) -> int:
        """Looks at every boundary before `when`, as long as the windows hold something; gives the next one."""
        while boundary < when:
            if boundary - self._step_us - self.tally.last_us > self._remembered_us:  # what was seen last is empty
                return self._after(when)
            self._look(boundary)
            boundary += self._step_us
        return boundary

    def _look(self, at_us: int) -> None:
        self.episodes += [Episode(at_us, change) for change in self.process.look(at_us)]
        if self._each is not None:
            self._each(at_us, self.process.view(at_us))

    def _ended(self, key: SeriesKey, counters: Floats) -> None:
        self.ended[key] = self.ended.get(key, 0.0) + counters

    def _apply(self, stream: Stream, decoded: Decoded, last_us: int) -> None:
        outcome = self.process.apply(stream.partition, stream.topic, decoded, 0, last_us)  # offsets are for restarts
        self._count(stream, outcome)
        self.tally.last_us = max(self.tally.last_us, last_us)
        excess = self.process.pending - self._max_pending
        if excess > 0:
            self.tally.evicted += sum(self.process.evict(excess))

    def _count(self, stream: Stream, outcome: Outcome) -> None:
        tally = self.tally
        tally.rejections.update((stream.topic, reason) for _, reason in outcome.rejections)
        tally.matched += outcome.matched
        tally.evicted += outcome.dropped
        tally.duplicates += outcome.duplicate_predictions + outcome.duplicate_labels
        tally.conflicting += outcome.conflicting_labels


def _first_time(decoded: Decoded) -> int:
    """Event time of the first row that has an event."""
    parts = (decoded.predictions, decoded.labels, decoded.pairs)
    return min((int(part.rows[0]), int(part.times[0])) for part in parts if part.rows.size)[1]
