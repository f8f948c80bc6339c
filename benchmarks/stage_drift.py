"""What drift detection costs: `python benchmarks/stage_drift.py [--short]`.

CPU time an event from bytes to panes, as in stage_pipeline.py, without detection and with it (baselines given, so that
every pair is bet on; and while they are learnt), in turns so that a busy machine disturbs all alike. Then ms for one
look at 10,000 series in three full windows, first and again a second later.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import replace
from pathlib import Path
from time import process_time

import numpy as np

from msemon import collector
from msemon.core.baseline import FIELDS, Baseline
from msemon.core.drift import K
from msemon.core.process import Process
from msemon.core.shape import Shape
from msemon.core.view import SeriesKey
from msemon.core.watch import Given
from msemon.events import Decoded, Ints

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.stage_pipeline import PARTITIONS, SHAPE, START, WALL, decoder, stream

SECOND = 1_000_000
SERIES = 10_000
KINDS = ("off", "watching", "learning")


def given() -> dict[SeriesKey, Baseline]:
    baseline = Baseline(260.0, 270.0, 5_000)
    keys = [SeriesKey("eta", "")]
    keys += [SeriesKey("eta", "", "country", f"c{c}") for c in range(50)]
    keys += [SeriesKey("eta", "", "country,tier", f"c{c},t{t}") for c in range(50) for t in range(3)]
    return dict.fromkeys(keys, baseline)


def process_for(shape: Shape, baselines: Given) -> Process:
    process = Process(["predictions", "labels"], shape, lambda: b"key")
    process.give(baselines)
    for partition in range(PARTITIONS):
        process.start(partition)
    return process


def rounds(events: int, size: int) -> dict[str, float]:
    """CPU seconds an event without its decoding, by kind; and of decoding."""
    off, watching = replace(SHAPE, drift=False), replace(SHAPE, drift=True)
    processes = {
        "off": process_for(off, given()),  # nothing to learn, no bets
        "watching": process_for(watching, given()),
        "learning": process_for(replace(watching, learn_after_us=0, learn_pairs=10**9), {}),
    }
    decode = decoder().decode
    spent = dict.fromkeys((*KINDS, "decoding"), 0.0)
    for turn, read in enumerate(stream(events, size)):
        begun = process_time()
        decoded: Decoded = decode(read, WALL)
        spent["decoding"] += process_time() - begun
        for i in range(len(KINDS)):
            kind = KINDS[(turn + i) % len(KINDS)]
            begun = process_time()
            processes[kind].apply(read.partition, read.topic, decoded, read.next_offset, WALL)
            spent[kind] += process_time() - begun
    assert any(block.used for ring in processes["watching"].tasks[0].watch.rings for block in ring.values())
    return {kind: seconds / (2 * events * PARTITIONS) for kind, seconds in spent.items()}


def looks() -> tuple[float, float]:
    """CPU seconds of the first look at SERIES series, and of one after one more pane of the shortest window."""
    keys = [SeriesKey("m", "1"), *(SeriesKey("m", "1", "country", str(i)) for i in range(SERIES - 1))]
    shape = replace(SHAPE, series_limit=SERIES, dimensions=((0,),), segment_keys=("country",))
    process = process_for(shape, dict.fromkeys(keys, Baseline(1.0, 1.0, 1)))
    task = process.tasks[0]
    sids: Ints = np.array([task.series.adopt(key) for key in keys], np.int64)
    columns = np.zeros((7, SERIES))
    columns[:] = np.array([4.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])[:, None]
    task.watch.adopt(sids, columns, (np.zeros(0, np.int64), np.zeros((FIELDS, 0))), task.series)
    task.set_times(sids[:1], {"stream": np.array([START]), "predicted": np.array([START]),
                              "last_pair": np.array([START]), "lag": np.array([0])})  # fmt: skip
    rng = np.random.default_rng(0)
    for r, window in enumerate(shape.windows):
        for pane in range(START // window.pane_us - window.panes, START // window.pane_us + 1):
            task.watch.adopt_pane(r, pane, sids, rng.normal(-0.1, 0.3, (K, SERIES)).astype(np.float32))
    spent = []
    for now in (START, START, START + 5 * SECOND):
        task.set_times(sids[:1], {"stream": np.array([now]), "predicted": np.array([now]),
                                  "last_pair": np.array([now]), "lag": np.array([0])})  # fmt: skip
        begun = process_time()
        process.look(now)
        spent.append(process_time() - begun)
    assert process.view(START + 5 * SECOND).segments.drift[3].max() > 0.0
    return spent[0], statistics.mean(spent[1:])


def main() -> None:
    short = "--short" in sys.argv
    collector.settle()
    for size in (500,) if short else (200, 500, 2_000, 5_000):
        spent = rounds(4_000 if short else 50_000, size)
        whole = spent["decoding"] + spent["off"]
        more = ", ".join(f"{kind} + {(spent[kind] - spent['off']) / whole:.1%}" for kind in KINDS[1:])
        print(f"batches of {size:5}: {whole * 1e9:6.0f} ns an event without detection; {more}", flush=True)
    first, again = looks()
    print(f"a look at {SERIES:,} series: {first * 1e3:.0f} ms the first time, {again * 1e3:.0f} ms again")


if __name__ == "__main__":
    main()
