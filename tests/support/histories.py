"""Predictions and labels as records of two topics, what they add up to, and real data that models learn from.

`joined` is the reference for the join: everything waits for ever, the first of each stands.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

import pandas as pd

from support.topics import Record

PARTITIONS = 4
DAY_US = 86_400_000_000


@dataclass(frozen=True)
class Event:
    """A message and its record's time."""

    message: dict[str, Any]
    record_us: int

    @property
    def id(self) -> str:
        return str(self.message["id"])

    @property
    def time_us(self) -> int:
        return int(self.message["ts"]) * 1000

    @property
    def partition(self) -> int:
        return zlib.crc32(self.id.encode()) % PARTITIONS

    def record(self) -> Record:
        return Record(json.dumps(self.message).encode(), self.partition, self.id.encode(), self.record_us // 1000)


def prediction(
    ident: str, model: str, value: Any, time_us: int, record_us: int | None = None, **optional: Any
) -> Event:
    """A prediction; its record has its own time where no other is given."""
    message = {"id": ident, "model": model, "prediction": value, "ts": time_us // 1000} | optional
    return Event(message, time_us if record_us is None else record_us)


def label(ident: str, value: Any, time_us: int, record_us: int | None = None, **optional: Any) -> Event:
    """A label for every model that predicted this id."""
    message = {"id": ident, "label": value, "ts": time_us // 1000} | optional
    return Event(message, time_us if record_us is None else record_us)


def records(events: Iterable[Event]) -> list[Record]:
    return [event.record() for event in events]


def repeated(events: Sequence[Event], share: float, random: Random, **changed: Any) -> list[Event]:
    """The events with some of them once more, anywhere after the first; `changed` fields in the repeat."""
    result = list(events)
    for event in random.sample(list(events), round(share * len(events))):
        at = random.randint(result.index(event) + 1, len(result))
        result.insert(at, Event(event.message | changed, event.record_us))
    return result


class Joined(NamedTuple):
    """Frames for the oracle, and the join's own counts."""

    pairs: pd.DataFrame
    predictions: pd.DataFrame
    duplicate_predictions: int
    duplicate_labels: int
    conflicting_labels: int
    waiting_predictions: int
    waiting_labels: int


def joined(
    predicted: Iterable[Event], labelled: Iterable[Event], keys: Sequence[str] = (), observed: bool = True
) -> Joined:
    """Every prediction with the first label of its id, where nothing is ever forgotten."""
    asked: dict[tuple[str, str, str], Event] = {}
    answers: dict[str, Event] = {}
    repeats = [0, 0, 0]
    for event in predicted:
        name = event.id, event.message["model"], event.message.get("version", "")
        repeats[0] += name in asked
        asked.setdefault(name, event)
    for event in labelled:
        repeats[1] += event.id in answers
        first = answers.setdefault(event.id, event)
        repeats[2] += first.message["label"] != event.message["label"]
    pairs = [_pair(p, answers[name[0]], keys, observed) for name, p in asked.items() if name[0] in answers]
    predictions = pd.DataFrame(
        [
            {"model": model, "version": version, "time_us": event.time_us, "labelled": ident in answers}
            for (ident, model, version), event in asked.items()
        ]
    )
    answered = {ident for ident, _, _ in asked}
    return Joined(
        pairs=pd.DataFrame(pairs),
        predictions=predictions,
        duplicate_predictions=repeats[0],
        duplicate_labels=repeats[1],
        conflicting_labels=repeats[2],
        waiting_predictions=len(asked) - len(pairs),
        waiting_labels=len(answers.keys() - answered),
    )


def _pair(asked: Event, answer: Event, keys: Sequence[str], observed: bool) -> dict[str, Any]:
    segments = asked.message.get("segments") or {}
    return {
        "model": asked.message["model"],
        "version": asked.message.get("version", ""),
        "partition": asked.partition,
        "time_us": max(asked.time_us, answer.time_us) if observed else asked.time_us,
        "record_us": answer.record_us,  # where labels are read after their predictions
        "prediction": asked.message["prediction"],
        "label": answer.message["label"],
        "weight": float(answer.message.get("weight", asked.message.get("weight", 1.0))),
        "delay_us": max(0, answer.time_us - asked.time_us),
    } | {key: str(segments.get(key, "__none__")) for key in keys}


class Observation(NamedTuple):
    """One row of a data set: what it says, what models that had learnt from the earlier rows said, and the truth."""

    features: dict[str, float]
    predicted: dict[str, Any]  # by model
    truth: Any


def diabetes() -> Iterator[Observation]:
    """scikit-learn's diabetes set: progression after a year, by two regressions that learn row by row."""
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import SGDRegressor

    data = load_diabetes()
    models = {
        "1": SGDRegressor(eta0=0.01, learning_rate="constant", random_state=1),
        "2": SGDRegressor(eta0=0.001, loss="huber", epsilon=50.0, learning_rate="constant", random_state=2),
    }
    for row, truth in zip(data.data, data.target, strict=True):
        scaled = (row * 21.0).reshape(1, -1)  # unit variance
        known = all(hasattr(model, "coef_") for model in models.values())
        said = {name: float(model.predict(scaled)[0]) if known else 150.0 for name, model in models.items()}
        yield Observation(dict(zip(data.feature_names, row.tolist(), strict=True)), said, float(truth))
        for model in models.values():
            model.partial_fit(scaled, [truth])


POLLS = ("gallup", "ipsos", "morning_consult", "rasmussen", "you_gov")


def approval() -> Iterator[Observation]:
    """TrumpApproval, which river ships: the rating from five polls, and as a vector the five polls of each day from
    those of the day before, by river's linear regressions, which learn day by day.
    """
    from river import linear_model, optim, preprocessing
    from river.datasets import TrumpApproval

    def regression() -> Any:
        line = linear_model.LinearRegression(optimizer=optim.SGD(0.02), intercept_lr=0.3, intercept_init=40.0)
        return preprocessing.StandardScaler() | line

    rating, polls = regression(), {name: regression() for name in POLLS}
    yesterday: dict[str, float] = {}
    rows: Any = TrumpApproval()
    for features, truth in rows:
        today = {name: features[name] for name in POLLS}
        forecast = [model.predict_one(yesterday) for model in polls.values()]
        said = {"rating": rating.predict_one(today), "polls": forecast}
        yield Observation(features, said, {"rating": truth, "polls": list(today.values())})
        rating.learn_one(today, truth)
        for name, model in polls.items():
            model.learn_one(yesterday, today[name])
        yesterday = today
