"""The soak's short form: `make soak` in a minute, so that it is known to work and to fail where it should."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "soak.py"
EVENTS = 200_000


@pytest.mark.timeout(240)
def test_two_hundred_thousand_events_leave_memory_flat_and_sums_exact(kafka):
    """Exit code 0, and the table ends with all events."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), f"--events={EVENTS}", "--limit-minutes=3"],
        env=os.environ | {"MSEMON_TEST_BOOTSTRAP": kafka},
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{EVENTS:,} events in" in done.stdout
    assert "MiB: flat" in done.stdout
    assert "counts and sums equal what was produced" in done.stdout
