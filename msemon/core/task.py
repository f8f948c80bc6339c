"""A task: all that msemon knows of one partition number of the input, as a function of the log.

Nothing here looks at a clock: `apply` moves the state on by one decoded batch of one topic. What the batch did (pairs,
repeats, what was rejected) is handed back for the process to count; it is not state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from msemon.core.coverage import BOTH, LABELLED, PREDICTIONS, TOGETHER, Counted, Coverage
from msemon.core.digest import Digester
from msemon.core.join import CROWD, Join, Joined, Matches, Side
from msemon.core.moments import Errors
from msemon.core.names import Names, grown
from msemon.core.panes import shed
from msemon.core.series import Series
from msemon.core.shape import Shape
from msemon.core.totals import Compensated
from msemon.core.watch import Watch
from msemon.core.windows import Windows, sums
from msemon.events import Decoded, Floats, Ints, Labels, Pairs, Predictions, Reason

_SHED = 256  # blocks of a ring that are looked at a turn for series to let go of, on average: a month's are many
_PLACE_BITS = 20  # of a place in the log: which event of its record

NEVER = np.iinfo(np.int64).min
"""Where no event has been seen."""

_FAR = np.iinfo(np.int64).max


@dataclass(slots=True)
class Outcome:
    """What one batch did, for the process's counters. Arrays over sids are aligned with each other."""

    pairs: int = 0
    matched: int = 0
    duplicate_predictions: int = 0
    duplicate_labels: int = 0
    conflicting_labels: int = 0
    expired_predictions: int = 0
    expired_labels: int = 0
    dropped: int = 0  # predictions and labels whose id has too many entries
    rejections: list[tuple[int, Reason]] = field(default_factory=list)  # (row of the batch, why)
    sids: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    sums: Floats = field(default_factory=lambda: np.empty((6, 0)))  # as `windows.sums`
    delay_sids: Ints = field(default_factory=lambda: np.empty(0, np.int64))  # a joined pair each: its model's sid …
    delays_us: Ints = field(default_factory=lambda: np.empty(0, np.int64))  # … and label time − prediction time, ≥ 0
    pair_sids: list[Ints] = field(default_factory=list)  # (n, 1 + dimensions): a pair a row, its model and segments
    newest_prediction: int = NEVER  # largest event times in the batch
    newest_label: int = NEVER


@dataclass(slots=True)
class Past:
    """What is kept of a model whose series has ended. Its times too: a straggler must not take it back in time."""

    lifetime: Floats
    times: tuple[int, int, int, int]  # stream time, newest prediction, last pair, lag


class Task:
    """The state of partition number `partition` of every topic."""

    def __init__(self, partition: int, topics: list[str], shape: Shape, key: bytes) -> None:
        self.partition = partition
        self.shape = shape
        self.offsets: dict[str, int] = {}
        self.topic_ids: dict[str, str] = {}  # the cluster's names of the topics that the offsets are of; "" not known
        self.born_with = 0  # partitions of the topics when the group began to read; 0 where that is not known
        self.clocks: dict[str, int] = dict.fromkeys(topics, NEVER)
        self.names = Names()
        self.join = Join(shape.timeout_us, shape.memory_us, self.names, max(CROWD, shape.models_limit))
        self.series = Series(shape)
        self.windows = Windows(shape.windows)
        self.coverage = Coverage(shape.windows)
        self.watch = Watch(shape, self.windows)
        self.record_clock = NEVER  # the largest record time seen: the log's own idea of the wall clock
        # by total sid
        self._stream = np.empty(0, np.int64)  # largest pair time
        self._predicted = np.empty(0, np.int64)  # largest prediction time
        self._lag = np.empty(0, np.int64)  # least record time − pair time
        self._last_pair = np.empty(0, np.int64)  # largest record time of a completed pair
        self.lifetime = Compensated(3)  # pairs, weight, squared error
        self.past: dict[tuple[str, str], Past] = {}  # models whose series has ended, for when they come back
        self.digest_key = key
        self._digest = Digester(key)
        self.incomplete_since: int | None = None  # record clock at which something was missing; None: state is whole
        self.saved_series: int | None = None  # version of the series in the last checkpoint
        self._longest = shape.windows[shape.longest]
        self.ended_at = NEVER  # pane of the longest window in which series were last looked over
        shortest = min(window.pane_us * window.panes for window in shape.windows)
        self._drop_us = max(1, min(shortest // 4, self._longest.pane_us))
        # Windows of a model without a pair stand at its predictions; so far they may go back with its first.
        self._back_us = 0 if shape.observed else shape.timeout_us
        self._dropped_at = NEVER  # record clock in units of `_drop_us` when panes were last dropped
        self._turns = 0  # how often that was

    # What the exporter asks. All by sid.

    def stream_times(self) -> Ints:
        """Largest pair time of each total sid in µs, NEVER without a pair."""
        return self._stream[: len(self.series.keys)]

    def last_pairs(self) -> Ints:
        """Record time of the newest pair of each total sid in µs."""
        return self._last_pair[: len(self.series.keys)]

    def past_lifetimes(self) -> dict[tuple[str, str], Floats]:
        """Pairs, weight and squared error (3,) of models whose series has ended here."""
        return {name: np.asarray(past.lifetime.sum(axis=0)) for name, past in self.past.items()}

    def now(self, wall_us: int) -> Ints:
        """The time each total sid's windows end at: stream time, moved on at the wall clock's pace.

        A model that has predictions but no pair yet stands at its newest prediction.
        """
        size = len(self.series.keys)
        stream, lag = self._stream[:size], self._lag[:size]
        moved = np.maximum(stream, np.where(stream == NEVER, NEVER, wall_us - np.minimum(lag, _FAR // 2)))
        return np.where(stream == NEVER, self._predicted[:size], moved)

    def times(self) -> dict[str, Ints]:
        """All times that are kept by total sid, by name."""
        size = len(self.series.keys)
        self._size_up()
        columns = {"stream": self._stream, "predicted": self._predicted, "last_pair": self._last_pair, "lag": self._lag}
        return {name: column[:size] for name, column in columns.items()}

    def set_times(self, sids: Ints, times: dict[str, Ints]) -> None:
        """Set what `times` gave at some sids."""
        for name, column in self.times().items():
            column[sids] = times[name]

    def forget_stream_times(self) -> None:
        """Pair times mean something else from now on."""
        for name, column in self.times().items():
            if name != "predicted":
                column[:] = _FAR if name == "lag" else NEVER
        for model, past in self.past.items():
            self.past[model] = Past(past.lifetime, (NEVER, past.times[1], NEVER, _FAR))

    def oldest(self, ring: int, now: Ints) -> Ints:
        """The oldest pane of this window at each of these times."""
        window = self.shape.windows[ring]
        return np.asarray(np.where(now == NEVER, _FAR, now // window.pane_us - window.panes))

    @property
    def incomplete(self) -> bool:
        """Whether windows or join may still lack something: until all that was missing would have left them."""
        since = self.incomplete_since
        if since is None:
            return False
        span = self._longest.pane_us * (self._longest.panes + 1) + self.shape.timeout_us
        return since == NEVER or self.record_clock < since + span

    @property
    def answers_the_past(self) -> bool:
        """Whether labels may come whose predictions would still wait, had they been read."""
        since = self.incomplete_since
        return since is not None and (since == NEVER or self.record_clock < since + self.shape.timeout_us)

    def mark_incomplete(self) -> None:
        """From here back something of the log is missing."""
        self.incomplete_since = self.record_clock

    def begin_again(self, topic: str) -> None:
        """This topic was made anew: where reading it had come to is void. What it had brought stays."""
        self.offsets.pop(topic, None)
        self.clocks[topic] = NEVER
        self.mark_incomplete()

    # The transition.

    def apply(self, topic: str, decoded: Decoded, next_offset: int) -> Outcome:
        """Move on by one batch of `topic`; `next_offset` is where reading it goes on."""
        outcome = Outcome()
        predictions, labels, pairs = decoded.predictions, decoded.labels, decoded.pairs
        clocks = self._clocks(topic, predictions, labels, pairs)
        self._tidy()  # before anything is counted, lest the outcome name sids that have been freed
        if len(predictions.times):
            self._predictions(predictions, clocks[0], outcome)
        if len(labels.times):
            self._labels(labels, clocks[1], outcome)
        if len(pairs.times):
            self._pairs(pairs, outcome)
        events = len(predictions.times) + len(labels.times)
        outcome.expired_predictions, outcome.expired_labels = self.join.forget(min(self.clocks.values()), events)
        self.offsets[topic] = next_offset
        return outcome

    def evict(self, count: int, state: int) -> int:
        """Drop up to `count` of the join's oldest entries in this state (see `entries`); gives how many went."""
        return self.join.evict(count, state)

    def _clocks(self, topic: str, predictions: Predictions, labels: Labels, pairs: Pairs) -> list[Ints]:
        """The clock of each event, by kind; moves the topic's clock on."""
        kinds: list[Predictions | Labels | Pairs] = [predictions, labels, pairs]
        times = np.concatenate([kind.times for kind in kinds])
        if not times.size:
            return [times, times, times]
        order = np.argsort(np.concatenate([kind.rows for kind in kinds]), kind="stable")
        clocks = np.empty_like(times)
        clocks[order] = np.maximum.accumulate(np.maximum(times[order], self.clocks.get(topic, NEVER)))
        self.clocks[topic] = int(clocks[order[-1]])
        self.record_clock = max(self.record_clock, *(int(k.record_times.max()) for k in kinds if len(k.record_times)))
        if self.incomplete_since == NEVER:
            self.incomplete_since = min(int(k.record_times.min()) for k in kinds if len(k.record_times))
        return np.split(clocks, np.cumsum([len(kind.times) for kind in kinds])[:-1])

    def _predictions(self, events: Predictions, clocks: Ints, outcome: Outcome) -> None:
        combos = self.names.combos_of(events.keys)
        widths = np.zeros(len(combos), np.int64)
        for i, vector in events.vectors.items():
            widths[i] = len(vector)
        side = Side(self._digest(events.ids), events.times, clocks, events.offsets, events.values, events.weights,
                    combos, widths, events.vectors, events.record_times)  # fmt: skip
        joined = self.join.add_predictions(side)
        outcome.newest_prediction = int(events.times.max())
        outcome.duplicate_predictions = int(np.count_nonzero(~joined.fresh))
        self._cover([PREDICTIONS], self.names.model_of[combos[joined.fresh]], events.times[joined.fresh])
        self._joined(joined, events.rows, outcome)

    def _labels(self, events: Labels, clocks: Ints, outcome: Outcome) -> None:
        widths = np.zeros(len(events.times), np.int64)
        for i, vector in events.vectors.items():
            widths[i] = len(vector)
        side = Side(self._digest(events.ids), events.times, clocks, _places(events.offsets), events.values,
                    events.weights, self.names.targets_of(events.targets), widths, events.vectors,
                    events.record_times)  # fmt: skip
        joined = self.join.add_labels(side)
        outcome.newest_label = int(events.times.max())
        outcome.duplicate_labels = int(np.count_nonzero(~joined.fresh))
        outcome.conflicting_labels = joined.conflicting
        self._joined(joined, events.rows, outcome)

    def _joined(self, joined: Joined, rows: Ints, outcome: Outcome) -> None:
        outcome.dropped += joined.dropped
        outcome.rejections += [(int(rows[i]), Reason.SHAPE_MISMATCH) for i in joined.mismatched]
        for matches in joined.matches:
            outcome.matched += len(matches)
            self._count(matches, rows[matches.events], outcome)
            totals = self._cover([LABELLED], self.names.model_of[matches.combos], matches.prediction_times)
            delays = np.maximum(matches.label_times - matches.prediction_times, 0)
            outcome.delay_sids = np.concatenate([outcome.delay_sids, totals])
            outcome.delays_us = np.concatenate([outcome.delays_us, delays])

    def _pairs(self, pairs: Pairs, outcome: Outcome) -> None:
        combos = self.names.combos_of(pairs.keys)
        matches = Matches(np.arange(len(combos)), combos, pairs.times, pairs.times, pairs.predictions, pairs.labels,
                          pairs.weights, pairs.vectors, pairs.record_times)  # fmt: skip
        self._count(matches, pairs.rows, outcome)
        self._cover(BOTH, self.names.model_of[combos], pairs.times)
        outcome.newest_prediction = max(outcome.newest_prediction, int(pairs.times.max()))
        outcome.newest_label = max(outcome.newest_label, int(pairs.times.max()))

    def _count(self, matches: Matches, rows: Ints, outcome: Outcome) -> None:
        """Put pairs into panes and totals."""
        errors = Errors.of_scalars(matches.predictions, matches.labels, matches.weights)
        for i, (prediction, label) in matches.vectors.items():
            errors.set_vector(i, prediction, label)
        times = matches.prediction_times
        if self.shape.observed:
            times = np.maximum(times, matches.label_times)
        sids = self.series.of_combos(self.names, matches.combos)
        totals = sids[:, 0]
        self._restore_lifetimes(totals)
        self._move_on(totals, times, matches.record_times)
        taken, groups = self.windows.group(sids.astype(np.int32), times, self._oldest_of(totals, self._stream))
        self.windows.count(groups, errors)
        self.watch.spread_over(self.born_with)
        self.watch.add(groups, errors, times, self.series)
        outcome.rejections += [(int(row), Reason.TOO_LATE) for row in rows[~taken]]

        found, values = sums(sids.astype(np.int32), errors)
        outcome.pairs += len(rows)
        outcome.sids = np.concatenate([outcome.sids, found])
        outcome.sums = np.concatenate([outcome.sums, values], axis=1)
        whole = self.series.total_of[found] == found
        self.lifetime.add(found[whole], values[:3, whole])
        outcome.pair_sids.append(sids)

    def _move_on(self, totals: Ints, times: Ints, record_times: Ints) -> None:
        """Stream times, lags and the record time of the last pair."""
        self._size_up()
        np.maximum.at(self._stream, totals, times)
        np.minimum.at(self._lag, totals, np.maximum(record_times - times, 0))
        np.maximum.at(self._last_pair, totals, record_times)

    def _cover(self, kinds: Sequence[Counted], models: Ints, times: Ints) -> Ints:
        """Count predictions, or labelled ones, in the panes of their own time; gives their total sids."""
        totals = self.series.totals(self.names, models)
        self._restore_lifetimes(totals)
        self._size_up()
        if PREDICTIONS in kinds:
            np.maximum.at(self._predicted, totals, times)
        before = np.maximum(self._predicted, NEVER + self._back_us) - self._back_us
        now = np.where(self._stream == NEVER, before, self._stream)
        self.coverage.add(kinds, totals.astype(np.int32), times, self._oldest_of(totals, now))
        return totals

    def _oldest_of(self, totals: Ints, now: Ints) -> Ints:
        """The oldest pane (n, R) of each window for each of these total sids (n,), at times by total sid.

        Worked out once for each sid, since a batch has few: of every pair it would cost as much as joining them.
        """
        present = np.bincount(totals).nonzero()[0]
        oldest = np.empty((present.max(initial=-1) + 1, len(self.shape.windows)), np.int64)
        for ring in range(len(self.shape.windows)):
            oldest[present, ring] = self.oldest(ring, now[present])
        return oldest[totals]

    def _size_up(self) -> None:
        size = len(self.series.keys)
        self._stream = grown(self._stream, size, NEVER)
        self._predicted = grown(self._predicted, size, NEVER)
        self._last_pair = grown(self._last_pair, size, NEVER)
        self._lag = grown(self._lag, size, _FAR)

    # Ends.

    def _tidy(self) -> None:
        """Once a pane of the longest window end series; four times in the shortest window forget panes that no window
        can show any more, since of a short one's small panes a long one's pane would gather thousands.
        """
        if self.record_clock == NEVER:
            return
        pane, turn = self.record_clock // self._longest.pane_us, self.record_clock // self._drop_us
        if pane != self.ended_at:
            self.ended_at = pane
            self._end_series()
            self.watch.forget(self.record_clock)
        if turn != self._dropped_at:
            self._dropped_at = turn
            self._turns += 1
            self._drop_panes()
            if self.names.outgrown(len(self.join)):
                self._collect_names()
        elif self.names.outgrown(len(self.join), busy=True):  # a backlog may bring millions within a turn
            self._collect_names()

    def _end_series(self) -> None:
        self._size_up()
        keys = self.series.keys
        now = self.now(self.record_clock)
        # A model without a pair stands at its newest prediction; it is over when the events have gone on without it.
        now = np.where(self._stream[: len(keys)] == NEVER, max(self.clocks.values()), now)[self.series.total_of]
        alive = np.full(len(keys), NEVER)
        latest = self.windows.latest()
        alive[: len(latest)] = latest[: len(keys)]
        predicted = self._predicted[: len(keys)]
        alive = np.maximum(alive, np.where(predicted == NEVER, NEVER, predicted // self._longest.pane_us))
        over = alive < self.oldest(self.shape.longest, now)
        ended = [sid for sid in np.flatnonzero(over).tolist() if keys[sid] is not None]
        if not ended:
            return
        for sid in ended:
            key = keys[sid]
            assert key is not None
            if not key.dimension:
                self._keep_lifetime(sid, (key.model, key.version))
        gone = np.array(ended)
        self.windows.release(gone)
        self.coverage.release(gone)
        self.watch.release(gone, {sid: key for sid in ended if (key := keys[sid]) is not None}, self.record_clock)
        self._stream[gone] = self._predicted[gone] = self._last_pair[gone] = NEVER
        self._lag[gone] = _FAR
        self.series.end(ended)

    def _drop_panes(self) -> None:
        now = self.now(self.record_clock)
        unpaired = (self._stream[: now.size] == NEVER) & (now != NEVER)
        self._forget_below(now, [self.windows, self.watch])
        self._forget_below(np.where(unpaired, now - self._back_us, now), [self.coverage], TOGETHER)

    def _forget_below(self, now: Ints, parts: Sequence[Windows | Watch | Coverage], together: int = 1) -> None:
        """What no window at these times of models shows; `together`: panes in a block of these parts."""
        keys = self.series.keys
        models = [sid for sid, key in enumerate(keys) if key is not None and not key.dimension]
        oldest = [self.oldest(ring, now) for ring in range(len(self.shape.windows))]
        least = [int(each[models].min(initial=_FAR)) for each in oldest]
        for part in parts:
            part.drop(least)
        # A model that lags far behind keeps its own series in its panes, not all others: those leave a window later.
        for ring, window in enumerate(self.shape.windows):
            until = int(oldest[ring][models].max(initial=NEVER)) - window.panes
            if least[ring] < until:
                ended = np.array([key is None for key in keys])
                of_series = np.where(ended, _FAR, oldest[ring][self.series.total_of])
                for part in parts:
                    if self._turns % (1 + len(part.rings[ring]) // _SHED) == 0:
                        shed(part.rings[ring], of_series // together, until // together)

    def _keep_lifetime(self, sid: int, name: tuple[str, str]) -> None:
        columns = (self._stream, self._predicted, self._last_pair, self._lag)
        stream, predicted, last_pair, lag = (int(column[sid]) for column in columns)
        self.past[name] = Past(self.lifetime.take(sid), (stream, predicted, last_pair, lag))
        while len(self.past) > self.shape.models_limit:
            del self.past[next(iter(self.past))]

    def _restore_lifetimes(self, totals: Ints) -> None:
        """A model that comes back goes on from its old totals and times."""
        if not self.past:
            return
        self._size_up()
        for sid in np.unique(totals).tolist():
            key = self.series.keys[sid]
            if key is not None and (past := self.past.pop((key.model, key.version), None)) is not None:
                self.lifetime.put(sid, past.lifetime)
                self._stream[sid], self._predicted[sid], self._last_pair[sid], self._lag[sid] = past.times

    def _collect_names(self) -> None:
        asking = [(store, store.live()) for store in (self.join.predictions, self.join.matched)]
        labels, answers = self.join.labels, self.join.labels.live()
        used = np.concatenate([store.ref[rows] for store, rows in asking]).astype(np.int64)
        combos, targets = self.names.collect(used, labels.ref[answers].astype(np.int64))
        for store, rows in asking:
            store.ref[rows] = combos[store.ref[rows]]
        labels.ref[answers] = targets[labels.ref[answers]]
        for store in self.join.stores:
            store.touch()
        self.series.forget_lookups()


def _places(offsets: Ints) -> Ints:
    """Places in the log, each later than the one before: events of one record share their offset."""
    if (offsets[1:] > offsets[:-1]).all():
        return offsets << _PLACE_BITS
    within: Ints = np.arange(offsets.size) - np.searchsorted(offsets, offsets)
    places: Ints = (offsets << _PLACE_BITS) + np.minimum(within, (1 << _PLACE_BITS) - 1)
    return places
