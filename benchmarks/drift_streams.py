"""Simulated streams of errors: distributions, autocorrelation, cycles; what a simulation is of."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from msemon.events import Floats

RHO = 1.1
RINGS = ((5, 60), (60, 60), (1440, 60))
"""Seconds of a pane, and panes, of the windows 5m, 1h and 24h."""
YEAR_S = 365 * 86_400.0
Draw = Callable[[np.random.Generator, tuple[int, int]], Floats]
"""Errors (streams, pairs) with a mean square of 1."""


def _scaled(draw: Draw, mean_square: float) -> Draw:
    root = math.sqrt(mean_square)
    return lambda rng, shape: draw(rng, shape) / root


def _outliers(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return rng.standard_normal(shape) * np.where(rng.random(shape) < 0.01, 10.0, 1.0)


STREAMS: dict[str, Draw] = {
    "Gaussian": lambda rng, shape: rng.standard_normal(shape),
    "Student-t5": _scaled(lambda rng, shape: rng.standard_t(5, shape), 5 / 3),
    "Student-t3": _scaled(lambda rng, shape: rng.standard_t(3, shape), 3.0),
    "Laplace": _scaled(lambda rng, shape: rng.laplace(size=shape), 2.0),
    "lognormal": _scaled(lambda rng, shape: rng.lognormal(size=shape), math.exp(2.0)),
    "1 % outliers": _scaled(_outliers, 0.99 + 0.01 * 100),
}


@dataclass
class Autoregressive:
    """AR(1) errors of variance 1, going on from call to call."""

    phi: float
    last: Floats | None = None

    def __call__(self, rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
        noise = rng.standard_normal(shape) * math.sqrt(1.0 - self.phi**2)
        last = rng.standard_normal(shape[0]) if self.last is None else self.last
        for j in range(shape[1]):
            last = self.phi * last + noise[:, j]
            noise[:, j] = last
        self.last = last
        return noise


@dataclass(frozen=True)
class Case:
    """One simulation of false alarms."""

    name: str
    draw: Callable[[], Draw]
    rate: float = 10.0  # pairs a second and stream
    scale: float = 1.0
    level: float = 1.0  # the MSE, of the baseline's
    cycle: float = 0.0  # amplitude of a daily cycle of the MSE
    tide: float = 0.0  # the same of the traffic; below 0: there is the least when errors are largest
    tasks: int = 1
    learn: int = 0  # pairs to learn a baseline from; 0: it is given
    learn_s: int = 0
    weighted: bool = False
    outputs: int = 1
    late: float = 0.0  # share of pairs that come 30 to 600 s late
    family: int = 1
    between_s: float = 21_600.0  # T
    hours: float = 12.0  # simulated, a stream
    streams: int = 400
    rings: Sequence[tuple[int, int]] = RINGS
    step_s: int = 1


class Pairs:
    """Squared errors and weights, second by second."""

    def __init__(self, case: Case, seed: int) -> None:
        self.case = case
        self.rng = np.random.default_rng(seed)
        self.draw = case.draw()
        self.owed = 0.0

    def next(self, now_s: int) -> tuple[Floats, Floats]:
        """(q, w), (B, m) each, of one step; m whole pairs in turn, a random number of them where there are few."""
        case = self.case
        time_of_day = -math.cos(2 * math.pi * now_s / 86_400)  # it begins at the best hour
        traffic = 1.0 + case.tide * time_of_day
        self.owed += case.rate * traffic * case.step_s
        m = int(self.owed)
        self.owed -= m
        shape = case.streams, m * case.outputs
        e = self.draw(self.rng, shape) * case.scale
        q = (e * e).reshape(case.streams, m, case.outputs).mean(axis=2) * case.level
        q *= 1.0 + case.cycle * time_of_day
        w = self.rng.exponential(size=q.shape) if case.weighted else np.ones(q.shape)
        return q, w


def fixed(draw: Draw) -> Callable[[], Draw]:
    return lambda: draw


GAUSS = fixed(STREAMS["Gaussian"])
