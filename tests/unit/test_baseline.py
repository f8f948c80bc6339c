"""Learning a baseline: when it begins and ends, what it takes, and how it tells errors that hang together."""

from __future__ import annotations

import math

import numpy as np
import pytest

from msemon.core import baseline
from msemon.core.baseline import Baseline, Entries, Learner, Learning
from msemon.core.moments import Errors
from msemon.core.panes import grouped
from msemon.events import Floats, Ints

HOUR = 3_600_000_000
AT_ONCE = Learning(pairs=200, after_us=0, time_us=0, tolerated_ratio=1.1)


def entries_of(sids: Ints, times: Ints, errors: Floats, weights: Floats | None = None) -> Entries:
    zeros = np.zeros(errors.size)
    order, starts = grouped(zeros.astype(np.int64), sids)
    columns = Errors.of_scalars(errors, zeros, zeros + 1 if weights is None else weights)
    return Entries(sids[order[starts]], starts, order, times, columns)


def learn(
    learner: Learner, times: Ints, errors: Floats, weights: Floats | None = None, sids: Ints | None = None
) -> tuple[list[int], dict[int, Baseline]]:
    if sids is None:
        sids = np.zeros(times.size, np.int64)
    after, done = learner.learn(entries_of(sids, times, errors, weights))
    return after.tolist(), done


def seconds(n: int, begin: float = 1e6) -> Ints:
    return ((begin + np.arange(n)) * 1_000_000).astype(np.int64)


def test_a_baseline_is_learnt_from_its_share_of_pairs() -> None:
    """Complete with the last pair of the share; the pairs after it are handed back."""
    errors = np.random.default_rng(0).normal(size=250)
    after, done = learn(Learner(AT_ONCE), seconds(250), errors)
    assert after == [50]
    q = errors[:200] ** 2
    got = done[0]
    assert got.mse == pytest.approx(q.mean())
    se = q.std() / math.sqrt(199)
    assert got.upper_mse == pytest.approx(q.mean() * math.exp(2.33 * se / q.mean() * math.sqrt(1 + 6 / math.sqrt(200))))
    assert (got.pairs, got.mean_weight, got.stake) == (200, 1.0, 1.0)


def test_learning_waits_for_slow_labels_and_lasts_its_time() -> None:
    """Nothing counts before learn_after from the first pair on, and it is over after learn_time, not before."""
    learner = Learner(Learning(pairs=200, after_us=1000_000_000, time_us=500_000_000, tolerated_ratio=1.1))
    errors = np.where(np.arange(3000) < 1000, 9.0, np.where(np.arange(3000) % 2, 1.0, 2.0))
    after, done = learn(learner, seconds(3000), errors)
    assert done[0].pairs == 501
    assert after == [3000 - 1501]
    assert done[0].mse == pytest.approx(2.5, rel=0.01)


def test_a_slow_series_learns_until_it_has_its_share() -> None:
    """Time alone is not enough."""
    learner = Learner(AT_ONCE)
    assert learn(learner, seconds(199), np.ones(199))[1] == {}
    assert learner.counted(np.array([0, 5])).tolist() == [199, 0]
    assert list(learn(learner, seconds(1, 2e6), np.ones(1))[1]) == [0]


@pytest.mark.parametrize("size", [1, 7, 100, 1999])
def test_batches_make_no_difference(size: int) -> None:
    """However the log is cut, the same baselines come out after the same pairs, over hours and interleaved series."""
    rng = np.random.default_rng(4)
    n = 2000
    errors, sids, weights = rng.normal(size=n), rng.integers(0, 3, n), rng.integers(0, 3, n).astype(float)
    times = seconds(n) * 7 + rng.integers(-900, 900, n) * 1_000_000
    learning = Learning(pairs=300, after_us=HOUR // 10, time_us=HOUR, tolerated_ratio=1.1)

    def run(size: int) -> dict[int, tuple[int, Baseline]]:
        learner, seen = Learner(learning), np.zeros(3, np.int64)
        out: dict[int, tuple[int, Baseline]] = {}
        for begin in range(0, n, size):
            part = slice(begin, begin + size)
            open_ = ~np.isin(sids[part], list(out))
            if not open_.any():
                continue
            batch = entries_of(sids[part][open_], times[part][open_], errors[part][open_], weights[part][open_])
            after, done = learner.learn(batch)
            np.add.at(seen, batch.sids, batch.lengths - after)
            out |= {sid: (int(seen[sid]), each) for sid, each in done.items()}
        return out

    whole, cut = run(n), run(size)
    assert len(whole) == 3
    assert {sid: seen for sid, (seen, _) in cut.items()} == {sid: seen for sid, (seen, _) in whole.items()}
    for sid, (_, got) in cut.items():
        want = whole[sid][1]
        assert (got.mse, got.upper_mse, got.mean_weight, got.stake, got.pairs) == pytest.approx(
            (want.mse, want.upper_mse, want.mean_weight, want.stake, want.pairs), rel=1e-9
        )


def test_the_worst_hour_counts() -> None:
    """Of hours with 200 pairs, that of the largest MSE; a worse one with fewer does not."""
    learner = Learner(Learning(pairs=700, after_us=0, time_us=0, tolerated_ratio=1.1))
    hours = np.repeat([0, 1, 2, 3], [250, 250, 150, 250])
    times = hours * HOUR + np.arange(900) * 1_000_000 + 500 * HOUR
    errors = np.repeat([1.0, 2.0, 2.5, 1.5], [250, 250, 150, 250])
    _, done = learn(learner, times, errors)
    assert (done[0].mse, done[0].pairs) == (4.0, 700)
    mean = (250 + 1000 + 150 * 6.25 + 50 * 2.25) / 700
    errors[250:500] = 1.0
    assert learn(Learner(learner.learning), times, errors)[1][0].mse == pytest.approx(mean - 750 / 700)


def test_a_late_pair_counts_in_the_hour_in_which_it_comes() -> None:
    """Hours only go on, so a straggler does not end one."""
    times = np.full(300, 500 * HOUR)
    times[1::2] = 499 * HOUR
    times[0] = 498 * HOUR
    _, done = learn(Learner(Learning(300, 0, 0, 1.1)), times, np.where(np.arange(300) % 2, 1.0, 3.0))
    assert done[0].mse == 5.0  # were they apart, each hour would hold 150


def test_without_any_error_learning_goes_on() -> None:
    """From 0 no ratio can be measured."""
    learner = Learner(AT_ONCE)
    after, done = learn(learner, seconds(300), np.zeros(300))
    assert (after, done) == ([0], {})
    after, done = learn(learner, seconds(2), np.array([1.0, 1.0]))
    assert (after, done[0].pairs) == ([1], 301)


def test_errors_beyond_floats_are_learnt_anew() -> None:
    """An error whose square's square overflows makes no baseline, and does not stay."""
    learner = Learner(AT_ONCE)
    errors = np.ones(200)
    errors[3] = 1e120
    assert learn(learner, seconds(200), errors) == ([0], {})
    assert learner.counted(np.array([0])).tolist() == [0]
    assert learn(learner, seconds(200), np.ones(200))[1][0].mse == 1.0


def test_weights_count() -> None:
    """Pairs without weight are none; the mean weight and the weighted MSE are kept."""
    weights = np.tile([0.0, 1.0, 3.0], 100)
    _, done = learn(Learner(AT_ONCE), seconds(300), np.tile([9.0, 1.0, 2.0], 100), weights)
    assert (done[0].mse, done[0].mean_weight, done[0].pairs) == (13.0 / 4.0, 2.0, 200)


def autocorrelated(rng: np.random.Generator, n: int, phi: float) -> Floats:
    noise = rng.normal(size=n) * math.sqrt(1 - phi * phi)
    out = np.empty(n)
    out[0] = rng.normal()
    for i in range(1, n):
        out[i] = phi * out[i - 1] + noise[i]
    return out


def test_errors_that_hang_together_lower_the_stake() -> None:
    """VIF of squares of AR(1) with φ = 0.9 is (1 + φ²)/(1 − φ²) = 9.5; independent errors keep the whole stake."""
    rng = np.random.default_rng(5)
    learning = Learning(pairs=20_000, after_us=0, time_us=0, tolerated_ratio=1.1)
    _, done = learn(Learner(learning), seconds(20_000) // 100, autocorrelated(rng, 20_000, 0.9))
    want = 1.1 * 0.1 / (2.0 * 8.5) / 0.4
    assert done[0].stake == pytest.approx(want, rel=0.5)
    _, done = learn(Learner(learning), seconds(20_000) // 100, rng.normal(size=20_000))
    assert done[0].stake == 1.0


def test_a_task_that_sees_each_twelfth_pair_lowers_the_stake_alike() -> None:
    """φ = 0.7 has a VIF of 2.9; 12 tasks with 3,000 pairs each all see that, and none of them in independent errors
    that it would matter for. Neither scale nor weights that come with large errors make a difference.
    """
    rng = np.random.default_rng(6)
    learning = Learning(pairs=2_500, after_us=0, time_us=0, tolerated_ratio=1.1, tasks=12)
    sids = rng.integers(0, 12, 36_000)
    times = seconds(36_000) // 100
    together = autocorrelated(rng, 36_000, 0.7)

    def stakes(errors: Floats, weights: Floats | None = None) -> Floats:
        _, done = learn(Learner(learning), times, errors, weights, sids)
        return np.array([done[sid].stake for sid in range(12)])

    want = 1.1 * 0.1 / (2.0 * 1.92) / 0.4
    found = stakes(together)
    assert found.max() < 3.0 * want
    assert found.mean() == pytest.approx(want, rel=0.4)
    assert stakes(together * 1e-6) == pytest.approx(found, rel=1e-6)
    assert stakes(together * 1e6) == pytest.approx(found, rel=1e-6)
    apart = rng.normal(size=36_000)
    assert (stakes(apart) == 1.0).sum() >= 9
    assert (stakes(apart, 0.1 + np.abs(apart)) == 1.0).sum() >= 9


def test_a_stake_is_lowered_for_the_excess_over_all_tasks() -> None:
    """ρ(ρ − 1) / (cv²·(VIF − 1)) for the largest λ."""
    assert baseline.stake(np.array([1.0, 2.0, 1.01]), np.array([1.4, 1.4, 1.4]), 1.1) == pytest.approx(
        [1.0, 0.11 / 1.96 / 0.4, 1.0]
    )


def test_a_task_s_share_has_a_floor() -> None:
    """5,000 pairs over 12 tasks are 417 each; over 100 they are still 200."""
    assert [Learning.share(5000, tasks) for tasks in (0, 1, 12, 100)] == [5000, 5000, 417, 200]
