"""F20 end to end: wild timestamps between good ones are counted by reason and move no stream time."""

from __future__ import annotations

import json
import time
from typing import Any

from support.histories import records
from support.running import daemon
from support.stories import made, names, pairs, settings
from support.topics import Record, produce

DAY_S = 86_400
NOT_YET = ["9999-12-31T23:59:59Z", 99_999_999_999, 2**63 - 1, 1e30]
NEVER_WAS = [0, -1, -(2**63), "1969-12-31T23:59:59Z", "0001-01-01T00:00:00Z"]
NO_TIME = ["", "yesterday", "2026-01-01T00:00:00", True, []]
NOT_A_NUMBER = ["NaN", "Infinity", "1e400", "9" * 400]


def wild(ident: int, ts: Any, record_ms: int) -> Record:
    text = ts if ts in NOT_A_NUMBER else json.dumps(ts)
    return Record(f'{{"id": "{ident}", "label": 1, "ts": {text}}}'.encode(), ident % 4, timestamp_ms=record_ms)


def test_wild_timestamps_move_nothing(kafka, tmp_path):
    """In the events and in the records; windows, stream time and lag stay those of the good events."""
    topics = made(kafka, names())
    predicted, labelled = pairs(40)
    now_ms = time.time_ns() // 1_000_000
    tomorrow = [now_ms // 1000 + DAY_S, now_ms + DAY_S * 1000, (now_ms + DAY_S * 1000) * 1_000_000]
    bad = [wild(i, ts, now_ms) for i, ts in enumerate([*tomorrow, *NOT_YET, *NEVER_WAS, *NO_TIME, *NOT_A_NUMBER])]
    unclaimed = b'{"id": "x", "label": 1}'  # it has its record's time
    claims = [Record(unclaimed, 1, timestamp_ms=now_ms + DAY_S * 1000), Record(unclaimed, 2, timestamp_ms=2**62)]
    claims += [Record(unclaimed, 3, timestamp_ms=0)]
    # A good event in a record from the future: it counts, and the record's time is not believed.
    odd = Record(json.dumps(labelled[-1].message).encode(), labelled[-1].partition, timestamp_ms=2**62)
    good = records(labelled)[:-1]
    log = [record for i, each in enumerate(good) for record in (each, *bad[i : i + 1])] + claims + [odd]
    with daemon(tmp_path / "daemon.log", settings(kafka, topics, segments=[])) as running:
        produce(kafka, topics[0], records(predicted))
        produce(kafka, topics[1], log)
        running.await_events({topics[0]: 40, topics[1]: len(log)})
        scrape = running.scrape()
        assert scrape.rejected() == {
            (topics[1], "future"): len(tomorrow) + len(NOT_YET) + 2,
            (topics[1], "wrong_type"): len(NEVER_WAS) + len(NO_TIME),
            (topics[1], "not_finite"): len(NOT_A_NUMBER),
            (topics[1], "missing_field"): 1,
        }
        newest_s = labelled[-1].time_us / 1e6
        assert abs(scrape.number("msemon_stream_timestamp_seconds", model="m", version="") - newest_s) < 0.002
        assert scrape.number("msemon_last_pair_timestamp_seconds", model="m", version="") < time.time() + 301
        for window in ("5m", "1h", "24h"):
            assert scrape.value("msemon_window_pairs", model="m", version="", window=window) == 40
            assert scrape.value("msemon_mse", model="m", version="", window=window) == 4.0
        last = "msemon_last_label_timestamp_seconds"
        running.until(lambda: running.scrape().value(last), "the gauges to be refreshed")
        assert abs(running.scrape().number(last) - newest_s) < 0.002
        running.until(lambda: running.scrape().value("msemon_consumer_lag_sum") == 0, "no lag")
        assert running.scrape(openmetrics=True).value("msemon_pairs_total", model="m", version="") == 40
