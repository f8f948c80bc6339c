"""Nanoseconds per event of decoding JSON, columns included. Run: python benchmarks/stage_decode.py [--short]"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from msemon.decoding import JsonDecoder
from msemon.events import Batch

EVENTS = 500
SECONDS = 0.02 if "--short" in sys.argv else 3.0  # a case
WALL_US = 1_732_260_000_000_000


class Event(msgspec.Struct, gc=False):
    """The fields of an event, for the yardstick."""

    id: str | int | None = None
    ts: float | str | None = None
    prediction: float | list[float] | None = None
    label: float | list[float] | None = None
    weight: float | None = None
    model: str | None = None
    version: str | int | None = None
    segments: dict[str, str | bool | int | None] | None = None


YARDSTICK = msgspec.json.Decoder(Event)


def decoder(segment_keys: tuple[str, ...] = (), **fields: str) -> JsonDecoder:
    return JsonDecoder(
        segment_keys=segment_keys,
        fields=fields,
        max_future_us=300_000_000,
        label_length=128,
        message_bytes=1_000_000,
        vector_length=4_096,
        json_depth=32,
    )


def batch(make: Callable[[int], str | None]) -> Batch:
    texts = [make(i) for i in range(EVENTS)]
    values = [None if text is None else text.encode() for text in texts]
    return Batch(
        topic="events",
        partition=0,
        offsets=list(range(EVENTS)),
        timestamps_ms=[WALL_US // 1_000] * EVENTS,
        values=values,
        next_offset=EVENTS,
        size=sum(len(value or b"") for value in values),
        origin=lambda row: (None, ()),
    )


def nanoseconds(runs: Sequence[Callable[[], object]]) -> list[float]:
    """What one event costs in each: the best of many, taken in turns so that a busy machine slows all alike."""
    best = [float("inf")] * len(runs)
    until = time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        for i, run in enumerate(runs):
            start = time.perf_counter()
            run()
            best[i] = min(best[i], time.perf_counter() - start)
    return [each / EVENTS * 1e9 for each in best]


def parse_all(events: Batch) -> None:
    """The yardstick: msgspec reading the same fields and nothing else done, not even kept."""
    decode = YARDSTICK.decode
    for value in events.values:
        if value is not None:
            try:  # contextlib.suppress would cost half as much again as what is measured
                decode(value)
            except msgspec.DecodeError:
                continue


CASES: dict[str, tuple[JsonDecoder, Callable[[int], str | None]]] = {
    "prediction": (
        decoder(),
        lambda i: (
            f'{{"id":"req-{i:09d}","model":"price","version":"2024","ts":1732259{i:06d},"prediction":203{i}.75,"u":"abcd"}}'
        ),
    ),
    "prediction, segments": (
        decoder(("country", "tier")),
        lambda i: (
            f'{{"id":"req-{i:09d}","model":"price","ts":1732259{i:06d},"prediction":203{i}.75,'
            f'"segments":{{"country":"c{i % 30}","tier":{i % 4}}}}}'
        ),
    ),
    "prediction, time as text": (
        decoder(),
        lambda i: (
            f'{{"id":"req-{i:09d}","model":"price","ts":"2024-11-22T07:{i // 60 % 60:02d}:{i % 60:02d}.{i:06d}Z",'
            f'"prediction":203{i}.75}}'
        ),
    ),
    "prediction, paths": (
        decoder(id="request.id", model="meta.model"),
        lambda i: (
            f'{{"request":{{"id":"req-{i:09d}"}},"meta":{{"model":"price"}},"ts":1732259{i:06d},"prediction":{i}.5}}'
        ),
    ),
    "label": (
        decoder(),
        lambda i: (
            f'{{"id":"req-{i:09d}","ts":1732259{i:06d},"label":203{i}.75,"source":"a system nobody asks for, 0123"}}'
        ),
    ),
    "pair without id": (
        decoder(),
        lambda i: f'{{"model":"price","version":"2024","ts":1732259{i:06d},"prediction":203{i}.75,"label":201{i}.5}}',
    ),
    "vector of 8": (
        decoder(),
        lambda i: (
            f'{{"id":"req-{i:09d}","model":"vector","ts":1732259{i:06d},"prediction":{[i + k / 8 for k in range(8)]}}}'
        ),
    ),
    "malformed": (decoder(), lambda i: f'{{"id":"req-{i:09d}","model":"price","ts":1732259{i:06d},"prediction":'),
    "tombstone": (decoder(), lambda i: None),
}


def main() -> None:
    print(f"{'events':<26}{'bytes':>7}{'decoded':>12}{'msgspec alone':>17}")
    for name, (decode, make) in CASES.items():
        events = batch(make)
        decoded, alone = nanoseconds([partial(decode.decode, events, WALL_US), partial(parse_all, events)])
        print(f"{name:<26}{events.size / EVENTS:7.0f}{decoded:9.0f} ns{alone:14.0f} ns")


if __name__ == "__main__":
    main()
