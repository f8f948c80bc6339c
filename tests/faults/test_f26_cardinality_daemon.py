"""F26 end to end: more segments and models than the limits allow are folded; caps hold, totals add up, memory is flat.

150,000 segments and 30,000 models, each once, over four partitions with limits of 500 and 50 each: seventy-five times
what the process may hold.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from support.flood import flood
from support.histories import PARTITIONS
from support.running import Scrape, daemon
from support.stories import made, names, settings

SEGMENTS, MODELS = 150_000, 30_000
SERIES_LIMIT, MODELS_LIMIT = 500, 50
TURNS = 15
SETTLED = 5
"""Turns until memory has its size. A task throws its names out once 4,096 more than twice those in use have gathered,
which takes four turns; till then every turn brings what it would bring if they were never thrown out."""

MIB = 1024 * 1024

Records = Iterator[tuple[str, int, bytes, int]]


def predictions(topic: str, turn: int, base_ms: int) -> Records:
    """This turn's share: every prediction names a segment, or a model, that nobody has named before."""
    for i in range(turn, SEGMENTS, TURNS):
        message = {"id": f"s{i}", "model": "wide", "prediction": 5, "segments": {"user": f"user {i}"}}
        yield topic, i // TURNS % PARTITIONS, json.dumps(message).encode(), base_ms + i // TURNS
    for i in range(turn, MODELS, TURNS):
        message = {"id": f"m{i}", "model": f"model {i}", "prediction": 5, "segments": {"user": "u"}}
        yield topic, i // TURNS % PARTITIONS, json.dumps(message).encode(), base_ms + SEGMENTS // TURNS + i // TURNS


def labels(topic: str, turn: int, base_ms: int) -> Records:
    for kind, count, later in (("s", SEGMENTS, 0), ("m", MODELS, SEGMENTS // TURNS)):
        for i in range(turn, count, TURNS):
            message = {"id": f"{kind}{i}", "label": 3}
            yield topic, i // TURNS % PARTITIONS, json.dumps(message).encode(), base_ms + later + i // TURNS


@pytest.mark.timeout(300)
def test_a_flood_of_segments_and_models(kafka, tmp_path):
    """After every turn of the flood; memory is the same after a third and after all of the names.

    Ten turns are compared, for what a turn's buffers and the allocator add or give back is up to 10 MiB either way.
    """
    topics = made(kafka, names())
    given = settings(
        kafka, topics, segments=[["user"]], join__memory="1s", join__timeout="10s",
        limits__series=str(SERIES_LIMIT), limits__models=str(MODELS_LIMIT), limits__total_series="5000",
        export__segment_metrics=["pairs_total", "window_pairs"],
    )  # fmt: skip
    span_ms = (SEGMENTS + MODELS) // TURNS + 20_000
    base_ms = time.time_ns() // 1_000_000 - TURNS * span_ms
    memory = []
    with daemon(tmp_path / "daemon.log", given) as running:
        for turn in range(TURNS):
            for topic, events in zip(topics, (predictions, labels), strict=True):
                flood(kafka, events(topic, turn, base_ms + turn * span_ms))
            done = (turn + 1) * (SEGMENTS + MODELS) // TURNS
            running.await_events(dict.fromkeys(topics, done))
            check(running.scrape(), done)
            memory.append(running.rss)
        running.scrape(openmetrics=True)
    print([f"{each / MIB:.0f} MiB" for each in memory])
    assert memory[-1] < memory[SETTLED - 1] + 24 * MIB, "what is folded leaves nothing behind"


def check(scrape: Scrape, done: int) -> None:
    segments = done * SEGMENTS // (SEGMENTS + MODELS)
    totals = scrape.all("msemon_pairs_total")
    assert sum(totals.values()) == done
    assert scrape.value("msemon_pairs_total", model="wide", version="") == segments
    assert scrape.sum("msemon_window_squared_error", window="24h") == 4.0 * done
    assert len(totals) <= PARTITIONS * MODELS_LIMIT + 1
    assert scrape.sum("msemon_pairs_total", model="__other__") == done - segments - (len(totals) - 2)

    wide = scrape.all("msemon_segment_pairs_total", model="wide")
    assert len(wide) <= PARTITIONS * SERIES_LIMIT + 1
    assert sum(wide.values()) == segments
    kept = [value for labels, value in wide.items() if dict(labels)["segment"] != "__other__"]
    assert set(kept) == {1.0}
    assert scrape.value("msemon_series_folded_total", model="wide", version="") == segments - len(kept)
    assert scrape.sum("msemon_segment_window_pairs", model="wide", window="24h") == segments
    assert scrape.sum("msemon_segment_pairs_total") == done
