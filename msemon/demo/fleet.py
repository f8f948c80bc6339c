"""What the simulated fleet sends, and when: a pure function of the seed, the start and the speed."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import count
from typing import NamedTuple

import msgspec.json
import numpy as np

from msemon.demo.drift import USUAL, Drift
from msemon.demo.models import GROUPS, MODELS, Case, Group, Model, segment_rmse

PREDICTIONS_TOPIC = "predictions"
LABELS_TOPIC = "labels"
VERSION = "1"

DELAY_MEDIAN_S = 2.0  # at speed 1
DELAY_SIGMA = 1.2  # of the log: one label in a hundred takes 16 times the median
NEVER_SHARE = 0.03  # of the predictions
TWICE_SHARE = 0.02  # of the predictions
CONFLICT_SHARE = 0.25  # of the second labels: their value differs
BROKEN_SHARE = 0.003  # messages of no use, per prediction

_US = 1_000_000


class Message(NamedTuple):
    """One record to send. Sorts by send time; `serial` makes the order total."""

    at_us: int
    serial: int
    topic: str
    key: bytes
    value: bytes


def messages(seed: int, start_us: int, speed: float = 1.0, drift: Drift = USUAL) -> Iterator[Message]:
    """The fleet's messages for ever, in the order of their send times.

    `start_us` is the time of the beginning, in microseconds since the epoch; `speed` multiplies the rate and divides
    label delays and the times of the drift. Event times are send times. A prediction and its labels have one key, its
    id; the start is part of it, so that a fleet that is started again repeats no id.
    """
    rng = np.random.default_rng(seed)
    rates = np.array([model.rate for model in MODELS])
    turns = np.cumsum(rates / rates.sum())[:-1]
    pending: list[Message] = []
    clock_s = 0.0
    for number in count():
        clock_s += rng.exponential(1.0 / (rates.sum() * speed))
        at_us = start_us + int(clock_s * _US)
        while pending and pending[0].at_us <= at_us:
            yield heapq.heappop(pending)
        model = MODELS[int(np.searchsorted(turns, rng.random(), side="right"))]
        segments = _segments(rng, model)
        rmse = segment_rmse(model, segments) * drift.ratio_at(clock_s * speed, model.name, segments)
        case = model.draw(rng, rmse)
        name = f"{model.name}-{start_us:x}-{number}"
        event: dict[str, object] = {"id": name, "model": model.name, "version": VERSION, "ts": _stamp(at_us)}
        event["prediction"] = case.prediction
        if segments:
            event["segments"] = segments
        for message in _story(rng, event, case, 4 * number, at_us, speed):
            heapq.heappush(pending, message)
        yield heapq.heappop(pending)


def _story(
    rng: np.random.Generator, event: Mapping[str, object], case: Case, serial: int, at_us: int, speed: float
) -> Iterator[Message]:
    """A prediction, the labels that answer it later, and sometimes a message that nobody can use."""
    name = str(event["id"])
    yield _message(at_us, serial, PREDICTIONS_TOPIC, name, event)
    if rng.random() < BROKEN_SHARE:
        key = f"broken-{name}"
        yield Message(at_us, serial + 1, PREDICTIONS_TOPIC, key.encode(), _broken(rng, {**event, "id": key}))
    if rng.random() < NEVER_SHARE:
        return
    label_us = at_us + _delay_us(rng, speed)
    yield _label(label_us, serial + 2, name, case)
    if rng.random() < TWICE_SHARE / (1.0 - NEVER_SHARE):
        conflicting = rng.random() < CONFLICT_SHARE
        again = case._replace(label=case.prediction) if conflicting else case
        yield _label(label_us + _delay_us(rng, speed), serial + 3, name, again)


def _segments(rng: np.random.Generator, model: Model) -> dict[str, str]:
    """A value of each key; nothing for a model that has no segments."""
    return {key: _pick(rng, groups) for key, groups in GROUPS.items()} if model.segmented else {}


def _pick(rng: np.random.Generator, groups: Mapping[str, Group]) -> str:
    *names, last = groups
    left = rng.random()
    for name in names:
        left -= groups[name].share
        if left < 0.0:
            return name
    return last


def _delay_us(rng: np.random.Generator, speed: float) -> int:
    return int(DELAY_MEDIAN_S / speed * math.exp(DELAY_SIGMA * rng.standard_normal()) * _US)


def _label(at_us: int, serial: int, name: str, case: Case) -> Message:
    return _message(at_us, serial, LABELS_TOPIC, name, {"id": name, "ts": _stamp(at_us), "label": case.label})


def _message(at_us: int, serial: int, topic: str, name: str, event: Mapping[str, object]) -> Message:
    return Message(at_us, serial, topic, name.encode(), msgspec.json.encode(event))


def _stamp(at_us: int) -> str:
    """RFC 3339 with microseconds; `datetime` does integer arithmetic on them, so nothing is rounded."""
    seconds, micros = divmod(at_us, _US)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros).isoformat(timespec="microseconds")


def _broken(rng: np.random.Generator, event: Mapping[str, object]) -> bytes:
    """Cut off in the middle, not a number, or without its model."""
    kind = rng.integers(3)
    if kind == 0:
        return msgspec.json.encode(event)[:-9]
    if kind == 1:
        return msgspec.json.encode({**event, "prediction": "?"}).replace(b'"?"', b"NaN")
    return msgspec.json.encode({name: value for name, value in event.items() if name != "model"})
