"""A process's view is what the contract says of the whole log, whatever the reading order, batches and partitions."""

from __future__ import annotations

import math
import random as randoms
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msemon.core import moments
from msemon.core.process import Process
from msemon.core.view import DELAY_BOUNDS_S, SeriesKey, Table, View
from msemon.events import Target
from support.events import SECOND, Event, Value, decoded
from support.task_logs import (
    DIMENSIONS,
    LABELS,
    MEMORY,
    PREDICTIONS,
    START,
    TIMEOUT,
    WINDOWS,
    random_events,
    shape,
)


@dataclass(frozen=True)
class Read:
    """An event where it stands in its log."""

    event: Event
    topic: str
    clock: int


MEASURES: dict[str, Callable[[Fraction], Fraction]] = {
    "q": lambda e: e * e,
    "e": lambda e: e,
    "a": abs,
    "over": lambda e: max(e, Fraction(0)),
    "under": lambda e: max(-e, Fraction(0)),
}


@dataclass(frozen=True)
class Pair:
    """A pair as the contract has it; exact arithmetic."""

    key: tuple[str, ...]
    prediction_time: int
    label_time: int
    record_time: int
    weight: Fraction
    errors: tuple[Fraction, ...]
    label: Fraction | None
    joined: bool

    def time(self, observed: bool) -> int:
        return max(self.prediction_time, self.label_time) if observed else self.prediction_time

    def mean(self, of: str) -> Fraction:
        return sum((MEASURES[of](e) for e in self.errors), Fraction(0)) / len(self.errors)


@dataclass
class Partition:
    """What a partition's logs amount to."""

    pairs: list[Pair] = field(default_factory=list)
    predictions: list[tuple[tuple[str, str], int]] = field(default_factory=list)  # not repeats: model, time
    repeats: Counter[str] = field(default_factory=Counter)


def model_of(event: Event) -> tuple[str, str]:
    return event.key[0], event.key[1]


def exact(value: Value) -> tuple[Fraction, ...]:
    return tuple(Fraction(v) for v in (value if isinstance(value, tuple) else (value,)))


def pair_of(p: Event, label: Event, record_time: int, joined: bool) -> Pair:
    assert p.prediction is not None
    assert label.label is not None
    weight = next((w for w in (label.weight, p.weight) if w is not None), 1.0)
    outputs = zip(exact(p.prediction), exact(label.label), strict=True)
    errors = tuple(Fraction(float(a) - float(b)) for a, b in outputs)  # the error is what float64 makes of it
    y = Fraction(label.label) if isinstance(label.label, float) else None
    return Pair(p.key, p.time, label.time, record_time, Fraction(weight), errors, y, joined)


def same_shape(a: Value | None, b: Value | None) -> bool:
    return isinstance(a, float) == isinstance(b, float) and (
        isinstance(a, float) or len(exact(a or ())) == len(exact(b or ()))
    )


def reference(logs: dict[str, list[Read]]) -> Partition:  # noqa: C901  # the whole join on one page
    """The contract's join over whole logs: each label in turn takes the first prediction of each model that is left."""
    out = Partition()
    predictions: list[Read] = []
    labels: list[tuple[Read, Target | None]] = []
    for read in (read for log in logs.values() for read in log):
        e = read.event
        if e.id is None:
            out.pairs.append(pair_of(e, e, e.record_time, joined=False))
            out.predictions.append((model_of(e), e.time))
            continue
        if e.prediction is not None:
            if any(
                p.event.id == e.id and p.event.key[:2] == e.key[:2] and read.clock <= p.clock + MEMORY
                for p in predictions
            ):
                out.repeats[PREDICTIONS] += 1
            else:
                predictions.append(read)
                out.predictions.append((model_of(e), e.time))
        if e.label is not None:
            target = model_of(e) if e.prediction is not None else e.target
            before = (old for old, aim in labels if old.event.id == e.id and aim == target)
            if old := next((old for old in before if read.clock <= old.clock + MEMORY), None):
                out.repeats[LABELS] += 1
                out.repeats["conflicting"] += old.event.label != e.label
            else:
                labels.append((read, target))
    taken: set[int] = set()
    for label, target in labels:
        answered = set()
        for i, p in enumerate(predictions):
            model = p.event.key[:2]
            if i in taken or model in answered or p.event.id != label.event.id:
                continue
            near = label.clock <= p.event.time + TIMEOUT and p.clock <= label.event.time + MEMORY
            aimed = target is None or all(t is None or t == m for t, m in zip(target, model, strict=True))
            if near and aimed and same_shape(p.event.prediction, label.event.label):
                taken.add(i)
                answered.add(model)
                record_time = max(p.event.record_time, label.event.record_time)  # whichever is read first
                out.pairs.append(pair_of(p.event, label.event, record_time, joined=True))
    return out


def series_of(pair: Pair) -> list[SeriesKey]:
    model, version, *values = pair.key
    parts = [(name, ",".join(values[i] for i in keys)) for name, keys in DIMENSIONS.items()]
    return [SeriesKey(model, version), *(SeriesKey(model, version, name, text) for name, text in parts)]


def total(pairs: list[Pair], of: str) -> Fraction:
    return sum((p.weight * p.mean(of) for p in pairs), Fraction(0))


class Checked:
    """Compares a view with the partitions it should show."""

    def __init__(self, view: View, parts: list[Partition], observed: bool, wall: int) -> None:
        self.view = view
        self.parts = parts
        self.observed = observed
        self.wall = wall
        self.by_series: dict[SeriesKey, list[Pair]] = defaultdict(list)
        for pair in (pair for part in parts for pair in part.pairs):
            for key in series_of(pair):
                self.by_series[key].append(pair)
        self.now = {model: now for model in self.models() if (now := self._now(model)) is not None}

    def models(self) -> set[tuple[str, str]]:
        return {model for part in self.parts for model, _ in part.predictions}

    def _now(self, model: tuple[str, str]) -> int | None:
        """max(stream time, wall clock − lag), the largest of the partitions."""
        nows = []
        for part in self.parts:
            pairs = [p for p in part.pairs if p.key[:2] == model]
            if pairs:
                lag = min(max(p.record_time - p.time(self.observed), 0) for p in pairs)
                nows.append(max(*(p.time(self.observed) for p in pairs), self.wall - lag))
        return max(nows) if nows else None

    def check(self) -> None:
        self._tables()
        self._coverage()
        self._model_numbers()

    def _tables(self) -> None:
        for table, segmented in ((self.view.models, False), (self.view.segments, True)):
            assert len(set(table.keys)) == len(table.keys)
            rows = {key: i for i, key in enumerate(table.keys)}
            wanted = {key for key in self.by_series if bool(key.dimension) == segmented}
            if segmented:
                assert set(rows) == wanted
            else:
                assert wanted <= set(rows)
            for key, row in rows.items():
                self._series(table, row, self.by_series.get(key, []), self.now.get(key[:2]))

    def _series(self, table: Table, row: int, pairs: list[Pair], now: int | None) -> None:
        counted = [Fraction(len(pairs)), sum((p.weight for p in pairs), Fraction(0))]
        counted += [total(pairs, of) for of in ("q", "a", "over", "under")]
        for value, wanted in zip(table.counters[:, row], counted, strict=True):
            assert value == pytest.approx(float(wanted), rel=1e-12, abs=0)
        for ring, window in enumerate(WINDOWS):
            oldest = math.inf if now is None else now // window.pane_us - window.panes
            inside = [p for p in pairs if p.time(self.observed) // window.pane_us >= oldest]
            check_moments(table.windows[ring][:, [row]], inside)

    def _coverage(self) -> None:
        for ring, window in enumerate(WINDOWS):
            for i, key in enumerate(self.view.models.keys):
                now = self.now.get(key[:2])
                made = [time for part in self.parts for model, time in part.predictions if model == key[:2]]
                if now is None or max(made) // window.pane_us > now // window.pane_us:
                    continue  # it may have forgotten predictions from before its first pair
                panes = range(now // window.pane_us - window.panes, now // window.pane_us + 1)
                answered = [p.prediction_time for p in self.by_series[key]]
                found = [sum(time // window.pane_us in panes for time in times) for times in (made, answered)]
                assert self.view.coverage[ring][:, i].tolist() == found

    def _model_numbers(self) -> None:
        view = self.view
        for i, key in enumerate(view.models.keys):
            pairs = self.by_series.get(key, [])
            lifetime = [len(pairs), sum(p.weight for p in pairs), total(pairs, "q")]
            if not np.isnan(view.lifetime[0, i]):
                assert view.lifetime[:, i] == pytest.approx([float(x) for x in lifetime], rel=1e-12, abs=0)
                stream = max((p.time(self.observed) for p in pairs), default=None)
                last = max((p.record_time for p in pairs), default=None)
                for value, wanted in ((view.stream_time[i], stream), (view.last_pair[i], last)):
                    assert np.isnan(value) if wanted is None else value == wanted / SECOND
            else:
                assert not view.models.windows[1][moments.N, i]
            delays = [max(p.label_time - p.prediction_time, 0) / SECOND for p in pairs if p.joined]
            buckets = [0] * (len(DELAY_BOUNDS_S) + 1)
            for delay in delays:
                buckets[bisect_left(DELAY_BOUNDS_S, delay)] += 1
            assert view.delays[i].tolist() == buckets
            assert view.delay_sum[i] == pytest.approx(math.fsum(delays), rel=1e-12)


def check_moments(m: np.ndarray, pairs: list[Pair]) -> None:
    """One column of moments (FIELDS, 1) against exact arithmetic."""
    assert m[moments.N, 0] == len(pairs)
    weight = sum((p.weight for p in pairs), Fraction(0))
    if not weight:
        assert np.isnan([moments.mse(m)[0], moments.rmse(m)[0], moments.bias(m)[0], moments.weight(m)[0]]).all()
        return
    q, a, e = (total(pairs, of) for of in ("q", "a", "e"))
    assert moments.weight(m)[0] == pytest.approx(float(weight), rel=1e-12)
    assert moments.squared_error(m)[0] == pytest.approx(float(q), rel=1e-12)
    assert moments.mse(m)[0] == pytest.approx(float(q / weight), rel=1e-12)
    assert moments.absolute_error(m)[0] == pytest.approx(float(a), rel=1e-12)
    assert moments.error(m)[0] == pytest.approx(float(e), abs=1e-12 * float(a), rel=0)
    weighed = [p for p in pairs if p.weight]
    assert moments.max_absolute_error(m)[0] == max(abs(float(e)) for p in weighed for e in p.errors)
    check_r2(float(moments.r2(m)[0]), pairs, q / weight, weight)


def check_r2(r2: float, pairs: list[Pair], mse: Fraction, weight: Fraction) -> None:
    weighed = [(p.weight, p.label) for p in pairs if p.weight]
    if len(pairs) < 2 or any(y is None for _, y in weighed):
        assert np.isnan(r2)
        return
    known = [(w, y) for w, y in weighed if y is not None]
    mean = sum((w * y for w, y in known), Fraction(0)) / weight
    variance = sum((w * (y - mean) ** 2 for w, y in known), Fraction(0)) / weight
    if not variance:
        assert np.isnan(r2)
        return
    assert r2 == pytest.approx(float(1 - mse / variance), abs=1e-9, rel=1e-9)


# Logs.


def play(
    random: randoms.Random, logs: list[dict[str, list[Event]]], observed: bool, wall: int
) -> tuple[Process, list[Partition]]:
    """Read the logs in a random order and random batches, by a process and by the reference."""
    process = Process([PREDICTIONS, LABELS], shape(observed), lambda: b"key")
    read: list[dict[str, list[Read]]] = [{PREDICTIONS: [], LABELS: []} for _ in logs]
    counted: list[Counter[str]] = [Counter() for _ in logs]
    for p in range(len(logs)):
        process.start(p)
    left = [(p, topic) for p, log in enumerate(logs) for topic in log if log[topic]]
    while left:
        p, topic = random.choice(left)
        log, done = logs[p][topic], read[p][topic]
        batch = log[len(done) : len(done) + random.choice([1, 2, 5, 50])]
        outcome = process.apply(p, topic, decoded(batch, len(done)), len(done) + len(batch), wall)
        counted[p] += Counter({PREDICTIONS: outcome.duplicate_predictions, LABELS: outcome.duplicate_labels})
        counted[p] += Counter(
            {"conflicting": outcome.conflicting_labels, "pairs": outcome.pairs, "matched": outcome.matched}
        )
        for event in batch:
            done.append(Read(event, topic, max(event.time, done[-1].clock if done else 0)))
        if len(done) == len(log):
            left.remove((p, topic))
    parts = [reference(topics) for topics in read]
    for part, counts in zip(parts, counted, strict=True):
        joined = sum(pair.joined for pair in part.pairs)
        assert +counts == +(part.repeats + Counter({"pairs": len(part.pairs), "matched": joined}))
    for p, topics in enumerate(logs):
        assert process.tasks[p].offsets == {topic: len(events) for topic, events in topics.items() if events}
    return process, parts


@given(st.integers(0, 1 << 32), st.integers(1, 3), st.booleans(), st.sampled_from([0, 0, 2, 17, 90]))
@settings(max_examples=80)
def test_any_reading_order_any_batches_and_any_partitions_show_what_the_whole_log_says(
    seed, partitions, observed, later
):
    random = randoms.Random(seed)
    logs = [random_events(random, p, random.choice([6, 25, 40]), (0, 0.1, 0.5, 2, 4)) for p in range(partitions)]
    newest = max((e.record_time for log in logs for events in log.values() for e in events), default=START)
    wall = newest + later * SECOND
    process, parts = play(random, logs, observed, wall)
    Checked(process.view(wall), parts, observed, wall).check()


@given(st.integers(0, 1 << 32), st.booleans(), st.sampled_from([0, 5, 200]))
@settings(max_examples=80)
def test_logs_far_longer_than_every_window_show_only_what_is_in_the_windows(seed, observed, later):
    random = randoms.Random(seed)
    logs = [random_events(random, 0, random.choice([20, 60]), (0, 1, 10, 70, 400))]
    newest = max((e.record_time for log in logs for events in log.values() for e in events), default=START)
    wall = newest + later * SECOND
    process, parts = play(random, logs, observed, wall)
    Checked(process.view(wall), parts, observed, wall).check()
