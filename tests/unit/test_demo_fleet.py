"""What the simulated fleet sends, and when."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime
from itertools import islice, takewhile
from typing import Any, NamedTuple

import numpy as np
import pytest

from msemon.demo.drift import USUAL, Drift
from msemon.demo.fleet import (
    BROKEN_SHARE,
    CONFLICT_SHARE,
    LABELS_TOPIC,
    NEVER_SHARE,
    PREDICTIONS_TOPIC,
    TWICE_SHARE,
    Message,
    messages,
)
from msemon.demo.models import MODELS

START = 1_700_000_000_000_000
SPEED = 20.0
"""The long run's: as many events as 240 s at speed 1 have, in 12 s."""
RUN_S = 12.0
BEGIN_S, END_S = USUAL.after_s / SPEED, (USUAL.after_s + USUAL.for_s) / SPEED
"""Of the drift."""
SETTLED_S = 6.0  # of the run; labels of what was predicted in it have come by the end, but for one in two thousand


class Run(NamedTuple):
    sent: list[Message]
    predictions: dict[str, dict[str, Any]]  # usable ones, by id, with `at_us`
    labels: dict[str, list[dict[str, Any]]]  # in the order in which they were sent


def sent_within(seconds: float, speed: float, seed: int = 3) -> Iterator[Message]:
    return takewhile(lambda message: message.at_us < START + seconds * 1e6, messages(seed, START, speed))


@pytest.fixture(scope="module")
def run() -> Run:
    sent = list(sent_within(RUN_S, SPEED))
    predictions: dict[str, dict[str, Any]] = {}
    labels: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for message in sent:
        if message.key.startswith(b"broken"):
            continue
        event = {**json.loads(message.value), "at_us": message.at_us}
        if message.topic == PREDICTIONS_TOPIC:
            predictions[event["id"]] = event
        else:
            labels[event["id"]].append(event)
    return Run(sent, predictions, labels)


def settled(run: Run) -> list[str]:
    return [name for name, event in run.predictions.items() if event["at_us"] < START + SETTLED_S * 1e6]


def rmse(run: Run, model: str, begin_s: float, end_s: float, **segments: str) -> float:
    """Of the matched predictions made from begin_s to end_s after the start."""
    squares: list[float] = []
    for name, event in run.predictions.items():
        own = event.get("segments", {})
        asked = event["model"] == model and all(own.get(key) == value for key, value in segments.items())
        if asked and begin_s <= (event["at_us"] - START) / 1e6 < end_s and run.labels[name]:
            errors = np.subtract(event["prediction"], run.labels[name][0]["label"])
            squares.append(float(np.mean(errors**2)))
    assert len(squares) > 300
    return math.sqrt(np.mean(squares))


def test_the_same_seed_sends_the_same_and_another_does_not() -> None:
    first, again, other = (list(islice(messages(seed, START), 3_000)) for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_another_start_moves_the_times_and_gives_other_ids_and_changes_nothing_else() -> None:
    def numbers(message: Message) -> Any:
        return {**json.loads(message.value), "ts": None, "id": message.key.split(b"-")[::2]}

    early = [m for m in islice(messages(5, START), 2_000) if not m.key.startswith(b"broken")]
    late = [m for m in islice(messages(5, START + 86_400_000_000), 2_000) if not m.key.startswith(b"broken")]
    assert [numbers(m) for m in early] == [numbers(m) for m in late]
    assert {b.at_us - a.at_us for a, b in zip(early, late, strict=True)} == {86_400_000_000}
    assert not {m.key for m in early} & {m.key for m in late}


def test_messages_come_in_the_order_of_their_send_times(run: Run) -> None:
    times = [message.at_us for message in run.sent]
    assert times == sorted(times)


def test_an_events_time_is_the_time_it_is_sent(run: Run) -> None:
    for event in [*run.predictions.values(), *(label for labels in run.labels.values() for label in labels)]:
        ts = datetime.fromisoformat(event["ts"])
        assert round(ts.timestamp() * 1e6) == event["at_us"]


@pytest.mark.parametrize("speed", [1.0, 5.0])
def test_the_rate_is_two_hundred_predictions_a_second_times_the_speed(speed: float) -> None:
    seconds = 8.0
    sent = Counter(m.topic for m in sent_within(seconds, speed) if not m.key.startswith(b"broken"))
    expected = 200.0 * speed * seconds
    assert abs(sent[PREDICTIONS_TOPIC] - expected) < 5 * math.sqrt(expected)


def test_each_model_has_its_share_of_the_predictions(run: Run) -> None:
    counts = Counter(event["model"] for event in run.predictions.values())
    total = len(run.predictions)
    for model in MODELS:
        share = model.rate / 200.0
        assert abs(counts[model.name] - total * share) < 5 * math.sqrt(total * share)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_each_models_rmse_is_as_designed_before_the_drift(run: Run, model: Any) -> None:
    assert rmse(run, model.name, 0.0, BEGIN_S) == pytest.approx(model.rmse, rel=0.08)


def test_while_it_drifts_one_country_of_price_has_three_times_its_rmse_and_later_has_its_own_again(run: Run) -> None:
    times = (0.0, BEGIN_S), (BEGIN_S, END_S), (END_S, RUN_S)
    before, during, after = (rmse(run, "price", *time, country="FR") for time in times)
    assert during / before == pytest.approx(3.0, rel=0.1)
    assert after / before == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize(("model", "country"), [("price", "DE"), ("price", "US"), ("relevance", "FR")])
def test_nothing_else_drifts(run: Run, model: str, country: str) -> None:
    before, during = (rmse(run, model, *time, country=country) for time in ((0.0, BEGIN_S), (BEGIN_S, END_S)))
    assert during / before == pytest.approx(1.0, abs=0.1)


def test_where_and_by_how_much_it_drifts_is_asked_of_the_drift() -> None:
    drift = Drift("relevance", {"device": "mobile"}, ratio=1e-6, after_s=0.0, every_s=math.inf, for_s=math.inf)
    events = [json.loads(m.value) for m in islice(messages(5, START, 1.0, drift), 2_000) if m.key[:6] != b"broken"]
    truth = {event["id"]: event["label"] for event in events if "label" in event}
    right: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for event in events:
        if event.get("segments") and event["id"] in truth:
            right[event["model"], event["segments"]["device"]].append(event["prediction"] == truth[event["id"]])
    assert all(right["relevance", "mobile"])
    assert not any(right["price", "mobile"])
    assert sum(right["relevance", "desktop"]) < len(right["relevance", "desktop"]) / 2


def test_label_delays_have_a_long_tail_and_speed_shortens_them(run: Run) -> None:
    delays = [
        (run.labels[name][0]["at_us"] - run.predictions[name]["at_us"]) / 1e6
        for name in settled(run)
        if run.labels[name]
    ]
    assert np.median(delays) == pytest.approx(2.0 / SPEED, rel=0.05)
    assert np.std(np.log(delays)) == pytest.approx(1.2, rel=0.05)
    assert np.quantile(delays, 0.99) > 12 * np.median(delays)


def test_the_shares_of_labels_that_never_come_and_that_come_twice(run: Run) -> None:
    names = settled(run)
    counts = Counter(len(run.labels[name]) for name in names)
    assert set(counts) == {0, 1, 2}
    for labels, share in ((0, NEVER_SHARE), (2, TWICE_SHARE)):
        assert abs(counts[labels] / len(names) - share) < 5 * math.sqrt(share / len(names)) + 1e-3


def test_a_quarter_of_the_second_labels_say_something_else(run: Run) -> None:
    seconds = [labels for labels in run.labels.values() if len(labels) == 2]
    conflicting = sum(first["label"] != second["label"] for first, second in seconds)
    assert abs(conflicting / len(seconds) - CONFLICT_SHARE) < 5 * math.sqrt(0.25 * 0.75 / len(seconds))


def test_a_few_messages_are_of_no_use_in_three_ways(run: Run) -> None:
    broken = [message for message in run.sent if message.key.startswith(b"broken")]
    expected = BROKEN_SHARE * len(run.predictions)
    assert abs(len(broken) - expected) < 5 * math.sqrt(expected)
    assert {_fault(message.value) for message in broken} == {"cut off", "not a number", "no model"}


def _fault(value: bytes) -> str:
    if b"NaN" in value:
        return "not a number"
    try:
        return "no model" if "model" not in json.loads(value) else "none"
    except json.JSONDecodeError:
        return "cut off"


def test_a_prediction_and_its_labels_have_one_key(run: Run) -> None:
    for message in run.sent:
        if not message.key.startswith(b"broken"):
            assert json.loads(message.value)["id"].encode() == message.key


def test_events_have_exactly_the_contracts_fields(run: Run) -> None:
    for event in run.predictions.values():
        names = {"id", "model", "version", "ts", "prediction", "at_us"}
        segmented = event["model"] in ("price", "relevance")
        assert set(event) == (names | {"segments"} if segmented else names)
        assert event["version"] == "1"
        if segmented:
            assert set(event["segments"]) == {"country", "device"}
    for labels in run.labels.values():
        assert all(set(label) == {"id", "ts", "label", "at_us"} for label in labels)
    assert {message.topic for message in run.sent} == {PREDICTIONS_TOPIC, LABELS_TOPIC}
