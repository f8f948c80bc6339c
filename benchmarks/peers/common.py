"""What every peer's script takes and says: `PEER.py BOOTSTRAP TOPIC EVENTS` and one line of JSON at the end."""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Iterable


class Clock:
    """Begins with the first record, so that start-up and joining the group are not measured."""

    def __init__(self) -> None:
        self.began: float | None = None

    def start(self) -> None:
        if self.began is None:
            self.began = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - (self.began or 0.0)


def group() -> str:
    """A consumer group of this run's own: what another has committed is read again."""
    return f"peer-{uuid.uuid4()}"


def arguments() -> tuple[str, str, int]:
    """(bootstrap servers, topic, events in it)."""
    bootstrap, topic, events = sys.argv[1:4]
    return bootstrap, topic, int(events)


def report(seconds: float, events: int, groups: Iterable[tuple[str, str, int, float]] = ()) -> None:
    """`groups` are (model, country, pairs, MSE) of a window each; a model and country may come again."""
    print(json.dumps({"seconds": seconds, "events": events, "groups": list(groups)}), flush=True)
