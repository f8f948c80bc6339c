"""F31: the wall clock steps, or the machine sleeps: timers do not notice, and windows go by event times."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import numpy as np
import pytest

import msemon
from msemon.core import keeping
from msemon.core.process import Process
from msemon.core.shape import Shape, Window
from msemon.decoding import JsonDecoder
from msemon.events import Batch

SECOND = 1_000_000
HOUR = 3600 * SECOND
NOW = 1_900_000_000 * SECOND
TOPICS = ["predictions", "labels"]
SHAPE = Shape(
    windows=(Window("5m", 5 * SECOND, 60), Window("24h", 1440 * SECOND, 60)),
    observed=True, segment_keys=(), dimensions=(), timeout_us=24 * HOUR, memory_us=600 * SECOND,
    series_limit=10, models_limit=10, total_series_limit=10,
)  # fmt: skip


def batch(topic: str, number: int) -> Batch:
    """Ten events of the `number`-th second, written when they happened."""
    at = NOW + number * SECOND
    values = []
    for i in range(10):
        event = {"id": f"{number}-{i}", "ts": at // 1000}
        event |= {"model": "m", "prediction": float(i)} if topic == "predictions" else {"label": 1.0}
        values.append(json.dumps(event).encode())
    first = number * 10
    return Batch(
        topic=topic, partition=0, offsets=list(range(first, first + 10)), timestamps_ms=[at // 1000] * 10,
        values=values, next_offset=first + 10, size=1000, origin=lambda i: (None, ()),
    )  # fmt: skip


def counted(steps: dict[int, int]) -> tuple[Process, int]:
    """A process that has read a minute of both topics, and how many events it rejected. From second s on the wall
    clock is off by steps[s]."""
    decoder = JsonDecoder(
        segment_keys=(), fields={}, max_future_us=300 * SECOND, label_length=128, message_bytes=1_000_000,
        vector_length=10, json_depth=10,
    )  # fmt: skip
    process, off, rejected = Process(TOPICS, SHAPE, lambda: b"key"), 0, 0
    process.start(0)
    for number in range(60):
        off = steps.get(number, off)
        wall = NOW + number * SECOND + off
        for topic in TOPICS:
            one = batch(topic, number)
            decoded = decoder.decode(one, wall)
            rejected += len(decoded.rejections)
            process.apply(0, topic, decoded, one.next_offset, wall)
        process.view(wall)  # a scrape
    return process, rejected


def assert_same_state(one: Process, other: Process) -> None:
    mine, theirs = (keeping.snapshot(process.tasks[0]).changed for process in (one, other))
    assert mine.keys() == theirs.keys()
    for name in mine:
        assert mine[name].meta == theirs[name].meta, name
        assert mine[name].columns.keys() == theirs[name].columns.keys()
        for column in mine[name].columns:
            np.testing.assert_array_equal(mine[name].columns[column], theirs[name].columns[column], str(name))


@pytest.mark.parametrize(
    "steps", [{20: HOUR}, {20: HOUR, 40: 0}, {0: HOUR, 30: 0}, {10: 60 * SECOND, 50: -60 * SECOND}]
)
def test_f31_a_clock_that_steps_changes_nothing_that_is_kept(steps):
    """An hour ahead, and back again; a minute either way: panes, join, totals and offsets are what they were."""
    steady, _ = counted({})
    stepped, rejected = counted(steps)
    assert rejected == 0
    if min(steps.values()) >= 0:  # behind, records that are ahead of the clock are taken for its time
        assert_same_state(stepped, steady)
    wall = NOW + 60 * SECOND
    for a, b in zip(stepped.view(wall).models.windows, steady.view(wall).models.windows, strict=True):
        np.testing.assert_array_equal(a, b)


def test_f31_a_clock_an_hour_behind_rejects_as_future_until_it_is_right_again():
    """The one thing that is judged by the clock; each is counted. What came before and comes after is not touched."""
    process, rejected = counted({20: -HOUR, 40: 0})
    assert rejected == 20 * 10 * 2
    view = process.view(NOW + 60 * SECOND)
    assert view.models.windows[0][0].tolist() == [400.0]
    assert view.lifetime[0].tolist() == [400.0]


def test_f31_a_step_moves_what_is_exported_only_as_long_as_it_lasts():
    """Windows end with the wall clock: an hour ahead the short one is empty, back again it holds what it held."""
    process, _ = counted({})
    wall = NOW + 60 * SECOND
    before = process.view(wall).models.windows[0].copy()
    assert process.view(wall + HOUR).models.windows[0][0].tolist() == [0.0]
    np.testing.assert_array_equal(process.view(wall).models.windows[0], before)


WALL = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.datetime.now"}
MAY = {
    "wiring.py": "shows how a sample would be judged now",
    "daemon.py": "one function, for what is exported and for `future`",
    "sources/kafka_python.py": "where `start` is a duration back from now",
    "sources/librdkafka.py": "the same",
    "sources/oauth.py": "tokens end at a time",
    "replaying/parquet.py": "judges `future`, as the daemon would now",
    "replaying/topics.py": "where a range is a duration back from now",
    "demo/producer.py": "invents events of now",
}


def test_f31_only_these_modules_ask_for_the_wall_clock():
    """Every timer, timeout and lease is on the monotonic clock; a module that is added here has to say why."""
    root = Path(msemon.__file__).parent
    found = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in WALL:
                found.add(path.relative_to(root).as_posix())
    assert found == set(MAY)
