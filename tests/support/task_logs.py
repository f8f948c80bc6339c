"""Random logs of one task and the shape they are read with, for property tests of the core."""

from __future__ import annotations

import random as randoms
from dataclasses import replace

from msemon.core.shape import Shape, Window
from support.events import SECOND, Event, Value

START = 1_700_000_000 * SECOND
TIMEOUT, MEMORY = 120 * SECOND, 30 * SECOND
WINDOWS = (Window("short", 3 * SECOND, 5), Window("long", 20 * SECOND, 15), Window("odd", 7 * SECOND, 4))
LONG = 20 * SECOND * 15
SEGMENT_KEYS = ("country", "tier")
DIMENSIONS = {"country": (0,), "tier,country": (1, 0)}
PREDICTIONS, LABELS = "predictions", "labels"


def shape(observed: bool) -> Shape:
    return Shape(WINDOWS, observed, SEGMENT_KEYS, tuple(DIMENSIONS.values()), TIMEOUT, MEMORY)


VALUES = (0.0, 1.0, -2.5, 3.1, 100.7, 1e6 + 0.1)
WEIGHTS = (None, None, None, 0.0, 0.3, 2.0)
KEYS = (
    ("m", "", "NL", "gold"),
    ("m", "", "NL", "none"),
    ("m", "2", "DE", "gold"),
    ("n", "", "FR", "gold"),
    ("n", "", "NL", "x"),
)
TARGETS = (None, None, None, ("m", None), ("m", "2"), (None, ""), ("n", ""))


def random_events(
    random: randoms.Random, partition: int, count: int, steps: tuple[float, ...]
) -> dict[str, list[Event]]:
    """Two topics; times drift on by `steps`, with jumps back and ahead; ids repeat."""
    out: dict[str, list[Event]] = {}
    for topic in (PREDICTIONS, LABELS):
        base = 0.0
        out[topic] = []
        for _ in range(random.randrange(count + 1)):
            base += random.choice(steps)
            time = START + round((base + random.choice([0, 0, 0, -1.5, -9, -40, 4])) * SECOND)
            record_time = max(time, START + round(base * SECOND)) + random.choice([0, 0, 200_000, SECOND, -300_000])
            number = random.randrange(count // 2 + 2)
            value = random.choice(VALUES)
            given: Value = value if random.random() < 0.8 else (value, random.choice(VALUES))
            weight = random.choice(WEIGHTS)
            key = random.choice(KEYS)
            event = Event(time, record_time, f"{partition}-{number}", label=given, weight=weight)
            if topic == LABELS:
                out[topic].append(replace(event, target=random.choice(TARGETS)))
                continue
            kind = random.random()
            event = replace(event, key=key, prediction=given, label=None)
            if kind < 0.25:  # a pair, its id one that the labels' topic does not use
                label = random.choice(VALUES) if isinstance(given, float) else (0.5, random.choice(VALUES))
                event = replace(event, label=label, id=None if kind < 0.15 else f"pair {number}")
            out[topic].append(event)
    return out
