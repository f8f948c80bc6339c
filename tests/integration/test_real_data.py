"""Real data, real models, Apache Kafka: every value on `/metrics` is scikit-learn's and pandas' own.

Predictions come from models that learn as they go; labels come later, shuffled, some twice, over four partitions.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest

from support.histories import DAY_US, Event, approval, diabetes, joined, label, prediction, records, repeated
from support.oracle import Oracle, agree, windows_of
from support.running import Scrape, daemon
from support.stories import made, names, settings
from support.topics import produce

HOUR_US = 3_600_000_000
FOR_EVER = {"join__timeout": "3000d", "join__memory": "3000d", "export__segment_metrics": "all"}


def join_counts(scrape: Scrape) -> dict[str, float | None]:
    return {
        "duplicate_predictions": scrape.value("msemon_join_duplicates_total", side="prediction"),
        "duplicate_labels": scrape.value("msemon_join_duplicates_total", side="label"),
        "conflicting_labels": scrape.value("msemon_join_conflicting_labels_total"),
        "waiting_predictions": scrape.value("msemon_join_pending", side="prediction"),
        "waiting_labels": scrape.value("msemon_join_pending", side="label"),
    }


def patients(newest_us: int, random: Random) -> tuple[list[Event], list[Event]]:
    """The diabetes set as it might have come over the last 40 days: two versions, weights, segments, late labels."""
    predicted: list[Event] = []
    labelled: list[Event] = []
    rows = list(diabetes())
    for i, row in enumerate(rows):
        # Most of it lately, so that each window holds its own part.
        at = newest_us - round(40 * DAY_US * (1 - i / len(rows)) ** 3) - random.randrange(HOUR_US)
        segments: dict[str, Any] = {
            "sex": row.features["sex"] > 0,
            "age": "60, and over" if row.features["age"] > 0.05 else "under 60",
        }
        if i % 17 == 0:
            del segments["age"]
        for version, said in row.predicted.items():
            optional: dict[str, Any] = {"weight": round(1 + 10 * abs(row.features["bmi"]), 3)} if i % 3 else {}
            if i % 29 == 0:
                optional = {"weight": 0}
            predicted.append(
                prediction(f"patient {i}", "diabetes", said, at, version=version, segments=segments, **optional)
            )
        if i % 19:
            delay = -HOUR_US // 2 if i % 23 == 0 else random.randrange(HOUR_US, 2 * DAY_US)
            own: dict[str, Any] = {"weight": 2.5} if i % 13 == 0 else {}
            labelled.append(label(f"patient {i}", row.truth, min(at + delay, newest_us), **own))
    labelled += [label(f"nobody {i}", 100.0, newest_us - i * HOUR_US) for i in range(7)]
    return predicted, labelled


def test_the_diabetes_set(kafka, tmp_path):
    """Weighted, two versions, two dimensions, repeats, labels early, late and never: a month of history whose windows
    end now, since its records are as old as its events.
    """
    random = Random(442)
    lengths = ["1d", "7d", "60d"]
    dimensions = [["sex"], ["age", "sex"]]
    topics = made(kafka, names())
    given = settings(kafka, topics, windows__lengths=lengths, segments=dimensions, **FOR_EVER)
    predicted, labelled = patients(time.time_ns() // 1000 - 2 * HOUR_US, random)
    predicted = repeated(predicted, 0.03, random, prediction=0.0)
    random.shuffle(labelled)
    labelled = repeated(repeated(labelled, 0.05, random), 0.02, random, label=-1.0)
    half = len(labelled) // 2

    with daemon(tmp_path / "daemon.log", given) as running:
        produce(kafka, topics[1], records(labelled[:half]))  # these wait for their predictions
        produce(kafka, topics[0], records(predicted))
        produce(kafka, topics[1], records(labelled[half:]))
        running.await_events({topics[0]: len(predicted), topics[1]: len(labelled)})
        # What is older than the longest window counts in the totals, and in no window.
        old_us = time.time_ns() // 1000 - 100 * DAY_US
        old = [f"old {i}" for i in range(11)]
        late = [prediction(each, "diabetes", 1.0, old_us, old_us, version="1", segments={"sex": True}) for each in old]
        answers = [label(each, 3.0, old_us, old_us) for each in old]
        produce(kafka, topics[0], records(late))
        produce(kafka, topics[1], records(answers))
        events = {topics[0]: len(predicted) + len(late), topics[1]: len(labelled) + len(answers)}
        running.await_events(events)

        truth = joined(predicted + late, labelled + answers, ["sex", "age"])
        truth.pairs["sex"] = truth.pairs["sex"].map({"True": "true", "False": "false"})
        # A window's predictions are known by prediction time; those are older than any window.
        oracle = Oracle(truth.pairs, truth.predictions, windows_of(lengths, 60), dimensions, record_times_known=False)
        for openmetrics in (False, True):
            agree(running, oracle, openmetrics, ignore=["msemon_last_pair_timestamp_seconds"])
        scrape = running.scrape()
        sizes = [scrape.number("msemon_window_pairs", model="diabetes", version="1", window=w) for w in lengths]
        assert 30 < sizes[0] < sizes[1] < sizes[2] < len(truth.pairs) / 2, "each window holds its own part"

        expected = {name: float(count) for name, count in truth._asdict().items() if isinstance(count, int)}
        running.until(lambda: join_counts(running.scrape()) == expected, "the join's gauges to be refreshed", 5)
        scrape = running.scrape()
        assert scrape.value("msemon_join_matched_total") == len(truth.pairs)
        assert scrape.value("msemon_join_expired_total", side="prediction") == 0
        assert scrape.events(topics[0]) == {"prediction": events[topics[0]]}
        assert scrape.events(topics[1]) == {"label": events[topics[1]]}
        assert set(scrape.rejected()) <= {(topics[0], "too_late"), (topics[1], "too_late")}
        assert sum(scrape.rejected().values()) == len(late)
        assert scrape.sum("msemon_consumer_lag_sum") == 0


def ratings(start_us: int, record_us: int, random: Random) -> tuple[list[Event], list[Event]]:
    """The approval ratings on their own days, the records as young as a replay makes them."""
    predicted: list[Event] = []
    labelled: list[Event] = []
    for row in approval():
        at = start_us + round((row.features["ordinal_date"] - 736_389) * DAY_US)
        for model, said in row.predicted.items():
            ident = f"{model}/{row.features['ordinal_date']:.0f}"
            segments = {"year": datetime.fromtimestamp(at / 1e6, UTC).year, "spread": spread(row.features)}
            predicted.append(prediction(ident, model, said, at, record_us, segments=segments))
            late = at + random.randrange(DAY_US // 4, 20 * DAY_US)
            labelled.append(label(ident, row.truth[model], late, record_us))
    return predicted, labelled


def spread(features: dict[str, float]) -> str:
    polls = [value for name, value in features.items() if name != "ordinal_date"]
    return "wide" if max(polls) - min(polls) > 5 else "narrow"


@pytest.mark.parametrize("clock", ["observed", "predicted"])
def test_approval_ratings_scalar_and_vector(kafka, tmp_path, clock):
    """A replay of years: the windows end where the stream does, moved on by no more than the time since then. One
    model predicts a number, one five at once.
    """
    random = Random(1001)
    lengths = ["30d", "180d", "1200d"]
    dimensions = [["year"], ["year", "spread"]]
    topics = made(kafka, names())
    given = settings(
        kafka, topics, windows__lengths=lengths, windows__clock=clock, segments=dimensions, kafka__start="earliest",
        **FOR_EVER,
    )  # fmt: skip
    start = datetime(2017, 3, 8, 6, 0, tzinfo=UTC)
    replayed_us = time.time_ns() // 1_000_000 * 1000
    predicted, labelled = ratings(round(start.timestamp()) * 1_000_000, replayed_us, random)
    random.shuffle(labelled)
    labelled = repeated(labelled, 0.1, random)
    produce(kafka, topics[0], records(predicted))

    with daemon(tmp_path / "daemon.log", given) as running:
        running.await_events({topics[0]: len(predicted)})
        produce(kafka, topics[1], records(labelled))
        running.await_events({topics[0]: len(predicted), topics[1]: len(labelled)})
        truth = joined(predicted, labelled, ["year", "spread"], observed=clock == "observed")
        oracle = Oracle(truth.pairs, truth.predictions, windows_of(lengths, 60), dimensions)
        agree(running, oracle, openmetrics=True)
        scrape = agree(running, oracle)
    assert len(truth.pairs) == 2 * 1001
    for model in ("rating", "polls"):
        sizes = [scrape.number("msemon_window_pairs", model=model, version="", window=window) for window in lengths]
        assert 10 < sizes[0] < sizes[1] / 3 < sizes[2] / 9, "each window holds its own part"
    assert scrape.number("msemon_r2", model="rating", version="", window="180d") > 0.5, "the model has learnt"
    assert not scrape.all("msemon_r2", model="polls"), "a vector has no R²"
    assert scrape.value("msemon_join_duplicates_total", side="label") == truth.duplicate_labels > 0
    assert len(scrape.values("msemon_segment_mse", "segment")) > 6
