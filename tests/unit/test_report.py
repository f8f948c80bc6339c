"""The end of a test session: what did not run, and what happens to a test that hangs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.report import PREFIX, REQUIRE_ALL, not_run

TESTS = Path(__file__).resolve().parents[1]

LACKING = """
import pytest
from support.report import not_run

@pytest.fixture
def browser():
    not_run("no browser")

def test_that_runs(): pass
def test_of_a_page(browser): pass
def test_of_a_tool(): not_run("no tool")
@pytest.mark.xfail
def test_expected_to_fail(): assert False
"""

# Python can't act on the signal while C code holds on, so only faulthandler can end this.
STUCK = """
import ctypes, signal, pytest, support.report

support.report.GRACE_S = 0.5

@pytest.mark.timeout(0.2)
def test_stuck():
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    ctypes.CDLL(None).sleep(60)
"""


def session(directory: Path, source: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A pytest session of its own over one test module."""
    (directory / "conftest.py").write_text('pytest_plugins = ["support.report"]')
    (directory / "test_it.py").write_text(source)
    (directory / "pytest.ini").write_text("[pytest]\n")
    inherited = {name: value for name, value in os.environ.items() if name != REQUIRE_ALL}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments, "test_it.py"]
    return subprocess.run(
        command,
        cwd=directory,
        env={**inherited, "PYTHONPATH": str(TESTS), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,  # starting pytest and its workers has taken more than 25 on a crowded machine
        check=False,
    )


def test_not_run_skips_the_test_with_its_reason() -> None:
    with pytest.raises(pytest.skip.Exception, match=f"^{PREFIX}no broker$"):
        not_run("no broker")


@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_end_names_what_did_not_run_and_why(tmp_path: Path, workers: str) -> None:
    done = session(tmp_path, LACKING, "--numprocesses", workers)
    assert done.returncode == 0, done.stdout
    assert "no browser:\n    test_it.py::test_of_a_page\nno tool:\n    test_it.py::test_of_a_tool\n" in done.stdout
    assert "1 passed, 2 skipped, 1 xfailed" in done.stdout


@pytest.mark.parametrize("workers", ["0", "2"])
def test_with_everything_required_what_did_not_run_counts_as_failed(tmp_path: Path, workers: str) -> None:
    done = session(tmp_path, LACKING, "--numprocesses", workers, **{REQUIRE_ALL: "1"})
    assert done.returncode == 1, done.stdout
    assert "    test_it.py::test_of_a_page\n" in done.stdout
    assert "1 failed, 1 passed, 1 xfailed, 1 error" in done.stdout


def test_with_everything_required_a_module_that_leaves_itself_out_fails_too(tmp_path: Path) -> None:
    source = 'import pytest\npytest.importorskip("no_such_module")\ndef test_nothing(): pass\n'
    assert session(tmp_path, source).returncode == 5
    for workers, code in (("0", 2), ("2", 1)):  # with workers pytest calls it failed, not interrupted
        done = session(tmp_path, source, "--numprocesses", workers, **{REQUIRE_ALL: "1"})
        assert done.returncode == code, done.stdout
        assert done.stdout.count("    test_it.py\n") == 1
        assert "no_such_module" in done.stdout


def test_a_session_in_which_everything_ran_says_nothing(tmp_path: Path) -> None:
    done = session(tmp_path, "def test_that_runs(): pass\n", **{REQUIRE_ALL: "1"})
    assert done.returncode == 0, done.stdout
    assert "not run" not in done.stdout


def test_a_test_stuck_beyond_its_signal_ends_the_session_with_a_traceback(tmp_path: Path) -> None:
    done = session(tmp_path, STUCK)
    assert done.returncode != 0
    assert "Timeout (" in done.stderr
    assert "in test_stuck" in done.stderr
