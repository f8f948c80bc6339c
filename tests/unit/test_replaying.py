"""Replays: every kind of file gives the same numbers, those of plain arithmetic, and bad files give one line."""

from __future__ import annotations

import gzip
import io
import json
import math
import os
import re
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from kafka import TopicPartition
from structlog.testing import capture_logs

import msemon
from msemon.core.view import SeriesKey
from msemon.decoding.judge import Judge
from msemon.export.families import select
from msemon.export.render import render
from msemon.replaying import command, lines, openmetrics, sources, topics
from msemon.replaying.engine import Engine
from msemon.replaying.run import Replay, models, run, segments
from msemon.replaying.streams import FEW, BadSource, Head, met
from msemon.replaying.words import number
from msemon.settings import SettingsError
from msemon.sources.base import Skipped
from msemon.wiring import json_decoder_of
from support import past
from support.past import T0, columns, halves, pairs, settings, written

DAY = 86_400.0
LONG = {"windows__lengths": '["1h", "2d"]'}


def numbers(done: Replay) -> dict[SeriesKey, dict[str, dict[str, float]]]:
    return dict(models(done) + segments(done))


def expected(events: list[past.Event], since: float) -> dict[str, float]:
    error = np.array([each["prediction"] - each["label"] for each in events if each["ts"] >= since])
    return {
        "pairs": len(error), "mse": float((error**2).mean()), "rmse": math.sqrt((error**2).mean()),
        "mae": float(abs(error).mean()), "bias": float(error.mean()),
    }  # fmt: skip


def test_numbers_are_those_of_plain_arithmetic_over_each_window(tmp_path: Path) -> None:
    events = pairs(5_000, 6 * 3_600)
    found = numbers(run([written(tmp_path / "a.jsonl", events)], settings(**LONG)))
    pane = 60.0
    hour = (events[-1]["ts"] // pane - 60) * pane
    for country in (None, "de", "fr", "us"):
        own = [each for each in events if country in (None, each["segments"]["country"])]
        key = SeriesKey("price", "", *(("country", country) if country else ()))
        for window, since in (("1h", hour), ("2d", 0.0), ("all", 0.0)):
            wanted = expected(own, since)
            assert {name: found[key][window][name] for name in wanted} == pytest.approx(wanted, rel=1e-11)


@pytest.mark.parametrize("kind", ["jsonl.gz", "jsonl.zst", "parquet", "halves", "halves parquet"])
def test_every_kind_of_source_gives_the_same(tmp_path: Path, kind: str) -> None:
    events = pairs(4_000, 6 * 3_600)
    given = settings(windows__clock="predicted", **LONG)
    wanted = numbers(run([written(tmp_path / "plain.jsonl", events)], given))
    if kind.startswith("halves"):
        make, suffix = (columns, "parquet") if kind.endswith("parquet") else (written, "jsonl")
        predictions, labels = halves(events, 600.0)
        names = [make(tmp_path / f"p.{suffix}", predictions), make(tmp_path / f"l.{suffix}", labels)]
    else:
        names = [(columns if kind == "parquet" else written)(tmp_path / f"a.{kind}", events)]
    done = run(names, given)
    got = numbers(done)
    assert done.tally.matched == (len(events) if kind.startswith("halves") else 0)
    assert got.keys() == wanted.keys()
    for key, windows in wanted.items():
        # The last label comes after the last prediction and moves a short window on.
        for window in ("all", "2d") if kind.startswith("halves") else windows:
            assert got[key][window] == pytest.approx(windows[window], rel=1e-11), (key, window)


def test_files_of_one_log_in_pieces_are_that_log(tmp_path: Path) -> None:
    predictions, labels = halves(pairs(3_000, 6 * 3_600), 3_600.0)
    given = settings(**LONG)
    whole = run([written(tmp_path / "p", predictions), written(tmp_path / "l", labels)], given)
    cut = [
        *(predictions[i : i + 700] for i in range(0, 3_000, 700)),
        *(labels[i : i + 900] for i in range(0, 3_000, 900)),
    ]
    pieces = run([written(tmp_path / f"piece {i}", part) for i, part in enumerate(cut)], given)
    wanted = numbers(whole)
    for key, windows in numbers(pieces).items():
        for window, found in windows.items():
            assert found == pytest.approx(wanted[key][window], rel=1e-12)
    assert pieces.tally.matched == 3_000


def test_files_are_opened_as_they_are_needed(tmp_path: Path) -> None:
    """A year of hourly files is more than a process may have open."""
    predictions, labels = halves(pairs(3_000, 30 * 3_600), 600.0)
    names = []
    for hour in range(40):
        begin = T0 + hour * 3_600
        for make, kind, events in ((columns, "p.parquet", predictions), (written, "l.jsonl.gz", labels)):
            if own := [each for each in events if begin <= each["ts"] < begin + 3_600]:
                names.append(make(tmp_path / f"{hour} {kind}", own))
    few = "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32)); "
    child = few + "from msemon.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", child, "replay", *names, "--format", "json"],
        capture_output=True, text=True, timeout=100, check=False, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["join"]["matched"] == 3_000
    assert len(names) > 60


@pytest.mark.parametrize("count", [1, FEW - 1, FEW, FEW + 1, 3 * FEW, lines.AT_ONCE + FEW, lines.AT_ONCE + FEW + 1])
def test_every_event_is_given_once_in_pieces(tmp_path: Path, count: int) -> None:
    """A file's first events come alone; what follows begins after them."""
    import pyarrow.parquet as pq

    events = pairs(count, 3_600)
    plain, parquet, grouped = tmp_path / "a.jsonl", tmp_path / "a.parquet", tmp_path / "b.parquet"
    plain.write_bytes(b"\n\n" + past.lines(events).replace(b"\n", b"\n \n"))
    pq.write_table(pq.read_table(columns(parquet, events)), grouped, row_group_size=FEW // 3)
    for path in (plain, parquet, grouped):
        pieces = [decoded.pairs.times for decoded in sources._file(path, settings())]
        assert np.concatenate(pieces).tolist() == [round(each["ts"] * 1e6) for each in events]
        assert len(pieces[0]) <= FEW


@pytest.mark.parametrize("most", [3_000, lines._MOST_AT_ONCE])
def test_lines_that_are_arrays_come_in_portions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """As the daemon does; and what waits is bounded in bytes too, for a line may be a megabyte."""
    monkeypatch.setattr(lines, "_MOST_AT_ONCE", most)
    events = pairs(50_000, 3_600)
    path = tmp_path / "arrays.jsonl"
    path.write_bytes(b"".join(json.dumps(events[i : i + 10]).encode() + b"\n" for i in range(0, 50_000, 10)))
    file = sources._file(path, settings())
    assert isinstance(file, lines.Lines)
    pieces = [decoded.pairs.times for decoded in file]
    assert np.concatenate(pieces).tolist() == [round(each["ts"] * 1e6) for each in events]
    assert max(map(len, pieces[1:])) < 100_000 / 3  # events of more than three commas
    held = [sum(map(len, batch)) for _, batch in file._batches(0, lines.AT_ONCE)]
    assert max(held) < most + 2 * lines._CHUNK


class Partition:
    """One of a topic's."""

    def __init__(self, topic: str, partition: int, file: Any) -> None:
        self.topic, self.partition, self.progress = topic, partition, file.progress
        self._file = file

    def __iter__(self) -> Iterator[Any]:
        return iter(self._file)


def test_a_file_answers_all_partitions_of_a_topic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels from a warehouse for predictions in Kafka: the file knows nothing of partitions."""
    predictions, labels = halves(pairs(900, 3_600), 60.0)
    parts = [sources._file(Path(written(tmp_path / str(p), predictions[p::3])), settings()) for p in range(3)]
    file = sources._file(Path(written(tmp_path / "labels", labels)), settings())
    of_topic = [Partition("predictions", p, part) for p, part in enumerate(parts)]
    monkeypatch.setattr(sources, "_streams", lambda *_: [*of_topic, file])
    done = run(["kafka://predictions", str(tmp_path / "labels")], settings())
    assert done.tally.matched == 900
    assert done.tally.waiting == (0, 0)
    assert met(of_topic) is of_topic


def test_the_join_forgets_while_files_follow_one_another(tmp_path: Path) -> None:
    """Else the memory of a replay would be that of its files: labels of days to come must not hold the first day's."""
    predictions, labels = halves(pairs(8_000, 8 * DAY), 60.0)
    names = []
    for kind, events in (("p", predictions), ("l", labels)):
        for day in range(9):
            begin = T0 + day * DAY
            if own := [each for each in events if begin <= each["ts"] < begin + DAY]:
                names.append(written(tmp_path / f"{kind} {day}", own))
    most = 0

    given = settings(join__timeout="1h", join__memory="1h", **LONG)
    with sources.opened(names, given) as streams:
        engine = Engine(given, streams, 3_600_000_000)

        def watch(at_us: int, view: Any) -> None:
            nonlocal most
            most = max(most, engine.process.pending)

        engine._each = watch
        engine.run()
    assert engine.tally.matched == 8_000
    assert 0 < most < 2_000


def test_steps_show_what_had_come_by_then(tmp_path: Path) -> None:
    events = pairs(2_000, 6 * 3_600)
    done = run([written(tmp_path / "a", events)], settings(**LONG), step_us=1_800_000_000, record=True)
    recording = done.recording
    assert recording is not None
    counts = recording.models.find("pairs_total")
    assert counts is not None
    reached = recording.times / 1e6
    assert list(np.diff(reached)) == [1_800.0] * (len(reached) - 1)
    for at, count in zip(reached.tolist(), counts[:, 0].tolist(), strict=True):
        assert count == sum(each["ts"] <= at for each in events)


def test_a_gap_is_stepped_through_until_the_windows_are_empty_and_then_jumped(tmp_path: Path) -> None:
    early, late = pairs(300, 3_600), pairs(300, 3_600, seed=3)
    for each in late:
        each["ts"] += 400 * DAY
    done = run([written(tmp_path / "a", early + late)], settings(**LONG), step_us=3_600_000_000, record=True)
    assert done.recording is not None
    gaps = np.diff(done.recording.times) / 3.6e9
    assert (gaps > 1).sum() == 1
    emptied = done.recording.models.find("window_pairs", "2d")
    assert emptied is not None
    before = int(gaps.argmax())
    assert np.isnan(emptied[before, 0])
    assert emptied[before - 1, 0] > 0 or emptied[before - 2, 0] > 0


def test_drift_is_found_where_it_is(tmp_path: Path) -> None:
    learn = {"baseline__learn_after": "1h", "baseline__learn_time": "4h", "baseline__learn_pairs": "1000"}
    done = run(
        [written(tmp_path / "a", pairs(30_000, 2 * DAY, drift_from=0.75))], settings(**learn), step_us=900_000_000
    )
    assert {each.change.key.segment for each in done.episodes} == {"", "de"}
    begun = T0 + 1.5 * DAY
    assert all(begun < each.at_us / 1e6 < begun + 2_700 for each in done.episodes if each.change.active)


# The Parquet reader against the JSON one.

ODD: list[past.Event] = [
    {"id": "a", "model": "m", "prediction": 1.0, "ts": 1.76e9},
    {"id": 7, "model": "m", "version": 3, "prediction": 2, "ts": 1_760_000_000_000, "weight": 0.5},
    {"id": "a", "label": 1.5, "ts": "2025-10-09T09:00:00Z"},
    {"id": "7", "label": 1.5, "ts": 1.76e9, "model": "m", "weight": 2.0},
    {"model": "m", "prediction": 1.0, "label": 3.0, "ts": 1.76e9, "segments": {"country": "de", "tier": 4}},
    {"model": "m", "prediction": 1.0, "label": 3.0, "ts": 1.76e9, "segments": {"country": None}},
    {"model": "m", "prediction": 1.0, "label": 3.0, "ts": 1.76e9, "segments": {"country": "__other__\n"}},
    {"id": "v", "model": "m", "prediction": [1.0, 2.0], "ts": 1.76e9},
    {"id": "v", "label": [1.0, 2.5], "ts": 1.76e9},
    {"model": "", "prediction": 1.0, "label": 3.0, "ts": 1.76e9},
    {"model": "m", "prediction": 1e80, "label": 3.0, "ts": 1.76e9},
    {"model": "m", "prediction": 1.0, "label": 3.0},
    {"model": "m", "prediction": 1.0, "label": 3.0, "ts": -5.0},
    {"model": "m", "prediction": 1.0, "label": 3.0, "ts": 9e9},
    {"model": "m", "prediction": 1.0, "label": 3.0, "ts": 1.76e9, "weight": -1.0},
    {"model": "m", "prediction": 1.0, "ts": 1.76e9},
    {"id": "x", "ts": 1.76e9},
    {"id": "", "model": "m", "prediction": 1.0, "ts": 1.76e9},
    {"id": "y", "label": 1.0, "model": "m", "version": "v2", "ts": 1.76e9},
]


def as_json(events: list[past.Event], given: Any) -> Any:
    decoder = lines.Lines(Path(__file__), json_decoder_of(given), 1_000_000)
    values = [json.dumps(each).encode() for each in events]
    return decoder._decoder.decode(decoder._batch(0, values), 1_760_100_000_000_000)


def same(a: Any, b: Any) -> None:
    assert a.kinds == b.kinds
    assert sorted(a.rejections) == sorted(b.rejections)
    for x, y in ((a.predictions, b.predictions), (a.labels, b.labels), (a.pairs, b.pairs)):
        for name in x.__dataclass_fields__:
            if name == "record_times":
                continue
            p, q = getattr(x, name), getattr(y, name)
            if name == "vectors":
                assert p.keys() == q.keys()
                for i in p:
                    np.testing.assert_equal(p[i], q[i])
            elif isinstance(p, np.ndarray):
                np.testing.assert_array_equal(p, q, err_msg=name)
            else:
                assert p == q, name


@pytest.mark.parametrize("chosen", [slice(i, i + 1) for i in range(len(ODD))] + [slice(4, 7), slice(10, 16)])
def test_rows_are_judged_as_messages_are(tmp_path: Path, chosen: slice, monkeypatch: pytest.MonkeyPatch) -> None:
    given = settings(segments='[["country", "tier"]]')
    monkeypatch.setattr(time, "time_ns", lambda: 1_760_100_000_000_000_000)
    events = [dict.fromkeys(("id", "model", "prediction", "label", "ts")) | each for each in ODD[chosen]]
    table = sources._file(Path(columns(tmp_path / "a.parquet", events)), given)
    (decoded,) = iter(table)
    same(as_json(events, given), decoded)


def test_plain_rows_are_taken_a_column_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of them is judged one by one, or a replay would take ten times as long."""

    def refuse(*_: Any) -> None:
        raise AssertionError("judged one by one")

    monkeypatch.setattr(Judge, "judge", refuse)
    events = pairs(500, 3_600)
    halved = halves(events, 60.0)
    for i, some in enumerate((events, *halved)):
        list(sources._file(Path(columns(tmp_path / f"{i}.parquet", some)), settings()))


def test_arrow_types_that_json_does_not_have(tmp_path: Path) -> None:
    """Timestamps with and without a zone, dictionaries, small integers, columns instead of a segments struct, maps."""
    events = pairs(50, 3_600)
    wanted = numbers(run([written(tmp_path / "a", events)], settings()))
    flat = [each | {"country": each["segments"]["country"], "segments": None} for each in events]
    for each in flat:
        del each["segments"]
    stamps = pa.array([round(each["ts"] * 1e6) for each in events], pa.timestamp("us"))
    import pyarrow.parquet as pq

    texts = {name: pa.array([each[name] for each in flat]).dictionary_encode() for name in ("model", "country")}
    for i, ts in enumerate((stamps, stamps.cast(pa.timestamp("us", "Europe/Paris")), stamps.cast(pa.timestamp("ns")))):
        rest = {name: pa.array([each[name] for each in flat]) for name in ("prediction", "label")}
        path = tmp_path / f"{i}.parquet"
        pq.write_table(pa.table({"ts": ts, **texts, **rest}), path)
        assert numbers(run([str(path)], settings())) == wanted
    mapped = pa.array([list(each["segments"].items()) for each in events], pa.map_(pa.string(), pa.string()))
    rest = {name: pa.array([each[name] for each in events]) for name in ("model", "ts", "prediction", "label")}
    pq.write_table(pa.table({"segments": mapped, **rest}), tmp_path / "map.parquet")
    assert numbers(run([str(tmp_path / "map.parquet")], settings())) == wanted


M = {"model": ["m"] * 3, "prediction": [1.0, 2.0, 3.0], "label": [1.0, 2.0, 2.0], "ts": [1.76e9] * 3}


@pytest.mark.parametrize(
    ("given", "rejected"),
    [
        ({"ts": pa.array([1_760_000_000_000_000, 2**62, -(2**62)], pa.timestamp("us"))}, {"wrong_type": 2}),
        ({"ts": pa.array([1_760_000_000_000, 2**62, -(2**62)], pa.timestamp("ms"))}, {"wrong_type": 2}),
        ({"ts": pa.array([1_760_000_000_000, 9_999_999_999_999, None], pa.timestamp("ms"))},
         {"future": 1, "missing_field": 1}),
        ({"model": pa.array([b"\xff", b"m", b"m"]).view(pa.string())}, {"malformed": 1}),
        ({"version": [True, None, None]}, {"wrong_type": 1}),
        ({"segments": pa.array([[], [("country", "de")], None], pa.map_(pa.string(), pa.string()))}, {}),
        ({"segments": pa.array([None, {"country": "de"}, {"country": None}])}, {}),
        ({"prediction": [1.0, math.nan, math.inf]}, {"not_finite": 2}),
        ({"prediction": pa.array([1, 2**64 - 1, None], pa.uint64())}, {"missing_field": 1}),
    ],
)  # fmt: skip
def test_what_only_arrow_can_hold_is_judged_row_by_row(
    tmp_path: Path, given: dict[str, Any], rejected: dict[str, int]
) -> None:
    import pyarrow.parquet as pq

    path = str(tmp_path / "a.parquet")
    pq.write_table(pa.table(M | given), path)
    tally = run([path], settings()).tally
    assert {str(reason): count for (_, reason), count in tally.rejections.items()} == rejected
    assert tally.usable == 3 - sum(rejected.values())


def test_vectors_have_times_of_nanoseconds_without_pandas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq
    from pyarrow.lib import _pandas_api

    assert _pandas_api.have_pandas is not None
    monkeypatch.setitem(sys.modules, "pandas", None)
    stamps = pa.array([1_760_000_000_123_456_789] * 3, pa.timestamp("ns"))
    outputs = pa.array([[1.0, 2.0]] * 3)
    path = str(tmp_path / "a.parquet")
    pq.write_table(pa.table(M | {"ts": stamps, "prediction": outputs, "label": outputs}), path)
    (decoded,) = iter(sources._file(Path(path), settings()))
    assert decoded.pairs.times.tolist() == [1_760_000_000_123_456] * 3


def test_fields_may_lie_elsewhere(tmp_path: Path) -> None:
    events = pairs(50, 3_600)
    wanted = numbers(run([written(tmp_path / "a", events)], settings()))
    moved = [
        {
            "meta": {"at": e["ts"], "model": e["model"]},
            "y.hat": e["prediction"],
            "y": e["label"],
            "segments": e["segments"],
        }
        for e in events
    ]
    given = settings(format__fields=json.dumps(
        {"ts": "meta.at", "model": "meta.model", "prediction": "y\\.hat", "label": "y"}))  # fmt: skip
    assert numbers(run([written(tmp_path / "b", moved)], given)) == wanted
    assert numbers(run([columns(tmp_path / "b.parquet", moved)], given)) == wanted


# What can't be read.


def refusals(tmp_path: Path) -> dict[str, tuple[bytes, str]]:
    import pyarrow.parquet as pq

    good = past.lines(pairs(5_000, 3_600))
    squeezed = gzip.compress(good)
    events = pairs(5_000, 3_600)
    whole = Path(columns(tmp_path / "whole.parquet", events)).read_bytes()
    unnamed = Path(columns(tmp_path / "u.parquet", [{"ts": 1.76e9, "guess": 1.0, "was": 2.0}])).read_bytes()
    modelless = Path(columns(tmp_path / "m.parquet", [{"ts": 1.76e9, "prediction": 1.0, "label": 2.0}])).read_bytes()
    twice = io.BytesIO()
    columns_of = [pa.array(each) for each in (["m"], [1.0], [2.0], [3.0], [1.76e9])]
    pq.write_table(pa.Table.from_arrays(columns_of, ["model", "prediction", "label", "label", "ts"]), twice)
    return {
        "truncated gzip": (squeezed[: len(squeezed) // 2], "cut off"),
        "damaged gzip": (squeezed[:5_000] + b"\0" * 50 + squeezed[5_050:], ""),
        "truncated zstd": (zstandard.ZstdCompressor().compress(good)[:-200], "cut off"),
        "damaged zstd": (b"\x28\xb5\x2f\xfd" + b"\xff" * 100, ""),
        "truncated parquet": (whole[: len(whole) // 2], ""),
        "damaged parquet": (whole[:2_000] + b"\xff" * 3_000 + whole[5_000:], ""),
        "no label column": (unnamed, "no column for prediction or label among ts, guess, was"),
        "no model column": (modelless, "no column 'model'"),
        "two label columns": (twice.getvalue(), "several columns are called 'label'"),
        "no JSON": (b"price,1.0,2.0\n" * 10, "no event that can be used: malformed 10"),
        "empty": (b"", "no events"),
    }


@pytest.mark.parametrize("case", [
    "truncated gzip", "damaged gzip", "truncated zstd", "damaged zstd", "truncated parquet", "damaged parquet",
    "no label column", "no model column", "two label columns", "no JSON", "empty",
])  # fmt: skip
def test_what_cannot_be_read_is_said_in_one_line_and_nothing_is_written(
    tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data, why = refusals(tmp_path)[case]
    bad = tmp_path / "bad"
    bad.write_bytes(data)
    out = tmp_path / "out"
    out.mkdir()
    for kind in ("table", "json", "openmetrics", "parquet", "html"):
        options = command.Options([str(bad)], kind, output=str(out / f"x.{kind}"))
        assert command.replay(settings(), options) == 1
    said = capsys.readouterr()
    assert not said.out
    assert [line for line in said.err.splitlines() if str(bad) not in line or why not in line] == []
    assert len(said.err.splitlines()) == 5
    assert [*out.iterdir()] == []


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadSource, match="nowhere: No such file"):
        run([str(tmp_path / "nowhere")], settings())


@pytest.mark.parametrize("source", ["kafka://", "kafka://a?since=1h", "kafka://a?from=yesterday", "kafka://a/b"])
def test_a_range_that_is_none(source: str) -> None:
    with pytest.raises(SettingsError, match="kafka://"):
        run([source], settings())


def test_a_file_named_twice(tmp_path: Path) -> None:
    name = written(tmp_path / "a", pairs(10, 60))
    with pytest.raises(SettingsError, match="named twice"):
        run([name, name], settings())


def test_pipes_and_standard_input_are_sources_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`zcat … | msemon replay -` and `msemon replay <(…)`."""
    events = pairs(300, 3_600)
    wanted = numbers(run([written(tmp_path / "plain", events)], settings()))
    for name in ("a.jsonl.gz", "a.parquet"):
        data = Path((columns if name == "a.parquet" else written)(tmp_path / name, events)).read_bytes()
        pipe = tmp_path / f"pipe {name}"
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_bytes, args=[data])
        writer.start()
        assert numbers(run([str(pipe)], settings())) == wanted
        writer.join(10)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert numbers(run(["-"], settings())) == wanted


@pytest.mark.parametrize("squeeze", [bytes, gzip.compress, zstandard.ZstdCompressor().compress])
def test_a_byte_order_mark_belongs_to_no_line(tmp_path: Path, squeeze: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "a"
    path.write_bytes(squeeze(b"\xef\xbb\xbf" + past.lines(pairs(10, 60))))
    tally = run([str(path)], settings()).tally
    assert (tally.usable, dict(tally.rejections)) == (10, {})


def test_a_topic_named_twice() -> None:
    """Else only one of its ranges would be read."""
    with pytest.raises(SettingsError, match="a: named twice"):
        run(["kafka://a?to=2025-10-01T00:00:00Z", "kafka://a?from=2025-11-01T00:00:00Z"], settings())


def test_records_of_a_topic_that_cannot_be_read_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged batch is passed over, as by the daemon; but not in silence."""
    where = TopicPartition("a", 0)
    unpacking = types.SimpleNamespace(begin=lambda: None, skipped=[Skipped(where, 3, 2, "wrong checksum")])
    quiet = types.SimpleNamespace(**dict.fromkeys(("assign", "pause", "resume"), lambda _: None))
    quiet.seek, quiet.poll = lambda *_: None, lambda **_: {}
    monkeypatch.setattr(topics, "install", lambda _: unpacking)
    monkeypatch.setattr(topics, "positions", lambda _: {where: 5})
    with capture_logs() as logs:
        assert topics._Reader(quiet, {where: (3, 5)}).next(where) is None
    (line,) = logs
    assert (line["log_level"], line["offset"], line["records"], line["why"]) == ("warning", 3, 2, "wrong checksum")


def test_a_line_that_never_ends_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(past.lines(pairs(5, 60)) + b"x" * 30_000_000 + b"\n" + past.lines(pairs(5, 60, seed=4)))
    file = sources._file(path, settings())
    assert isinstance(file, lines.Lines)
    with path.open("rb") as data:
        held = [max(map(len, batch), default=0) for batch in file._lines(data, data)]
    assert max(held) <= 1_000_002 + lines._CHUNK
    done = run([str(path)], settings())
    assert (done.tally.usable, dict(done.tally.rejections)) == (10, {(str(path), "oversized"): 1})


def test_a_head_is_cut_where_a_time_is_reached() -> None:
    predictions, labels = halves(pairs(40, 600), 60.0)
    whole = [
        predictions[i] | {"label": 3.0} if i % 3 == 0 else each
        for i, each in enumerate((*predictions[:20], *labels[:20]))
    ]
    decoded = past_decoded(whole)
    head = Head.of(decoded, 0)
    assert head is not None
    seen: list[int] = []
    left: Head | None = head
    while left is not None:
        part, last_us, left = left.until(left.first_us)
        rows = sorted({*part.predictions.rows.tolist(), *part.labels.rows.tolist(), *part.pairs.rows.tolist()})
        assert rows
        seen += rows
        assert left is None or left.first_us > last_us
    assert seen == list(range(len(whole)))


def past_decoded(events: list[past.Event]) -> Any:
    from msemon.replaying.streams import by_event_time

    return by_event_time(as_json(events, settings()))


# What comes out.


def test_columns_for_notebooks(tmp_path: Path) -> None:
    name = written(tmp_path / "a", pairs(2_000, DAY))
    done = msemon.replay(name, step="1h", segments=[["country"]], windows={"lengths": ["6h"]})
    frame = done.to_pandas()
    assert len(frame) == len(done.columns["time"]) == len(done.to_polars())
    total = frame[frame["segment"] == ""]
    parts = frame[frame["segment"] != ""].groupby("time")["window_squared_error"].sum()
    np.testing.assert_allclose(total.set_index("time")["window_squared_error"], parts, rtol=1e-12)
    assert set(frame["window"]) == {"6h"}
    assert (total["rmse_lower"] <= total["rmse"]).sum() > 20
    bad = tmp_path / "bad.gz"
    bad.write_bytes(gzip.compress(past.lines(pairs(500, 60)))[:-50])
    with pytest.raises(ValueError, match="cut off"):
        msemon.replay(bad)
    with pytest.raises(ValueError, match=r"windows\.lengths"):
        msemon.replay(name, windows={"lengths": ["soon"]})
    file = tmp_path / "baseline.json"
    file.write_text("{")
    with pytest.raises(ValueError, match="truncated"):
        msemon.replay(name, baseline={"file": str(file)})


@pytest.mark.parametrize("kind", ["table", "json", "openmetrics", "parquet", "html"])
@pytest.mark.parametrize("half", [0, 1])
def test_one_half_alone_has_no_numbers_and_is_no_failure(tmp_path: Path, kind: str, half: int) -> None:
    name = written(tmp_path / "a", halves(pairs(50, 600), 60.0)[half])
    out = tmp_path / "out"
    assert command.replay(settings(), command.Options([name], kind, output=str(out))) == 0
    if kind == "parquet":
        import pyarrow.parquet as pq

        table = pq.read_table(out)
        assert (table.num_rows, table.column_names[:2], str(table.schema.field("time").type)) == (
            0, ["time", "model"], "timestamp[us, tz=UTC]",
        )  # fmt: skip


def three_weeks() -> list[past.Event]:
    """A model that ends, comes back and ends again, and one that is there at the end."""
    first, again = pairs(300, 3_600), pairs(200, 3_600, seed=3, begin=T0 + 7 * DAY)
    other = [each | {"model": "other"} for each in pairs(100, 3_600, seed=4, begin=T0 + 14 * DAY)]
    return [*first, *again, *other]


@pytest.mark.parametrize("record", [False, True])
def test_what_ended_on_the_way_is_told_too(tmp_path: Path, record: bool) -> None:
    events = three_weeks()
    done = run([written(tmp_path / "a", events)], settings(), record=record)
    found = numbers(done)
    assert found[SeriesKey("other", "")]["1h"]["pairs"] == 100
    for country in (None, "de"):
        own = [e for e in events[:500] if country in (None, e["segments"]["country"])]
        windows = found[SeriesKey("price", "", *(("country", country) if country else ()))]
        assert windows.keys() == {"all"}
        assert windows["all"] == pytest.approx(expected(own, 0.0) | {"weight": len(own)}, rel=1e-11)


@pytest.mark.parametrize("record", [False, True])
def test_what_has_ended_leaves_its_place_to_others(tmp_path: Path, record: bool) -> None:
    """As in the daemon, whether anybody looks on the way or not."""
    first, later = pairs(60, 600), pairs(60, 600, begin=T0 + 7 * DAY)
    for each in later:
        each["segments"] = {"country": each["segments"]["country"] + " later"}
    steady = [
        each | {"model": "steady", "segments": {"country": "x"}} for each in pairs(170, 7 * DAY, begin=T0 + 700.0)
    ]
    name = written(tmp_path / "a", sorted([*first, *steady, *later], key=lambda each: float(each["ts"])))
    done = run([name], settings(limits__total_series="5", **LONG), record=record)
    assert {key.segment for key in done.view.segments.keys} == {"x", "de later", "fr later", "us later"}


def test_the_report_has_what_ended_on_the_way(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    options = command.Options([written(tmp_path / "a", three_weeks())], "html", 3_600_000_000, str(out))
    assert command.replay(settings(), options) == 0
    text = out.read_text()
    assert "<h2>price</h2>" in text
    assert text.count("<svg") == 2


def test_names_are_no_formulas(tmp_path: Path) -> None:
    """Matplotlib would read what stands between two dollars, and refuse most of it."""
    events = [each | {"model": "a$x_$b", "segments": {"country": "$_$"}} for each in pairs(50, 3_600)]
    out = tmp_path / "report.html"
    assert command.replay(settings(), command.Options([written(tmp_path / "a", events)], "html", output=str(out))) == 0
    assert out.read_text().count("country=$_$") > 1  # in the table, and in the picture


def test_openmetrics_have_the_labels_that_a_scrape_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Escapes, and buckets by the names that the daemon has for them; a series at a time gives the same."""
    predictions, labels = halves(pairs(300, 3_600), 60.0)
    predictions = [each | {"model": 'a"\\\nb'} for each in predictions]
    names = [written(tmp_path / "p", predictions), written(tmp_path / "l", labels)]
    texts = []
    for size in (openmetrics._AT_ONCE, 1):
        monkeypatch.setattr(openmetrics, "_AT_ONCE", size)
        out = tmp_path / "om"
        options = command.Options(names, "openmetrics", output=str(out), labels={"job": 'x"y'})
        assert command.replay(settings(), options) == 0
        texts.append(out.read_text())
    assert texts[0] == texts[1]
    done = run(names, settings())
    live = render(done.view, True, select("all", "all")).decode()
    buckets = set(re.findall(r'le="([^"]*)"', live))
    assert set(re.findall(r'le="([^"]*)"', texts[0])) == buckets
    assert "2.592e+06" in buckets
    assert r'job="x\"y",model="a\"\\\ufffdb"' in texts[0].replace("�", "\\ufffd")


def test_a_reader_that_has_enough_is_no_failure(tmp_path: Path) -> None:
    """`msemon replay … | head -1`: no complaint, whatever is left."""
    name = written(tmp_path / "a", pairs(3_000, DAY))
    child = [sys.executable, "-m", "msemon", "replay", name, "--format", "openmetrics", "--step", "5m"]
    bare = {name: value for name, value in os.environ.items() if not name.startswith("MSEMON_")}  # settings, to a child
    with subprocess.Popen(child, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=bare) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline().startswith(b"# HELP")
        running.stdout.close()
        assert (running.stderr.read(), running.wait(60)) == (b"", 0)


def test_an_output_that_takes_nothing_is_said_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = written(tmp_path / "a", pairs(50, 600))
    assert command.replay(settings(), command.Options([name], output="/dev/full")) == 1
    assert capsys.readouterr().err == "msemon replay: /dev/full: No space left on device\n"


def test_an_output_that_may_not_be_written_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, _: path != tmp_path)  # the superuser may write anywhere
    options = command.Options([str(tmp_path / "nowhere")], "json", output=str(tmp_path / "out"))
    with pytest.raises(SettingsError, match="out: Permission denied"):
        command.replay(settings(), options)


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    name = written(tmp_path / "a", pairs(50, 600))
    assert command.replay(settings(), command.Options([name], output=str(pipe))) == 0
    reader.join(10)
    assert got[0].startswith("model")
    assert pipe.is_fifo()


def test_the_report_tells_of_each_model(tmp_path: Path) -> None:
    events = pairs(6_000, DAY, drift_from=0.7)
    events += [each | {"model": "<b>&", "segments": {"country": "<script>"}} for each in pairs(500, DAY, seed=5)]
    events.sort(key=lambda each: float(each["ts"]))
    learn = {"baseline__learn_after": "10m", "baseline__learn_time": "2h", "baseline__learn_pairs": "300"}
    out = tmp_path / "report.html"
    options = command.Options([written(tmp_path / "a", events)], "html", output=str(out))
    assert command.replay(settings(**learn), options) == 0
    text = out.read_text()
    assert text.count("<svg") == 2
    assert text.count("<h2>") == 2
    assert "drift at 2025-10-10T0" in text
    bands = [len(set(re.findall(r"PolyCollection_\d+", part))) for part in text.split("<svg")[1:]]
    assert bands == [3 + 1, 3 + 3]  # of "<b>&" and of "price": a band for each window, and one for each segment
    assert "$" not in text  # no mathematical text, which is not set
    assert "<script" not in text
    assert "&lt;b&gt;&amp;" in text
    assert "http://" not in text.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )


def test_table_and_json_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [written(tmp_path / "p", (two := halves(pairs(1_000, 3_600), 60.0))[0]), written(tmp_path / "l", two[1])]
    assert command.replay(settings(), command.Options(names)) == 0
    table = capsys.readouterr().out
    assert command.replay(settings(), command.Options(names, "json")) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["join"]["matched"] == 1_000
    whole = next(each for each in document["series"] if not each["segment"])["windows"]["all"]
    row = next(line.split() for line in table.splitlines() if line.startswith("price") and " all " in line)
    assert row[2:4] == [f"{whole['pairs']:,.0f}", number(whole["rmse"])]
    assert "joined 1,000" in table


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (command.Options(["a"], "parquet"), "--output"),
        (command.Options(["a"], "html"), "--output"),
        (command.Options(["a"], "table", labels={"job": "x"}), "--label"),
    ],
)
def test_options_that_do_not_go_together(options: command.Options, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        command.replay(settings(), options)
