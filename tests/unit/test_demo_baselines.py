"""The baseline file that belongs to the simulated fleet."""

from __future__ import annotations

from itertools import islice

import msgspec.json
import numpy as np
import pytest

from msemon.baseline_file import parsed, written
from msemon.core.view import SeriesKey
from msemon.core.watch import ANY
from msemon.demo.baselines import FILE, entries
from msemon.demo.drift import Drift
from msemon.demo.fleet import Message, messages
from msemon.demo.models import MODELS, Model
from msemon.demo.session import SEGMENTS

TOLERATED = 1.1  # drift.tolerated_ratio
GIVEN = parsed(FILE.read_bytes(), TOLERATED)


def test_the_file_is_what_the_design_says() -> None:
    assert FILE.read_bytes() == written(entries())


def test_every_series_of_the_demo_has_an_entry() -> None:
    dimensions = {",".join(keys) for keys in SEGMENTS}
    for model in MODELS:
        own = {key for key in GIVEN if key.model == model.name}
        assert SeriesKey(model.name, ANY) in own
        assert dimensions <= {key.dimension for key in own}
    assert SeriesKey("price", ANY, "country,device", "FR,mobile") in GIVEN
    assert SeriesKey("embedding", ANY, "country", "__none__") in GIVEN


@pytest.fixture(scope="module")
def calm() -> list[Message]:
    """What the fleet sends while nothing drifts."""
    return list(islice(messages(3, 10**15, 1.0, Drift(ratio=1.0)), 60_000))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_what_the_fleet_sends_is_near_the_bound_and_not_above_it(calm: list[Message], model: Model) -> None:
    """Not by more than a third of what drift tolerates, or evidence would grow although nothing drifts."""
    events = [msgspec.json.decode(each.value) for each in calm if each.key.startswith(model.name.encode())]
    truth = {event["id"]: event["label"] for event in reversed(events) if "label" in event}  # the first stands
    squares = [
        np.mean(np.subtract(event["prediction"], truth[event["id"]]) ** 2)
        for event in events
        if "prediction" in event and event["id"] in truth
    ]
    bound = GIVEN[SeriesKey(model.name, ANY)].upper_mse
    assert len(squares) > 2_000
    assert np.mean(squares) == pytest.approx(bound, rel=0.15)
    assert np.mean(squares) < bound * (1.0 + (TOLERATED - 1.0) / 3.0)
