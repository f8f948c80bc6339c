"""Times the windows stage alone: `python benchmarks/stage_windows.py [--short]`.

Adding: ns a pair of Windows.add (3 series a pair, 3 rings), for batches in order and for batches whose times are
scattered over the whole of every window. Evaluating: seconds for every window of 100,000 series with every pane full,
as one task and as four that all have them; first with nothing known, then as a scrape finds it, beside merging all
panes again, whose result it must equal to 1e-12. CPU time, so that a busy machine disturbs it less.
"""

from __future__ import annotations

import argparse
from time import process_time

import numpy as np

from msemon.core import moments
from msemon.core.moments import Errors
from msemon.core.rolling import Part, Rolling
from msemon.core.shape import Window
from msemon.core.spread import Spread, merge_pane
from msemon.core.windows import Sids, Windows, sums
from msemon.events import Floats, Ints

SECOND = 1_000_000
WINDOWS = tuple(
    Window(name, seconds * SECOND // 60, 60) for name, seconds in (("5m", 300), ("1h", 3600), ("24h", 86400))
)
PANE_US = np.array([window.pane_us for window in WINDOWS])
START = 1_700_000_000 * SECOND
DIMENSIONS = 3
PANES = 61
FAR = 1 << 40
AT_ONCE = 8192


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


class Tasks:
    """`count` tasks with the same series, each in an order of its own; a pair of each in every pane."""

    def __init__(self, count: int, series: int) -> None:
        self.rng = np.random.default_rng(1)
        self.series = series
        self.windows = [Windows(WINDOWS) for _ in range(count)]
        self.places = [np.arange(series) if i == 0 else self.rng.permutation(series) for i in range(count)]
        self.rolling = Rolling(WINDOWS)
        for ring in range(len(WINDOWS)):
            for pane in range(PANES):
                self.add(ring, pane, np.arange(series))

    def add(self, ring: int, pane: int, sids: Ints) -> None:
        label = self.rng.normal(200.0, 20.0, sids.size)
        errors = Errors.of_scalars(label + self.rng.normal(0.0, 5.0, sids.size), label, np.ones(sids.size))
        oldest = np.full((sids.size, len(WINDOWS)), FAR)
        oldest[:, ring] = 0
        for windows in self.windows:
            windows.add(sids[:, None].astype(np.int32), errors, np.full(sids.size, pane * PANE_US[ring]), oldest)

    def add_newest(self) -> None:
        for ring in range(len(WINDOWS)):
            self.add(ring, PANES - 1, np.arange(self.series))

    def add_late(self, share: float) -> None:
        for ring in range(len(WINDOWS)):
            for pane in range(PANES):
                self.add(ring, pane, self.rng.choice(self.series, round(self.series * share), replace=False))

    def evaluated(self, oldest: int) -> tuple[float, list[Floats]]:
        """(seconds, windows) from pane `oldest` on."""
        parts = [
            Part(places, [{number: block.hold() for number, block in ring.items()} for ring in windows.rings])
            for windows, places in zip(self.windows, self.places, strict=True)
        ]
        begun = process_time()
        found = self.rolling.merged(parts, [np.full(self.series, oldest)] * len(WINDOWS))
        spent = process_time() - begun
        for windows, part in zip(self.windows, parts, strict=True):
            for ring, sheets in zip(windows.rings, part.rings, strict=True):
                for number, sheet in sheets.items():
                    ring[number].let_go(sheet)
        return spent, found

    def anew(self, oldest: int) -> tuple[float, list[Floats]]:
        """The same by merging pane after pane."""
        begun = process_time()
        spreads = [Spread(places, self.series) for places in self.places]
        found = [moments.empty(self.series) for _ in WINDOWS]
        for ring, out in enumerate(found):
            for begin in range(0, self.series, AT_ONCE):
                places = np.arange(begin, min(begin + AT_ONCE, self.series))
                some = moments.empty(places.size)
                for windows, spread in zip(self.windows, spreads, strict=True):
                    picked = spread.pick(places)
                    for pane in range(oldest, PANES):
                        block = windows.rings[ring][pane]
                        sheet = block.hold()
                        merge_pane(some, sheet, picked, np.ones(places.size, np.bool_))
                        block.let_go(sheet)
                out[:, places] = some
        return process_time() - begun, found

    def sizes(self) -> tuple[float, float]:
        """(bytes a series and pane, bytes of sums kept / those of panes)."""
        sheets = [block.hold() for windows in self.windows for block in windows.blocks()]
        held = sum(sheet.data.nbytes + sheet.index.nbytes + sheet.stamps.nbytes for sheet in sheets)
        kept = sum(group.sums.data.nbytes for ring in self.rolling._groups for group in ring.values())  # noqa: SLF001
        return held / (self.series * PANES * len(WINDOWS) * len(self.windows)), kept / held


def evaluate(count: int, series: int) -> None:
    tasks = Tasks(count, series)
    print(f"evaluating {series:,} series x {len(WINDOWS)} windows x {PANES} panes, {count} tasks")

    def show(name: str, oldest: int) -> float:
        spent, _ = tasks.evaluated(oldest)
        print(f"  {name:52} {spent:8.3f} s")
        return spent

    show("with nothing known", 0)
    tasks.add_newest()
    show("a pair more in every newest pane", 0)
    tasks.add_newest()
    scraped = show("and every window a pane further", 1)
    tasks.add_late(0.01)
    show("1 % of the series written to in every pane", 1)
    _, found = tasks.evaluated(1)
    naive, expected = tasks.anew(1)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine[moments.N], theirs[moments.N])
        np.testing.assert_allclose(mine[: moments.W_LOW], theirs[: moments.W_LOW], rtol=1e-12, atol=1e-10)
    size, share = tasks.sizes()
    print(f"  {'merging every pane again':52} {naive:8.3f} s, {naive / scraped:.1f} times as long")
    print(f"  {size:.0f} bytes a (series, pane); sums kept: {share:.1%} of that")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true", help="a thousand series: does it run?")
    short = parser.parse_args().short
    for name, spread in (("in order (1 s)", SECOND), ("a minute", 60 * SECOND), ("scattered (24 h)", 86400 * SECOND)):
        for n in (500,) if short else (500, 2_000, 10_000):
            for series in (10, 300, 1_000):
                took = time_add(n, series, spread, rounds=2 if short else max(20, 40_000 // n))
                print(f"add     {name:17} {n:6} pairs {series:5} series {took * 1e9 / n:8.0f} ns/pair")
    for n in (500, 10_000):
        print(f"sums    {n:24} pairs  1000 series {time_sums(n, 1_000, 50) * 1e9 / n:8.0f} ns/pair")
    for count in (1, 4):
        evaluate(count, 1_000 if short else 100_000)


if __name__ == "__main__":
    main()
