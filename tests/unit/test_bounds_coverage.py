"""The bounds of the RMSE cover the true one as often as the contract says: 95 % and more but for very heavy tails."""

from __future__ import annotations

import numpy as np
import pytest

from msemon.core import moments
from msemon.core.moments import Errors
from msemon.events import Floats

N = 20
WINDOWS = 100_000
# The contract's figures have two digits (± 0.005), and four standard deviations of the Monte Carlo at t3, where it is
# widest, are 4 · √(0.85 · 0.15 / 100,000) = 0.0045.
MARGIN = 0.005 + 0.0045


def bounds(errors: Floats) -> tuple[Floats, Floats]:
    pairs = Errors.of_scalars(errors, np.zeros(errors.size), np.ones(errors.size))
    return moments.rmse_bounds(moments.reduce(pairs, np.arange(errors.size), np.arange(0, errors.size, N)))


@pytest.mark.parametrize(
    ("name", "true_mse", "covered"), [("gaussian", 1.0, 0.98), ("t5", 5 / 3, 0.95), ("t3", 3.0, 0.85)]
)
def test_bounds_cover_the_true_rmse_at_twenty_pairs(name: str, true_mse: float, covered: float) -> None:
    """Over 100,000 simulated windows of 20 pairs the true RMSE lies between the bounds as often as promised."""
    rng = np.random.default_rng(20)
    size = N * WINDOWS
    draws = rng.standard_normal(size) if name == "gaussian" else rng.standard_t(int(name[1:]), size)
    lower, upper = bounds(draws)
    share = float(np.mean((lower <= true_mse**0.5) & (true_mse**0.5 <= upper)))
    assert abs(share - covered) < MARGIN, share
