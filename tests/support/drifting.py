"""Tasks that are fed pairs of known errors, to see baselines and alarms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from msemon.core.process import Process
from msemon.core.shape import Shape, Window
from msemon.core.task import Task
from msemon.events import Decoded, Floats, Ints, Key, Labels, Pairs, Predictions

SECOND = 1_000_000
START_S = 1_000_000
SHAPE = Shape(
    windows=(Window("1m", SECOND, 60), Window("10m", 10 * SECOND, 60)),
    observed=True,
    segment_keys=("country",),
    dimensions=((0,),),
    timeout_us=0,
    memory_us=0,
    learn_pairs=200,
    learn_after_us=0,
    learn_time_us=0,
)


def pairs_of(
    errors: Floats, seconds: Floats | Sequence[float], keys: Sequence[Key] | Key = ("m", "1", "FR"),
    weights: Floats | None = None,
) -> Decoded:  # fmt: skip
    """Pairs with these errors at these seconds after START_S."""
    n = len(errors)
    times: Ints = ((START_S + np.asarray(seconds, float)) * SECOND).astype(np.int64)
    none = np.zeros(0)
    every = [keys] * n if isinstance(keys, tuple) else list(keys)
    nothing = np.zeros(0, np.int64)
    return Decoded(
        Predictions(nothing, nothing, nothing, nothing, [], [], none, {}, none),
        Labels(nothing, nothing, nothing, nothing, [], [], none, {}, none),
        Pairs(np.arange(n), times, times, every, np.asarray(errors, float), np.zeros(n), {},
              np.ones(n) if weights is None else weights),
    )  # fmt: skip


class Stream:
    """A process that is fed second by second and looks for drift each time."""

    def __init__(self, shape: Shape = SHAPE, tasks: int = 1, seed: int = 0, rate: int = 20) -> None:
        self.rng = np.random.default_rng(seed)
        self.process = Process(["t"], shape, lambda: bytes(16))
        for partition in range(tasks):
            self.process.start(partition).born_with = tasks
        self.rate = rate
        self.now_s = 0
        self.alarms: list[tuple[int, bool]] = []

    @property
    def task(self) -> Task:
        return self.process.tasks[0]

    @property
    def wall_us(self) -> int:
        return (START_S + self.now_s) * SECOND

    def run(self, seconds: int, rmse: float = 1.0, key: Key = ("m", "1", "FR"), rate: int | None = None) -> None:
        for _ in range(seconds):
            for partition in self.process.tasks:
                m = self.rate if rate is None else rate
                errors = self.rng.normal(size=m) * rmse
                decoded = pairs_of(errors, self.now_s + np.arange(m) / max(m, 1), key)
                self.process.apply(partition, "t", decoded, 0, self.wall_us)
            self.now_s += 1
            self.look()

    def look(self) -> None:
        self.alarms += [(self.now_s, change.active) for change in self.process.look(self.wall_us)
                        if not change.key.dimension]  # fmt: skip

    def gauges(self, key: tuple[str, ...] = ("m", "1", "", "")) -> Floats:
        view = self.process.view(self.wall_us)
        table = view.segments if key[2] else view.models
        return table.drift[:, [tuple(each) for each in table.keys].index(key)]


def shaped(**changes: object) -> Shape:
    return replace(SHAPE, **changes)  # type: ignore[arg-type]
