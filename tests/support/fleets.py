"""A fleet of models as a status page shows it: what its view, status and metrics say, without a daemon."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from msemon.core.view import SeriesKey, View
from msemon.events import Kind, Reason
from msemon.export.pipeline import Pipeline
from support.sites import FakeSite
from support.views import Pairs, view_of

WINDOWS = ("5m", "1h", "24h")
PRICE, PRICE_OLD = SeriesKey("house-price", "2026-11"), SeriesKey("house-price", "2026-10")
ETA, LOAD, FRAUD = SeriesKey("delivery-eta", "7"), SeriesKey("energy-load", "3"), SeriesKey("claim-amount", "")
COUNTRIES = ("NL", "DE", "FR", "BE", "PL")

STEADY = (90.0, 100.0, 5000.0, 1.5, 17.3, 0.0, 0.0)
ALARMED = (40.0, 44.0, 5000.0, 31.2, 17.3, 1.0, 1.0)
LEARNING = (np.nan, np.nan, 1234.0, np.nan, np.nan, np.nan, np.nan)


def drawn(seed: int, bias: float, spread: float, n: int = 400) -> Pairs:
    """Pairs of errors of about this bias and spread."""
    random = np.random.default_rng(seed)
    return [(200.0 + float(e), 200.0, 1.0) for e in random.normal(bias, spread, n)]


def fleet_view() -> View:
    """Four models, one in two versions: house-price is steady, delivery-eta drifts in all and in DE, energy-load
    learns, claim-amount has predictions but no label yet.
    """
    models = {
        PRICE: drawn(1, 0.4, 10.0), PRICE_OLD: drawn(2, -1.0, 12.0), ETA: drawn(3, 4.0, 9.0), LOAD: drawn(4, 0.0, 0.02),
        FRAUD: [],
    }  # fmt: skip
    parts = {
        key._replace(dimension="country", segment=country): drawn(10 + i, 0.1 * i, (5.0 + 3.0 * i) / (j + 1), 80)
        for j, key in enumerate((PRICE, ETA))
        for i, country in enumerate(COUNTRIES)
    }
    view = view_of(models, parts, WINDOWS)
    view.models.drift = np.array([STEADY, STEADY, ALARMED, LEARNING, [np.nan] * 7]).T
    view.segments.drift = np.array(
        [ALARMED if key.model == ETA.model and key.segment == "DE" else STEADY for key in view.segments.keys]
    ).T
    view.coverage = [np.array([[500, 120, 400, 300, 50], [400, 120, 300, 200, 0]]) for _ in WINDOWS]
    view.last_pair = time.time() - np.array([2.0, 7200.0, 3.0, 5.0, np.nan])
    view.delays = np.tile(np.array([4, 30, 80, 200, 310, 140, 40, 12, 3, 0, 0, 0, 0, 0, 0]), (len(models), 1))
    return view


def fleet_site(view: View | None = None, partitions: int = 4, of: int = 12) -> FakeSite:
    """A site of this view, owning `partitions` of the topics' `of`."""
    pipeline = Pipeline("kafka-python", ["predictions", "labels"])
    pipeline.events.labels("predictions", Kind.PREDICTION).inc(1_204_500)
    pipeline.events.labels("labels", Kind.LABEL).inc(981_200)
    pipeline.events_rejected.labels("labels", Reason.WRONG_TYPE).inc(12)
    pipeline.join_matched.inc(965_100)
    pipeline.join_pending.labels("prediction").set(54_321)
    pipeline.join_pending.labels("label").set(640)
    pipeline.consumer_lag_sum.set(180)
    pipeline.consumer_lag_seconds.set(0.4)
    pipeline.last_label_timestamp_seconds.set(time.time() - 1)
    pipeline.partitions_assigned.set(partitions)
    pipeline.checkpoint_timestamp_seconds.set(time.time() - 4)
    pipeline.checkpoint_duration_seconds.set(0.21)
    pipeline.checkpoint_bytes.set(3_400_000)
    pipeline.rebalances.inc(2)
    pipeline.restores.labels("store").inc(4)
    for topic in ("predictions", "labels"):
        pipeline.partitions.labels(topic).set(of)
        for partition in range(partitions):
            pipeline.consumer_lag.labels(topic, str(partition)).set(20 + partition)
    for partition in range(partitions):
        pipeline.state_incomplete.labels(str(partition)).set(0)
    return FakeSite(
        shown=fleet_view() if view is None else view, registry=pipeline.registry, state=_status(list(range(partitions)))
    )


def _status(partitions: list[int]) -> dict[str, Any]:
    return {
        "version": "0.1.0", "healthy": True, "ready": True, "uptime_seconds": 93_600.0,
        "topics": ["predictions", "labels"], "group": "msemon", "partitions": partitions, "lease": True,
        "waiting": {"predictions": 54_321, "labels": 640}, "labels_for_the_past": 120,
    }  # fmt: skip
