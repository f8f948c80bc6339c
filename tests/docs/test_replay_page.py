"""The worked example with real data: the script of docs/examples and the command of the README, as they stand there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def command(page: str) -> list[str]:
    """The page's `msemon replay predictions.jsonl labels.jsonl …`, its lines joined."""
    text = (ROOT / page).read_text().replace("\\\n", " ")
    found = re.search(r"^msemon (replay predictions\.jsonl labels\.jsonl --.*)$", text, re.MULTILINE)
    assert found is not None
    return shlex.split(found[1])


def run(arguments: list[str], where: Path) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=where, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("example")
    run([str(ROOT / "docs/examples/water_flow.py")], where)
    return where


def test_the_readme_shows_the_errors_of_two_forecasts(written: Path) -> None:
    """The numbers are those of the series itself, by plain arithmetic."""
    shown = json.loads(run(["-m", "msemon", *command("README.md"), "--format", "json"], written))
    truth = {}
    for line in (written / "labels.jsonl").read_text().splitlines():
        event = json.loads(line)
        truth[event["id"]] = event["label"]
    squares: dict[str, list[float]] = {}
    for line in (written / "predictions.jsonl").read_text().splitlines():
        event = json.loads(line)
        squares.setdefault(event["version"], []).append((event["prediction"] - truth[event["id"]]) ** 2)
    assert sorted(squares) == ["last hour", "last week"]
    for each in shown["series"]:
        if not each["segment"]:
            own = squares[each["version"]]
            assert each["windows"]["all"]["pairs"] == len(own) > 1_000
            assert each["windows"]["all"]["mse"] == pytest.approx(sum(own) / len(own), rel=1e-11)


def test_the_page_makes_the_report(written: Path) -> None:
    run(["-m", "msemon", *command("docs/replay.md")], written)
    report = (written / "report.html").read_text()
    assert "water flow last hour" in report
    assert report.count("<svg") == 2
