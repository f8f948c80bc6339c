"""Times state: `python benchmarks/stage_state.py [--tasks 4] [--waiting 1000000] [--series 10000] [--kafka] [--profile]`.

A state of a million waiting predictions and 10,000 series with all panes of three windows full, over some tasks; then
ten seconds of traffic at 20,000 events/s. Prints bytes of a full and of an incremental checkpoint, how long the loop's
thread stands still for one (snapshot and plan), how long it takes to write, and how long a restore takes: all of it,
from the store to a task that can go on. `--kafka` starts Apache Kafka and does the same with the topic, also after
an hour's worth of checkpoints on it.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[1] / "tests")]

from msemon.core import keeping
from msemon.core.shape import Shape, Window
from msemon.core.snapshot import PieceName
from msemon.core.task import Task
from msemon.events import Decoded, Ints, Key, Labels, Pairs, Predictions
from msemon.settings import Settings
from msemon.state import Checkpointer, CheckpointWrite, Leftovers, Restored, Store, new_writer, restore
from msemon.state.sqlite import SqliteStore
from support.brokers import apache_kafka, running
from support.checkpoints import finish

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
TOPICS = ["predictions", "labels"]
LENGTHS = (("5m", 300), ("1h", 3_600), ("24h", 86_400))
SHAPE = Shape(
    tuple(Window(name, length * SECOND // 60, 60) for name, length in LENGTHS),
    True, ("customer",), ((0,),), 86_400 * SECOND, 600 * SECOND, series_limit=1_000_000,
)  # fmt: skip
BATCH = 5_000
RATE = 20_000  # events a second
TRAFFIC_S = 10
LIMITS = {"pause_ms": 50.0, "share": 0.20, "sqlite_s": 3.0, "kafka_s": 10.0}


class Load(NamedTuple):
    tasks: int
    waiting: int
    series: int


def keys_of(numbers: Ints, series: int) -> list[Key]:
    """Of a segment each; one in a thousand series is a model."""
    per_model = 1_000
    return [(f"m{n // per_model}", "1", f"customer-{n % per_model}") for n in (numbers % series).tolist()]


def predictions(first: int, times: Ints, series: int) -> Decoded:
    n = len(times)
    rows = np.arange(n)
    numbers = rows + first
    values = np.random.default_rng(first).normal(200.0, 20.0, n)
    made = Predictions(
        rows, numbers, times, times, ids_of(numbers), keys_of(numbers * 7919, series), values, {}, np.ones(n)
    )
    return Decoded(made, *nothing()[1:])


def labels(numbers: Ints, offset: int, times: Ints) -> Decoded:
    n = len(times)
    rows = np.arange(n)
    values = np.random.default_rng(offset).normal(200.0, 20.0, n)
    made = Labels(rows, rows + offset, times, times, ids_of(numbers), [None] * n, values, {}, np.full(n, np.nan))
    return Decoded(nothing()[0], made, nothing()[2])


def pairs(numbers: Ints, times: Ints, series: int) -> Decoded:
    n = len(times)
    values = np.random.default_rng(len(numbers)).normal(200.0, 20.0, (2, n))
    made = Pairs(np.arange(n), times, times, keys_of(numbers, series), values[0], values[1], {}, np.ones(n))
    return Decoded(*nothing()[:2], made)


def nothing() -> tuple[Predictions, Labels, Pairs]:
    none, no_floats = np.empty(0, np.int64), np.empty(0)
    return (
        Predictions(none, none, none, none, [], [], no_floats, {}, no_floats),
        Labels(none, none, none, none, [], [], no_floats, {}, no_floats),
        Pairs(none, none, none, [], no_floats, no_floats, {}, no_floats),
    )


def ids_of(numbers: Ints) -> list[bytes]:
    return [b"request-%012d" % n for n in numbers.tolist()]


def filled(partition: int, load: Load) -> Task:
    """A task's part of the load: its panes are full, then its predictions wait since the last hours."""
    task = Task(partition, TOPICS, SHAPE, b"key")
    waiting, series = load.waiting // load.tasks, load.series
    numbers = np.arange(series)
    ends = [(window.pane_us, window.panes) for window in SHAPE.windows]
    # Every pane of every window, the oldest first: pairs without ids.
    begins = sorted({START - pane * pane_us for pane_us, panes in ends for pane in range(panes + 1)})
    batch = pairs(numbers, np.zeros(series, np.int64), series)
    for begin in begins:
        batch.pairs.times[:] = begin  # and so its record times
        task.apply(TOPICS[0], batch, 0)
    for first in range(0, waiting, BATCH):
        n = min(BATCH, waiting - first)
        times = START + np.zeros(n, np.int64)
        task.apply(TOPICS[0], predictions(first, times, series), first + n)
    return task


def traffic(task: Task, load: Load, seconds: int, begin: int) -> None:
    """So many seconds of this task's share: as many predictions as labels, each for any that waits."""
    each = RATE // 2 // load.tasks
    waiting = load.waiting // load.tasks
    answered = np.random.default_rng(1).permutation(waiting)
    for second in range(begin, begin + seconds):
        times = START + second * SECOND + np.arange(each) * SECOND // each
        task.apply(TOPICS[0], predictions(waiting + second * each, times, load.series), waiting + (second + 1) * each)
        answers = answered[np.arange(second * each, (second + 1) * each) % waiting]
        task.apply(TOPICS[1], labels(answers, second * each, times), (second + 1) * each)


class Taken(NamedTuple):
    """A checkpoint as the keeper takes it, and what the loop's thread waited for it."""

    write: CheckpointWrite
    pause_s: float


def take(task: Task, checkpointer: Checkpointer, profile: cProfile.Profile | None = None) -> Taken:
    begun = perf_counter()
    if profile:
        profile.enable()
    if checkpointer.owes_all:
        keeping.touch(task)
    else:
        keeping.touch_some(task, checkpointer.wanted())
    write = checkpointer.plan(keeping.snapshot(task))
    if profile:
        profile.disable()
    return Taken(write, perf_counter() - begun)


def written(store: Store, task: Task, checkpointer: Checkpointer) -> tuple[int, float, float]:
    """Bytes, seconds of the pause, seconds of the writing."""
    taken = take(task, checkpointer)
    begun = perf_counter()
    store.write(taken.write, 300.0)
    took = perf_counter() - begun
    checkpointer.done(taken.write)
    return taken.write.size, taken.pause_s, took


def restore_all(store: Store, load: Load, profile: cProfile.Profile | None = None) -> tuple[list[Task], float]:
    """The tasks, and seconds from the beginning of the first restore to the end of the last."""
    tasks: list[Task] = []

    def accept(found: Restored) -> None:
        task, dropped = keeping.restored(partition, TOPICS, SHAPE, found.pieces)
        assert not dropped
        tasks.append(task)

    begun = perf_counter()
    if profile:
        profile.enable()
    for partition in range(load.tasks):
        outcome = finish(restore(store, partition, accept=accept))
        assert outcome.restored is not None
        assert not outcome.rejected
    if profile:
        profile.disable()
    return tasks, perf_counter() - begun


def check_same(tasks: list[Task], others: list[Task]) -> None:
    for mine, theirs in zip(tasks, others, strict=True):
        assert len(mine.join) == len(theirs.join)
        assert len(mine.join.predictions) == len(theirs.join.predictions)
        assert len(list(mine.windows.blocks())) == len(list(theirs.windows.blocks()))
        assert len(mine.series) == len(theirs.series)
        assert sum(len(r) for r in mine.windows.rings) == sum(len(r) for r in theirs.windows.rings)


class Bench:
    """One load on one store."""

    def __init__(self, load: Load) -> None:
        self.load = load
        begun = perf_counter()
        self.tasks = [filled(p, load) for p in range(load.tasks)]
        held = sum(len(task.join) for task in self.tasks)
        panes = sum(block.used for task in self.tasks for block in task.windows.blocks())
        print(f"\n{load.tasks} task(s): {held:,} waiting, {load.series:,} series and models in "
              f"{sum(len(r) for r in self.tasks[0].windows.rings)} panes, {panes:,} pane rows "
              f"(made in {perf_counter() - begun:.0f} s)")  # fmt: skip

    def store(self, store: Store, seconds: int = TRAFFIC_S, begin: int = 0) -> None:
        """Full, traffic, incremental, restore."""
        checkpointers = [Checkpointer(task.partition, new_writer(), Leftovers()) for task in self.tasks]
        full = [written(store, *each) for each in zip(self.tasks, checkpointers, strict=True)]
        size = sum(each[0] for each in full)
        print(f"{store.name:7} full        {size / 1e6:8.1f} MB   pause {max(p for _, p, _ in full) * 1e3:7.1f} ms a task"
              f"   written in {sum(w for _, _, w in full):6.2f} s")  # fmt: skip
        for turn in range(3):
            for task in self.tasks:
                traffic(task, self.load, seconds, begin + turn * seconds)
            some = [written(store, *each) for each in zip(self.tasks, checkpointers, strict=True)]
            part = sum(each[0] for each in some)
            print(f"{store.name:7} incremental {part / 1e6:8.1f} MB   pause {max(p for _, p, _ in some) * 1e3:7.1f} ms a task"
                  f"   written in {sum(w for _, _, w in some):6.2f} s   {part / size:6.1%} of full")  # fmt: skip
        self.restore(store)

    def restore(self, store: Store, note: str = "") -> None:
        tasks, took = restore_all(store, self.load)
        check_same(tasks, self.tasks)
        print(f"{store.name:7} restore     {took:8.2f} s   one task after the other {note}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Times checkpoints and restores.")
    parser.add_argument("--tasks", type=int, nargs="*", default=[4, 1])
    parser.add_argument("--waiting", type=int, default=1_000_000)
    parser.add_argument("--series", type=int, default=10_000)
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    for count in given.tasks:
        bench = Bench(Load(count, given.waiting, given.series))
        with tempfile.TemporaryDirectory() as directory:
            store = SqliteStore(Path(directory))
            store.open()
            bench.store(store)
            store.close()


if __name__ == "__main__":
    main()
