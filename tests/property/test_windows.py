"""Merged panes equal one pass over the pairs, however these were cut into batches and in whatever order they came."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from msemon.core import moments
from msemon.core.coverage import LABELLED, PREDICTIONS, Coverage
from msemon.core.moments import Errors
from msemon.core.shape import Window
from msemon.core.windows import NEVER, Sids, Windows, sums
from msemon.events import Floats, Ints
from support.windows import covered, merged

RINGS = (Window("a", 3, 4), Window("b", 10, 5), Window("c", 7, 20))  # no length a multiple of another
LONGEST = 2
SERIES = 4

sizes = st.floats(1e-9, 1e6) | st.sampled_from([0.0, 1e12, 1e-9])  # far from where squares underflow

pair = st.tuples(
    st.integers(-20, 120),  # time
    st.lists(st.integers(-1, SERIES - 1), min_size=2, max_size=2, unique=True),
    sizes | sizes.map(lambda x: -x),
    st.sampled_from([1.0, 1.0, 0.1, 0.0, 7.5]),
    st.lists(st.integers(-8, 40), min_size=3, max_size=3),  # oldest pane a ring takes
)
Pair = tuple[int, list[int], float, float, list[int]]


def batches(pairs: list[Pair], cuts: list[int]) -> list[list[Pair]]:
    edges = sorted({0, len(pairs), *(cut % (len(pairs) + 1) for cut in cuts)})
    return [pairs[a:b] for a, b in pairwise(edges)]


def columns(batch: list[Pair]) -> tuple[Sids, Errors, Ints, Ints]:
    times, sids, values, weights, oldest = zip(*batch, strict=True)
    errors = Errors.of_scalars(np.array(values), np.zeros(len(batch)), np.array(weights))
    return np.array(sids, np.int32), errors, np.array(times, np.int64), np.array(oldest, np.int64)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(pair, max_size=60),
    st.lists(st.integers(0, 100), max_size=6),
    st.lists(st.integers(-8, 40), min_size=SERIES, max_size=SERIES),
    st.lists(st.integers(-8, 40), min_size=3, max_size=3),
)
def test_windows_equal_one_pass(pairs: list[Pair], cuts: list[int], begins: list[int], dropped: list[int]) -> None:
    """For every ring and series: counts and largest error exact, the rest to 1e-12 of exact arithmetic."""
    windows = Windows(RINGS)
    for batch in batches(pairs, cuts):
        took = windows.add(*columns(batch))
        want = [any(t // ring.pane_us >= o for ring, o in zip(RINGS, old, strict=True)) for t, _, _, _, old in batch]
        assert took.tolist() == want
    windows.drop(dropped)
    for r, ring in enumerate(RINGS):
        m = merged(windows, r, np.array(begins, np.int64))
        for sid in range(SERIES):
            floor = max(begins[sid], dropped[r])
            rows = [
                (Fraction(e), Fraction(w))
                for t, sids, e, w, old in pairs
                if sid in sids and t // ring.pane_us >= max(floor, old[r])
            ]
            check(m[:, sid : sid + 1], rows)
    latest = windows.latest()
    for sid in range(min(SERIES, latest.size)):
        panes = [
            t // RINGS[LONGEST].pane_us
            for t, sids, _, _, old in pairs
            if sid in sids and t // RINGS[LONGEST].pane_us >= max(dropped[LONGEST], old[LONGEST])
        ]
        assert latest[sid] == max(panes, default=NEVER)


def check(m: Floats, rows: list[tuple[Fraction, Fraction]]) -> None:
    weight = sum((w for _, w in rows), Fraction(0))
    assert m[moments.N, 0] == len(rows)
    if weight == 0:
        assert np.isnan(moments.mse(m)[0])
        return
    squared = sum((w * e * e for e, w in rows), Fraction(0))
    absolute = sum((w * abs(e) for e, w in rows), Fraction(0))
    signed = sum((w * e for e, w in rows), Fraction(0))
    for got, exact, scale in (
        (moments.weight(m), weight, weight),
        (moments.squared_error(m), squared, squared),
        (moments.mse(m), squared / weight, squared / weight),
        (moments.mae(m), absolute / weight, absolute / weight),
        (moments.bias(m), signed / weight, absolute / weight),
    ):
        assert abs(Fraction(float(got[0])) - exact) <= scale / 10**12
    assert moments.max_absolute_error(m)[0] == max(abs(float(e)) for e, w in rows if w > 0)


@settings(deadline=None, max_examples=100)
@given(st.lists(pair, max_size=60), st.lists(st.integers(0, 100), max_size=6))
def test_counters_do_not_depend_on_batches(pairs: list[Pair], cuts: list[int]) -> None:
    """Sums of batches add up to the sums of all pairs."""
    total = np.zeros((6, SERIES))
    for batch in batches(pairs, cuts):
        sids, errors, _, _ = columns(batch)
        where, table = sums(sids, errors)
        total[:, where] += table
    for sid in range(SERIES):
        rows = [(e, w) for _, sids, e, w, _ in pairs if sid in sids]
        exact = [
            Fraction(len(rows)),
            sum((Fraction(w) for _, w in rows), Fraction(0)),
            sum((Fraction(w) * Fraction(e) ** 2 for e, w in rows), Fraction(0)),
            sum((Fraction(w) * abs(Fraction(e)) for e, w in rows), Fraction(0)),
            sum((Fraction(w) * max(Fraction(e), Fraction(0)) for e, w in rows), Fraction(0)),
            sum((Fraction(w) * max(-Fraction(e), Fraction(0)) for e, w in rows), Fraction(0)),
        ]
        for got, want in zip(total[:, sid], exact, strict=True):
            assert abs(Fraction(float(got)) - want) <= want / 10**12


made = st.tuples(
    st.sampled_from([PREDICTIONS, LABELLED]),
    st.integers(-1, SERIES - 1),
    st.integers(-20, 120),
    st.lists(st.integers(-8, 40), min_size=3, max_size=3),
)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(made, max_size=60),
    st.lists(st.tuples(st.integers(-8, 40), st.integers(-8, 40)), min_size=SERIES, max_size=SERIES),
)
def test_coverage_equals_a_count(events: list[tuple[int, int, int, list[int]]], spans: list[tuple[int, int]]) -> None:
    """Both counts of each series are those of a plain loop over the events, for any panes asked for."""
    coverage = Coverage(RINGS)
    for kind in (PREDICTIONS, LABELLED):
        of_kind = [event for event in events if event[0] == kind]
        coverage.add(
            [kind],
            np.array([sid for _, sid, _, _ in of_kind], np.int32),
            np.array([time for _, _, time, _ in of_kind], np.int64),
            np.array([oldest for _, _, _, oldest in of_kind], np.int64).reshape(-1, 3),
        )
    oldest, newest = (np.array(column, np.int64) for column in zip(*spans, strict=True))
    for r, ring in enumerate(RINGS):
        got = covered(coverage, r, oldest, newest)
        for kind in (PREDICTIONS, LABELLED):
            for sid, (first, last) in enumerate(spans):
                want = sum(
                    k == kind and s == sid and t // ring.pane_us >= old[r] and first <= t // ring.pane_us <= last
                    for k, s, t, old in events
                )
                assert got[kind, sid] == want
