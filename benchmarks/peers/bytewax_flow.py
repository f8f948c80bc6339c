"""Bytewax: one dataflow, run by `bytewax.testing.cluster_main` in this process; large batches, orjson.

Join by id, then a mean by model, country and hour of the label.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as win
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import EventClock, TumblingWindower
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import cluster_main
from common import Clock, arguments, report
from orjson import loads

bootstrap, topic, events = arguments()
clock, windows = Clock(), {}
Sum = tuple[int, float]


class _Keep(StatelessSinkPartition):
    def write_batch(self, items: list) -> None:
        for key, (window_id, total) in items:
            windows[key, window_id] = total


class Keep(DynamicSink):
    def build(self, _step_id: str, _worker_index: int, _worker_count: int) -> _Keep:
        return _Keep()


def parsed(batch: list) -> list[tuple[str, dict]]:
    clock.start()
    return [(event["id"], event) for event in (loads(message.value) for message in batch)]


def joined(state: Any, event: dict) -> tuple[Any, list]:
    """The first of the two waits for the other, and then is forgotten."""
    if state is None:
        return event, []
    prediction, label = (state, event) if "prediction" in state else (event, state)
    squared = (prediction["prediction"] - label["label"]) ** 2
    return None, [(f"{prediction['model']}|{prediction['segments']['country']}", label["ts"], squared)]


def added(total: Sum, pair: tuple[int, float]) -> Sum:
    return total[0] + 1, total[1] + pair[1]


flow = Dataflow("errors")
messages = op.input("in", flow, KafkaSource([bootstrap], [topic], tail=False, batch_size=10_000))
by_id = op.flat_map_batch("parse", messages, parsed)
pairs = op.map("unkey", op.stateful_flat_map("join", by_id, joined), lambda keyed: keyed[1])
by_group = op.map("key", pairs, lambda pair: (pair[0], pair[1:]))
hours = win.fold_window(
    "mean", by_group,
    EventClock(lambda pair: datetime.fromtimestamp(pair[0] / 1000, UTC), timedelta(days=1)),
    TumblingWindower(timedelta(hours=1), datetime(2024, 1, 1, tzinfo=UTC)),
    lambda: (0, 0.0), added, lambda a, b: (a[0] + b[0], a[1] + b[1]), ordered=False,
)  # fmt: skip
op.output("out", hours.down, Keep())
cluster_main(flow, [], 0)
report(clock.seconds, events, [(*key.split("|"), n, total / n) for (key, _), (n, total) in windows.items()])
