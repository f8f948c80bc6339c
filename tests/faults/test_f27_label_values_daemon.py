"""F27 end to end: names that would break a scrape, or fill it, come out of `/metrics` safe, short and told apart."""

from __future__ import annotations

import json
import time

from support.running import daemon
from support.stories import made, names, settings
from support.topics import Record, produce

NASTY = {
    'say "hi"': 'say "hi"',
    '{a="b"} 1\\': '{a="b"} 1\\',
    "a\\,b": "a\\,b",
    "a,b": "a,b",
    "a\nb 1\n": "a\ufffdb 1\ufffd",
    "a\rb": "a\ufffdb",
    "a\x00b": "a\ufffdb",
    "a\u2028b\x85c": "a\ufffdb\ufffdc",
    "a\ud800b": "a\ufffdb",
    "__other__": "___other__",
    "__none__": "___none__",
    "# HELP": "# HELP",
    "😀": "😀",
}
LONG = ["x" * 900_000, "x" * 900_000 + "y", "\x00" * 100_000, "😀" * 50_000]


def test_nasty_names_in_every_place(kafka, tmp_path):
    """As model, version and segment; both parsers read the same, and every pair counts."""
    topics = made(kafka, names())
    now_ms = time.time_ns() // 1_000_000
    messages = [
        {"model": name, "version": name, "prediction": 5, "label": 3, "segments": {"country": name}}
        for name in (*NASTY, *LONG)
    ]
    log = [Record(json.dumps(message).encode(), i % 4, timestamp_ms=now_ms) for i, message in enumerate(messages)]
    given = settings(kafka, topics, segments=[["country"], ["country", "tier"]], limits__message_bytes="5000000")
    with daemon(tmp_path / "daemon.log", given) as running:
        produce(kafka, topics[0], log, max_request_size=5_000_000)
        running.await_events({topics[0]: len(log)})
        for openmetrics in (False, True):
            scrape = running.scrape(openmetrics)
            assert scrape.rejected() == {}
            assert scrape.sum("msemon_pairs_total") == len(log)
            models = scrape.values("msemon_pairs_total", "model")
            short = {name for name in models if len(name) < 128}
            assert short == set(NASTY.values())
            assert {len(name) for name in models - short} == {128}
            assert len(models - short) == len(LONG), "each keeps a name of its own"
            assert scrape.values("msemon_pairs_total", "version") == models
            for safe in NASTY.values():
                escaped = safe.replace("\\", "\\\\").replace(",", "\\,")
                for dimension, segment in (("country", escaped), ("country,tier", f"{escaped},__none__")):
                    labels = {"model": safe, "version": safe, "dimension": dimension, "segment": segment}
                    assert scrape.value("msemon_segment_mse", window="1h", **labels) == 4.0
