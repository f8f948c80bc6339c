"""The benchmarks' short form: each runs, and what it measures is right. How fast anything is, is not looked at."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import end_to_end, others, page, traffic
from benchmarks.measuring import digits, figures, spread

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
STAGES = sorted(path.name for path in BENCHMARKS.glob("stage_*.py"))


def run(name: str, noted: Path, *arguments: str, **environment: str) -> str:
    """What the script prints."""
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / name), "--short", *arguments],
        env=os.environ | {"MSEMON_BENCH_FIGURES": str(noted)} | environment,
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5_000:] + done.stderr[-5_000:]
    return done.stdout


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", ["memory.py", *STAGES])
def test_a_stage_runs(name, tmp_path):
    """And says something; what each asserts of itself holds."""
    assert run(name, tmp_path / "figures").strip()


@pytest.mark.timeout(300)
def test_end_to_end_every_subject_that_needs_no_installation_is_right(kafka, tmp_path):
    """A subject whose counts or MSE are wrong is left out by the script; none may be."""
    here = [each.name for each in end_to_end.SUBJECTS if each.client or not others.PEERS[each.name].environment]
    assert len(here) >= 9
    said = run("end_to_end.py", tmp_path / "figures", MSEMON_TEST_BOOTSTRAP=kafka)
    rows = dict(re.findall(r"^\| ([^|]+) \| [0-9,]+ \| ([^|]+) \|", said, re.MULTILINE))
    assert {name: rows.get(name) for name in here if "left out" in rows.get(name, "left out")} == {}
    noted = figures(tmp_path / "figures")
    assert {f"{one} / {other}" for one, other in end_to_end.RATIOS if {one, other} <= set(here)} <= noted.keys()


def test_what_differs_from_the_truth_is_told():
    log = traffic.Log("t", 8_000, 1_700_000_000_000)
    truth = traffic.truth(log)
    assert sum(n for n, _ in truth.values()) == 4_000
    assert traffic.mistakes(truth, log) == []
    key = next(iter(truth))
    n, mse = truth[key]
    for wrong in ((n + 1, mse), (n, mse * (1 + 1e-8))):
        assert len(traffic.mistakes(truth | {key: wrong}, log)) == 1
    assert len(traffic.mistakes({k: v for k, v in truth.items() if k != key}, log)) == 1


def test_the_log_holds_each_label_after_its_prediction():
    log = traffic.Log("t", 8_000, 1_700_000_000_000, tiers=7, waiting=40)
    seen, answered, times = set(), set(), []
    for key, value, time_ms in traffic.messages(log, 2):
        if b'"label"' in value:
            assert key in seen
            answered.add(key)
        else:
            seen.add(key)
        times.append(time_ms)
    assert (len(seen), len(answered)) == (1_010, 1_000)
    assert times == sorted(times)
    assert times[-1] <= log.newest_ms
    assert log.series == 2 * (1 + 3 + 3 * 7)


def test_the_page_says_what_was_measured_what_was_missed_and_what_failed():
    first, second = page.PROMISES[:2]
    found = {first.figure: [0.5, 0.9, 0.6]}
    told = [page.Told("stage_x.py", "numbers", None), page.Told("y.py", "", "exit code 1")]
    text = page.page(["a machine"], found, told)
    assert f"| {first.what} | 0.6 (0.5 to 0.9) | ≥ 0.75 | ≥ 0.85 | missed |" in text
    assert f"| {second.what} | not measured |" in text
    assert "- `y.py`: exit code 1" in text
    assert "numbers" in text


def test_verdicts_look_at_the_median_and_know_when_less_is_better():
    least = page.Promise("", "", 0.75, 0.85)
    most = page.Promise("", "", 64, 40, at_most=True)
    assert [least.verdict([value]) for value in (0.7, 0.75, 0.9)] == ["missed", "reached", "goal reached"]
    assert [most.verdict([value]) for value in (65, 64, 40)] == ["missed", "reached", "goal reached"]
    assert least.verdict([0.9, 0.1, 0.9]) == "goal reached"


def test_numbers_have_three_digits():
    assert [digits(value) for value in (93_456.0, 0.12345, 7.0, 1234.5)] == ["93,500", "0.123", "7", "1,230"]
    assert spread([0.8, 0.75, 0.9]) == "0.8 (0.75 to 0.9)"


def test_every_promise_with_a_ratio_end_to_end_is_measured_there():
    ratios = {f"{one} / {other}" for one, other in end_to_end.RATIOS}
    assert {each.figure for each in page.PROMISES if each.figure.startswith("msemon")} == ratios


def test_what_fails_end_to_end_stops_nothing_else_and_nothing_begins_once_the_time_is_over(monkeypatch, capsys):
    now = iter([0.0, 0.0, 1.0, 2.0, 3.0, 3.0, 3.0, 12.0, 12.0, 12.0])
    monkeypatch.setattr(end_to_end, "time", SimpleNamespace(monotonic=lambda: next(now)))
    subjects = [end_to_end.Subject(name, "long") for name in ("one", "fails", "three")]

    def measure(subject: end_to_end.Subject) -> float:
        if subject.name == "fails":
            raise RuntimeError("of\nno known kind")
        return 5.0

    results = end_to_end.Results()
    end_to_end.run_rounds(subjects, 2, 10.0, measure, results)
    assert results.missing == {"fails": "RuntimeError: of no known kind"}
    assert (results.rates["one"], results.rates["three"]) == ({0: 5.0, 1: 5.0}, {0: 5.0})
    assert "no time for three" in capsys.readouterr().out
