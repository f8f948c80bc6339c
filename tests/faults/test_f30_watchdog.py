"""F30: where the loop stands still, for whatever reason, the process says where, and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from msemon.demo import child
from msemon.watchdog import Watchdog
from support.running import ROOT
from support.stuck import STALLED_S
from support.waiting import wait_until

START_S = 30.0
END_S = 5 * STALLED_S + 10.0


@contextmanager
def _stuck(log: Path, how: str) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon in trouble, from when it serves."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    with log.open("ab") as file:
        process = child.start([sys.executable, "-m", "support.stuck", how], file, environment)
    try:
        wait_until(lambda: '"serving"' in log.read_text() or process.poll() is not None, START_S, "it to serve")
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("waits", "the loop has not turned for"),
        ("spins", "the loop has not turned for"),
        ("holds the interpreter", "Timeout"),
        ("network thread dies", "network thread has died"),
    ],
)
def test_f30_a_loop_that_stands_still_ends_the_process(tmp_path, how, said):
    """Non-zero and soon, with the reason in the log; where it hangs, with every thread's stack."""
    log = tmp_path / "stuck.log"
    with _stuck(log, how) as process:
        began = time.monotonic()
        assert process.wait(END_S) == 1
        assert time.monotonic() - began < END_S
    text = log.read_text()
    assert said in text
    assert ("_trouble" in text) == (how != "network thread dies"), text


def test_f30_a_stop_that_hangs_is_ended_too(tmp_path):
    """SIGTERM, and the client never comes back from leaving the group: not later than after ten seconds."""
    log = tmp_path / "stuck.log"
    with _stuck(log, "does not end") as process:
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(15.0) == 1
        assert time.monotonic() - began < 10.5
    assert "stopping takes too long" in log.read_text()


def test_f30_a_process_that_was_frozen_is_not_taken_for_one_that_hangs(tmp_path):
    """SIGSTOP for longer than the loop may stand still, then SIGCONT: it goes on, and still stops as asked."""
    log = tmp_path / "stuck.log"
    with _stuck(log, "frozen") as process:
        wait_until(lambda: "now" in log.read_text(), START_S, "the first turns")
        process.send_signal(signal.SIGSTOP)
        frozen = time.monotonic()
        wait_until(lambda: time.monotonic() - frozen > 1.5 * STALLED_S, 60, "the time to pass", every_s=0.1)
        process.send_signal(signal.SIGCONT)
        thawed = time.monotonic()
        wait_until(lambda: process.poll() is not None or time.monotonic() - thawed > STALLED_S, 60, "it to go on")
        assert process.poll() is None, log.read_text()
        process.terminate()
        assert process.wait(15.0) == 0


def _watchdog(
    turned: list[float], ailing: list[str | None], stalled_s: float = 30.0, look_s: float = 0.01
) -> tuple[Watchdog, list[int]]:
    ended: list[int] = []
    watchdog = Watchdog(lambda: turned[0], lambda: ailing[0], stalled_s=stalled_s, look_s=look_s, end=ended.append)
    return watchdog, ended


def test_f30_the_watchdog_leaves_a_loop_that_turns_alone():
    """And a reason to end, once there is one, is heard at the next look."""
    ailing: list[str | None] = [None]
    turned = [time.monotonic()]
    watchdog, ended = _watchdog(turned, ailing)
    watchdog.start()
    looks = threading.Event()
    assert not looks.wait(0.2)
    assert not ended
    ailing[0] = "no memory"
    wait_until(lambda: ended == [1], 5, "the end")
    watchdog.stop()


def test_f30_a_watchdog_that_is_stopped_ends_nothing():
    """Though the loop does not turn any more, as after a stop in order."""
    watchdog, ended = _watchdog([0.0], [None], stalled_s=0.3)
    watchdog.start()
    watchdog.stop()
    over = threading.Event()
    assert not over.wait(0.6)
    assert not ended
