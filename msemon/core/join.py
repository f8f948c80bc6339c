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

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from msemon.core.digest import Digests
from msemon.core.entries import REMEMBERED, WAITING, Entries
from msemon.core.index import Rows
from msemon.core.names import Names
from msemon.events import Floats, Ints

Mask = npt.NDArray[np.bool_]

_SWEEP = 4  # rows swept for each event that comes in: an expired entry is gone after a quarter of the store's turnover
_SWEEP_LEAST = 8192


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

    def __len__(self) -> int:
        return len(self.events)


@dataclass(slots=True)
class Joined:
    """What one side of a batch did to the join. Positions are into that side."""

    matches: list[Matches] = field(default_factory=list)
    fresh: Mask = field(default_factory=lambda: np.empty(0, np.bool_))  # not repeats
    mismatched: list[int] = field(default_factory=list)  # an answer each that shapes forbade
    conflicting: int = 0  # repeats of a label with another value


class Join:
    """The join of one task. Times and spans in µs."""

    def __init__(self, timeout: int, memory: int, names: Names) -> None:
        self.predictions = Entries(1.0, ordered=False)
        self.labels = Entries(np.nan, ordered=True)
        self._timeout = timeout
        self._memory = memory
        self._names = names

    def __len__(self) -> int:
        return len(self.predictions) + len(self.labels)

    def add_predictions(self, side: Side) -> Joined:
        """Predictions that have just been read."""
        result = Joined(fresh=np.ones(len(side.times), np.bool_))
        models = self._names.model_of[side.refs]
        apart = side.digests[:, 0] ^ (models.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
        rows = np.arange(len(side.times))
        while rows.size:
            q, p = self.predictions.lookup(side.digests[rows])
            same = self._names.model_of[self.predictions.ref[p]] == models[rows[q]]
            q, p = q[same], p[same]
            repeat = q[side.clocks[rows[q]] <= self.predictions.clock[p] + self._memory]
            result.fresh[rows[repeat]] = False
            first = _first_fresh(apart, rows, result.fresh)
            if not first.size:
                break
            q, p = _among(first, len(rows), q, p)
            self._take_predictions(side, rows[first], models[rows[first]], (q, p), result)
            rows = _left(rows, first, result.fresh)
        return result

    def add_labels(self, side: Side) -> Joined:
        """Labels that have just been read."""
        result = Joined(fresh=np.ones(len(side.times), np.bool_))
        store = self.labels
        rows = np.arange(len(side.times))
        while rows.size:
            q, known = store.lookup(side.digests[rows])
            near = side.clocks[rows[q]] <= store.clock[known] + self._memory
            again = near & (store.ref[known] == side.refs[rows[q]])
            q, known = q[again], known[again]
            result.fresh[rows[q]] = False
            result.conflicting += self._conflicts(side, rows, q, known)
            first = _first_fresh(side.digests[:, 0], rows, result.fresh)
            if not first.size:
                break
            self._take_labels(side, rows[first], result)
            rows = _left(rows, first, result.fresh)
        return result

    def forget(self, horizon: int, events: int) -> tuple[int, int]:
        """Sweep out what all topics have passed (`horizon`: the least of their clocks), with an effort that goes with
        the events that came in. Gives how many predictions and labels left without ever having matched.
        """
        effort = max(_SWEEP_LEAST, _SWEEP * events)

        def gone_predictions(rows: slice) -> Mask:
            store = self.predictions
            time, clock = store.time[rows], store.clock[rows]
            until = np.where(store.state[rows] == WAITING, time + self._timeout, time + self._memory)
            return np.maximum(until, clock + self._memory) < horizon

        def gone_labels(rows: slice) -> Mask:
            return self.labels.clock[rows] + self._memory < horizon

        return self.predictions.sweep(effort, gone_predictions), self.labels.sweep(effort, gone_labels)

    def evict(self, count: int, state: int) -> int:
        """Make room: drop up to `count` entries in this state, the oldest generations first. Gives how many went."""
        sides = [(store, store.oldest(state, count)) for store in (self.predictions, self.labels)]
        ages = np.concatenate([store.clock[rows] for store, rows in sides])
        chosen = np.argsort(ages, kind="stable")[:count]
        cut = len(sides[0][1])
        for (store, rows), mine in zip(sides, (chosen[chosen < cut], chosen[chosen >= cut] - cut), strict=True):
            store.forget(rows[mine])
        return len(chosen)

    def _eligible(self, p_time: Ints, p_clock: Ints, l_time: Ints, l_clock: Ints) -> Mask:
        return np.asarray((l_clock <= p_time + self._timeout) & (p_clock <= l_time + self._memory))

    def _take_predictions(
        self, side: Side, rows: Rows, models: Ints, before: tuple[Ints, Rows], result: Joined
    ) -> None:
        """Events `rows`, no repeats; `before`: (position among them, row) of older entries of their id and model."""
        store, labels = self.predictions, self.labels
        clocks = side.clocks[rows]
        q, p = before
        past = store.state[p] == REMEMBERED  # these hold the place of the label they matched as their value
        used = set(zip(q[past].tolist(), store.value[p[past]].tolist(), strict=True))

        q, found = labels.lookup(side.digests[rows])
        first = self._eligible(side.times[rows[q]], clocks[q], labels.time[found], labels.clock[found])
        first &= self._names.covers(labels.ref[found].astype(np.int64), models[q])
        if used:
            slots = zip(q.tolist(), labels.order[found].tolist(), strict=True)
            first &= np.fromiter((pair not in used for pair in slots), np.bool_, len(q))
        q, found = q[first], found[first]
        by_log = np.lexsort((labels.order[found], q))
        q, found = q[by_log], found[by_log]
        fits = labels.width[found] == side.widths[rows[q]]
        chosen = _first_of_each(q, fits)
        result.mismatched += _refused(rows[q], q, fits, chosen)
        q, found = q[chosen], found[chosen]

        matched = np.zeros(len(rows), np.bool_)
        matched[q] = True
        label_time = side.times[rows].copy()
        label_time[q] = labels.time[found]
        value = side.values[rows].copy()
        value[q] = labels.order[found]
        state = np.where(matched, REMEMBERED, WAITING).astype(np.uint8)
        new = store.append(
            side.digests[rows], label_time, clocks, value, side.weights[rows],
            side.refs[rows], side.widths[rows], state, side.orders[rows],
        )  # fmt: skip
        if side.vectors:
            for position, row in enumerate(new.tolist()):
                vector = side.vectors.get(int(rows[position]))
                if vector is not None and not matched[position]:
                    store.vectors[row] = vector
        if not q.size:
            return
        events = rows[q]
        labels.remember(np.unique(found))
        weights = labels.weights(found)
        vectors = {i: (side.vectors[e], labels.vectors[int(found[i])]) for i, e in _vectors_among(side, events)}
        result.matches.append(
            Matches(events, side.refs[events], side.times[events], labels.time[found], side.values[events],
                    labels.value[found], np.where(np.isnan(weights), side.weights[events], weights), vectors)
        )  # fmt: skip

    def _take_labels(self, side: Side, rows: Rows, result: Joined) -> None:
        """Events `rows`, no repeats."""
        store, predictions = self.labels, self.predictions
        clocks, refs = side.clocks[rows], side.refs[rows]
        q, p = predictions.lookup(side.digests[rows])
        first = self._eligible(predictions.time[p], predictions.clock[p], side.times[rows[q]], clocks[q])
        first &= predictions.state[p] == WAITING
        first &= self._names.covers(refs[q], self._names.model_of[predictions.ref[p]])
        q, p = q[first], p[first]
        models = self._names.model_of[predictions.ref[p]]
        by_log = np.lexsort((predictions.clock[p], models, q))
        q, p, models = q[by_log], p[by_log], models[by_log]
        fits = predictions.width[p] == side.widths[rows[q]]
        each = q * (len(self._names.models) + 1) + models
        chosen = _first_of_each(each, fits)
        result.mismatched += _refused(rows[q], each, fits, chosen)
        q, p = q[chosen], p[chosen]

        answered = np.zeros(len(rows), np.bool_)
        answered[q] = True
        state = np.where(answered, REMEMBERED, WAITING).astype(np.uint8)
        events = rows[q]
        weights = np.where(np.isnan(side.weights[events]), predictions.weights(p), side.weights[events])
        vectors = {i: (predictions.vectors.pop(int(p[i])), side.vectors[e]) for i, e in _vectors_among(side, events)}
        if q.size:
            result.matches.append(
                Matches(events, predictions.ref[p].astype(np.int64), predictions.time[p], side.times[events],
                        predictions.value[p], side.values[events], weights, vectors)
            )  # fmt: skip
            predictions.remember(p)
            predictions.time[p] = side.times[events]
            predictions.value[p] = side.orders[events]
        new = store.append(
            side.digests[rows], side.times[rows], clocks, side.values[rows],
            side.weights[rows], refs, side.widths[rows], state, side.orders[rows],
        )  # fmt: skip
        if side.vectors:
            for position, row in enumerate(new.tolist()):
                vector = side.vectors.get(int(rows[position]))
                if vector is not None:
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


def _first_fresh(keys: npt.NDArray[np.uint64], rows: Rows, fresh: Mask) -> Rows:
    """Positions in `rows`, ascending, of those that are fresh and the first of their key among these."""
    places = np.flatnonzero(fresh[rows])
    _, first = np.unique(keys[rows[places]], return_index=True)
    return places if len(first) == len(places) else places[np.sort(first)]


def _left(rows: Rows, taken: Rows, fresh: Mask) -> Rows:
    """The fresh rows but those at the positions `taken`."""
    return rows[:0] if len(taken) == len(rows) else (rest := np.delete(rows, taken))[fresh[rest]]


def _among(chosen: Rows, count: int, q: Ints, p: Rows) -> tuple[Ints, Rows]:
    """Hits (q, p) of the chosen ones of `count` positions, q now counting among the chosen."""
    if not q.size:
        return q, p
    place = np.full(count, -1)
    place[chosen] = np.arange(len(chosen))
    kept = place[q] >= 0
    return place[q[kept]], p[kept]


def _first_of_each(groups: Ints, wanted: Mask) -> Rows:
    """The first wanted position of each group; `groups` is sorted."""
    places = np.flatnonzero(wanted)
    _, first = np.unique(groups[places], return_index=True)
    return places[first]


def _refused(events: Rows, groups: Ints, fits: Mask, chosen: Rows) -> list[int]:
    """The event of each candidate that did not fit and came before its group's chosen one, if it has one."""
    if fits.all():
        return []
    limit = dict(zip(groups[chosen].tolist(), chosen.tolist(), strict=True))
    misfits = np.flatnonzero(~fits).tolist()
    return [int(events[i]) for i in misfits if i < limit.get(int(groups[i]), len(groups))]
