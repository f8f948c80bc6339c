"""Moments evaluate to what the contract's section 4 says, and are absent where it says so."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce

import numpy as np
import pytest

from msemon.core import moments
from msemon.core.moments import Errors
from msemon.events import Floats

EVALUATIONS: list[Callable[[Floats], Floats]] = [
    moments.pairs,
    moments.weight,
    moments.squared_error,
    moments.absolute_error,
    moments.error,
    moments.mse,
    moments.rmse,
    moments.mae,
    moments.bias,
    moments.max_absolute_error,
    moments.r2,
    moments.effective_pairs,
    moments.standard_error,
    lambda m: moments.rmse_bounds(m)[0],
    lambda m: moments.rmse_bounds(m)[1],
]


def pairs(predictions: list[float], labels: list[float], weights: list[float] | None = None) -> Errors:
    return Errors.of_scalars(
        np.array(predictions, float), np.array(labels, float), np.array(weights or [1.0] * len(predictions), float)
    )


def one(errors: Errors) -> Floats:
    """All pairs as one group."""
    return moments.reduce(errors, np.arange(errors.q.size), np.array([0]))


def of(errors: list[float], weights: list[float] | None = None) -> Floats:
    return one(pairs(errors, [0.0] * len(errors), weights))


def value(values: Floats) -> float:
    assert values.shape == (1,)
    return float(values[0])


def test_weighted_means_follow_the_contract() -> None:
    """MSE, RMSE, MAE, bias and R² are the weighted means that the contract defines."""
    m = one(pairs([3.0, 1.0, 7.0], [1.0, 2.0, 4.0], [1.0, 2.0, 1.0]))  # e = 2, −1, 3
    assert value(moments.mse(m)) == (4 + 2 + 9) / 4
    assert value(moments.rmse(m)) == math.sqrt(15 / 4)
    assert value(moments.mae(m)) == (2 + 2 + 3) / 4
    assert value(moments.bias(m)) == (2 - 2 + 3) / 4
    label_mean = (1 + 4 + 4) / 4
    variance = ((1 - label_mean) ** 2 + 2 * (2 - label_mean) ** 2 + (4 - label_mean) ** 2) / 4
    assert value(moments.r2(m)) == pytest.approx(1 - (15 / 4) / variance, rel=1e-15)
    assert value(moments.max_absolute_error(m)) == 3.0


def test_sums_are_what_replicas_add_up() -> None:
    """n, Σw, Σw·q, Σw·|e| and Σw·e come out as sums."""
    m = of([2.0, -1.0, 3.0], [1.0, 2.0, 0.5])
    assert value(moments.pairs(m)) == 3
    assert value(moments.weight(m)) == 3.5
    assert value(moments.squared_error(m)) == pytest.approx(4 + 2 + 4.5, rel=1e-15)
    assert value(moments.absolute_error(m)) == pytest.approx(2 + 2 + 1.5, rel=1e-15)
    assert value(moments.error(m)) == pytest.approx(2 - 2 + 1.5, rel=1e-15)


def test_an_error_of_ten_contributes_a_hundred_and_two_of_five_fifty() -> None:
    """Squaring makes one large error weigh more than two of half its size."""
    assert value(moments.squared_error(of([10.0]))) == 100.0
    assert value(moments.squared_error(of([5.0, -5.0]))) == 50.0


def test_groups_of_one_reduction_are_apart() -> None:
    """Each run of `order` becomes its own column, in any order of pairs and with repeats."""
    errors = pairs([1.0, 2.0, 3.0, 4.0], [0.0] * 4, [1.0, 0.5, 3.0, 0.0])
    m = moments.reduce(errors, np.array([3, 0, 2, 1, 2]), np.array([0, 1, 3]))
    for column, members in enumerate(([3], [0, 2], [1, 2])):
        alone = moments.reduce(errors, np.array(members), np.array([0]))
        np.testing.assert_array_equal(m[:, column], alone[:, 0])


def test_nothing_reduces_to_nothing() -> None:
    """No pairs make no columns."""
    assert moments.reduce(pairs([], []), np.zeros(0, np.intp), np.zeros(0, np.intp)).shape == (moments.FIELDS, 0)


@pytest.mark.parametrize("evaluate", EVALUATIONS)
def test_a_window_without_weight_is_absent(evaluate: Callable[[Floats], Floats]) -> None:
    """Neither no pairs nor pairs of weight zero alone have a value."""
    assert math.isnan(value(evaluate(moments.empty(1))))
    assert math.isnan(value(evaluate(of([3.0] * 9, [0.0] * 9))))


def test_a_pair_of_weight_zero_counts_in_n_only() -> None:
    """Whatever its values, a zero-weight pair changes no statistic but n: in one batch and merged, first or last."""
    want = of([1.0, 2.0, 4.0])
    want[moments.N] = 4
    weightless = pairs([1e75, 1.0, 2.0, 4.0], [-1e75, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 1.0])
    np.testing.assert_array_equal(one(weightless), want)
    for parts in ([0], [1, 2, 3]), ([1, 2, 3], [0]):
        a, b = (moments.reduce(weightless, np.array(part), np.array([0])) for part in parts)
        np.testing.assert_array_equal(moments.merge(a, b), want)


def test_a_group_without_weight_is_empty_but_for_n() -> None:
    """Nothing of a zero-weight pair is kept beside the count."""
    m = of([3.0, 4.0], [0.0, 0.0])
    assert m[moments.N, 0] == 2
    assert not m[moments.N + 1 :].any()


def test_an_uncounted_vector_leaves_r2_alone() -> None:
    """A vector pair of weight zero is not counted, so R² stays."""
    errors = pairs([1.0, 2.0, np.nan], [1.5, 3.0, np.nan], [1.0, 1.0, 0.0])
    errors.set_vector(2, np.array([1.0, 2.0]), np.array([0.0, 0.0]))
    assert value(moments.r2(one(errors))) == value(moments.r2(one(pairs([1.0, 2.0], [1.5, 3.0]))))


def test_a_vector_pair_enters_as_means_over_its_outputs() -> None:
    """q, |e|, e, over- and underprediction are means over outputs, the largest |e| is over outputs, R² is absent."""
    errors = pairs([np.nan, 1.0], [np.nan, 0.5], [2.0, 1.0])
    errors.set_vector(0, np.array([3.0, 0.0, 1.0, 2.0]), np.array([0.0, 1.0, 1.0, 0.0]))  # e = 3, −1, 0, 2
    assert (errors.q[0], errors.e[0], errors.a[0]) == (14 / 4, 1.0, 6 / 4)
    assert (errors.over[0], errors.under[0], errors.max_a[0]) == (5 / 4, 1 / 4, 3.0)
    m = one(errors)
    assert value(moments.mse(m)) == pytest.approx((2 * 3.5 + 0.25) / 3, rel=1e-15)
    assert math.isnan(value(moments.r2(m)))
    assert math.isnan(value(moments.r2(moments.merge(of([1.0, 2.0]), m))))
    assert math.isnan(value(moments.r2(moments.merge(m, moments.empty(1)))))


def test_r2_needs_two_pairs_and_labels_that_vary() -> None:
    """R² is absent for one pair and for equal labels, however the pairs were split, even where 0.1 does not add up."""
    assert math.isnan(value(moments.r2(one(pairs([1.0], [2.0])))))
    weights = [0.3, 1.7, 0.9, 1.1, 0.1, 2.3, 0.7]
    equal = pairs([1.0] * 7, [0.1] * 7, weights)
    assert math.isnan(value(moments.r2(one(equal))))
    parts = [moments.reduce(equal, np.array(part), np.array([0])) for part in ([0, 1], [2], [3, 4, 5, 6])]
    assert math.isnan(value(moments.r2(moments.merge(moments.merge(parts[0], parts[1]), parts[2]))))


def test_standard_error_and_bounds_follow_the_formula() -> None:
    """SE = √(M2(q)/Σw/(n_eff − 1)); bounds are the roots of MSE · exp(±1.96 · SE/MSE · √(1 + 6/√n_eff))."""
    e, w = np.arange(1.0, 11.0), np.linspace(0.5, 1.5, 10)
    q = e * e
    mse = float(np.sum(w * q) / np.sum(w))
    n_eff = float(np.sum(w) ** 2 / np.sum(w * w))
    se = math.sqrt(float(np.sum(w * (q - mse) ** 2) / np.sum(w)) / (n_eff - 1))
    reach = math.exp(1.96 * se / mse * math.sqrt(1 + 6 / math.sqrt(n_eff)))
    m = of(e.tolist(), w.tolist())
    lower, upper = moments.rmse_bounds(m)
    assert value(moments.effective_pairs(m)) == pytest.approx(n_eff, rel=1e-14)
    assert value(moments.standard_error(m)) == pytest.approx(se, rel=1e-13)
    assert value(lower) == pytest.approx(math.sqrt(mse / reach), rel=1e-13)
    assert value(upper) == pytest.approx(math.sqrt(mse * reach), rel=1e-13)


def bounded(m: Floats) -> list[bool]:
    return [bool(np.isfinite(x[0])) for x in (moments.standard_error(m), *moments.rmse_bounds(m))]


@pytest.mark.parametrize("weight", [1.0, 0.1, 1 / 3, 0.7, 1e-30, 1e75])
def test_seven_equal_weights_are_enough_for_bounds(weight: float) -> None:
    """Seven pairs of any one weight have bounds though n_eff may round below 7; six have none."""
    errors = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    merged = of(errors[:1], [weight])
    for error in errors[1:]:
        assert bounded(merged) == [False] * 3
        merged = moments.merge(merged, of([error], [weight]))
    assert bounded(merged) == [True] * 3
    assert bounded(of(errors, [weight] * 7)) == [True] * 3


def test_unequal_weights_count_as_fewer_pairs() -> None:
    """Ten pairs of which one carries nearly all weight are worth less than seven."""
    assert bounded(of([1.0] * 10, [1e6] + [1.0] * 9)) == [False] * 3


@pytest.mark.parametrize("error", [0.0, 0.1, -3.7e20])
def test_bounds_meet_at_the_rmse_where_all_errors_are_equal(error: float) -> None:
    """Without spread SE is 0 and both bounds are the RMSE, which may be 0; also over several batches."""
    weights = [0.3, 0.3, 0.7, 0.3, 0.1, 0.3, 0.3]
    batches = [of([error] * (7 - i), weights[i:]) for i in range(6)]
    for m in of([error] * 14, weights * 2), reduce(moments.merge, batches):
        assert value(moments.standard_error(m)) == 0.0
        lower, upper = moments.rmse_bounds(m)
        assert value(lower) == value(upper) == value(moments.rmse(m)) == pytest.approx(abs(error), rel=1e-15)


def test_the_largest_numbers_overflow_to_absent_and_never_to_infinity() -> None:
    """At 1e75 in size MSE and sums still stand; what overflows is absent; nothing warns (warnings are errors here)."""
    big = pairs([1e75] * 8, [-1e75] * 7 + [0.0], [1e75] * 8)
    m = one(big)
    assert value(moments.mse(m)) == pytest.approx((7 * 4e150 + 1e150) / 8, rel=1e-12)
    assert value(moments.squared_error(m)) == pytest.approx((7 * 4e150 + 1e150) * 1e75, rel=1e-12)
    assert math.isnan(value(moments.standard_error(m)))
    merged = moments.merge(moments.merge(m, of([1e-70] * 3, [1e-70] * 3)), m)
    assert value(moments.mse(merged)) == pytest.approx((7 * 4e150 + 1e150) / 8, rel=1e-12)
    for columns in (m, merged):
        for evaluate in EVALUATIONS:
            assert not np.isinf(evaluate(columns)).any()


def test_a_huge_but_light_error_does_not_cost_the_rest_its_digits() -> None:
    """The mean is taken from the heavier side: after 1e12 with a tiny weight, ten thousand small errors still count."""
    m = of([1e12], [1e-40])
    m = moments.merge(m, of([1e-3], [1.0]))
    assert value(moments.mse(m)) == pytest.approx(1e-6 + 1e24 * 1e-40, rel=1e-12)


def test_one_huge_error_in_a_batch_does_not_cost_the_mean_its_digits() -> None:
    """The MSE is summed directly: as a difference from its largest value it would lose a digit for each ten pairs."""
    n = 100_000
    small = np.random.default_rng(2).normal(size=n - 1).tolist()
    exact = math.fsum([1e16, *(x * x for x in small)]) / n
    assert value(moments.mse(of([1e8, *small]))) == pytest.approx(exact, rel=1e-14, abs=0)


def test_many_light_merges_lose_no_weight() -> None:
    """Weights far below the rounding of the sum still add up: without a carry 20,000 of them would vanish."""
    m, light = of([1.0], [1.0]), of([1.0], [1.1e-16])
    for _ in range(20_000):
        m = moments.merge(m, light)
    assert value(moments.weight(m)) == pytest.approx(1 + 20_000 * 1.1e-16, rel=1e-15, abs=0)


def test_fifty_thousand_pairs_merged_one_by_one_stay_within_the_promise() -> None:
    """Pairs that come one at a time, 50,000 of weight 0.1: sums and means within 1e-12 of exact."""
    errors = np.random.default_rng(3).normal(size=(50, 1000))
    weights = np.full(1000, 0.1)
    m = moments.empty(1000)
    for row in errors:
        m = moments.merge(m, moments.reduce(Errors.of_scalars(row, 0 * row, weights), np.arange(1000), np.arange(1000)))
    total = m[:, :1]
    for column in range(1, 1000):
        total = moments.merge(m[:, column : column + 1], total)
    exact = math.fsum(float(x) ** 2 for x in errors.ravel())
    assert value(moments.mse(total)) == pytest.approx(exact / 50_000, rel=1e-12, abs=0)
    assert value(moments.weight(total)) == pytest.approx(5_000, rel=1e-12, abs=0)


def test_merge_at_leaves_other_columns_alone() -> None:
    """Only the named columns of the target change."""
    target = np.concatenate([of([1.0]), of([2.0]), of([3.0])], axis=1)
    before = target.copy()
    moments.merge_at(target, np.array([2, 0]), np.concatenate([of([4.0]), of([5.0])], axis=1))
    np.testing.assert_array_equal(target[:, 1], before[:, 1])
    np.testing.assert_allclose(moments.mse(target), [(1 + 25) / 2, 4, (9 + 16) / 2])


def test_fold_merges_each_run_of_columns() -> None:
    """Runs of any length become one column each, equal to all their pairs at once; the input is left as it was."""
    columns = [of([float(i)], [i % 3 + 0.5]) for i in range(12)]
    m = np.concatenate(columns, axis=1)
    before = m.copy()
    folded = moments.fold(m, np.array([0, 1, 3, 8]))
    np.testing.assert_array_equal(m, before)
    for column, (begin, end) in enumerate(((0, 1), (1, 3), (3, 8), (8, 12))):
        want = of([float(i) for i in range(begin, end)], [i % 3 + 0.5 for i in range(begin, end)])
        np.testing.assert_allclose(folded[: moments.W_LOW, column], want[: moments.W_LOW, 0], rtol=1e-14, atol=1e-13)
