"""Pathway: read, join by id, a mean by model, country and hour of the label. PATHWAY_THREADS says how many threads."""

import time

import pathway as pw
from common import arguments, report

bootstrap, topic, events = arguments()


class Event(pw.Schema):
    request: str  # `id` is Pathway's own
    ts: int
    model: str | None = pw.column_definition(default_value=None)
    prediction: float | None = pw.column_definition(default_value=None)
    country: str | None = pw.column_definition(default_value=None)
    label: float | None = pw.column_definition(default_value=None)


settings = {"bootstrap.servers": bootstrap, "group.id": "pathway", "auto.offset.reset": "earliest"}
table = pw.io.kafka.read(
    settings, topic, schema=Event, format="json",
    json_field_paths={"request": "/id", "country": "/segments/country"}, mode="static",
)  # fmt: skip
predictions = table.filter(pw.this.prediction.is_not_none())
labels = table.filter(pw.this.label.is_not_none())
pairs = predictions.join(labels, predictions.request == labels.request).select(
    model=predictions.model,
    country=predictions.country,
    hour=labels.ts // 3_600_000,
    squared=(pw.unwrap(predictions.prediction) - pw.unwrap(labels.label)) ** 2,
)
means = pairs.groupby(pw.this.model, pw.this.country, pw.this.hour).reduce(
    pw.this.model, pw.this.country, n=pw.reducers.count(), mse=pw.reducers.avg(pw.this.squared)
)
found: dict = {}


def told(key: object, row: dict, time: int, is_addition: bool) -> None:
    if is_addition:
        found[key] = row
    elif found.get(key) == row:
        del found[key]


pw.io.subscribe(means, told)
began = time.perf_counter()
pw.run(monitoring_level=pw.MonitoringLevel.NONE)
report(time.perf_counter() - began, events, [(r["model"], r["country"], r["n"], r["mse"]) for r in found.values()])
