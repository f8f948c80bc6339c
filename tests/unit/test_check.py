"""The report of `msemon check`, from samples made by hand."""

from __future__ import annotations

import gc
import io
import json
import logging
import socket
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from msemon import check
from msemon.decoding import JsonDecoder
from msemon.events import Batch, Decoded
from msemon.settings import Settings, load
from msemon.sources import reading

NOW_MS = int(time.time() * 1000)


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def settings(**flags: str) -> Settings:
    return load({name.replace("__", "."): value for name, value in flags.items()}, environ={})


def batch(topic: str, *events: Any, partition: int = 0, first: int = 100) -> Batch:
    """Events as JSON, bytes and None as they are."""
    values = [event if isinstance(event, bytes | None) else json.dumps(event).encode() for event in events]
    return Batch(
        topic=topic,
        partition=partition,
        offsets=range(first, first + len(values)),
        timestamps_ms=[NOW_MS] * len(values),
        values=values,
        next_offset=first + len(values),
        size=0,
        origin=lambda _: (None, ()),
    )


def prediction(ident: str, model: str = "price", **rest: Any) -> dict[str, Any]:
    return {"id": ident, "model": model, "prediction": 1.5, **rest}


def label(ident: str) -> dict[str, Any]:
    return {"id": ident, "label": 2.0}


def told(*topics: tuple[str, int, list[Batch]], missing: tuple[str, ...] = (), **flags: str) -> tuple[str, bool]:
    found = []
    for topic, partitions, batches in topics:
        findings = check.Findings(topic, partitions)
        check.examine(findings, batches, settings(**flags))
        found.append(findings)
    lines, problems = check.report(found, list(missing), settings(**flags))
    return "\n".join(lines + problems), not problems


def test_kinds_and_rejections() -> None:
    """Kinds are counted, and each reason has its count and the coordinates of an example, never the message."""
    events = [
        prediction("a"),
        b"secret payload",
        prediction("b"),
        None,
        b"another secret",
        {"id": "x", "label": "words"},
    ]
    text, works = told(("predictions", 2, [batch("predictions", *events, partition=1)]))
    assert works
    assert "predictions: 2 partitions, 6 records sampled" in text
    assert "prediction 2, tombstone 1, rejected 3" in text
    assert "rejected as malformed: 2, such as partition 1 offset 101" in text
    assert "rejected as wrong_type: 1, such as partition 1 offset 105" in text
    assert "secret" not in text
    assert "words" not in text


def test_an_address_that_can_be_listened_at_is_not_spoken_of() -> None:
    assert check.addresses(settings(web__address="127.0.0.1:0", web__health_address="127.0.0.1:0")) == ([], [])


def test_an_address_that_is_taken_is_a_warning_and_one_that_is_not_ours_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        busy = f"127.0.0.1:{server.getsockname()[1]}"
        taken, barred = check.addresses(settings(web__address=busy, web__health_address="192.0.2.1:0"))
    assert taken == [f"warning: web.address {busy}: in use, by an msemon that runs already or another program"]
    assert [line.split(": ")[0] for line in barred] == ["run could not listen at web.health_address 192.0.2.1:0"]


def test_models_and_series() -> None:
    """Models, segments by dimension and all series stand beside their limits."""
    events = [
        prediction("1", version="7", segments={"country": "at", "tier": "a"}),
        prediction("2", version="7", segments={"country": "at", "tier": "b"}),
        prediction("3", version="7", segments={"country": "de", "tier": "b"}),
        prediction("4", model="rank"),
    ]
    text, _ = told(
        ("predictions", 1, [batch("predictions", *events)]),
        segments='[["country"], ["tier", "country"]]',
        limits__series="50",
    )
    assert "models: 2 of limits.models 1,000" in text
    assert "price version 7: 5 segments of limits.series 50 (country 2, tier,country 3)" in text
    assert "rank: 2 segments of limits.series 50 (country 1, tier,country 1)" in text
    assert "series: 9 of limits.total_series 100,000" in text


def test_many_models_are_cut() -> None:
    """A long list of models is cut, its number is not."""
    text, _ = told(("p", 1, [batch("p", *(prediction("1", model=f"m{i:03}") for i in range(100)))]))
    assert "models: 100 of" in text
    assert "m019" in text
    assert "m020" not in text
    assert "and 80 more" in text


def test_empty_and_missing_topics_are_said_and_fine() -> None:
    """Empty topics are said to be empty and missing ones to be waited for; run would work."""
    text, works = told(("predictions", 3, []), missing=("labels",))
    assert works
    assert "predictions: 3 partitions, 0 records sampled: empty" in text
    assert "labels: does not exist: run would wait for it" in text


def test_a_missing_dead_letter_topic_is_said() -> None:
    """Copies for a dead-letter topic that is not there would be lost."""
    text, works = told(("predictions", 1, []), missing=("dead",), kafka__dead_letter_topic="dead")
    assert works
    assert "dead: the dead-letter topic does not exist" in text


def test_nothing_usable() -> None:
    """A topic with messages of which none can be used would make no numbers: run would not work."""
    text, works = told(
        ("predictions", 1, [batch("predictions", prediction("a"))]), ("labels", 1, [batch("labels", b"{", {"x": 1})])
    )
    assert not works
    assert "labels: nothing in the sample is usable" in text
    assert "run would work" not in text


def test_tombstones_alone_are_nothing() -> None:
    """A topic with tombstones alone is as good as an empty one."""
    assert told(("labels", 1, [batch("labels", None, None)]))[1]


def test_unequal_partitions() -> None:
    """Topics with different numbers of partitions are refused by run, and so by check."""
    text, works = told(("predictions", 4, []), ("labels", 3, []))
    assert not works
    assert "must have equal numbers of partitions (predictions 4, labels 3)" in text


def test_ids_apart() -> None:
    """Ids whose prediction and label are on different partitions are warned of, for they never meet."""
    text, works = told(
        ("predictions", 2, [batch("predictions", prediction("a"), prediction("b"))]),
        ("labels", 2, [batch("labels", label("a"), label("c")), batch("labels", label("b"), partition=1)]),
    )
    assert works
    assert "of 2 ids with prediction and label in the sample, 1 have them on different partitions" in text


def test_settings_shape_the_decoding() -> None:
    """The sample is decoded by the paths and limits of the settings."""
    event = {"request": {"id": "a"}, "model": "m", "prediction": [1, 2, 3]}
    one = ("predictions", 1, [batch("predictions", event)])
    assert "prediction 1" in told(one, format__fields='{"id": "request.id"}')[0]
    assert "rejected as missing_field" in told(one)[0]
    assert "rejected as oversized" in told(one, format__fields='{"id": "request.id"}', limits__vector_length="2")[0]


def test_unreachable(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A cluster that does not answer is one line and exit code 1, in bounded time."""
    monkeypatch.setattr(reading, "CONNECT_S", 0.5)
    out = io.StringIO()
    began = time.monotonic()
    with warnings.catch_warnings():
        # kafka-python leaves the sockets of refused connections to the garbage collector, and pytest keeps what is
        # logged about them
        caplog.set_level(logging.CRITICAL, "kafka")
        warnings.simplefilter("ignore", ResourceWarning)
        assert check.run(settings(kafka__bootstrap_servers="127.0.0.1:1"), out) == 1
        gc.collect()
    assert time.monotonic() - began < 10
    assert out.getvalue().startswith("127.0.0.1:1: unreachable: ")
    assert out.getvalue().count("\n") == 1


def test_a_sample_holds_a_bounded_number_of_bytes_and_events() -> None:
    """A thousand records may be arrays of thousands, and each as large as the broker takes."""
    rows: list[Any] = [(offset, NOW_MS, None, b"x" * 100, ()) for offset in range(1_000)]
    assert check._latest(rows, 600, 10**9) == rows[400:]
    assert check._latest(rows, 600, 5_050) == rows[950:]
    assert check._latest([*rows, (1_000, NOW_MS, None, b"x" * 10**6, ())], 600, 5_000) == [
        (1_000, NOW_MS, None, b"x" * 10**6, ())
    ]
    assert check._latest([(0, NOW_MS, None, None, ())], 1, 1) == [(0, NOW_MS, None, None, ())]
    large = batch("predictions", *[[prediction("a")] * 500] * 1_000)
    bounded = check._bounded([large, batch("predictions", prediction("b"), partition=1)], settings())
    text, works = told(("predictions", 2, bounded))
    assert "prediction 83,001" in text  # four fields an event: half a million commas between two partitions
    assert works


def test_a_sample_is_decoded_in_portions_as_the_daemon_does(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    decode = JsonDecoder.decode

    def watched(self: JsonDecoder, given: Batch, wall_us: int) -> Decoded:
        sizes.append(len(given.values))
        return decode(self, given, wall_us)

    monkeypatch.setattr(JsonDecoder, "decode", watched)
    text, _ = told(("predictions", 1, [batch("predictions", *[[prediction("a")] * 500] * 200)]))
    assert "200 records sampled" in text
    assert "prediction 100,000" in text
    assert len(sizes) > 2
