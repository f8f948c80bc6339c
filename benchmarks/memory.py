"""Bytes a waiting prediction, at five million of them, and bytes a series and non-empty pane, drift included.

    python benchmarks/memory.py [--short]

Each in a process of its own: what the columns and their index hold, and how much larger the process has become.
"""

from __future__ import annotations

import gc
import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from benchmarks.measuring import figure, machine, short
from benchmarks.stage_state import Load, filled, keys_of
from msemon.core.baseline import Baseline
from msemon.core.view import SeriesKey

WAITING = 5_000_000
SERIES = 10_000
DIGEST = 16  # bytes of an id, as it is kept


class Held(NamedTuple):
    """So many things, the bytes that their arrays hold, and by how much the process grew."""

    things: int
    nbytes: int
    grown: int


def waiting(count: int) -> Held:
    """Predictions that wait in one task."""
    before = _rss()
    task = filled(0, Load(1, count, 1, shared=False))
    found = task.join.predictions
    assert found.waiting == len(found) == count, (found.waiting, count)
    return Held(count, found.nbytes, _rss() - before)


def panes(count: int) -> Held:
    """Series of one task with a baseline each, every pane of three windows full: moments, and the sums of drift."""
    before = _rss()
    load = Load(1, 0, count, shared=False)
    keys = [SeriesKey(model, version) for model, version, _ in keys_of(np.arange(count), count)]
    keys += [
        SeriesKey(model, version, "customer", str(name)) for model, version, name in keys_of(np.arange(count), count)
    ]
    task = filled(0, load, {key: Baseline(700.0, 700.0, 1_000) for key in keys})
    blocks = list(task.windows.blocks())
    used = sum(block.used for block in blocks)
    assert used >= count * 3 * 60, used
    drift = [block for ring in task.watch.rings for block in ring.values()]
    assert sum(block.used for block in drift) == used
    nbytes = sum(block.data.nbytes + block.index.nbytes for block in blocks + drift)
    return Held(used, nbytes, _rss() - before)


def apart(work: Callable[[int], Held], count: int) -> Held:
    """In a process of its own, so that nothing else's memory is in it."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, (count,))


def _rss() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def main() -> None:
    print(machine())
    held = apart(waiting, 50_000 if short() else WAITING)
    beside, grown = held.nbytes / held.things - DIGEST, held.grown / held.things - DIGEST
    print(f"{held.things:,} waiting predictions: {beside:.1f} bytes each beside the id's {DIGEST}, index included; "
          f"the process grew by {grown:.1f}")  # fmt: skip
    figure("bytes a waiting prediction", beside)
    figure("bytes a waiting prediction, of the process", grown)
    held = apart(panes, 200 if short() else SERIES)
    each, grown = held.nbytes / held.things, held.grown / held.things
    print(f"{held.things:,} pairs of a series and a non-empty pane: {each:.1f} bytes each, index included; "
          f"the process grew by {grown:.1f}")  # fmt: skip
    figure("bytes a series and pane", each)
    figure("bytes a series and pane, of the process", grown)


if __name__ == "__main__":
    main()
