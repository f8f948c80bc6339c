"""Times state: `python benchmarks/stage_state.py [--tasks 4 1] [--shared] [--kafka] …`.

A state of a million waiting predictions and 10,000 series with all panes of three windows full, over four tasks and in
one; then ten seconds of traffic at 20,000 events/s (applied, not timed). Prints the bytes of a full and of incremental
checkpoints, how long the loop's thread stands still for one (snapshot and plan), how long it takes to write, and how
long it takes to restore all tasks, from the store to tasks that can go on. `--shared`: every task has all 10,000
series. `--kafka`: on Apache Kafka's topic too, the second time after an hour's worth of checkpoints.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[1] / "tests")]

from msemon.core import keeping
from msemon.core.shape import Shape, Window
from msemon.core.task import Task
from msemon.core.watch import Given
from msemon.events import Decoded, Ints, Key, Labels, Pairs, Predictions
from msemon.settings import Settings
from msemon.state import Checkpointer, Leftovers, Restored, Store, new_writer, restore
from msemon.state.kafka import KafkaStore
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


class Load(NamedTuple):
    tasks: int
    waiting: int
    series: int
    shared: bool  # every task has all series; else each its share

    @property
    def each(self) -> int:
        """Series of a task."""
        return self.series if self.shared else self.series // self.tasks


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


def filled(partition: int, load: Load, given: Given | None = None) -> Task:
    """A task's part of the load: its panes are full, then its predictions wait since the last hours."""
    task = Task(partition, TOPICS, SHAPE, b"key")
    task.watch.give(given or {}, task.series)
    waiting, series = load.waiting // load.tasks, load.each
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


def traffic(task: Task, load: Load, seconds: int, begin: int, rate: int = RATE) -> None:
    """So many seconds of this task's share: as many predictions as labels, each for any that waits."""
    each = rate // 2 // load.tasks
    waiting = load.waiting // load.tasks
    answered = np.random.default_rng(1).permutation(waiting)
    for second in range(begin, begin + seconds):
        times = START + second * SECOND + np.arange(each) * SECOND // each
        task.apply(TOPICS[0], predictions(waiting + second * each, times, load.each), waiting + (second + 1) * each)
        answers = answered[np.arange(second * each, (second + 1) * each) % waiting]
        task.apply(TOPICS[1], labels(answers, second * each, times), (second + 1) * each)


class Written(NamedTuple):
    """A checkpoint. The pause is how long the loop's thread waits for it, in all and at work itself."""

    size: int
    pause_s: float
    pause_cpu_s: float
    write_s: float


def written(store: Store, task: Task, checkpointer: Checkpointer) -> Written:
    """A checkpoint as the keeper takes it."""
    begun, cpu = perf_counter(), time.thread_time()
    if checkpointer.owes_all:
        keeping.touch(task)
    else:
        keeping.touch_some(task, checkpointer.wanted())
    write = checkpointer.plan(keeping.snapshot(task))
    planned, cpu = perf_counter(), time.thread_time() - cpu
    store.write(write, 300.0)
    took = perf_counter() - planned
    checkpointer.done(write)
    return Written(write.size, planned - begun, cpu, took)


def restore_all(store: Store, load: Load) -> tuple[list[Task], float]:
    """The tasks, and seconds from the beginning of the first restore to the end of the last."""
    tasks: list[Task] = []

    def accept(found: Restored) -> None:
        task, dropped = keeping.restored(partition, TOPICS, SHAPE, found.pieces)
        assert not dropped
        tasks.append(task)

    begun = perf_counter()
    for partition in range(load.tasks):
        outcome = finish(restore(store, partition, accept=accept))
        assert outcome.restored is not None
        assert not outcome.rejected
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
        self._now = 0
        self._full = 0
        held = sum(len(task.join) for task in self.tasks)
        panes = sum(block.used for task in self.tasks for block in task.windows.blocks())
        print(f"{load.tasks} task(s): {held:,} waiting predictions, {load.each:,} series in each, {panes:,} rows in "
              f"the panes of three windows (made in {perf_counter() - begun:.0f} s)", flush=True)  # fmt: skip

    def checkpoints(self, store: Store, turns: int = 3) -> None:
        """A full one, then traffic and an incremental one again and again; restores at the end."""
        self._checkpointers = [Checkpointer(task.partition, new_writer(), Leftovers()) for task in self.tasks]
        self._full = self._checkpoint(store, "full")
        for _ in range(turns):
            self._traffic(RATE)
            self._checkpoint(store, "incremental")
        self._restore(store)

    def hour(self, store: Store, count: int, rate: int) -> None:
        """More checkpoints, ten seconds of event time apart, with less traffic between: the panes are the same."""
        begun = perf_counter()
        size = 0
        for _ in range(count):
            self._traffic(rate)
            for task, checkpointer in zip(self.tasks, self._checkpointers, strict=True):
                size += written(store, task, checkpointer).size
        print(f"{store.name:7} {count} more checkpoints, {rate} events/s between: {size / 1e6:,.0f} MB written, "
              f"{perf_counter() - begun:.0f} s in all", flush=True)  # fmt: skip
        self._restore(store)

    def _traffic(self, rate: int) -> None:
        for task in self.tasks:
            traffic(task, self.load, TRAFFIC_S, self._now, rate)
        self._now += TRAFFIC_S

    def _checkpoint(self, store: Store, name: str) -> int:
        done = [written(store, *each) for each in zip(self.tasks, self._checkpointers, strict=True)]
        size = sum(each.size for each in done)
        pause = max(each.pause_s for each in done), max(each.pause_cpu_s for each in done)
        share = f"   {size / self._full:6.1%} of full" if self._full else ""
        print(f"{store.name:7} {name:12}{size / 1e6:8.1f} MB   pause {pause[0] * 1e3:7.1f} ms a task "
              f"({pause[1] * 1e3:.1f} ms of CPU time)   written in {sum(each.write_s for each in done):6.2f} s{share}",
              flush=True)  # fmt: skip
        return size

    def _restore(self, store: Store) -> None:
        cpu = time.process_time()
        tasks, took = restore_all(store, self.load)
        check_same(tasks, self.tasks)
        print(f"{store.name:7} restore     {took:8.2f} s for all tasks, one after the other "
              f"({time.process_time() - cpu:.2f} s of this process's CPU time)", flush=True)  # fmt: skip


def on_sqlite(bench: Bench) -> None:
    with tempfile.TemporaryDirectory() as directory:
        store = SqliteStore(Path(directory))
        store.open()
        bench.checkpoints(store)
        store.close()


def on_kafka(bench: Bench, count: int, rate: int) -> None:
    with tempfile.TemporaryDirectory() as directory, running(apache_kafka(Path(directory))) as broker:
        store = KafkaStore(Settings(kafka={"bootstrap_servers": broker.bootstrap}), bench.load.tasks)  # type: ignore[arg-type]
        store.open()
        try:
            bench.checkpoints(store)
            if count:
                bench.hour(store, count, rate)
        finally:
            store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Times checkpoints and restores.")
    parser.add_argument("--tasks", type=int, nargs="*", default=[4, 1])
    parser.add_argument("--waiting", type=int, default=1_000_000)
    parser.add_argument("--series", type=int, default=10_000)
    parser.add_argument("--shared", action="store_true", help="every task has all series")
    parser.add_argument("--kafka", action="store_true", help="on Apache Kafka's topic as well")
    parser.add_argument("--checkpoints", type=int, default=360, help="further ones on the topic before a last restore")
    parser.add_argument("--between", type=int, default=2_000, help="events/s between those")
    parser.add_argument("--short", action="store_true", help="little of everything: does it work?")
    given = parser.parse_args()
    if given.short:
        given.tasks, given.waiting, given.series = [2], 20_000, 100
    for count in given.tasks:
        bench = Bench(Load(count, given.waiting, given.series, given.shared))
        on_sqlite(bench)
        if given.kafka:
            on_kafka(bench, given.checkpoints, given.between)


if __name__ == "__main__":
    main()
