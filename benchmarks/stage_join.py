"""Times the join and the task: `python benchmarks/stage_join.py [--short] [--profile]`.

Prints ns an event for the join alone (unique ids, labels a minute after their predictions, batches of 5,000) and for
Task.apply as a whole (3 windows, 2 dimensions, 300 segments); ns an event where every event has one and the same id;
and bytes a waiting prediction at a million of them. --profile adds the top of a profile of Task.apply.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
from collections.abc import Iterator
from time import perf_counter

import numpy as np

from msemon.core.digest import Digester
from msemon.core.join import Join, Side
from msemon.core.names import Names
from msemon.core.shape import Shape, Window
from msemon.core.task import Task
from msemon.events import Decoded, Ints, Key, Labels, Pairs, Predictions

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
BATCH = 5_000
RATE = 5_000  # predictions a second of event time: a label comes 12 batches after its prediction
BEHIND = 12
LENGTHS = (("5m", 300), ("1h", 3_600), ("24h", 86_400))
WINDOWS = tuple(Window(name, length * SECOND // 60, 60) for name, length in LENGTHS)
DAY, MEMORY = 86_400 * SECOND, 600 * SECOND
SHAPE = Shape(WINDOWS, True, ("country", "tier"), ((0,), (0, 1)), DAY, MEMORY)
KEYS: list[Key] = [(f"m{n % 3}", "1", f"c{n % 50}", f"t{n % 4}") for n in range(300)]


def times_of(batch: int) -> Ints:
    """Of batch number `batch`, whose labels come BEHIND batches later: 5 seconds of event time apart, so a minute."""
    return START + batch * 5 * SECOND + np.arange(BATCH) * 5 * SECOND // BATCH


def ids_of(batch: int) -> list[bytes]:
    return [b"request-%012d" % n for n in range(batch * BATCH, (batch + 1) * BATCH)]


def side(digester: Digester, batch: int, times: Ints, *, label: bool) -> Side:
    n = len(times)
    plain = np.nan if label else 1.0
    zeros = np.zeros(n, np.int64)
    orders = np.arange(batch * n, (batch + 1) * n)
    return Side(
        digester(ids_of(batch)), times, times, orders, np.ones(n), np.full(n, plain), zeros, zeros, {}, times
    )  # fmt: skip


def time_join(batches: int) -> tuple[float, float, float]:
    """Seconds an event, predictions and labels: adding predictions, adding labels, forgetting."""
    names, digester = Names(), Digester(b"key")
    names.combos_of([("m", "")])
    join = Join(DAY, MEMORY, names)
    spent = [0.0, 0.0, 0.0]
    matched = counted = 0
    for batch in range(batches):
        times = times_of(batch)
        predictions = side(digester, batch, times, label=False)
        labels = side(digester, batch - BEHIND, times, label=True) if batch >= BEHIND else None
        begun = perf_counter()
        join.add_predictions(predictions)
        between = perf_counter()
        if labels is not None:
            matched += sum(map(len, join.add_labels(labels).matches))
        after = perf_counter()
        join.forget(int(times[-1]), 2 * BATCH)
        if batch >= batches // 2:  # entries that have been remembered for `memory` leave as others come
            counted += 1
            for i, took in enumerate((between - begun, after - between, perf_counter() - after)):
                spent[i] += took
    assert matched == (batches - BEHIND) * BATCH
    n = counted * BATCH
    return spent[0] / n, spent[1] / n, spent[2] / (2 * n)


def nothing() -> tuple[Predictions, Labels, Pairs]:
    none, no_floats = np.empty(0, np.int64), np.empty(0)
    return (
        Predictions(none, none, none, none, [], [], no_floats, {}, no_floats),
        Labels(none, none, none, none, [], [], no_floats, {}, no_floats),
        Pairs(none, none, none, [], no_floats, no_floats, {}, no_floats),
    )


def decoded(batch: int, times: Ints, ids: list[bytes], *, label: bool) -> Decoded:
    predictions, labels, pairs = nothing()
    n = len(times)
    rows, values = np.arange(n), np.random.default_rng(batch).normal(200.0, 20.0, n)
    offsets = rows + batch * n
    if label:
        labels = Labels(rows, offsets, times, times, ids, [None] * n, values, {}, np.full(n, np.nan))
    else:
        keys = [KEYS[i % len(KEYS)] for i in range(n)]
        predictions = Predictions(rows, offsets, times, times, ids, keys, values, {}, np.ones(n))
    return Decoded(predictions, labels, pairs)


def stream(batches: int) -> Iterator[tuple[str, Decoded]]:
    for batch in range(batches):
        yield "predictions", decoded(batch, times_of(batch), ids_of(batch), label=False)
        if batch >= BEHIND:
            yield "labels", decoded(batch, times_of(batch), ids_of(batch - BEHIND), label=True)


def time_task(batches: int, profile: cProfile.Profile | None = None) -> float:
    """Seconds an event."""
    task = Task(0, ["predictions", "labels"], SHAPE, b"key")
    spent, events = 0.0, 0
    for n, (topic, batch) in enumerate(stream(batches)):
        begun = perf_counter()
        if profile:
            profile.enable()
        task.apply(topic, batch, 0)
        if profile:
            profile.disable()
        if n >= batches:
            spent += perf_counter() - begun
            events += BATCH
    return spent / events


def time_one_id(batch: int) -> tuple[float, float]:
    """Seconds a prediction and a label where a producer gives all its events one id."""
    task = Task(0, ["predictions", "labels"], SHAPE, b"key")
    took = []
    for label in (False, True):
        events = decoded(0, times_of(0)[:batch], [b"same"] * batch, label=label)
        begun = perf_counter()
        task.apply("labels" if label else "predictions", events, 0)
        took.append((perf_counter() - begun) / batch)
    return took[0], took[1]


def bytes_waiting(batches: int) -> tuple[float, float]:
    """Bytes a waiting prediction and a waiting label, without vectors."""
    task = Task(0, ["predictions", "labels"], SHAPE, b"key")
    for batch in range(batches):
        task.apply("predictions", decoded(batch, times_of(batch), ids_of(batch), label=False), 0)
        task.apply("labels", decoded(batch, times_of(batch), ids_of(batch + batches), label=True), 0)
    join = task.join
    return tuple(s.nbytes / len(s) for s in (join.predictions, join.labels))  # type: ignore[return-value]


def main() -> None:
    short = "--short" in sys.argv  # only to show that it works
    predictions, labels, forgetting = time_join(30 if short else 300)
    whole = (predictions + labels) / 2 + forgetting
    parts = f"prediction {predictions * 1e9:.0f}, label {labels * 1e9:.0f}, forgetting {forgetting * 1e9:.0f}"
    print(f"join        {whole * 1e9:8.0f} ns/event   ({parts})")
    applying = time_task(15 if short else 100)
    print(f"Task.apply  {applying * 1e9:8.0f} ns/event   ids, join, 3 windows, 2 dimensions, 300 combinations")
    prediction, label = time_one_id(BATCH)
    print(f"one id      {prediction * 1e9:8.0f} ns/prediction, {label * 1e9:.0f} ns/label")
    many = 100_000 if short else 1_000_000
    prediction, label = bytes_waiting(many // BATCH)
    print(f"waiting     {prediction:8.1f} bytes/prediction, {label:.1f} bytes/label at {many:,} each")
    if "--profile" in sys.argv:
        profile = cProfile.Profile()
        time_task(60, profile)
        pstats.Stats(profile).sort_stats("tottime").print_stats(15)


if __name__ == "__main__":
    main()
