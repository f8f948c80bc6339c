"""F21 end to end: labels late, early, out of order and never are joined within the timeout and counted beyond it."""

from __future__ import annotations

import time
from collections import defaultdict

from support.histories import PARTITIONS, Event, label, prediction, records
from support.running import daemon
from support.stories import made, names, settings
from support.topics import produce

MINUTE_US = 60_000_000
TIMEOUT, MEMORY = 60, 10  # minutes
EACH = 40

# When the prediction and the label are made and when they stand in their logs, in minutes; None for never.
KINDS: dict[str, tuple[tuple[float, float] | None, tuple[float, float] | None]] = {
    "in time": ((0, 0), (30, 30)),
    "at the timeout": ((0, 0), (TIMEOUT, TIMEOUT)),
    "out of order": ((0, 0), (20, 50)),
    "early": ((MEMORY, MEMORY), (0, 0)),
    "too late": ((0, 0), (TIMEOUT + 0.01, TIMEOUT + 0.01)),
    "too far out of order": ((0, 0), (20, TIMEOUT + 5)),
    "too early": ((MEMORY + 0.01, MEMORY + 0.01), (0, 0)),
    "unanswered": ((0, 0), None),
    "unasked": (None, (0, 0)),
}
JOINED = ("in time", "at the timeout", "out of order", "early")

Placed = list[tuple[float, Event]]


def logs(base_us: int) -> tuple[Placed, Placed]:
    """Both topics with each event's place, in minutes."""
    predicted: Placed = []
    labelled: Placed = []
    for number, (kind, (asked, answer)) in enumerate(KINDS.items()):
        for i in range(EACH):
            ident, start = f"{kind} {i}", 2.0 * i + number / 10
            if asked is not None:
                at_us = base_us + round((start + asked[0]) * MINUTE_US)
                predicted.append((start + asked[1], prediction(ident, "m", 5.0, at_us)))
            if answer is not None:
                at_us = base_us + round((start + answer[0]) * MINUTE_US)
                labelled.append((start + answer[1], label(ident, 3.0, at_us)))
    return predicted, labelled


def beats(base_us: int) -> Placed:
    """A label that answers nothing in every partition and half minute, so that clocks keep up with places."""
    found: Placed = []
    wanted = 2 * (2 * EACH + TIMEOUT + 10)
    by_partition: dict[int, int] = defaultdict(int)
    number = 0
    while min((by_partition[p] for p in range(PARTITIONS)), default=0) < wanted:
        event = label(f"beat {number}", 0.0, base_us)
        number += 1
        minutes = by_partition[event.partition] / 2
        if by_partition[event.partition] < wanted:
            by_partition[event.partition] += 1
            found.append((minutes, label(event.id, 0.0, base_us + round(minutes * MINUTE_US))))
    return found


def ends(base_us: int) -> tuple[Placed, Placed]:
    """In every partition a prediction and a label of different ids, hours later: all before them is over."""
    at_us = base_us + 9 * 60 * MINUTE_US
    ids: dict[tuple[str, int], str] = {}
    for i in range(100):
        for side in ("asked", "answered"):
            event = label(f"{side} at the end {i}", 0.0, at_us)
            ids.setdefault((side, event.partition), event.id)
    predicted = [(1e9, prediction(ident, "m", 5.0, at_us)) for (side, _), ident in ids.items() if side == "asked"]
    labelled = [(1e9, label(ident, 0.0, at_us)) for (side, _), ident in ids.items() if side == "answered"]
    assert len(predicted) == len(labelled) == PARTITIONS
    return predicted, labelled


def test_labels_late_early_out_of_order_and_never(kafka, tmp_path):
    """Exactly those within the rule are joined; each of the others expires once, on its side."""
    topics = made(kafka, names())
    base_us = time.time_ns() // 1_000_000 * 1000 - 10 * 60 * MINUTE_US
    predicted, labelled = logs(base_us)
    orphans = beats(base_us)
    last = ends(base_us)
    in_order = [
        [event for _, event in sorted([*placed, *end], key=lambda each: each[0])]
        for placed, end in ((predicted, last[0]), ([*labelled, *orphans], last[1]))
    ]
    given = settings(kafka, topics, kafka__start="earliest", join__timeout=f"{TIMEOUT}m", join__memory=f"{MEMORY}m")
    for topic, events in zip(topics, in_order, strict=True):
        produce(kafka, topic, records(events))
    with daemon(tmp_path / "daemon.log", given) as running:
        running.await_events({topic: len(events) for topic, events in zip(topics, in_order, strict=True)})
        apart = [kind for kind in KINDS if kind not in JOINED]
        counts = {
            "msemon_join_matched_total": {None: EACH * len(JOINED)},
            "msemon_join_expired_total": {
                "prediction": EACH * sum(KINDS[kind][0] is not None for kind in apart),
                "label": EACH * sum(KINDS[kind][1] is not None for kind in apart) + len(orphans),
            },
            "msemon_join_pending": {"prediction": PARTITIONS, "label": PARTITIONS},
            "msemon_join_duplicates_total": {"prediction": 0, "label": 0},
            "msemon_join_evicted_total": {},
        }

        def now() -> dict[str, dict[str | None, float]]:
            scrape = running.scrape()
            return {
                name: {dict(labels).get("side"): value for labels, value in scrape.all(name).items()}
                if name != "msemon_join_evicted_total"
                else {entry: value for entry, value in scrape.all(name).items() if value}  # type: ignore[misc]
                for name in counts
            }

        running.until(lambda: now()["msemon_join_pending"] == counts["msemon_join_pending"], "gauges", 5)
        assert now() == counts
        assert running.scrape().value("msemon_pairs_total", model="m", version="") == EACH * len(JOINED)
        assert running.scrape().value("msemon_mse", model="m", version="", window="24h") == 4.0
