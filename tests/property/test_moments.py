"""Whatever the pairs, their split into batches and the order of merging: the promised precision (contract, section 4).

The oracle is exact: rational arithmetic on the same float64 inputs.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from msemon.core import moments
from msemon.core.moments import Errors
from msemon.events import Floats

Pair = tuple[float, float, float]

sizes = st.floats(1e-30, 1e75) | st.sampled_from([0.0, 1e75, 1e12, 1e-30, 1.0, 0.1])
numbers = sizes | sizes.map(lambda x: -x)
wild = st.tuples(numbers, numbers, sizes)
tame_numbers = st.floats(-1e3, 1e3).map(lambda x: round(x, 3))


def merged(pairs: list[Pair], cuts: list[int], order: list[int]) -> Floats:
    """Cut the pairs into batches at `cuts`, reduce them all at once, merge neighbours picked by `order`: any tree."""
    table = np.array(pairs)
    errors = Errors.of_scalars(table[:, 0], table[:, 1], table[:, 2])
    starts = np.array(sorted({0, *(cut % len(pairs) for cut in cuts)}))
    columns = moments.reduce(errors, np.arange(len(pairs)), starts)
    parts = [columns[:, i : i + 1] for i in range(starts.size)]
    for pick in order + [0] * len(parts):
        if len(parts) == 1:
            break
        first, second = parts.pop(pick % len(parts)), parts.pop((pick // 7) % len(parts))
        parts.append(moments.merge(first, second))
    return parts[0]


def close(got: Floats, exact: Fraction, tolerance: Fraction) -> bool:
    return abs(Fraction(float(got[0])) - exact) <= tolerance


TINY = Fraction(1, 10**12)
splits = st.tuples(st.lists(st.integers(0, 100), max_size=12), st.lists(st.integers(0, 10_000), max_size=12))


@settings(deadline=None, max_examples=300)
@given(st.lists(wild, min_size=1, max_size=30), splits)
def test_sums_and_means_are_exact_to_twelve_digits(pairs: list[Pair], split: tuple[list[int], list[int]]) -> None:
    """Counts are exact; Σw, Σw·q, Σw·|e|, MSE and MAE are within 1e-12; Σw·e and bias within 1e-12 of the absolute."""
    m = merged(pairs, *split)
    rows = [(Fraction(p) - Fraction(y), Fraction(w)) for p, y, w in pairs]
    weight = sum((w for _, w in rows), Fraction(0))
    assert m[moments.N, 0] == len(pairs)
    if weight == 0:
        assert np.isnan(moments.mse(m)[0])
        return
    squared = sum((w * e * e for e, w in rows), Fraction(0))
    absolute = sum((w * abs(e) for e, w in rows), Fraction(0))
    signed = sum((w * e for e, w in rows), Fraction(0))
    assert close(moments.weight(m), weight, TINY * weight)
    assert close(moments.squared_error(m), squared, TINY * squared)
    assert close(moments.mse(m), squared / weight, TINY * squared / weight)
    assert close(moments.absolute_error(m), absolute, TINY * absolute)
    assert close(moments.mae(m), absolute / weight, TINY * absolute / weight)
    assert close(moments.error(m), signed, TINY * absolute)
    assert close(moments.bias(m), signed / weight, TINY * absolute / weight)
    assert moments.max_absolute_error(m)[0] == max(float(abs(p - y)) for p, y, w in pairs if w > 0)
    for values in (moments.r2(m), moments.standard_error(m), *moments.rmse_bounds(m)):
        assert not np.isinf(values[0])


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(tame_numbers, tame_numbers, st.sampled_from([0.0, 0.1, 1.0, 3.0])), min_size=2, max_size=40),
    st.floats(-1.0, 1.0),
    splits,
)
def test_r2_and_spread_keep_nine_digits_far_from_zero(
    pairs: list[Pair], shift: float, split: tuple[list[int], list[int]]
) -> None:
    """R² is within 1e-9 though the labels' mean be 1e4 of their spread (relative where R² itself is far below −1)."""
    counted = [(p, y, w) for p, y, w in pairs if w > 0]
    spread = float(np.std([y for _, y, _ in counted])) if counted else 0.0
    far = [(p + shift * 9e3 * spread, y + shift * 9e3 * spread, w) for p, y, w in pairs]
    m = merged(far, *split)
    rows = [(Fraction(p) - Fraction(y), Fraction(y), Fraction(w)) for p, y, w in far]
    weight = sum((w for _, _, w in rows), Fraction(0))
    if weight == 0:
        return
    label_mean = sum((w * y for _, y, w in rows), Fraction(0)) / weight
    variance = sum((w * (y - label_mean) ** 2 for _, y, w in rows), Fraction(0)) / weight
    mse = sum((w * e * e for e, _, w in rows), Fraction(0)) / weight
    if variance == 0:
        assert np.isnan(moments.r2(m)[0])
        return
    if abs(label_mean) < 10**4 * Fraction(float(variance) ** 0.5):
        ratio = mse / variance
        assert close(moments.r2(m), 1 - ratio, Fraction(1, 10**9) * max(Fraction(1), ratio))
    m2 = sum((w * (e * e - mse) ** 2 for e, _, w in rows), Fraction(0))
    assert close(m[moments.M2_Q], m2, TINY * (m2 + weight * mse * mse))


@settings(deadline=None)
@given(st.lists(wild, min_size=1, max_size=20), st.lists(st.integers(0, 100), max_size=8))
def test_fold_agrees_with_merging_one_by_one(pairs: list[Pair], cuts: list[int]) -> None:
    """A fold of single pairs equals one reduction of each run."""
    table = np.array(pairs)
    errors = Errors.of_scalars(table[:, 0], table[:, 1], table[:, 2])
    starts = np.array(sorted({0, *(cut % len(pairs) for cut in cuts)}))
    every = np.arange(len(pairs))
    folded = moments.fold(moments.reduce(errors, every, every), starts)
    at_once = moments.reduce(errors, every, starts)
    for evaluate in (moments.pairs, moments.weight, moments.mse, moments.mae, moments.max_absolute_error):
        np.testing.assert_allclose(evaluate(folded), evaluate(at_once), rtol=1e-12)
