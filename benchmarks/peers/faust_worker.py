"""Faust (faust-streaming): one agent; a table of what waits, in memory, and a table of tumbling windows."""

import logging
import os
import shutil
import tempfile

import faust
from common import Clock, arguments, group, report

bootstrap, topic, events = arguments()
directory = tempfile.mkdtemp()
app = faust.App(
    group(), broker=f"kafka://{bootstrap}", store="memory://", value_serializer="json", key_serializer="raw",
    topic_partitions=4, datadir=directory, consumer_auto_offset_reset="earliest", web_enabled=False,
    stream_wait_empty=False,
)  # fmt: skip
source = app.topic(topic, partitions=4)
waiting = app.Table("waiting", partitions=4)
windows = app.Table("windows", partitions=4)
clock, seen = Clock(), 0


@app.agent(source)
async def errors(stream: faust.Stream) -> None:
    global seen  # noqa: PLW0603
    async for event in stream:
        clock.start()
        other = waiting.pop(event["id"], None)
        if other is None:
            waiting[event["id"]] = event
        else:
            prediction, label = (other, event) if "prediction" in other else (event, other)
            key = f"{prediction['model']}|{prediction['segments']['country']}|{label['ts'] // 3_600_000}"
            n, mean = windows.get(key) or (0, 0.0)
            windows[key] = n + 1, mean + ((prediction["prediction"] - label["label"]) ** 2 - mean) / (n + 1)
        seen += 1
        if seen == events:
            report(clock.seconds, seen, [(*key.split("|")[:2], *value) for key, value in windows.items()])
            shutil.rmtree(directory, ignore_errors=True)
            os._exit(0)  # stopping it in order takes a minute


logging.disable(logging.WARNING)
faust.Worker(app, loglevel="error", redirect_stdouts=False).execute_from_commandline()
