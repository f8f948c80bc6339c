"""confluent-kafka, orjson, dicts and Welford's mean: what a good engineer writes in an hour, and nothing beside it.

A mean of squared errors by model, country and hour of the label; no repeats, no late events, no expiry, no state.
"""

from collections import defaultdict

from common import Clock, arguments, report
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from orjson import loads


class Mean:
    """Welford 1962."""

    __slots__ = ("mean", "n")

    def __init__(self) -> None:
        self.n = 0
        self.mean = 0.0

    def add(self, x: float) -> None:
        self.n += 1
        self.mean += (x - self.mean) / self.n


bootstrap, topic, events = arguments()
consumer = Consumer({
    "bootstrap.servers": bootstrap, "group.id": "by-hand", "enable.auto.commit": False,
    "fetch.queue.backoff.ms": 10,  # its second is four times slower: a queue that was full stays empty so long
})  # fmt: skip
partitions = consumer.list_topics(topic, 10).topics[topic].partitions
consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])

waiting: dict[str, tuple[str, str, float]] = {}
early: dict[str, tuple[float, int]] = {}
windows: defaultdict[tuple[str, str, int], Mean] = defaultdict(Mean)
clock, seen = Clock(), 0
while seen < events:
    messages = consumer.consume(10_000, 0.5)
    if messages:
        clock.start()
    for message in messages:
        event = loads(message.value())
        id_ = event["id"]
        if "prediction" in event:
            model, country, prediction = event["model"], event["segments"]["country"], event["prediction"]
            if id_ in early:
                label, hour = early.pop(id_)
                windows[model, country, hour].add((prediction - label) ** 2)
            else:
                waiting[id_] = model, country, prediction
        elif id_ in waiting:
            model, country, prediction = waiting.pop(id_)
            windows[model, country, event["ts"] // 3_600_000].add((prediction - event["label"]) ** 2)
        else:
            early[id_] = event["label"], event["ts"] // 3_600_000
    seen += len(messages)
report(clock.seconds, seen, [(model, country, each.n, each.mean) for (model, country, _), each in windows.items()])
consumer.close()
