"""When and where the simulated fleet drifts: one segment of one model, again and again, from a beginning to an end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from msemon.demo.models import GROUPS, MODELS


@dataclass(frozen=True, slots=True)
class Drift:
    """Episodes in which a segment's errors are larger. Times are seconds at speed 1, counted from the fleet's start.

    Before `after_s`, and from each episode's end to the next one's beginning, the segment is as it was designed.
    Raises ValueError for what can't be.
    """

    model: str = "price"
    segment: Mapping[str, str] = field(default_factory=lambda: {"country": "FR"})
    ratio: float = 3.0  # of the RMSE; 1: nothing drifts
    after_s: float = 45.0  # until the first episode begins
    for_s: float = 60.0
    every_s: float = 240.0  # from beginning to beginning; infinite: there is one episode

    def __post_init__(self) -> None:
        if self.model not in {model.name for model in MODELS if model.segmented}:
            raise ValueError(f"{self.model}: no model of the fleet that has segments")
        for key, value in self.segment.items():
            if value not in GROUPS.get(key, {}):
                raise ValueError(f"{key}={value}: no segment of the fleet")
        sound = 0.0 < self.ratio < math.inf and self.after_s >= 0.0 and 0.0 < self.for_s <= self.every_s
        if not sound:  # what is NaN is not either
            raise ValueError("a ratio above 0, a beginning, and then a length that is at most the time between them")

    def ratio_at(self, seconds: float, model: str, segments: Mapping[str, str]) -> float:
        """By how much the RMSE of an event with these segments is larger than designed.

        >>> drift = Drift(after_s=10, for_s=5, every_s=60)
        >>> [drift.ratio_at(s, "price", {"country": "FR", "device": "mobile"}) for s in (9, 10, 14, 15, 69, 70, 75)]
        [1.0, 3.0, 3.0, 1.0, 1.0, 3.0, 1.0]
        >>> drift.ratio_at(12, "price", {"country": "DE", "device": "mobile"})
        1.0
        """
        since_s = seconds - self.after_s
        drifting = since_s >= 0.0 and since_s % self.every_s < self.for_s
        concerned = model == self.model and self.segment.items() <= segments.items()
        return self.ratio if drifting and concerned else 1.0


USUAL = Drift()
"""A minute of drift, three quarters of a minute after the start and every four minutes from then on."""


def place(text: str) -> tuple[str, dict[str, str]]:
    """A model and a segment of it, `price:country=FR,device=mobile`; without a segment the whole model.

    >>> place("price:country=FR,device=mobile")
    ('price', {'country': 'FR', 'device': 'mobile'})
    """
    model, _, parts = text.partition(":")
    pairs = (part.partition("=") for part in parts.split(",") if part)
    return model, {key: value for key, _, value in pairs}
