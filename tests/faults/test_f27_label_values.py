"""F27 at the decoder: names and segment values that would break a scrape, or fill it, come out safe and short."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from msemon.events import Decoded
from support.decoding import decode

NASTY = {
    "quotes": ('say "hi"', 'say "hi"'),
    "braces": ('{a="b"} 1', '{a="b"} 1'),
    "backslash and comma": ("a\\,b", "a\\,b"),
    "newline": ("a\nb", "a\ufffdb"),
    "carriage return": ("a\rb", "a\ufffdb"),
    "NUL": ("a\x00b", "a\ufffdb"),
    "line separator": ("a\u2028b\x85c", "a\ufffdb\ufffdc"),
    "lone surrogate": ("a\ud800b", "a\ufffdb"),
    "our own names": ("__other__", "___other__"),
    "emoji": ("😀", "😀"),
}


def predicted(value: str, **changed: Any) -> Decoded:
    message = {
        "id": 1,
        "model": value,
        "version": value,
        "prediction": 1,
        "segments": {"country": value, "tier": value},
    }
    return decode(json.dumps(message).encode(), **changed)


@pytest.mark.parametrize("name", NASTY)
def test_nasty_values_are_made_safe_everywhere(name: str) -> None:
    """Model, version and segments are cleaned alike; a label's target too, so that it still finds its model."""
    value, safe = NASTY[name]
    assert predicted(value).predictions.keys == [(safe,) * 4]
    message = {"id": 1, "label": 1, "model": value, "version": value}
    assert decode(json.dumps(message).encode()).labels.targets == [(safe, safe)]


@pytest.mark.parametrize("value", ["x" * 200_000, "\x00" * 40_000, "😀" * 20_000, "\ud800" * 40_000, "__" * 100_000])
def test_a_huge_value_is_capped(value: str) -> None:
    """Values that fill the message become label_length characters that still tell one value from another."""
    (key,) = predicted(value).predictions.keys
    (other,) = predicted(value + "x").predictions.keys
    assert {len(part) for part in key} == {128}
    assert key != other


def test_a_megabyte_is_oversized_or_capped() -> None:
    """A value of a megabyte is cut where messages of that size are allowed."""
    (key,) = predicted("x" * 1_000_000, message_bytes=10_000_000).predictions.keys
    assert len(key[0]) == 128


@pytest.mark.parametrize("value", [value for value, _ in NASTY.values()] + ["x\r\n" * 30_000])
def test_a_scrape_with_them_still_parses(value: str) -> None:
    """As Prometheus reads it, each value comes back as the very label it was; one bad one would break them all."""
    (key,) = predicted(value).predictions.keys
    registry = CollectorRegistry()
    Gauge("g", "help", ["model", "segment"], registry=registry).labels(key[0], key[2]).set(1)
    text = generate_latest(registry).decode()
    assert len(text.splitlines()) == 3
    (family,) = text_string_to_metric_families(text)
    assert family.samples[0].labels == {"model": key[0], "segment": key[2]}
