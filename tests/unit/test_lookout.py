"""Looking out for drift: the log lines, and the baseline file taken up while running."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from msemon.baseline_file import BadFile
from msemon.lookout import Lookout
from msemon.settings import Settings
from msemon.settings.model import BaselineSettings
from support.drifting import SHAPE, Stream


def write(path: Path, mse: float) -> None:
    path.write_text(json.dumps({"format": 1, "baselines": [{"model": "m", "mse": mse}]}))


def lookout_of(stream: Stream, path: Path) -> Lookout:
    return Lookout(Settings(baseline=BaselineSettings(file=str(path))), stream.process, threading.Lock())


def again(lookout: Lookout, stream: Stream, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """What a look logs of the model as a whole, its time having come."""
    monkeypatch.setattr(lookout, "_due", 0.0)
    with capture_logs() as lines:
        lookout.turn(stream.wall_us)
    return [dict(line) for line in lines if "segment" not in line]


def test_alarm_and_recovery_are_told_with_the_numbers_that_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once each, and only for what alarms."""
    write(tmp_path / "b.json", 1.0)
    stream = Stream()
    lookout = lookout_of(stream, tmp_path / "b.json")
    monkeypatch.setattr(stream, "look", lambda: None)
    stream.run(20)
    assert again(lookout, stream, monkeypatch) == []
    stream.run(10, rmse=3.0)
    (line,) = again(lookout, stream, monkeypatch)
    assert (line["event"], line["log_level"], line["model"], line["version"]) == ("drift", "warning", "m", "1")
    assert (line["baseline_mse"], line["baseline_upper_mse"]) == (1.0, 1.0)
    assert {"mse", "mse_lower", "mse_upper", "pairs", "max_absolute_error", "evidence", "threshold"} <= line.keys()
    assert line["since"] == "1970-01-12T13:47:00+00:00"
    assert again(lookout, stream, monkeypatch) == []
    told = []
    for _ in range(30):
        stream.run(2)
        told += again(lookout, stream, monkeypatch)
    assert [(line["event"], line["why"]) for line in told] == [("drift is over", "two good blocks")]


def test_a_changed_file_is_taken_up_and_a_broken_one_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is told once."""
    path = tmp_path / "b.json"
    write(path, 1.0)
    stream = Stream(shape=SHAPE)
    lookout = lookout_of(stream, path)
    stream.run(2)
    write(path, 44.5)
    (line,) = again(lookout, stream, monkeypatch)
    assert (line["event"], line["entries"], line["detectors_begun_anew"]) == ("baseline file read", 1, 1)
    assert stream.gauges()[0] == 44.5
    path.write_text("{")
    (line,) = again(lookout, stream, monkeypatch)
    assert line["log_level"] == "error"
    assert again(lookout, stream, monkeypatch) == []
    assert stream.gauges()[0] == 44.5


def test_a_broken_file_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(BadFile):
        lookout_of(Stream(), tmp_path / "b.json")
