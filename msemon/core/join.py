"""The join of predictions and labels by id: the same pairs whatever order the topics are read in.

An event's clock is the largest event time in its topic's partition up to and with it. A prediction P and a label L of
one id are *eligible* if L's clock ≤ P's time + timeout, P's clock ≤ L's time + memory, L is aimed at P's model (or at
every one) and both have the same shape. An event is a *repeat*, and otherwise passed over, if an earlier one that is
not itself a repeat, of the same id and model (labels: of the same id and target), has a clock at most `memory` before
its own. Each label answers each (id, model, version) once: a prediction takes the first eligible label that has not
answered its model yet, a label the first eligible waiting prediction of each model.

Why the reading order can't matter: both sides prefer what comes first in its log, so the pairs of one id and model
are the unique stable matching of a bipartite graph that the logs alone define; and when an event arrives, everything
its partner could prefer to it has been read before it. An entry is kept until no event to come can be eligible with
it or a repeat of it, judged by the least clock of all topics.

A batch is handled in rounds, so that no two events of one round concern each other: what repeats an entry is passed
over, the first events left of each id and model become entries, and so on with the rest. There is nearly always one
round, and one or two even where a producer gives every event the same id.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from msemon.core.digest import Digests
from msemon.core.entries import REMEMBERED, WAITING, Entries
from msemon.core.index import Hits, Index, Rows, TooMany
from msemon.core.names import Names
from msemon.events import Floats, Ints

Mask = npt.NDArray[np.bool_]

_SWEEP = 4  # rows swept for each event that comes in: an expired entry is gone after a quarter of the store's turnover
_SWEEP_LEAST = 8192

CROWD = 1_000
"""Predictions of one id, and labels of one. An event is held against all entries of its id, so where a producer gives
one id to everything, under ever other versions, what comes beyond is dropped: all of it but what comes in one batch."""

_HITS = 1 << 20  # entries held against a batch's events at a time: where there are more, it is taken in parts
_CROWDED = 8  # entries an event: where there are more, what is left after a round is not looked up again as a whole …
_TURNS = 128  # … but this many times event by event of each id


@dataclass(slots=True)
class Side:
    """n events of one side of one batch in log order, as columns."""

    digests: Digests
    times: Ints
    clocks: Ints
    orders: Ints  # place in the topic's log
    values: Floats
    weights: Floats
    refs: Ints  # predictions: combo; labels: target
    widths: Ints  # outputs of a vector, 0 for a number
    vectors: dict[int, Floats]
    record_times: Ints


@dataclass(slots=True)
class Matches:
    """m pairs in columns; `events` are positions in the batch's side that completed them."""

    events: Ints
    combos: Ints
    prediction_times: Ints
    label_times: Ints
    predictions: Floats
    labels: Floats
    weights: Floats
    vectors: dict[int, tuple[Floats, Floats]]
    record_times: Ints  # of the later of the two records, whichever was read first

    def __len__(self) -> int:
        return len(self.events)


@dataclass(slots=True)
class Joined:
    """What one side of a batch did to the join. Positions are into that side."""

    matches: list[Matches] = field(default_factory=list)
    fresh: Mask = field(default_factory=lambda: np.empty(0, np.bool_))  # not repeats
    mismatched: list[int] = field(default_factory=list)  # an answer each that shapes forbade
    conflicting: int = 0  # repeats of a label with another value
    dropped: int = 0  # events whose id has too many entries
    full: set[int] = field(default_factory=set)  # such ids, by the first half of their digest


class Join:
    """The join of one task. Times and spans in µs; `crowd`: as CROWD."""

    def __init__(self, timeout: int, memory: int, names: Names, crowd: int = CROWD) -> None:
        # Three stores, so that rows never change but for their state: a checkpoint then writes each row once.
        self._index = Index()
        self.predictions = Entries(1.0, ordered=False, index=self._index)  # waiting
        # predictions that are remembered: with their label's time and place
        self.matched = Entries(1.0, ordered=True, index=self._index)
        self.labels = Entries(np.nan, ordered=True, index=self._index)
        self._timeout = timeout
        self._memory = memory
        self._names = names
        self._crowd = crowd

    def __len__(self) -> int:
        return sum(map(len, self.stores))

    @property
    def stores(self) -> tuple[Entries, Entries, Entries]:
        """Waiting predictions, remembered ones, labels."""
        return self.predictions, self.matched, self.labels

    def add_predictions(self, side: Side) -> Joined:
        """Predictions that have just been read."""
        result = Joined(fresh=np.ones(len(side.times), np.bool_))
        models = self._names.model_of[side.refs]
        apart = side.digests[:, 0] ^ ((models % self._crowd).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
        waiting = [np.arange(len(side.times))]
        while waiting:
            rows, hits = self._found(side, waiting, result)
            result.fresh[rows[self._repeated(self.predictions, hits, side, rows, models)[0]]] = False
            again, q, known = self._repeated(self.matched, hits, side, rows, models)
            result.fresh[rows[again]] = False
            able = self._admitted(side, hits, rows, result, labels=False)
            first = _first_able(apart, rows, able)
            if not first.size:
                continue
            places = _places(first, len(rows))
            q, known = _kept(places[q], known)
            used = set(zip(q.tolist(), self.matched.order[known].tolist(), strict=True))
            q, found, _ = self.labels.among(hits)
            self._take_predictions(side, rows[first], models[rows[first]], used, result, *_kept(places[q], found))
            waiting += _left(rows, first, able, side.digests[:, 0] if _crowded(hits, rows) else None)
        return result

    def add_labels(self, side: Side) -> Joined:
        """Labels that have just been read."""
        result = Joined(fresh=np.ones(len(side.times), np.bool_))
        store = self.labels
        waiting = [np.arange(len(side.times))]
        while waiting:
            rows, hits = self._found(side, waiting, result)
            q, known, _ = store.among(hits)
            near = side.clocks[rows[q]] <= store.clock[known] + self._memory
            again = near & (store.ref[known] == side.refs[rows[q]])
            q, known = q[again], known[again]
            result.fresh[rows[q]] = False
            result.conflicting += self._conflicts(side, rows, q, known)
            able = self._admitted(side, hits, rows, result, labels=True)
            first = _first_able(side.digests[:, 0], rows, able)
            if not first.size:
                continue
            q, p, slots = self.predictions.among(hits)
            self._take_labels(side, rows[first], result, *_kept(_places(first, len(rows))[q], p, slots))
            waiting += _left(rows, first, able, side.digests[:, 0] if _crowded(hits, rows) else None)
        return result

    def forget(self, horizon: int, events: int) -> tuple[int, int]:
        """Sweep out what all topics have passed (`horizon`: the least of their clocks), with an effort that goes with
        the events that came in. Gives how many predictions and labels left without ever having matched.
        """
        effort = max(_SWEEP_LEAST, _SWEEP * events)

        def gone(store: Entries, patience: int) -> Callable[[slice], Mask]:
            def of(rows: slice) -> Mask:
                until = np.maximum(store.time[rows] + patience, store.clock[rows] + self._memory)
                return np.asarray(until < horizon)

            return of

        expired = self.predictions.sweep(effort, gone(self.predictions, self._timeout))
        self.matched.sweep(effort, gone(self.matched, self._memory))
        return expired, self.labels.sweep(effort, gone(self.labels, self._memory))

    def ages(self, count: int, state: int) -> Ints:
        """Clocks of up to `count` entries in this state of each store, from the oldest generations on."""
        return np.concatenate([store.clock[store.oldest(state, count)] for store in self.stores])

    def evict(self, count: int, state: int) -> int:
        """Make room: drop up to `count` entries in this state, the oldest generations first. Gives how many went."""
        found = [(store, store.oldest(state, count)) for store in self.stores]
        ages = np.concatenate([store.clock[rows] for store, rows in found])
        chosen = np.zeros(len(ages), np.bool_)
        chosen[np.argsort(ages, kind="stable")[:count]] = True
        cuts = np.cumsum([len(rows) for _, rows in found])[:-1]
        for (store, rows), mine in zip(found, np.split(chosen, cuts), strict=True):
            store.forget(rows[mine])
        return int(np.count_nonzero(chosen))

    def _found(self, side: Side, waiting: list[Rows], result: Joined) -> tuple[Rows, Hits]:
        """The next of the rows that wait, as many as may be looked up at a time, and what the index has of them.

        Where they are taken in parts, an id that was found full is not looked up again: the rest of it is dropped
        whether it repeats what is there or not.
        """
        rows = waiting.pop()
        if result.full:
            left = ~np.isin(side.digests[rows, 0], np.array(list(result.full), np.uint64))
            result.dropped += int(np.count_nonzero(~left))
            rows = rows[left]
        while True:
            try:
                return rows, self._index.lookup(side.digests[rows], _HITS)
            except TooMany:
                few = -(-len(rows) // 8)
                waiting += [rows[begin : begin + few] for begin in reversed(range(few, len(rows), few))]
                rows = rows[:few]

    def _admitted(self, side: Side, hits: Hits, rows: Rows, result: Joined, *, labels: bool) -> Mask:
        """Which events may be taken: no repeats, and none whose id has too many of its side, which are dropped here."""
        if hits.queries.size < self._crowd:
            return result.fresh
        alike = np.bincount(self.labels.among(hits)[0], minlength=len(rows))
        if not labels:
            alike = np.bincount(hits.queries, minlength=len(rows)) - alike
        crowded = rows[np.flatnonzero(alike >= self._crowd)]
        crowded = crowded[result.fresh[crowded]]
        if not crowded.size:
            return result.fresh
        result.dropped += crowded.size
        result.full.update(side.digests[crowded, 0].tolist())
        able = result.fresh.copy()
        able[crowded] = False
        return able

    def _repeated(self, store: Entries, hits: Hits, side: Side, rows: Rows, models: Ints) -> tuple[Ints, Ints, Rows]:
        """Positions of repeats of what `store` holds, and all (position, row) of the same id and model there."""
        q, p, _ = store.among(hits)
        same = self._names.model_of[store.ref[p]] == models[rows[q]]
        q, p = q[same], p[same]
        return q[side.clocks[rows[q]] <= store.clock[p] + self._memory], q, p

    def _eligible(self, p_time: Ints, p_clock: Ints, l_time: Ints, l_clock: Ints) -> Mask:
        return np.asarray((l_clock <= p_time + self._timeout) & (p_clock <= l_time + self._memory))

    def _take_predictions(
        self, side: Side, rows: Rows, models: Ints, used: set[tuple[int, int]], result: Joined, q: Ints, found: Rows
    ) -> None:
        """Events `rows`, no repeats; `used`: (position, place of a label that has answered its model already); `q`,
        `found`: (position, row) of the labels with their ids.
        """
        labels = self.labels
        clocks = side.clocks[rows]
        first = self._eligible(side.times[rows[q]], clocks[q], labels.time[found], labels.clock[found])
        first &= self._names.covers(labels.ref[found].astype(np.int64), models[q])
        if used:
            slots = zip(q.tolist(), labels.order[found].tolist(), strict=True)
            first &= np.fromiter((pair not in used for pair in slots), np.bool_, len(q))
        q, found = q[first], found[first]
        if not _ascending(q):
            by_log = np.lexsort((labels.order[found], q))
            q, found = q[by_log], found[by_log]
        fits = labels.width[found] == side.widths[rows[q]]
        chosen = _first_of_each(q, fits)
        result.mismatched += _refused(rows[q], q, fits, chosen)
        q, found = q[chosen], found[chosen]

        waits = np.ones(len(rows), np.bool_)
        waits[q] = False
        self._append(self.predictions, side, rows[waits], WAITING)
        if not q.size:
            return
        events = rows[q]
        labels.remember(np.unique(found))
        self.matched.append(
            side.digests[events], labels.time[found], side.clocks[events], np.zeros(len(events)), np.ones(len(events)),
            side.refs[events], np.zeros(len(events), np.int64), np.full(len(events), REMEMBERED, np.uint8),
            labels.order[found],
        )  # fmt: skip
        weights = labels.weights(found)
        vectors = {i: (side.vectors[e], labels.vectors[int(found[i])]) for i, e in _vectors_among(side, events)}
        result.matches.append(
            Matches(events, side.refs[events], side.times[events], labels.time[found], side.values[events],
                    labels.value[found], np.where(np.isnan(weights), side.weights[events], weights), vectors,
                    np.maximum(side.record_times[events], labels.record[found]))
        )  # fmt: skip

    def _take_labels(self, side: Side, rows: Rows, result: Joined, q: Ints, p: Rows, slots: Rows) -> None:
        """Events `rows`, no repeats; `q`, `p`, `slots`: position, row and place in the index of the waiting predictions
        with their ids.
        """
        store, predictions = self.labels, self.predictions
        clocks, refs = side.clocks[rows], side.refs[rows]
        first = self._eligible(predictions.time[p], predictions.clock[p], side.times[rows[q]], clocks[q])
        first &= self._names.covers(refs[q], self._names.model_of[predictions.ref[p]])
        q, p, slots = q[first], p[first], slots[first]
        models = self._names.model_of[predictions.ref[p]]
        if not _ascending(q):
            by_log = np.lexsort((predictions.clock[p], models, q))
            q, p, slots, models = q[by_log], p[by_log], slots[by_log], models[by_log]
        fits = predictions.width[p] == side.widths[rows[q]]
        each = q * (len(self._names.models) + 1) + models
        chosen = _first_of_each(each, fits)
        result.mismatched += _refused(rows[q], each, fits, chosen)
        q, p, slots = q[chosen], p[chosen], slots[chosen]

        answered = np.zeros(len(rows), np.bool_)
        answered[q] = True
        state = np.where(answered, REMEMBERED, WAITING).astype(np.uint8)
        events = rows[q]
        weights = np.where(np.isnan(side.weights[events]), predictions.weights(p), side.weights[events])
        vectors = {i: (predictions.vectors[int(p[i])], side.vectors[e]) for i, e in _vectors_among(side, events)}
        if q.size:
            result.matches.append(
                Matches(events, predictions.ref[p].astype(np.int64), predictions.time[p], side.times[events],
                        predictions.value[p], side.values[events], weights, vectors,
                        np.maximum(side.record_times[events], predictions.record[p]))
            )  # fmt: skip
            self.matched.append(
                predictions.digest[p], side.times[events], predictions.clock[p], np.zeros(len(p)), np.ones(len(p)),
                predictions.ref[p].astype(np.int64), np.zeros(len(p), np.int64), np.full(len(p), REMEMBERED, np.uint8),
                side.orders[events], slots=slots,
            )  # fmt: skip
            predictions.bury(p)
        self._append(store, side, rows, state)

    @staticmethod
    def _append(store: Entries, side: Side, rows: Rows, state: npt.NDArray[np.uint8] | int) -> None:
        states = np.broadcast_to(np.asarray(state, np.uint8), len(rows))
        new = store.append(
            side.digests[rows], side.times[rows], side.clocks[rows], side.values[rows], side.weights[rows],
            side.refs[rows], side.widths[rows], states, side.orders[rows], side.record_times[rows],
        )  # fmt: skip
        if side.vectors:
            for event, row in zip(rows.tolist(), new.tolist(), strict=True):
                if (vector := side.vectors.get(event)) is not None:
                    store.vectors[row] = vector

    def _conflicts(self, side: Side, rows: Rows, q: Ints, known: Rows) -> int:
        """How many repeats say something else than the first label of their id and target."""
        store = self.labels
        events = rows[q]
        differs = (store.width[known] != side.widths[events]) | (store.value[known] != side.values[events])
        for i in np.flatnonzero(differs & (store.width[known] > 0)).tolist():
            mine = side.vectors.get(int(events[i]))
            differs[i] = mine is None or not np.array_equal(store.vectors[int(known[i])], mine)
        return len(np.unique(q[differs]))


def _vectors_among(side: Side, events: Rows) -> list[tuple[int, int]]:
    """(position, event) of those events that have a vector."""
    return [(i, e) for i, e in enumerate(events.tolist()) if e in side.vectors] if side.vectors else []


def _first_able(keys: npt.NDArray[np.uint64], rows: Rows, able: Mask) -> Rows:
    """Positions in `rows`, ascending, of those that are able and the first of their key among these."""
    places = able[rows].nonzero()[0]
    chosen = keys[rows[places]]
    ordered = np.sort(chosen)  # a third of the time of np.unique, which is seldom needed
    if not (ordered[1:] == ordered[:-1]).any():
        return places
    _, first = np.unique(chosen, return_index=True)
    return places[np.sort(first)]


def _crowded(hits: Hits, rows: Rows) -> bool:
    return hits.queries.size > _CROWDED * len(rows)


def _left(rows: Rows, taken: Rows, able: Mask, ids: npt.NDArray[np.uint64] | None) -> list[Rows]:
    """The able rows but those at the positions `taken`, if there are any: in parts, the last of which comes first.

    Where `ids` (n,) are given, by event, these parts have one event of an id each, but the first, which has what is
    left: so each event is looked up once or twice, and not again with every round.
    """
    if len(taken) == len(rows):
        return []
    rest = np.delete(rows, taken)
    rest = rest[able[rest]]
    if not rest.size or ids is None:
        return [rest] if rest.size else []
    order = np.argsort(ids[rest], kind="stable")
    ordered = ids[rest[order]]
    turn = np.empty(rest.size, np.int64)
    turn[order] = np.arange(rest.size) - np.searchsorted(ordered, ordered)
    parts = [rest[turn == number] for number in range(min(_TURNS, int(turn.max()) + 1))]
    return [part for part in (rest[turn >= _TURNS], *reversed(parts)) if part.size]


def _places(chosen: Rows, count: int) -> Ints:
    """For each of `count` positions its place among the chosen ones, which ascend; -1 for none."""
    if len(chosen) == count:
        return chosen
    place = np.full(count, -1)
    place[chosen] = np.arange(len(chosen))
    return place


def _kept(q: Ints, *columns: Rows) -> tuple[Ints, ...]:
    """Hits at positions q and their columns, without those whose position is -1."""
    kept = q >= 0
    return (q, *columns) if kept.all() else (q[kept], *(column[kept] for column in columns))


def _ascending(values: Ints) -> bool:
    """Strictly: each once, in order."""
    return bool((values[1:] > values[:-1]).all())


def _first_of_each(groups: Ints, wanted: Mask) -> Rows:
    """The first wanted position of each group; `groups` is sorted."""
    places = wanted.nonzero()[0]
    of = groups[places]
    first = np.ones(len(of), np.bool_)
    first[1:] = of[1:] != of[:-1]
    return places[first]


def _refused(events: Rows, groups: Ints, fits: Mask, chosen: Rows) -> list[int]:
    """The event of each candidate that did not fit and came before its group's chosen one, if it has one."""
    if fits.all():
        return []
    limit = dict(zip(groups[chosen].tolist(), chosen.tolist(), strict=True))
    misfits = np.flatnonzero(~fits).tolist()
    return [int(events[i]) for i in misfits if i < limit.get(int(groups[i]), len(groups))]
