"""The drift detector's arithmetic: bets, what gamblers own over panes, thresholds, recovery."""

from __future__ import annotations

import math

import numpy as np
import pytest

from msemon.core import drift, moments
from msemon.core.drift import STAKES, K
from msemon.core.moments import Errors
from msemon.events import Floats


def bet(q: list[float], u: float = 1.0, reference: float = 1.0, stake: float = 1.0) -> Floats:
    n = np.ones(len(q))
    return drift.bets(np.array(q, float), n * u, n * reference, n * stake).astype(np.float64)


def block_of(errors: list[float]) -> Floats:
    zeros = np.zeros(len(errors))
    pairs = Errors.of_scalars(np.array(errors, float), zeros, zeros + 1)
    return moments.reduce(pairs, np.arange(len(errors)), np.array([0]))


def test_a_bet_is_the_log_of_the_factor() -> None:
    """1 + λ·u·(q/(ρ·m₀) − 1), with λ scaled by the stake."""
    got = bet([3.0, 0.0, 2.0], u=1.5, reference=2.0, stake=0.5)
    want = [[math.log(1 + 0.5 * lam * 1.5 * (q / 2.0 - 1)) for q in (3.0, 0.0, 2.0)] for lam in STAKES.tolist()]
    assert got == pytest.approx(np.array(want), abs=2e-7)


def test_no_error_and_no_weight_ruins_or_breaks_a_gambler() -> None:
    """Factors stay above 0 at the largest weight, and finite at the largest error."""
    assert (bet([0.0], u=1e9) == bet([0.0], u=2.0)).all()
    assert bet([0.0], u=2.0)[-1, 0] == pytest.approx(math.log(0.2), rel=1e-6)
    huge = bet([1e150], reference=1e-150)
    assert np.isfinite(huge).all()
    assert huge.min() > 60


def test_a_pair_without_weight_bets_nothing() -> None:
    """Its row of sums stays zero, and a pane of such pairs is empty."""
    sums = drift.bets(np.array([5.0]), np.zeros(1), np.ones(1), np.ones(1))
    assert not drift.has_pairs(sums).any()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_only_the_ratio_to_the_baseline_matters(scale: float) -> None:
    """The same errors in another unit win the same."""
    np.testing.assert_array_equal(bet([1.0, 4.0]), bet([scale**2, 4 * scale**2], reference=scale**2))


def test_money_after_panes_is_the_sum_over_starts() -> None:
    """after_pane, a pane at a time, agrees with Σ over starts of Δ·exp(sums from there on) computed plainly."""
    rng = np.random.default_rng(1)
    sums = rng.normal(0, 2, (7, K, 3)).astype(np.float32)
    owned = drift.no_money(3)
    for pane in sums:
        owned = drift.after_pane(owned, pane, 5.0)
    since = np.cumsum(sums[::-1].astype(float), axis=0)
    assert np.exp(owned.astype(float)) == pytest.approx((5.0 * np.exp(since)).sum(axis=0), rel=1e-4)


def test_money_neither_overflows_nor_forgets_to_enter_anew() -> None:
    """Logs of any size pass; after ruin the next pane's gamblers are there again."""
    owned = drift.after_pane(drift.no_money(1), np.full((K, 1), 1e6, np.float32), 1.0)
    assert owned == pytest.approx(1e6)
    owned = drift.after_pane(owned, np.full((K, 1), -3e6, np.float32), 1.0)
    owned = drift.after_pane(owned, np.zeros((K, 1), np.float32), 60.0)
    assert owned == pytest.approx(math.log(60.0))


def test_evidence_is_the_log_of_the_mean_over_rings_and_stakes() -> None:
    """Never below 0, never infinite; also where a ring has nothing, or all is beyond what exp() gives."""
    rings = [np.full((K, 2), np.float32(math.log(x))) for x in (30.0, 90.0)]
    assert drift.evidence(rings) == pytest.approx(math.log(60.0))
    assert drift.evidence([rings[0], drift.no_money(2)]) == pytest.approx(math.log(15.0))
    assert drift.evidence([drift.no_money(2)]).tolist() == [0.0, 0.0]
    one = np.full((K, 1), np.float32(5000.0))
    assert drift.evidence([one, drift.no_money(1)]) == pytest.approx(5000.0 - math.log(2))


def test_the_threshold_is_for_all_detectors_together() -> None:
    """ln(T·N); of no detector as of one."""
    assert drift.threshold(100.0, np.array([0.0, 1.0, 5.0])) == pytest.approx([math.log(x) for x in (100, 100, 500)])


def test_the_likeliest_start_is_where_the_drift_began() -> None:
    """The pane from which the luckiest stake won most."""
    rng = np.random.default_rng(2)
    sigma = np.repeat([1.0, 2.0], [20 * 50, 10 * 50])
    q = (rng.normal(size=sigma.size) * sigma) ** 2
    sums = drift.bets(q, np.ones(q.size), np.full(q.size, 1.1), np.ones(q.size)).reshape(K, 30, 50).sum(axis=2)
    start, won = drift.likeliest_start(sums)
    assert start == 20
    assert won == pytest.approx(float(sums[:, 20:].sum(axis=1).max()), rel=1e-5)


def test_the_boundary_of_recovery() -> None:
    """Half way, in the log, between tolerated and alarmed; but clearly above what is tolerated."""
    far, near = [2.0, -2.2] * 5_000, [0.9, -1.0] * 5_000
    since = np.concatenate([block_of(far), block_of(near)], axis=1)
    c = drift.boundary(np.array([1.0, 1.0]), since, 1.1)
    assert c == pytest.approx([math.sqrt(1.1 * 4.42), 1.1**1.5], rel=1e-3)


def test_one_outlier_does_not_raise_the_boundary() -> None:
    """What alarmed by a single error was at another level than its mean says; and what is unsure counts for less."""
    calm = [1.0, -2.0] * 50
    without, with_one = (drift.boundary(np.ones(1), block_of(e), 1.1)[0] for e in (calm, [*calm, 30.0]))
    assert without == pytest.approx(math.sqrt(1.1 * 2.5), rel=0.05)
    assert with_one < without
    assert drift.boundary(np.ones(1), block_of([30.0]), 1.1) == pytest.approx([1.1**1.5])


def test_the_first_look_is_later_for_heavy_tails_and_for_what_was_hard_to_see() -> None:
    """32 for Gaussian errors that alarm soon, in proportion to cv²; an eighth of the pairs up to the alarm."""
    rng = np.random.default_rng(4)
    gaussian, long = block_of(rng.normal(size=100).tolist()), block_of(rng.normal(size=4_000).tolist())
    tailed = block_of([1.0] * 99 + [30.0])
    cv2 = 0.99 * 0.01 * 899.0**2 / 9.99**2
    assert drift.first_look(np.concatenate([gaussian, long, tailed], axis=1)) == pytest.approx(
        [32.0, 500.0, 16.0 * cv2], rel=0.3
    )


def test_a_block_is_judged_now_and_then() -> None:
    """Below its due n_eff nothing is said; undecided it is looked at again when it has grown by a fifth."""
    calm = block_of([1.0, -1.1] * 15)
    verdicts = drift.judge(calm, np.array([4.0]), np.array([drift.FIRST_LOOK]))
    assert (bool(verdicts.good[0]), bool(verdicts.bad[0]), float(verdicts.due[0])) == (False, False, 32.0)
    rng = np.random.default_rng(3)
    unclear = block_of(rng.normal(size=100).tolist())
    verdicts = drift.judge(unclear, moments.mse(unclear), np.array([32.0]))
    assert (bool(verdicts.good[0]), bool(verdicts.bad[0])) == (False, False)
    assert float(verdicts.due[0]) == pytest.approx(32.0 * 2.0**1.75)
    verdicts = drift.judge(block_of(rng.normal(size=64).tolist()), np.array([1.0]), np.array([32.0]))
    assert float(verdicts.due[0]) == pytest.approx(64.0 * 2.0**0.25)


def test_a_clear_block_is_good_or_bad() -> None:
    """Either begins a new block at the first look."""
    block = np.concatenate([block_of([1.0, -1.1] * 16), block_of([3.0, -3.1] * 16), np.zeros((moments.FIELDS, 1))], 1)
    verdicts = drift.judge(block, np.full(3, 4.0), np.full(3, drift.FIRST_LOOK))
    assert verdicts.good.tolist() == [True, False, False]
    assert verdicts.bad.tolist() == [False, True, False]
    assert verdicts.due.tolist() == [32.0, 32.0, 32.0]
