"""The join gives what a short reference over the whole logs gives, whatever the reading order and the batches."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from unittest import mock

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from msemon.core import join
from msemon.core.digest import Digester
from msemon.core.join import Join, Joined, Side
from msemon.core.names import Names

TIMEOUT, MEMORY = 60, 10
TOPICS = ("predictions a", "predictions b", "labels a", "labels b")


@dataclass(frozen=True)
class Event:
    topic: str
    id: int
    time: int
    model: str | None  # a prediction's model, a label's target
    value: float
    outputs: int = 0
    offset: int = 0
    clock: int = 0

    @property
    def is_label(self) -> bool:
        return self.topic.startswith("labels")


def reference(log: list[Event]) -> list[tuple[float, float]]:
    """Pairs (prediction value, label value): every label in log order takes the first free prediction of each model."""
    fresh: list[Event] = []
    for e in log:
        if not any((f.topic, f.id, f.model) == (e.topic, e.id, e.model) and e.clock <= f.clock + MEMORY for f in fresh):
            fresh.append(e)
    taken: set[Event] = set()
    pairs = []
    for label in (e for e in fresh if e.is_label):
        answered = set()
        for p in (e for e in fresh if not e.is_label and e.id == label.id):
            near = label.clock <= p.time + TIMEOUT and p.clock <= label.time + MEMORY
            aimed = label.model in (None, p.model) and p.outputs == label.outputs
            if near and aimed and p not in taken and p.model not in answered:
                taken.add(p)
                answered.add(p.model)
                pairs.append((p.value, label.value))
    return pairs


@st.composite
def logs(draw: st.DrawFn) -> dict[str, list[Event]]:
    """Four topics; an id keeps to one topic of each side; times drift on with jumps back and ahead."""
    out: dict[str, list[Event]] = {}
    value = 0.0
    for topic in TOPICS:
        events: list[Event] = []
        base, clock = 0, 0
        for offset in range(draw(st.integers(0, 14))):
            base += draw(st.sampled_from([0, 0, 1, 3, 8, 30]))
            time = max(1, base + draw(st.sampled_from([0, 0, 0, -2, -9, -25, 5])))
            clock = max(clock, time)
            value += 1.0
            number = draw(st.integers(0, 2)) * 2 + (topic[-1] == "b")
            models = [None, None, "m", "n"] if topic.startswith("labels") else ["m", "m", "n"]
            outputs = draw(st.sampled_from([0, 0, 0, 2]))
            events.append(Event(topic, number, time, draw(st.sampled_from(models)), value, outputs, offset, clock))
        out[topic] = events
    return out


class Feeder:
    """Drives a Join with events, keeping the clocks that a task would keep."""

    def __init__(self) -> None:
        self.names = Names()
        self.join = Join(TIMEOUT, MEMORY, self.names)
        self.clocks = dict.fromkeys(TOPICS, -(1 << 62))
        self.pairs: list[tuple[float, float]] = []
        self.repeats: Counter[str] = Counter()
        self.expired = [0, 0]
        self._digest = Digester(b"test key")

    def feed(self, batch: list[Event]) -> None:
        label = batch[0].is_label
        values = [np.full(e.outputs, e.value) for e in batch]
        side = Side(
            digests=self._digest([str(e.id).encode() for e in batch]),
            times=np.array([e.time for e in batch]),
            clocks=np.array([e.clock for e in batch]),
            orders=np.array([e.offset for e in batch]),
            values=np.array([np.nan if e.outputs else e.value for e in batch]),
            weights=np.full(len(batch), np.nan if label else 1.0),
            refs=self.names.targets_of([(e.model, None) if e.model else None for e in batch])
            if label
            else self.names.combos_of([(e.model or "", "") for e in batch]),
            widths=np.array([e.outputs for e in batch]),
            vectors={i: v for i, v in enumerate(values) if len(v)},
            record_times=np.array([e.time for e in batch]),
        )
        joined = self.join.add_labels(side) if label else self.join.add_predictions(side)
        self._note(joined, batch)
        self.clocks[batch[0].topic] = batch[-1].clock
        gone = self.join.forget(min(self.clocks.values()), len(batch))
        self.expired = [self.expired[0] + gone[0], self.expired[1] + gone[1]]

    def _note(self, joined: Joined, batch: list[Event]) -> None:
        self.repeats[batch[0].topic] += int((~joined.fresh).sum())
        for m in joined.matches:
            for i in range(len(m)):
                both = m.vectors.get(i)
                pair = (float(both[0][0]), float(both[1][0])) if both else (float(m.predictions[i]), float(m.labels[i]))
                self.pairs.append(pair)


@given(logs(), st.randoms(use_true_random=False))
@settings(max_examples=200)
def test_any_reading_order_and_any_batches_give_the_pairs_of_the_reference(log, random):
    expected = reference([e for topic in TOPICS for e in log[topic]])
    for _ in range(3):
        feeder = Feeder()
        left = {topic: list(events) for topic, events in log.items() if events}
        at_a_time = random.choice([1, 3, 1_000])
        while left:
            topic = random.choice(sorted(left))
            size = random.randint(1, len(left[topic]))
            with mock.patch.multiple(join, _HITS=at_a_time, _CROWDED=random.choice([0, 64]), _TURNS=2):
                feeder.feed(left[topic][:size])
            left[topic] = left[topic][size:]
            if not left[topic]:
                del left[topic]
        assert sorted(feeder.pairs) == sorted(expected)


@given(logs())
@settings(max_examples=100)
def test_repeats_do_not_depend_on_the_other_topics(log):
    alone, together = Feeder(), Feeder()
    for topic in TOPICS:
        if log[topic]:
            alone.feed(log[topic])
    for topic in reversed(TOPICS):
        for event in log[topic]:
            together.feed([event])
    assert alone.repeats == together.repeats


def test_one_silent_side_loses_nothing_and_everything_is_forgotten_once_both_have_passed():
    log = [Event("predictions a", n, n + 1, "m", float(n), 0, n, n + 1) for n in range(40)]
    feeder = Feeder()
    feeder.feed(log)
    feeder.feed([Event("predictions a", 10**6, 10**6, "m", 0.5, 0, 41, 10**6)])  # far ahead; labels have not begun
    assert feeder.join.predictions.waiting == 41
    feeder.feed([replace(e, topic="labels a", model=None, time=41, clock=41) for e in log])
    assert len(feeder.pairs) == 40
    for n, topic in enumerate(TOPICS):
        feeder.feed([Event(topic, 10**7 + n, 10**7, "m", 0.0, 0, 99, 10**7)])
    assert len(feeder.join) == 4, "all that is left is what has just come"
    assert feeder.expired == [1, 0]
