"""What did not run, by name and with its reason, at the end of every test session.

A test that needs something this machine lacks (Java, Prometheus, a browser) calls `not_run`. With
`MSEMON_TEST_REQUIRE_ALL=1` a test that did not run, for whatever reason, counts as failed: a green session then means
that everything ran.

It also sets a hard bound on each test: pytest-timeout's signal can't end a test that stands still inside C code or
swallows exceptions, so a little later faulthandler writes every thread's traceback and ends the session.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Generator
from typing import NoReturn

import pytest

PREFIX = "NOT RUN: "
REQUIRE_ALL = "MSEMON_TEST_REQUIRE_ALL"
SECTION = "not run"
"""Title of the section of a report that holds the reason: what a report carries from one process to another."""

GRACE_S = 30.0
"""How long after its timeout a test may still take to fail before the session is ended."""


def not_run(reason: str) -> NoReturn:
    """Leave the running test out, because of something this machine lacks; works in tests and in fixtures.

    `reason` says what is missing and, where there is one, the way to get it.
    """
    pytest.skip(PREFIX + reason)


class Report:
    """The plugin of one session: it remembers what did not run."""

    def __init__(self, require_all: bool, stderr: int) -> None:
        self._require_all = require_all
        self._stderr = stderr  # the real one, kept before pytest captures it
        self._not_run: dict[str, str] = {}  # by name; each worker collects, so a module may be told of several times

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Marks a skipped test; an expected failure is a result, and no skip."""
        report = yield
        if report.skipped and not hasattr(report, "wasxfail"):
            self._mark(report)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Marks a module that skipped itself while it was imported."""
        report = yield
        if report.skipped:
            self._mark(report)
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Notes what is marked, wherever it ran."""
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """The same for modules."""
        self._note(report)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Sets the hard bound while a test runs."""
        limit = timeout_s(item)
        if limit > 0:
            faulthandler.dump_traceback_later(limit + GRACE_S, exit=True, file=self._stderr)
        try:
            return (yield)
        finally:
            faulthandler.cancel_dump_traceback_later()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Lists what did not run, by reason."""
        if not self._not_run:
            return
        terminalreporter.section(f"{len(self._not_run)} not run")
        for reason in sorted(set(self._not_run.values())):
            terminalreporter.write_line(f"{reason}:")
            for name in sorted(name for name, why in self._not_run.items() if why == reason):
                terminalreporter.write_line(f"    {name}")
        if self._require_all:
            terminalreporter.write_line(f"{REQUIRE_ALL} is set: each of them counts as failed.")

    def _mark(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        reason = reason_of(report)
        report.sections.append((SECTION, reason))
        if self._require_all:
            report.outcome = "failed"
            report.longrepr = f"did not run, and {REQUIRE_ALL} is set: {reason}"

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        for title, reason in report.sections:
            if title == SECTION:
                self._not_run[report.nodeid] = reason


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Why it was skipped, without pytest's and our own prefix."""
    text = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ").removeprefix(PREFIX)


def timeout_s(item: pytest.Item) -> float:
    """The test's own timeout mark, else the session's; 0 means none."""
    mark = item.get_closest_marker("timeout")
    if mark is not None and (mark.args or "timeout" in mark.kwargs):
        return float(mark.kwargs["timeout"] if "timeout" in mark.kwargs else mark.args[0])
    return float(item.config.getoption("timeout", None) or item.config.getini("timeout") or 0)


def pytest_configure(config: pytest.Config) -> None:
    """Registers the plugin; pytest is not capturing at this moment, so standard error is the real one."""
    stderr = os.dup(sys.__stderr__.fileno() if sys.__stderr__ else 2)
    config.add_cleanup(lambda: os.close(stderr))
    config.pluginmanager.register(Report(os.environ.get(REQUIRE_ALL) == "1", stderr), "msemon-report")
