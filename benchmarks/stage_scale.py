"""What waiting ids and many series cost: `python benchmarks/stage_scale.py [--short]`.

CPU time an event from bytes to panes (as stage_pipeline.py), two processes fed with the same traffic in turns so that a
busy machine slows both alike: one holds five million predictions that wait for their labels, the other none; one's
traffic makes 10,000 series, the other's 31. And the bytes that a waiting prediction takes.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from time import process_time

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from benchmarks.stage_pipeline import PARTITIONS, RATE, SECOND, SHAPE, START, WALL, batch, decoder, label
from msemon import collector
from msemon.core.process import Process
from msemon.events import Batch, Decoded, Labels, Pairs, Predictions

SIZE = 5_000
BEHIND = 4  # batches from a prediction to its label
NONE, NOTHING = np.empty(0, np.int64), np.empty(0)


def waiting(partition: int, first: int, count: int) -> Decoded:
    """Predictions whose labels never come, made within the hour before START."""
    rows = np.arange(count)
    times = START - 3_600 * SECOND + (first + rows) % 3_600 * SECOND
    ids = [b"waits-%d-%d" % (partition, n) for n in range(first, first + count)]
    predictions = Predictions(
        rows, rows, times, times, ids, [("eta", "", "c1", "t1")] * count, rows / 7, {}, np.ones(count)
    )
    labels = Labels(NONE, NONE, NONE, NONE, [], [], NOTHING, {}, NOTHING)
    return Decoded(predictions, labels, Pairs(NONE, NONE, NONE, [], NOTHING, NOTHING, {}, NOTHING))


def prediction(partition: int, n: int, models: int, countries: int) -> bytes:
    return (
        b'{"id":"%d-%08d","model":"eta%d","ts":%.4f,"prediction":%.2f,"segments":{"country":"c%d","tier":"t%d"}}'
        % (partition, n, n // countries % models, START / SECOND + n / RATE, 100 + n % 4001 / 100, n % countries,
           n % countries % 3)
    )  # fmt: skip


def started(held: int = 0) -> Process:
    process = Process(["predictions", "labels"], SHAPE, lambda: b"key")
    for partition in range(PARTITIONS):
        process.start(partition)
        for first in range(0, held // PARTITIONS, 10_000):
            count = min(10_000, held // PARTITIONS - first)
            process.apply(partition, "predictions", waiting(partition, first, count), 0, WALL)
    return process


def traffic(number: int, models: int, countries: int) -> list[Batch]:
    """Turn `number` of the traffic: a batch of predictions a partition, and one of the labels of an earlier turn."""
    batches = []
    for partition in range(PARTITIONS):
        numbers = range(number * SIZE, (number + 1) * SIZE)
        values = [prediction(partition, n, models, countries) for n in numbers]
        batches.append(batch("predictions", partition, values, numbers[0], START))
        if number >= BEHIND:
            numbers = range((number - BEHIND) * SIZE, (number - BEHIND + 1) * SIZE)
            batches.append(batch("labels", partition, [label(partition, n) for n in numbers], numbers[0], START))
    return batches


def race(processes: list[Process], kinds: list[tuple[int, int]], turns: int) -> list[float]:
    """CPU seconds an event in each process, each with its kind of traffic: (models, countries)."""
    decoders = [decoder() for _ in processes]
    spent, events = [0.0] * len(processes), 0
    for number in range(turns):
        for i, (process, kind) in enumerate(zip(processes, kinds, strict=True)):
            for read in traffic(number, *kind):
                begun = process_time()
                decoded = decoders[i].decode(read, WALL)
                process.apply(read.partition, read.topic, decoded, read.next_offset, WALL)
                if number >= turns // 4:  # the first ones make caches and blocks
                    spent[i] += process_time() - begun
                    events += len(read.values) if i == 0 else 0
    for process in processes:
        counted = process.view(START).models.counters[0].sum()
        assert counted == (turns - BEHIND) * SIZE * PARTITIONS, "every label has found its prediction"
    return [each / events for each in spent]


def main() -> None:
    short = "--short" in sys.argv
    held, turns = (40_000, 6) if short else (5_000_000, 24)
    collector.settle()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    full = started(held)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / held
    stores = [task.join.predictions for task in full.tasks.values()]
    assert sum(store.waiting for store in stores) == held
    size = sum(store.nbytes for store in stores) / held
    print(f"a waiting prediction: {size:.1f} bytes, {size - 16:.1f} beside its digest; the process grew by {grown:.1f}")
    none, some = race([started(), full], [(1, 50), (1, 50)], turns)
    print(f"waiting {held:9,}: {some * 1e9:6.0f} ns an event, none: {none * 1e9:6.0f}; throughput {none / some:.2f}")
    del full
    few, many = race([started(), started()], [(1, 15), (10, 500)], turns)
    print(f"series     10,010: {many * 1e9:6.0f} ns an event,   31: {few * 1e9:6.0f}; throughput {few / many:.2f}")


if __name__ == "__main__":
    main()
