"""The simulated models: what is true, and what each model says of it, wrong in its own scale."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from msemon.events import Floats

Value = float | list[float]


class Group(NamedTuple):
    """A segment value: its share of the events, and its errors' size relative to the others'."""

    share: float
    error: float


COUNTRIES: Mapping[str, Group] = {
    "DE": Group(0.35, 0.85),
    "FR": Group(0.25, 1.00),
    "IN": Group(0.20, 1.15),
    "US": Group(0.20, 1.05),
}
DEVICES: Mapping[str, Group] = {"desktop": Group(0.45, 0.95), "mobile": Group(0.55, 1.05)}
GROUPS: Mapping[str, Mapping[str, Group]] = {"country": COUNTRIES, "device": DEVICES}

OUTPUTS = 8
"""Outputs of `embedding`."""

_DIMENSIONS = 16
"""Of a simulated sentence's embedding."""

_GRADES = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
_GRADE_SHARES = np.array([0.20, 0.20, 0.25, 0.20, 0.15])


class Case(NamedTuple):
    """One thing to predict: the model's answer and the truth."""

    prediction: Value
    label: Value


@dataclass(frozen=True, slots=True)
class Model:
    """A simulated model. `draw(rng, rmse)` makes one case whose error has that root mean square."""

    name: str
    rate: float  # predictions per second
    rmse: float  # of all its events together, as long as nothing drifts
    segmented: bool  # whether its events carry country and device
    draw: Callable[[np.random.Generator, float], Case]


def price(rng: np.random.Generator, rmse: float) -> Case:
    """A numerical price around 200,000, with Gaussian errors."""
    label = 200_000.0 * math.exp(0.25 * rng.standard_normal())
    return Case(round(label + rmse * rng.standard_normal(), 2), round(label, 2))


def relevance(rng: np.random.Generator, rmse: float) -> Case:
    """How relevant a search result is to a query: judged in five grades from 0 to 1, predicted in between.

    Answers are cut at 0 and 1. At the outer grades that halves the mean squared error (exactly so while errors are
    small beside the 0.25 between grades), which the noise makes up for.
    """
    outer = _GRADE_SHARES[0] + _GRADE_SHARES[-1]
    noise = rmse / math.sqrt(1.0 - outer / 2.0)
    label = float(_GRADES[np.searchsorted(np.cumsum(_GRADE_SHARES)[:-1], rng.random(), side="right")])
    answer = label + noise * float(rng.standard_normal())
    return Case(round(min(1.0, max(0.0, answer)), 4), label)


def similarity(rng: np.random.Generator, rmse: float) -> Case:
    """The similarity of two sentences, 0 to 1: the cosine of their embeddings.

    The pair's true embeddings have a cosine of Beta(2, 2); the model sees each of them with noise. To first order the
    cosine c moves by s·√(2(1 − c²)) where every coordinate of the unit vectors moves by s, and E[1 − c²] = 0.7.
    """
    cosine = float(rng.beta(2.0, 2.0))
    first = _unit(rng.standard_normal(_DIMENSIONS))
    other = rng.standard_normal(_DIMENSIONS)
    across = _unit(other - (other @ first) * first)
    second = cosine * first + math.sqrt(1.0 - cosine * cosine) * across
    noise = rmse / math.sqrt(2.0 * 0.7) * rng.standard_normal((2, _DIMENSIONS))
    seen = float(_unit(first + noise[0]) @ _unit(second + noise[1]))
    return Case(round(min(1.0, max(0.0, seen)), 4), round(cosine, 4))


def embedding(rng: np.random.Generator, rmse: float) -> Case:
    """A vector of OUTPUTS numbers: an item's embedding, predicted from its text."""
    label = 0.35 * rng.standard_normal(OUTPUTS)
    prediction = label + rmse * rng.standard_normal(OUTPUTS)
    return Case(prediction.round(5).tolist(), label.round(5).tolist())


MODELS = (
    Model("price", 80.0, 15_000.0, True, price),
    Model("relevance", 60.0, 0.12, True, relevance),
    Model("similarity", 40.0, 0.06, False, similarity),
    Model("embedding", 20.0, 0.05, False, embedding),
)


def segment_rmse(model: Model, segment: Mapping[str, str]) -> float:
    """The RMSE designed for a segment, by the keys that are given, such that all of a model's have the model's."""
    parts = (GROUPS[key][value].error / _together(GROUPS[key]) for key, value in segment.items())
    return model.rmse * math.prod(parts)


def _together(groups: Mapping[str, Group]) -> float:
    """The root mean square of the groups' relative errors. Country and device are independent of each other."""
    return math.sqrt(sum(group.share * group.error**2 for group in groups.values()))


def _unit(vector: Floats) -> Floats:
    return vector / np.linalg.norm(vector)
