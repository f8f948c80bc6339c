"""Nanoseconds per event of decoding JSON, columns included. Run: python benchmarks/stage_decode.py"""

from __future__ import annotations

import time
from collections.abc import Callable

from msemon.decoding import JsonDecoder
from msemon.events import Batch

EVENTS = 500
WALL_US = 1_732_260_000_000_000


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
        offsets=range(EVENTS),
        timestamps_ms=[WALL_US // 1_000] * EVENTS,
        values=values,
        next_offset=EVENTS,
        size=sum(len(value or b"") for value in values),
        origin=lambda row: (None, ()),
    )


def seconds_per_event(decode: JsonDecoder, events: Batch) -> float:
    """The best of many runs: what the code costs, rather than what else the machine was doing."""
    runs = []
    until = time.perf_counter() + 1.5
    while time.perf_counter() < until:
        start = time.process_time()
        decode.decode(events, WALL_US)
        runs.append((time.process_time() - start) / EVENTS)
    return min(runs)


CASES: dict[str, tuple[JsonDecoder, Callable[[int], str | None]]] = {
    "prediction": (
        decoder(),
        lambda i: f'{{"id":"req-{i:09d}","model":"price","version":"2024","ts":1732259{i:06d},"prediction":203{i}.75,"u":"abcd"}}',
    ),
    "prediction, segments": (
        decoder(("country", "tier")),
        lambda i: f'{{"id":"req-{i:09d}","model":"price","ts":1732259{i:06d},"prediction":203{i}.75,'
        f'"segments":{{"country":"c{i % 30}","tier":{i % 4}}}}}',
    ),
    "prediction, time as text": (
        decoder(),
        lambda i: f'{{"id":"req-{i:09d}","model":"price","ts":"2024-11-22T07:{i // 60 % 60:02d}:{i % 60:02d}.{i:06d}Z",'
        f'"prediction":203{i}.75}}',
    ),
    "prediction, paths": (
        decoder(id="request.id", model="meta.model"),
        lambda i: f'{{"request":{{"id":"req-{i:09d}"}},"meta":{{"model":"price"}},"ts":1732259{i:06d},"prediction":{i}.5}}',
    ),
    "label": (
        decoder(),
        lambda i: f'{{"id":"req-{i:09d}","ts":1732259{i:06d},"label":203{i}.75,"source":"a system that nobody asks for, 0123"}}',
    ),
    "pair without id": (
        decoder(),
        lambda i: f'{{"model":"price","version":"2024","ts":1732259{i:06d},"prediction":203{i}.75,"label":201{i}.5}}',
    ),
    "vector of 8": (
        decoder(),
        lambda i: f'{{"id":"req-{i:09d}","model":"embedding","ts":1732259{i:06d},"prediction":{[i + k / 8 for k in range(8)]}}}',
    ),
    "malformed": (decoder(), lambda i: f'{{"id":"req-{i:09d}","model":"price","ts":1732259{i:06d},"prediction":'),
    "tombstone": (decoder(), lambda i: None),
}


def main() -> None:
    for name, (decode, make) in CASES.items():
        events = batch(make)
        took = seconds_per_event(decode, events)
        print(f"{name:<26} {took * 1e9:7.0f} ns an event   {events.size / EVENTS:5.0f} bytes each")


if __name__ == "__main__":
    main()
