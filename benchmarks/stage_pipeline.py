"""CPU time an event from bytes to panes: decoding, join and windows as the daemon strings them together, without Kafka.

Run: python benchmarks/stage_pipeline.py [--short] [--profile]

JSON of about 110 bytes in 4 partitions; predictions with two segment keys (50 countries, 3 tiers: two dimensions), and
a minute of event time later their labels; three windows. Each line is one size of batch: what a client hands over at
once decides how often the fixed cost of a batch is paid.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
from collections.abc import Iterator
from time import process_time

from msemon import collector
from msemon.core import moments
from msemon.core.process import Process
from msemon.core.shape import Shape, Window
from msemon.decoding import JsonDecoder
from msemon.events import Batch

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
WALL = START + 30 * 86_400 * SECOND
PARTITIONS = 4
SIZES = (200, 500, 2_000, 5_000)
DELAY_S = 60
RATE = 2_500  # predictions a second of event time and partition
LENGTHS = (("5m", 300), ("1h", 3_600), ("24h", 86_400))
SHAPE = Shape(
    tuple(Window(name, length * SECOND // 60, 60) for name, length in LENGTHS), True, ("country", "tier"),
    ((0,), (0, 1)), 86_400 * SECOND, 600 * SECOND,
)  # fmt: skip


def decoder() -> JsonDecoder:
    return JsonDecoder(
        segment_keys=SHAPE.segment_keys,
        fields={},
        max_future_us=300 * SECOND,
        label_length=128,
        message_bytes=1_000_000,
        vector_length=4_096,
        json_depth=32,
    )


def prediction(partition: int, n: int) -> bytes:
    where = b'{"country":"c%d","tier":"t%d"}' % (n * 31 % 50, n % 3)
    return b'{"id":"%d-%08d","model":"eta","ts":%.4f,"prediction":%.2f,"segments":%b}' % (
        partition, n, START / SECOND + n / RATE, 100 + n * 7919 % 4001 / 100, where,
    )  # fmt: skip


def label(partition: int, n: int) -> bytes:
    return b'{"id":"%d-%08d","ts":%.4f,"label":%.2f,"source":"delivered","by":"courier %d"}' % (
        partition, n, START / SECOND + DELAY_S + n / RATE, 100 + n * 104729 % 3989 / 100, n % 1000,
    )  # fmt: skip


def squared_errors(events: int) -> float:
    """What all pairs add up to."""
    return sum(
        (round(100 + n * 7919 % 4001 / 100, 2) - round(100 + n * 104729 % 3989 / 100, 2)) ** 2 for n in range(events)
    )


def batch(topic: str, partition: int, values: list[bytes], first: int, stamp_us: int) -> Batch:
    n = len(values)
    return Batch(
        topic=topic,
        partition=partition,
        offsets=list(range(first, first + n)),
        timestamps_ms=[stamp_us // 1_000] * n,
        values=list(values),
        next_offset=first + n,
        size=sum(map(len, values)),
        origin=lambda row: (None, ()),
    )


def stream(events: int, size: int) -> Iterator[Batch]:
    """Batches in step: `events` predictions a partition and all of their labels."""
    behind = DELAY_S * RATE // size
    for number in range(-(-events // size) + behind):
        for partition in range(PARTITIONS):
            for topic, make, turn in (("predictions", prediction, number), ("labels", label, number - behind)):
                numbers = range(max(0, turn * size), min(events, (turn + 1) * size))
                if numbers:
                    values = [make(partition, n) for n in numbers]
                    yield batch(topic, partition, values, numbers[0], START + number * size * SECOND // RATE)


def run(events: int, size: int, profile: cProfile.Profile | None = None) -> tuple[float, float]:
    """CPU seconds an event: decoding, and all the rest."""
    decode, process = decoder().decode, Process(["predictions", "labels"], SHAPE, lambda: b"key")
    for partition in range(PARTITIONS):
        process.start(partition)
    spent = [0.0, 0.0]
    for read in stream(events, size):
        if profile:
            profile.enable()
        begun = process_time()
        decoded = decode(read, WALL)
        between = process_time()
        process.apply(read.partition, read.topic, decoded, read.next_offset, WALL)
        spent[1] += process_time() - between
        spent[0] += between - begun
        if profile:
            profile.disable()
    check(process, events)
    total = 2 * events * PARTITIONS
    return spent[0] / total, spent[1] / total


def check(process: Process, events: int) -> None:
    """Every pair was counted once, in the counters and in the longest window."""
    view = process.view(WALL - 30 * 86_400 * SECOND)
    expected = PARTITIONS * squared_errors(events)
    assert view.models.counters[0].tolist() == [events * PARTITIONS]
    assert abs(float(view.models.counters[2, 0]) / expected - 1) < 1e-12
    day = view.models.windows[2]
    assert abs(float(moments.squared_error(day)[0]) / expected - 1) < 1e-12
    assert view.segments.counters[0].sum() == 2 * events * PARTITIONS


def main() -> None:
    short = "--short" in sys.argv
    profile = cProfile.Profile() if "--profile" in sys.argv else None
    sizes = (500,) if short else SIZES
    collector.settle()  # as the daemon does
    for size in sizes:
        decoding, applying = run(4_000 if short else 200_000, size, profile)
        whole = decoding + applying
        print(
            f"batches of {size:5}: {whole * 1e9:6.0f} ns an event, {1 / whole:9,.0f} events/s of CPU   "
            f"(decoding {decoding * 1e9:.0f}, the rest {applying * 1e9:.0f})",
            flush=True,
        )
    if profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)


if __name__ == "__main__":
    main()
