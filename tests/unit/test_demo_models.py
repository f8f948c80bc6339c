"""The simulated models are wrong by as much as they are designed to be."""

from __future__ import annotations

import math

import numpy as np
import pytest

from msemon.demo.models import COUNTRIES, DEVICES, MODELS, OUTPUTS, Model, segment_rmse

DRAWS = 10_000
BY_NAME = {model.name: model for model in MODELS}

each_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)


def drawn(model: Model, rmse: float, draws: int = DRAWS) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    cases = [model.draw(rng, rmse) for _ in range(draws)]
    return np.array([case.prediction for case in cases]), np.array([case.label for case in cases])


@each_model
def test_the_rmse_of_many_cases_is_the_one_asked_for(model: Model) -> None:
    predictions, labels = drawn(model, model.rmse)
    assert np.sqrt(np.mean((predictions - labels) ** 2)) == pytest.approx(model.rmse, rel=0.05)


def test_three_times_the_rmse_is_what_a_drifting_price_has() -> None:
    predictions, labels = drawn(BY_NAME["price"], 3 * BY_NAME["price"].rmse)
    assert np.sqrt(np.mean((predictions - labels) ** 2)) == pytest.approx(45_000, rel=0.03)


@each_model
def test_an_answer_has_about_as_much_spread_as_the_truth_and_goes_with_it(model: Model) -> None:
    predictions, labels = drawn(model, model.rmse, 5_000)
    assert np.std(predictions) == pytest.approx(np.std(labels), rel=0.1)
    assert np.corrcoef(predictions.ravel(), labels.ravel())[0, 1] > 0.9


def test_prices_lie_around_two_hundred_thousand() -> None:
    _, labels = drawn(BY_NAME["price"], 15_000.0)
    assert np.median(labels) == pytest.approx(200_000, rel=0.02)
    assert labels.min() > 0


@pytest.mark.parametrize("name", ["relevance", "similarity"])
def test_scores_stay_between_0_and_1_even_with_huge_errors(name: str) -> None:
    predictions, labels = drawn(BY_NAME[name], 2.0, 2_000)
    for values in (predictions, labels):
        assert values.min() >= 0.0
        assert values.max() <= 1.0


def test_relevance_is_judged_in_five_grades() -> None:
    _, labels = drawn(BY_NAME["relevance"], 0.12, 2_000)
    assert set(labels.tolist()) == {0.0, 0.25, 0.5, 0.75, 1.0}


def test_the_embedding_has_eight_outputs() -> None:
    predictions, labels = drawn(BY_NAME["embedding"], 0.05, 10)
    assert predictions.shape == labels.shape == (10, OUTPUTS) == (10, 8)


def test_the_segments_rmse_together_make_the_models() -> None:
    price = BY_NAME["price"]
    squares = [
        country.share * device.share * segment_rmse(price, {"country": c, "device": d}) ** 2
        for c, country in COUNTRIES.items()
        for d, device in DEVICES.items()
    ]
    assert math.sqrt(sum(squares)) == pytest.approx(price.rmse, rel=1e-12)


def test_a_segment_by_one_key_has_the_rmse_of_its_segments_by_both() -> None:
    price = BY_NAME["price"]
    squares = [g.share * segment_rmse(price, {"country": "FR", "device": d}) ** 2 for d, g in DEVICES.items()]
    assert segment_rmse(price, {"country": "FR"}) == pytest.approx(math.sqrt(sum(squares)), rel=1e-12)


def test_shares_add_up_to_one() -> None:
    for groups in (COUNTRIES, DEVICES):
        assert sum(group.share for group in groups.values()) == pytest.approx(1.0, abs=1e-12)


def test_the_fleet_makes_two_hundred_predictions_a_second() -> None:
    assert sum(model.rate for model in MODELS) == 200.0
