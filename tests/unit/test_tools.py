"""Probing for the programs that some tests need, and installing them."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from support import install, tools
from support.tools import Tool, lack

ECHO = Tool("probed", ("--version",), "probed-package", oldest=17)


def program(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Puts a program called `probed` on the path."""
    file = directory / "probed"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")


def test_a_program_that_is_new_enough_lacks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, "echo 'probed version \"17.0.15\"' >&2")
    assert lack(ECHO) is None


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'version \"1.8.0_402\"'", "version 8, too old: 17"),
        ("exit 3", "exits with 3"),
        ("echo no version", "version 0, too old"),
    ],
)
def test_a_program_that_will_not_do_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    program(tmp_path, monkeypatch, script)
    assert reason in (lack(ECHO) or "")


def test_a_program_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert lack(ECHO) == "probed is not on the PATH"


def test_a_program_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "PROBE_S", 0.2)
    program(tmp_path, monkeypatch, "exec sleep 30")
    begin = time.monotonic()
    assert "does not answer" in (lack(ECHO) or "")
    assert time.monotonic() - begin < 10


def test_without_rights_the_installation_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "sudo" else f"/usr/bin/{name}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert install.install(["maven"]) == "neither root nor a sudo without a password: apt-get install maven"


def test_without_apt_the_installation_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _, path=None: None)
    assert "maven prometheus" in (install.install(["maven", "prometheus"]) or "")


def test_what_is_still_missing_makes_the_installation_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "TOOLS", (Tool("no-such-program", (), "no-such-package"),))
    monkeypatch.setattr(shutil, "which", lambda _, path=None: None)
    monkeypatch.setattr(install, "run", lambda *_: True)
    assert install.main() == 1
    assert "no-such-program is not on the PATH" in capsys.readouterr().err


def test_what_is_installed_is_asked_for_without_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def run(command: Sequence[str], _: float) -> bool:
        commands.append(list(command))
        return True

    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(install, "run", run)
    assert install.install(["maven"]) is None
    probe, update, installed = commands
    assert probe == ["sudo", "-n", "true"]
    assert update[:3] == installed[:3] == ["sudo", "-n", "env"]
    assert {"DEBIAN_FRONTEND=noninteractive", "-y", "--no-install-recommends", "maven"} <= set(installed)
