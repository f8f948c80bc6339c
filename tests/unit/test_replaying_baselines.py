"""`msemon baseline`: a file the daemon takes, what the learner would have found, and what has changed since."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from msemon.baseline_file import BaselineFile, Entry, entries
from msemon.core.view import SeriesKey
from msemon.replaying import baselines
from msemon.replaying.baselines import Options, compared, measure
from msemon.replaying.run import run
from msemon.replaying.streams import BadSource
from support.past import T0, Event, halves, pairs, settings, written

LONG = {"windows__lengths": '["1h", "2d"]'}
MODEL, DE = SeriesKey("price", ""), SeriesKey("price", "", "country", "de")


def measured(path: Path, events: list[Event], **more: str) -> dict[SeriesKey, Entry]:
    found, _ = measure([written(path, events)], settings(**LONG, **more), lambda *_: None)
    return {entry.key: entry for entry in found}


def squares(events: list[Event]) -> np.ndarray[Any, Any]:
    return np.array([(each["prediction"] - each["label"]) ** 2 for each in events])


def test_numbers_are_those_of_plain_arithmetic(tmp_path: Path) -> None:
    events = pairs(3_000, 24 * 3_600)
    found = measured(tmp_path / "a", events)
    assert set(found) == {MODEL} | {SeriesKey("price", "", "country", c) for c in ("de", "fr", "us")}
    for key, own in ((MODEL, events), (DE, [e for e in events if e["segments"]["country"] == "de"])):
        q, entry = squares(own), found[key]
        assert entry.pairs == len(own)
        assert entry.overall_mse is None  # no hour has 200 pairs
        assert entry.mse == pytest.approx(q.mean(), rel=1e-11)
        assert entry.standard_error == pytest.approx(q.std() / np.sqrt(len(q) - 1), rel=1e-9)
        assert entry.mse < entry.upper < entry.mse * 1.3


def test_the_worst_hour_counts_and_the_whole_is_told_beside_it(tmp_path: Path) -> None:
    events = pairs(20_000, 24 * 3_600)
    begin = events[0]["ts"] // 3_600 * 3_600 + 5 * 3_600
    for each in events:
        if begin <= each["ts"] < begin + 3_600:
            each["label"] -= 10.0
    entry = measured(tmp_path / "a", events)[MODEL]
    worst = squares([each for each in events if begin <= each["ts"] < begin + 3_600])
    assert entry.mse == pytest.approx(worst.mean(), rel=1e-11)
    assert entry.overall_mse == pytest.approx(squares(events).mean(), rel=1e-11)


def test_it_is_what_the_learner_finds_of_the_same_pairs(tmp_path: Path) -> None:
    """The daemon's own learning, told to take in everything but the last pair."""
    events = pairs(5_000, 12 * 3_600)
    name = written(tmp_path / "a", events)
    learn = {"baseline__learn_pairs": "4999", "baseline__learn_after": "0s", "baseline__learn_time": "1s"}
    done = run([name], settings(segments="[]", **LONG, **learn))
    learnt = done.view.models.drift[:3, 0]
    entry = measured(tmp_path / "b", events[:-1], segments="[]")[MODEL]
    assert (entry.mse, entry.upper, entry.pairs) == pytest.approx(tuple(learnt), rel=1e-9)


def test_partitions_and_halves_are_learnt_from_as_one(tmp_path: Path) -> None:
    events = pairs(4_000, 6 * 3_600)
    whole = measured(tmp_path / "a", events)
    predictions, labels = halves(events, 30.0)
    names = [written(tmp_path / "p", predictions), written(tmp_path / "l", labels)]
    joined, _ = measure(names, settings(windows__clock="predicted", **LONG), lambda *_: None)
    for entry in joined:
        assert entry.overall_mse or entry.mse == pytest.approx(whole[entry.key].overall_mse or whole[entry.key].mse)
        assert entry.pairs == whole[entry.key].pairs


def test_a_series_that_has_ended_is_there(tmp_path: Path) -> None:
    early = pairs(600, 3_600)
    late = [each | {"model": "other"} for day in (10, 50, 90) for each in pairs(600, 3_600, 4, begin=T0 + day * 86_400)]
    found = measured(tmp_path / "a", early + late)  # though the daemon keeps a baseline for 30 days alone
    assert {key.model for key in found} == {"price", "other"}
    assert found[MODEL].pairs == 600


def test_the_daemon_takes_the_file_and_drift_is_measured_from_it(tmp_path: Path) -> None:
    out = tmp_path / "baseline.json"
    assert baselines.baseline(settings(**LONG), Options([written(tmp_path / "a", pairs(5_000, 86_400))], str(out))) == 0
    given = BaselineFile(str(out), 1.1).changed()
    assert given is not None
    assert given.keys() == entries(out.read_bytes()).keys()
    drifted = written(tmp_path / "b", pairs(5_000, 86_400, seed=9, drift_from=0.5))
    done = run([drifted], settings(baseline__file=str(out), **LONG), step_us=900_000_000)
    assert {each.change.key for each in done.episodes if each.change.active} >= {DE}
    calm = run([written(tmp_path / "c", pairs(5_000, 86_400, seed=8))], settings(baseline__file=str(out), **LONG))
    assert calm.episodes == []


def test_series_with_too_few_pairs_are_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = pairs(500, 3_600)
    for i, each in enumerate(events):
        each["segments"]["country"] = "de" if i % 10 else "fr"
    out = tmp_path / "out.json"
    assert baselines.baseline(settings(**LONG), Options([written(tmp_path / "a", events)], str(out))) == 0
    assert set(entries(out.read_bytes())) == {MODEL, DE}
    assert capsys.readouterr().out == f"{out}: baselines of 2 series; 1 with less than 200 pairs left out\n"
    with pytest.raises(BadSource, match="no series has 200 pairs"):
        measure([written(tmp_path / "b", events[:100])], settings(**LONG), lambda *_: None)


@pytest.mark.parametrize("old", [b"{", b'{"format": 1, "baselines": [{"model": "m", "mse": -1}]}', None])
def test_a_bad_old_file_is_said_and_nothing_is_written(
    tmp_path: Path, old: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "old.json", tmp_path / "out.json"
    if old is not None:
        path.write_bytes(old)
    options = Options([written(tmp_path / "a", pairs(500, 3_600))], str(out), str(path))
    assert baselines.baseline(settings(**LONG), options) == 1
    assert str(path) in capsys.readouterr().err
    assert not out.exists()


# Comparisons.


def test_what_has_changed_beyond_chance_is_told(tmp_path: Path) -> None:
    before = measured(tmp_path / "a", pairs(6_000, 86_400))
    after = measured(tmp_path / "b", pairs(6_000, 86_400, seed=2, drift_from=0.0))
    said = compared(before, after)
    assert [line.split(":")[0] for line in said[:-1]] == ["worse", "worse"]
    assert "price country=de" in said[1]
    assert said[-1].startswith("2 of 4 series")
    assert compared(after, before)[0].startswith("better: price:")
    del after[DE]
    assert "gone: price country=de" in compared(before, after)
    assert compared(after, before)[-2].startswith("new: price country=de")


def test_chance_alone_is_hardly_ever_called_a_change(tmp_path: Path) -> None:
    """At most CHANCE a comparison of all its series; 60 independent ones here, so 0.6 are expected at most and 5 or
    more come once in 3,000 times.
    """
    all_of = [measured(tmp_path / str(i), pairs(1_500, 20_000, seed=100 + i)) for i in range(40)]
    calls = sum(not compared(all_of[2 * i], all_of[2 * i + 1])[-1].startswith("0 of") for i in range(20))
    assert calls <= 2


def test_errors_that_hang_together_are_not_taken_for_a_change(tmp_path: Path) -> None:
    """AR(1) errors with φ = 0.9: their MSE over 4,000 pairs scatters three times as widely as that of independent ones,
    and taken for such some of them have changed.
    """
    found = []
    for seed in range(8):
        events, rng = pairs(4_000, 86_400, seed=seed), np.random.default_rng(seed)
        error = 0.0
        for each in events:
            error = 0.9 * error + rng.normal()
            each["label"] = each["prediction"] - error
        found.append(measured(tmp_path / str(seed), events, segments="[]"))
    independent = [{key: replace(entry, variance_ratio=1.0) for key, entry in each.items()} for each in found]
    assert all(compared(one, other)[-1].startswith("0 of 1") for one, other in combinations(found, 2))
    assert any(compared(one, other)[-1].startswith("1 of 1") for one, other in combinations(independent, 2))


def test_old_files_without_errors_are_taken_as_exact() -> None:
    old = {MODEL: Entry("price", 4.0, "")}
    new = {MODEL: Entry("price", 4.1, "", pairs=10_000, standard_error=0.01)}
    said = compared(old, new)
    assert said[0].startswith("worse: price: MSE 4 to 4.1")
    assert said[-1] == "of 1 series the old file has no standard error: taken as exact"


def test_the_file_is_readable(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    baselines.baseline(settings(**LONG), Options([written(tmp_path / "a", pairs(900, 3_600))], str(out)))
    content = json.loads(out.read_text())
    assert content["format"] == 1
    assert out.read_text().count("\n") > 20
    assert [each["model"] for each in content["baselines"]] == ["price"] * 4
