"""kafka-python, json, river's TimeRolling MSE and a Prometheus gauge set at every pair."""

import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta

from common import Clock, arguments, report
from kafka import KafkaConsumer, TopicPartition
from prometheus_client import Gauge
from river.metrics import MSE
from river.utils import TimeRolling

bootstrap, topic, events = arguments()
consumer = KafkaConsumer(
    bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False, group_id=None,
    max_poll_records=10_000,
)  # fmt: skip
consumer.assign([TopicPartition(topic, partition) for partition in consumer.partitions_for_topic(topic)])

gauge = Gauge("mse", "Mean squared error of the last day", ["model", "country"])
waiting: dict[str, dict] = {}
windows = defaultdict(lambda: TimeRolling(MSE(), period=timedelta(days=1)))
pairs: defaultdict[tuple[str, str], int] = defaultdict(int)


def label_of(event: dict) -> None:
    prediction = waiting.pop(event["id"])
    key = prediction["model"], prediction["segments"]["country"]
    at = datetime.fromtimestamp(event["ts"] / 1000, UTC).replace(tzinfo=None)  # it compares with a naive one
    windows[key].update(event["label"], prediction["prediction"], t=at)
    pairs[key] += 1
    gauge.labels(*key).set(windows[key].get())


clock, seen = Clock(), 0
while seen < events:
    for records in consumer.poll(timeout_ms=500).values():
        clock.start()
        for record in records:
            event = json.loads(record.value)
            if "prediction" in event:
                waiting[event["id"]] = event
            else:
                label_of(event)
        seen += len(records)
report(clock.seconds, seen, [(*key, pairs[key], window.get()) for key, window in windows.items()])
consumer.close()
