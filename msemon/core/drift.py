"""The drift detector: arithmetic over panes, without state.

*Null*: E[q | past] ≤ ρ·m₀ for squared errors q, m₀ the baseline's upper bound and ρ the tolerated ratio. A gambler who
stakes the share λ of his money on "q is larger" multiplies it with each pair by

    1 + λ·u·(q / (ρ·m₀) − 1),    u = min(w / w̄, 2),

which is never negative and under the null has mean 1 at most, whatever the distribution of q: heavy tails included. So
a gambler who gets rich has seen drift. One enters, with Δ units of money, at the beginning of each pane of Δ seconds
that has pairs; all of them together are worth R. Under the null R minus the time that has passed is a supermartingale,
so R reaches T no sooner than after T seconds in the mean.

The log of money won in a pane is a *pane sum*, one for each λ, and adds up over batches, tasks and panes; so R is a
function of the panes: recomputed whenever it is wanted, over late pairs, restarts and changes of owner alike.

    >>> q = np.array([1.0, 1.0, 9.0, 9.0, 9.0])
    >>> won = bets(q, np.ones(5), reference=np.full(5, 1.1), stake=np.ones(5))
    >>> won.shape, bool((won[:, :2] < 0).all()), bool((won[:, 2:] > 0).all())
    ((5, 5), True, True)

Sources:
- Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting": the factors;
- Shin, Ramdas & Rinaldo 2024, "E-detectors: a nonparametric framework for sequential change detection": their sum over
  starts, and the mean time to a false alarm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from msemon.core import moments
from msemon.events import Floats

Sums = npt.NDArray[np.float32]
"""(K, k): pane sums of k series, or logs of what the gamblers own."""

STAKES = np.array([0.02, 0.05, 0.1, 0.2, 0.4], np.float32)
"""λ: small ones find small drift after many pairs, large ones large drift at once."""
K = len(STAKES)

MOST_WEIGHT = 2.0  # of u: with the largest λ, 1 − λ·u stays well above 0
_LARGEST = 1e30  # of q / (ρ·m₀): fits float32, and lowering a factor never breaks the null
_NOTHING = np.float32(-np.inf)


def bets(q: Floats, u: Floats, reference: Floats, stake: Floats) -> Sums:
    """Log of each pair's factors (K, n): what it adds to the sums of its pane.

    q (n,) squared error, u (n,) the weight relative to the baseline's mean, reference (n,) ρ·m₀ > 0, stake (n,) in
    (0, 1] scales all λ. In float32: a factor's log is off by 6e-8 in either direction, a hundred-thousandth of what the
    smallest stake makes of an ordinary pair, and float32 logs cost a third.
    """
    with np.errstate(over="ignore"):
        gain = np.minimum(q / reference, _LARGEST) - 1.0
    gain *= np.minimum(u, MOST_WEIGHT) * stake
    out = np.multiply.outer(STAKES, gain.astype(np.float32))
    out += np.float32(1.0)
    return np.log(out, out=out)


def no_money(k: int) -> Sums:
    """What the gamblers of k series own before the first pane: (K, k)."""
    return np.full((K, k), _NOTHING)


def after_pane(owned: Sums, sums: Sums, seconds: float) -> Sums:
    """Log of what all gamblers own (K, k) after one more pane of that many seconds, given what they owned before it.

    (owned + Δ) · exp(sums), in logs, for whoever enters with the pane wins and loses in it too. Only for series that
    have pairs in the pane: an empty pane is no start, or silence would alarm one day.
    """
    entry = np.float32(np.log(seconds))
    more = np.exp(-np.abs(owned - entry))
    more += np.float32(1.0)
    np.log(more, out=more)
    more += np.maximum(owned, entry)
    more += sums
    out: Sums = more
    return out


def has_pairs(sums: Sums) -> npt.NDArray[np.bool_]:
    """(k,): whether any bet was made. A row that was made and not used, or holds weightless pairs, is all zero."""
    return np.asarray(sums.any(axis=0))


def evidence(rings: Sequence[Sums]) -> Floats:
    """The log of R (k,), the mean over rings and λ of what is owned, in seconds; at least 0, so that it is finite."""
    logs = np.concatenate(rings).astype(np.float64)
    top = np.maximum(logs.max(axis=0), 0.0)
    some = np.maximum(np.exp(logs - top).mean(axis=0), np.finfo(float).tiny)
    return np.asarray(np.maximum(top + np.log(some), 0.0))


def threshold(between_false_alarms_s: float, detectors: Floats) -> Floats:
    """The log of T·N (k,), where evidence alarms; N detectors together then raise a false alarm in T seconds or rarer.

    For Σ Rᵢ / N is such a sum of gamblers too, whatever the detectors have in common, and passes T with the first Rᵢ
    that passes T·N.
    """
    return np.log(between_false_alarms_s * np.maximum(detectors, 1.0))


def likeliest_start(sums: Sums) -> tuple[int, float]:
    """(pane, ln): from the beginning of which pane the luckiest stake won most up to the end, and how much.

    sums (K, p): one series' panes with pairs, oldest first, p > 0.
    """
    since = np.cumsum(sums[:, ::-1].astype(np.float64), axis=1)[:, ::-1].max(axis=0)
    best = int(since.argmax())
    return best, float(since[best])


# Recovery: from the alarm on, panes merge into a block until it can be told whether the error is back.

FIRST_LOOK = 32.0
"""n_eff at which a block is first judged, at least; then whenever it has grown by the factor GROWTH."""
GROWTH = 2.0**0.25
GOOD_BLOCKS = 2
"""So many in a row end the alarm."""


def boundary(upper_mse: Floats, since: Floats, tolerated_ratio: float) -> Floats:
    """The MSE that parts good blocks from bad ones: max(√(ρ·m₀·mₐ), ρ^1.5·m₀).

    mₐ is the MSE in drift by `since`, the moments (FIELDS, k) from the likeliest start to the alarm, so that what
    counts as back is half way in the log. What alarms had bad luck too, most of all with one outlier; at its word the
    boundary could lie above the drift. So mₐ is without the largest error, and half a standard error below that.
    """
    n, mean = since[moments.N], since[moments.MEAN_Q]
    with np.errstate(all="ignore"):
        others = (mean * n - since[moments.MAX_A] ** 2) / (n - 1.0)
        unsure = np.nan_to_num(moments.standard_error(since) / mean)
        halfway = np.sqrt(tolerated_ratio * upper_mse) * np.sqrt(np.maximum(others, 0.0) * np.exp(-0.5 * unsure))
    return np.asarray(np.fmax(halfway, tolerated_ratio**1.5 * upper_mse))


def first_look(since: Floats) -> Floats:
    """n_eff (k,) at which blocks are first judged, given the moments (FIELDS, k) from the likeliest start to the alarm.

    FIRST_LOOK for Gaussian errors, whose cv² = Var(q)/MSE² is 2, and in proportion more for heavier tails: a short
    block without one of their outliers looks well, and its own bounds can't know better. At least an eighth of the
    pairs up to the alarm: what is hard to tell from no drift is as hard to tell when it is over.
    """
    with np.errstate(all="ignore"):
        square = since[moments.M2_Q] / since[moments.W] / since[moments.MEAN_Q] ** 2
    tails = np.maximum(np.nan_to_num(square / 2.0, nan=1.0, posinf=1.0), 1.0)
    return np.asarray(np.fmax(FIRST_LOOK * tails, moments.effective_pairs(since) / 8.0))


@dataclass(slots=True)
class Verdicts:
    """What a look at k blocks said; where neither good nor bad, the block grows."""

    good: npt.NDArray[np.bool_]
    bad: npt.NDArray[np.bool_]
    due: Floats  # n_eff at which to look again, that of the first look for the new block after a good or bad one


def judge(block: Floats, limit: Floats, due: Floats, first: Floats | float = FIRST_LOOK) -> Verdicts:
    """Look at blocks of moments (FIELDS, k) where their n_eff has reached `due` (k,).

    limit and first (k,) as from `boundary` and `first_look`.

    Good: the upper 95 % bound of the MSE is below the limit. Bad: the lower one is above it.
    """
    n_eff = np.nan_to_num(moments.effective_pairs(block))
    seen = n_eff >= due * (1.0 - 1e-9)
    lower, upper = moments.rmse_bounds(block)
    root = np.sqrt(limit)
    good, bad = seen & (upper < root), seen & (lower > root)
    with np.errstate(divide="ignore"):
        steps = np.floor(np.log(np.maximum(n_eff, due) / first * (1.0 + 1e-9)) / np.log(GROWTH)) + 1.0
    again = np.where(seen, first * GROWTH**steps, due)
    return Verdicts(good, bad, np.where(good | bad, first, again))
