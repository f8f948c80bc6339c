"""Mergeable moments of the error: the arithmetic under every window, counter and bound.

A *moments* array is float64 of shape (FIELDS, k): one accumulator a column, its statistics in the rows named below.
Accumulators are only ever merged, never subtracted from, so what has left a window leaves no rounding behind.

    >>> import numpy as np
    >>> def total(*errors):
    ...     zeros = np.zeros(len(errors))
    ...     pairs = Errors.of_scalars(np.array(errors), zeros, zeros + 1)
    ...     return float(squared_error(reduce(pairs, np.arange(len(errors)), np.array([0])))[0])
    >>> total(10.0), total(5.0, 5.0)  # one error of 10 weighs twice as much as two errors of 5
    (100.0, 50.0)

Sources:
- Welford 1962, "Note on a method for calculating corrected sums of squares and products": updating a mean and M2;
- West 1979, "Updating mean and variance estimates: an improved method": the same with weights;
- Chan, Golub, LeVeque 1983, "Algorithms for computing the sample variance": two passes, and merging two samples;
- Pébay 2008, "Formulas for robust, one-pass parallel computation of covariances and arbitrary-order moments";
- Schubert & Gertz 2018, "Numerically stable parallel computation of (co-)variance": where the textbook forms cancel.

Domain: predictions, labels and weights up to 1e75 in size. M2_Q can overflow there and is then infinite; whatever is
evaluated from it is absent. Squares of errors below 1e-150 lose digits to underflow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from msemon.events import Floats

Index = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

N = 0  # pairs, those of weight zero too; every other row leaves them out
W = 1  # Σw
W2 = 2  # Σw²
MEAN_Q = 3  # Σw·q / Σw, the MSE
M2_Q = 4  # Σw·(q − MEAN_Q)²
MEAN_E = 5
MEAN_A = 6
MEAN_Y = 7  # of the label; NaN once a vector pair is in
M2_Y = 8  # Σw·(y − MEAN_Y)²; NaN with MEAN_Y
MAX_A = 9
W_LOW = 10  # what rounding took from W (W + W_LOW is Σw): without it a million merges of weight 0.1 are 1e-11 off
FIELDS = 11

_ENOUGH = 7.0 * (1.0 - 1e-9)  # of n_eff, for bounds; seven equal weights may round to a hair below 7
_Z = 1.96


@dataclass(slots=True)
class Errors:
    """n pairs in columns, float64 (n,) each. For a vector pair all but y, w and max_a are means over its outputs."""

    q: Floats  # squared error
    e: Floats  # prediction − label
    a: Floats  # |e|
    over: Floats  # max(e, 0)
    under: Floats  # max(−e, 0)
    max_a: Floats  # the largest |e| over the outputs
    y: Floats  # label; NaN for a vector
    w: Floats  # weight, at least 0

    @staticmethod
    def of_scalars(prediction: Floats, label: Floats, weight: Floats) -> Errors:
        """Columns of n pairs (n,); rows that are NaN here because they are vectors await `set_vector`."""
        e = prediction - label
        a = np.abs(e)
        return Errors(e * e, e, a, np.maximum(e, 0.0), np.maximum(-e, 0.0), a.copy(), label.copy(), weight.copy())

    def set_vector(self, i: int, prediction: Floats, label: Floats) -> None:
        """Make pair i the vector pair of two equally long, non-empty arrays; its weight stays."""
        e = prediction - label
        a = np.abs(e)
        self.q[i] = np.mean(e * e)
        self.e[i] = np.mean(e)
        self.a[i] = np.mean(a)
        self.over[i] = np.mean(np.maximum(e, 0.0))
        self.under[i] = np.mean(np.maximum(-e, 0.0))
        self.max_a[i] = np.max(a)
        self.y[i] = np.nan


def empty(k: int) -> Floats:
    """Moments (FIELDS, k) without a pair."""
    return np.zeros((FIELDS, k))


def reduce(errors: Errors, order: Index, starts: Index) -> Floats:
    """Moments (FIELDS, g) of g groups of pairs: group j is the run of `order` that begins at starts[j].

    `order` holds positions in `errors`, repeats allowed; `starts` ascends strictly from 0. Two passes over the data
    (Chan, Golub, LeVeque 1983), both vectorised over all groups; numpy adds each run pairwise.
    """
    m = empty(starts.size)
    if not starts.size:
        return m
    lengths = np.diff(starts, append=order.size)
    w = errors.w[order]
    m[N] = lengths
    m[W] = np.add.reduceat(w, starts)
    m[W2] = np.add.reduceat(w * w, starts)
    heaviest = _heaviest(w, starts, lengths)
    with np.errstate(over="ignore", invalid="ignore"):
        q, y = errors.q[order], _counted(errors.y[order], w)
        shift, m[M2_Q] = _about_pivot(q, w, heaviest, m[W], starts, lengths)
        # Summed directly, for q ≥ 0 then keeps every relative digit; from the pivot where that is exact (all equal).
        m[MEAN_Q] = np.where(shift == 0.0, q[heaviest], _mean(q * w, m[W], starts))
        m[MEAN_E] = _mean(errors.e[order] * w, m[W], starts)
        m[MEAN_A] = _mean(errors.a[order] * w, m[W], starts)
        shift, m[M2_Y] = _about_pivot(y, w, heaviest, m[W], starts, lengths)
        m[MEAN_Y] = y[heaviest] + shift
    m[MAX_A] = np.maximum.reduceat(np.where(w > 0.0, errors.max_a[order], 0.0), starts)
    m[MEAN_Q:MAX_A, m[W] == 0.0] = 0.0
    return m


def _heaviest(w: Floats, starts: Index, lengths: Index) -> Index:
    """Of each group the first pair of the largest weight: a pivot that lies within √n spreads of the mean."""
    if w.min() == w.max():
        return starts
    top = np.repeat(np.maximum.reduceat(w, starts), lengths)
    places = np.where(w == top, np.arange(w.size), w.size)
    return np.minimum.reduceat(places, starts)


def _counted(y: Floats, w: Floats) -> Floats:
    """Labels with 0 where the weight is zero, so that an uncounted vector's NaN does not spread."""
    return np.where(w > 0.0, y, 0.0)


def _mean(products: Floats, weights: Floats, starts: Index) -> Floats:
    """Σ products / weights a group; 0 where the weight is 0."""
    return np.divide(np.add.reduceat(products, starts), weights, out=np.zeros(starts.size), where=weights > 0.0)


def _about_pivot(
    x: Floats, w: Floats, pivots: Index, weights: Floats, starts: Index, lengths: Index
) -> tuple[Floats, Floats]:
    """(mean − pivot, M2) a group. Differences from one of its own values make both exactly 0 for equal values."""
    away = x - np.repeat(x[pivots], lengths)
    shift = _mean(away * w, weights, starts)
    away -= np.repeat(shift, lengths)
    return shift, np.add.reduceat(away * away * w, starts)


def merge(a: Floats, b: Floats) -> Floats:
    """Moments (FIELDS, k) of the union of columns a[:, j] and b[:, j]; either may be empty.

    Chan, Golub, LeVeque 1983 and Pébay 2008, but each mean starts from the *heavier* side: mean_a + d·w_b/w cancels
    where a is large and light, and costs the relative precision of the MSE.
    """
    out = np.empty_like(a)
    out[N] = a[N] + b[N]
    out[W2] = a[W2] + b[W2]
    out[W], out[W_LOW] = _sum_of_weights(a, b)
    inverse = np.divide(1.0, out[W], out=np.zeros(a.shape[1]), where=out[W] > 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        from_b = b[W] > a[W]
        pull = np.where(from_b, -a[W], b[W]) * inverse
        d = b[MEAN_Q:MAX_A] - a[MEAN_Q:MAX_A]  # the rows of M2 ride along and are overwritten: one slice, not four
        heavier = np.where(from_b, b[MEAN_Q:MAX_A], a[MEAN_Q:MAX_A]) if from_b.any() else a[MEAN_Q:MAX_A]
        np.add(heavier, d * pull, out=out[MEAN_Q:MAX_A])
        between = a[W] * (b[W] * inverse)
        for mean, m2 in ((MEAN_Q, M2_Q), (MEAN_Y, M2_Y)):
            dx = d[mean - MEAN_Q]
            out[m2] = a[m2] + b[m2] + dx * dx * between
    np.maximum(a[MAX_A], b[MAX_A], out=out[MAX_A])
    return out


def _sum_of_weights(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Σw of both sides as high and low part: Knuth's two-sum, so that many small merges lose nothing."""
    high = a[W] + b[W]
    back = high - a[W]
    low = (a[W] - (high - back)) + (b[W] - back) + (a[W_LOW] + b[W_LOW])
    total = high + low
    return total, low - (total - high)


def merge_at(target: Floats, columns: Index, source: Floats) -> None:
    """Merge source (FIELDS, k) into target[:, columns] in place; `columns` (k,) are distinct."""
    target[:, columns] = merge(target.take(columns, axis=1), source)


def fold(m: Floats, starts: Index) -> Floats:
    """Moments (FIELDS, g): each run of columns of `m` that begins at starts[j] merged into one, as a binary tree."""
    while m.shape[1] > starts.size:
        lengths = np.diff(starts, append=m.shape[1])
        rank = np.arange(m.shape[1]) - np.repeat(starts, lengths)
        left = np.flatnonzero(rank % 2 == 0)
        halves = (lengths + 1) // 2
        paired = np.flatnonzero(rank[left] + 1 < np.repeat(lengths, halves))
        right = m.take(left[paired] + 1, axis=1)
        m = m.take(left, axis=1)
        merge_at(m, paired, right)
        starts = np.cumsum(halves) - halves
    return m


# Evaluation: every function takes moments (FIELDS, k) and returns (k,), NaN where the contract says absent.


def _present(m: Floats, values: Floats) -> Floats:
    """`values` where the window has weight and they are finite, else NaN."""
    return np.where((m[W] > 0.0) & np.isfinite(values), values, np.nan)


def pairs(m: Floats) -> Floats:
    """n, those of weight zero included."""
    return _present(m, m[N])


def weight(m: Floats) -> Floats:
    """Σw."""
    return _present(m, m[W])


def squared_error(m: Floats) -> Floats:
    """Σw·q."""
    return _present(m, m[W] * m[MEAN_Q])


def absolute_error(m: Floats) -> Floats:
    """Σw·|e|."""
    return _present(m, m[W] * m[MEAN_A])


def error(m: Floats) -> Floats:
    """Σw·e."""
    return _present(m, m[W] * m[MEAN_E])


def mse(m: Floats) -> Floats:
    """Σw·q / Σw, in squared units of the label."""
    return _present(m, m[MEAN_Q])


def rmse(m: Floats) -> Floats:
    """√MSE, in the label's unit."""
    return np.sqrt(mse(m))


def mae(m: Floats) -> Floats:
    """Σw·|e| / Σw."""
    return _present(m, m[MEAN_A])


def bias(m: Floats) -> Floats:
    """Σw·e / Σw: above 0 where the model predicts too much."""
    return _present(m, m[MEAN_E])


def max_absolute_error(m: Floats) -> Floats:
    """The largest |e| of any pair with weight."""
    return _present(m, m[MAX_A])


def r2(m: Floats) -> Floats:
    """1 − MSE / Var(label) with Var = M2_Y / Σw; absent for n < 2, for labels that do not vary, and with vectors."""
    with np.errstate(all="ignore"):
        values = 1.0 - m[MEAN_Q] / (m[M2_Y] / m[W])
    return _present(m, np.where(m[M2_Y] > 0.0, values, np.nan))  # n < 2 never varies: M2_Y is exactly 0


def effective_pairs(m: Floats) -> Floats:
    """n_eff = (Σw)² / Σw² (Kish): how many equal weights would be worth the same."""
    with np.errstate(all="ignore"):
        return _present(m, m[W] * m[W] / m[W2])


def standard_error(m: Floats) -> Floats:
    """Standard error of the MSE, √(M2_Q / Σw / (n_eff − 1)); absent below n_eff 7."""
    n_eff = effective_pairs(m)
    with np.errstate(all="ignore"):
        values = np.sqrt(m[M2_Q] / m[W] / (n_eff - 1.0))
    return _present(m, np.where(n_eff >= _ENOUGH, values, np.nan))


def rmse_bounds(m: Floats) -> tuple[Floats, Floats]:
    """(lower, upper) 95 % bounds of the RMSE, the roots of MSE · exp(±1.96 · (SE/MSE) · √(1 + 6/√n_eff)).

    Normal on the scale of log MSE, where the sampling distribution of a mean of squares is nearer to symmetric, and
    widened at small n_eff: plain normal or Student bounds cover 0.8 to 0.9 at n = 20, these 0.98 (Gaussian errors) and
    0.95 (Student-t5). Absent where the standard error is; equal to the RMSE where that is 0.
    """
    root, se = rmse(m), standard_error(m)
    with np.errstate(all="ignore"):
        relative = np.where(se == 0.0, 0.0, se / m[MEAN_Q])
        half = 0.5 * _Z * relative * np.sqrt(1.0 + 6.0 / np.sqrt(effective_pairs(m)))
        return _present(m, root * np.exp(-half)), _present(m, root * np.exp(half))
