"""Times the windows stage alone: `python benchmarks/stage_windows.py`.

Prints ns a pair for Windows.add (3 series a pair, 3 rings), for batches in order and for batches whose times are
scattered over the whole of every window, and ms for one evaluation (Windows.merged of every ring). CPU time, so that a
busy machine disturbs it less.
"""

from __future__ import annotations

from time import process_time

import numpy as np

from msemon.core.moments import Errors
from msemon.core.rolling import Part, Rolling
from msemon.core.shape import Window
from msemon.core.windows import Sids, Windows, sums
from msemon.events import Ints

SECOND = 1_000_000
WINDOWS = tuple(
    Window(name, seconds * SECOND // 60, 60) for name, seconds in (("5m", 300), ("1h", 3600), ("24h", 86400))
)
PANE_US = np.array([window.pane_us for window in WINDOWS])
START = 1_700_000_000 * SECOND
DIMENSIONS = 3


def batch(rng: np.random.Generator, n: int, series: int, times: Ints) -> tuple[Sids, Errors, Ints]:
    sids = rng.integers(0, series, (n, DIMENSIONS)).astype(np.int32)
    sids[:, 0] = 0
    label = rng.normal(200.0, 20.0, n)
    errors = Errors.of_scalars(label + rng.normal(0.0, 5.0, n), label, np.ones(n))
    return sids, errors, np.broadcast_to((times.max() // PANE_US) - 60, (n, len(WINDOWS)))


def time_add(n: int, series: int, spread_us: int, rounds: int) -> float:
    """Seconds a batch of n pairs whose times lie within spread_us."""
    rng = np.random.default_rng(1)
    windows = Windows(WINDOWS)
    spent = 0.0
    for i in range(rounds + 3):
        times = START + i * SECOND + rng.integers(0, spread_us, n)
        sids, errors, oldest = batch(rng, n, series, times)
        begun = process_time()
        windows.add(sids, errors, times, oldest)
        if i >= 3:  # the first batches make the blocks
            spent += process_time() - begun
        windows.drop(oldest[0].tolist())
    return spent / rounds


def time_sums(n: int, series: int, rounds: int) -> float:
    rng = np.random.default_rng(1)
    sids, errors, _ = batch(rng, n, series, np.full(n, START))
    begun = process_time()
    for _ in range(rounds):
        sums(sids, errors)
    return (process_time() - begun) / rounds


def time_merged(series: int, rounds: int) -> tuple[float, float]:
    """(seconds an evaluation of all rings, bytes held a series and pane) with every pane of every ring full."""
    rng = np.random.default_rng(1)
    windows = Windows(WINDOWS)
    sids = np.arange(series, dtype=np.int32)[:, None]
    for r, window in enumerate(WINDOWS):
        for pane in range(61):
            label = rng.normal(200.0, 20.0, series)
            errors = Errors.of_scalars(label + rng.normal(0.0, 5.0, series), label, np.ones(series))
            oldest = np.full((series, len(WINDOWS)), 1 << 40)
            oldest[:, r] = 0
            windows.add(sids, errors, np.full(series, pane * window.pane_us), oldest)
    held = sum(block.data.nbytes + block.index.nbytes for block in windows.blocks())
    begun = process_time()
    for _ in range(rounds):
        part = Part(np.arange(series), [{n: block.hold() for n, block in ring.items()} for ring in windows.rings])
        Rolling(WINDOWS).merged([part], [np.zeros(series, np.int64)] * len(WINDOWS))
    return (process_time() - begun) / rounds, held / (series * 61 * len(WINDOWS))


def main() -> None:
    for name, spread in (("in order (1 s)", SECOND), ("a minute", 60 * SECOND), ("scattered (24 h)", 86400 * SECOND)):
        for n in (500, 2_000, 10_000):
            for series in (10, 300, 1_000):
                took = time_add(n, series, spread, rounds=max(20, 40_000 // n))
                print(f"add     {name:17} {n:6} pairs {series:5} series {took * 1e9 / n:8.0f} ns/pair")
    for n in (500, 10_000):
        print(f"sums    {n:24} pairs  1000 series {time_sums(n, 1_000, 50) * 1e9 / n:8.0f} ns/pair")
    took, size = time_merged(10_000, rounds=3)
    print(f"merged  10000 series x 3 windows x 61 panes {took * 1e3:8.0f} ms   {size:.0f} bytes a (series, pane)")


if __name__ == "__main__":
    main()
