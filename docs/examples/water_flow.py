"""Two forecasts of a public series, as the events a service would have written: predictions.jsonl and labels.jsonl.

The series is river's WaterFlow (hourly, March to May 2022, litres a second through a pipe; river carries it along:
`pip install river`). One version says what it was a week ago, the other what it was an hour ago.
"""

import json
from datetime import timedelta
from pathlib import Path

from river.datasets import WaterFlow

VERSIONS = {"last week": timedelta(days=7), "last hour": timedelta(hours=1)}


def part_of_day(hour: int) -> str:
    return ("night", "morning", "afternoon", "evening")[hour // 6]


series = {features["Time"]: flow for features, flow in WaterFlow()}
with Path("predictions.jsonl").open("w") as predictions, Path("labels.jsonl").open("w") as labels:
    for time, flow in series.items():
        ident, at = f"flow {time.isoformat()}", time.timestamp()
        for version, back in VERSIONS.items():
            if time - back in series:
                event = {
                    "id": ident,
                    "model": "water flow",
                    "version": version,
                    "prediction": series[time - back],
                    "ts": at,
                    "segments": {"part_of_day": part_of_day(time.hour)},
                }
                predictions.write(json.dumps(event) + "\n")
        labels.write(json.dumps({"id": ident, "label": flow, "ts": at + 3_600}) + "\n")
