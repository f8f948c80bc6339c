"""What `msemon check --suggest` makes of samples: settings that load, and that fit what the sample holds."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from typing import Any

import pytest

from msemon.events import Batch
from msemon.settings import load
from msemon.suggest import suggested
from support.past import T0, halves, pairs, settings


def batch(topic: str, events: list[dict[str, Any]]) -> Batch:
    values = [json.dumps(each).encode() for each in events]
    return Batch(
        topic,
        0,
        range(len(values)),
        [round(each.get("ts", T0) * 1e3) for each in events],
        values,
        len(values),
        0,
        lambda _: (None, ()),
    )


def proposed(batches: list[Batch], **flags: str) -> tuple[dict[str, Any], list[str]]:
    lines = suggested(batches, settings(segments="[]", **flags))
    return tomllib.loads("\n".join(lines)), [line for line in lines if line.startswith("#")]


def plain(seconds: float = 600.0, delay: float = 60.0) -> list[Batch]:
    predictions, labels = halves(pairs(1_000, seconds), delay)
    return [batch("predictions", predictions), batch("labels", labels)]


def test_what_is_proposed_can_be_loaded(tmp_path: Any) -> None:
    lines = suggested(plain(), settings(segments="[]"))
    file = tmp_path / "msemon.toml"
    file.write_text("\n".join(lines))
    loaded = load({}, str(file), None, {})
    assert loaded.segments == [["country"]]
    assert not loaded.warnings


def test_segments_are_those_with_few_values(tmp_path: Any) -> None:
    events = pairs(1_000, 600)
    for i, each in enumerate(events):
        each["segments"] |= {"user": f"u{i}", "tier": i % 5, "half,open": "x", "paid": i % 2 == 0}
    found, why = proposed([batch("all", events)])
    assert found["segments"] == [["paid"], ["country"], ["tier"]]
    assert any("user: 1,000 different values" in line for line in why)
    limited, why = proposed([batch("all", events)], limits__series="5")
    assert limited["segments"] == [["paid"], ["country"]]
    assert any("limits.series" in line for line in why)


@pytest.mark.parametrize(("seconds", "shortest"), [(60.0, "1m"), (3_600.0, "15m"), (40_000.0, "6h"), (3e6, "7d")])
def test_the_shortest_window_holds_enough_pairs(seconds: float, shortest: str) -> None:
    found, _ = proposed(plain(seconds))
    assert found["windows"]["lengths"][0] == shortest
    assert len(found["windows"]["lengths"]) >= 2


def test_the_join_waits_a_multiple_of_the_longest_delay() -> None:
    found, why = proposed(plain(delay=200.0))
    assert found["join"]["timeout"] in ("1h", "6h")
    assert "memory" not in found["join"]
    assert any("1,000 ids" in line for line in why)
    early = [{"id": i, "label": 1.0, "ts": T0 - 900.0} for i in range(5)]
    made = [{"id": i, "model": "m", "prediction": 1.0, "ts": T0 + i} for i in range(5)]
    found, _ = proposed([batch("p", made), batch("l", early)])
    assert found["join"]["memory"] == "6h"


def test_arrays_are_looked_into() -> None:
    events = pairs(1_000, 600)
    whole = Batch("t", 0, range(1), [round(T0 * 1e3)], [json.dumps(events).encode()], 1, 0, lambda _: (None, ()))
    assert proposed([whole])[0] == proposed([batch("t", events)])[0]


def test_what_cloudevents_carry_is_looked_into() -> None:
    """Where paths begin, the envelope is off already."""
    plain_batch = batch("t", pairs(1_000, 600))
    values = [
        b'{"specversion":"1.0","id":"1","source":"s","type":"t","data":%b}' % (each or b"")
        for each in plain_batch.values
    ]
    kind = (("content-type", b"application/cloudevents+json"),)
    packed = replace(plain_batch, values=values, origin=lambda _: (None, kind))
    assert proposed([packed], format__cloudevents="true")[0] == proposed([plain_batch])[0]


def test_without_both_halves_of_an_id_it_says_so() -> None:
    found, why = proposed(plain()[:1])
    assert "join" not in found
    assert any("can't be told" in line for line in why)


def test_fields_are_found_under_other_names() -> None:
    events = [
        {
            "meta": {"requestId": f"r{i}", "event_time": T0 + i, "modelName": "m"},
            "y_hat": 1.0,
            "tags": {"country": "de"},
        }
        for i in range(200)
    ]
    labels = [{"meta": {"requestId": f"r{i}", "event_time": T0 + i + 5}, "actual": 2.0} for i in range(200)]
    found, _ = proposed([batch("p", events), batch("l", labels)])
    assert found["format"]["fields"] == {
        "id": "meta.requestId", "ts": "meta.event_time", "prediction": "y_hat", "label": "actual",
        "model": "meta.modelName", "segments": "tags",
    }  # fmt: skip
    assert found["segments"] == [["country"]]
    assert found["join"]["timeout"] == "1m"


def test_what_is_configured_stays() -> None:
    events = [{"key": i, "id": None, "model": "m", "prediction": 1.0, "other": i, "ts": T0 + i} for i in range(50)]
    found, _ = proposed([batch("p", events)], format__fields='{"id": "other"}')
    assert found["format"]["fields"] == {"id": "other"}


def test_events_without_a_time_of_their_own() -> None:
    events = pairs(100, 600)
    for each in events[:40]:
        del each["ts"]
    _, why = proposed([batch("p", events)])
    assert any("40 of 100 events have no ts" in line for line in why)
    for each in events:
        each.pop("ts", None)
    _, why = proposed([batch("p", events)])
    assert any("no event has a time of its own" in line for line in why)


@pytest.mark.parametrize("values", [[], [b"", b"\xff", b"[1]", b"7", b"{" * 5_000]])
def test_a_sample_without_objects(values: list[bytes]) -> None:
    made = Batch("t", 0, range(len(values)), [0] * len(values), values, 0, 0, lambda _: (None, ()))
    assert suggested([made], settings()) == ["# nothing to suggest: the sample has no objects"]
