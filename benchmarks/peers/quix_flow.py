"""Quix Streams: join by key in its state, group by model and country (through a repartition topic), hourly windows."""

import tempfile
from datetime import timedelta

from common import Clock, arguments, group, report
from quixstreams import Application, State

bootstrap, topic, events = arguments()
directory = tempfile.TemporaryDirectory()
app = Application(
    bootstrap, consumer_group=group(), auto_offset_reset="earliest", state_dir=directory.name, loglevel="ERROR",
    consumer_poll_timeout=0.1, request_timeout=60,
)  # fmt: skip
clock, pairs, windows = Clock(), 0, {}


def joined(event: dict, state: State) -> list[dict]:
    clock.start()
    other = state.get("other")
    if other is None:
        state.set("other", event)
        return []
    state.delete("other")
    prediction, label = (other, event) if "prediction" in other else (event, other)
    group = f"{prediction['model']}|{prediction['segments']['country']}"
    return [{"group": group, "ts": label["ts"], "squared": (prediction["prediction"] - label["label"]) ** 2}]


def begun(pair: dict) -> dict:
    return {"group": pair["group"], "n": 1, "sum": pair["squared"]}


def added(total: dict, pair: dict) -> dict:
    return {"group": total["group"], "n": total["n"] + 1, "sum": total["sum"] + pair["squared"]}


def kept(result: dict) -> None:
    global pairs, took  # noqa: PLW0603
    total = result["value"]
    windows[total["group"], result["start"]] = total["n"], total["sum"]
    pairs += 1
    if 2 * pairs == events:
        took = clock.seconds
        app.stop()


took = 0.0
frame = app.dataframe(app.topic(topic, value_deserializer="json", key_deserializer="str"))
frame = frame.apply(joined, stateful=True, expand=True)
frame = frame.group_by("group").set_timestamp(lambda pair, *_: pair["ts"])
frame = frame.tumbling_window(timedelta(hours=1), grace_ms=timedelta(days=1)).reduce(added, begun).current()
frame.update(kept)
app.run()
report(took, events, [(*group.split("|"), n, total / n) for (group, _), (n, total) in windows.items()])
