"""What `make check` says of known weaknesses, with stand-ins for pip-audit."""

from __future__ import annotations

import json
import sys
import time

import pytest

from support import audit


def saying(packages: object, code: int) -> list[str]:
    """A command that reports as pip-audit does."""
    return [sys.executable, "-c", f"print({json.dumps({'dependencies': packages})!r}); raise SystemExit({code})"]


SOUND = {"name": "numpy", "version": "2.4.6", "vulns": []}
WEAK = {"name": "lz4", "version": "1.0", "vulns": [{"id": "CVE-2026-1"}, {"id": "CVE-2026-2"}]}


def test_without_a_known_weakness_the_check_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(saying([SOUND], 0)) == 0
    assert "No known weakness in the 1 packages" in capsys.readouterr().out


def test_a_known_weakness_fails_the_check_and_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(saying([SOUND, WEAK], 1)) == 1
    assert "lz4 1.0 has known weaknesses: CVE-2026-1, CVE-2026-2" in capsys.readouterr().err


def test_where_nobody_answers_it_says_that_nothing_was_checked(capsys: pytest.CaptureFixture[str]) -> None:
    broken = [sys.executable, "-c", "import sys; sys.exit('ConnectionError: no route')"]
    assert audit.main(broken) == 0
    assert capsys.readouterr().out == "NOT CHECKED for known weaknesses: ConnectionError: no route\n"


def test_an_answer_that_does_not_come_is_not_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    assert audit.main([sys.executable, "-c", "import time; time.sleep(60)"], timeout_s=0.5) == 0
    assert time.monotonic() - began < 30
    assert "no answer within 0.5 s" in capsys.readouterr().out


def test_what_is_asked_about_is_what_the_image_holds() -> None:
    command = audit.command(audit.LOCK)
    assert f"--requirement={audit.LOCK}" in command
    assert audit.LOCK.is_file()
