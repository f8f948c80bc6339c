"""The programs beside Python that some tests need: whether they are here, each asked within a time limit."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from support.report import not_run

PROBE_S = 20.0
"""How long a program may take to tell its version; Java and Maven start slowly on a cold machine."""


@dataclass(frozen=True)
class Tool:
    """A program, the oldest major version that will do, and where Debian has it, or that it does not."""

    name: str
    ask: tuple[str, ...]  # arguments that make it print its version
    package: str | None
    oldest: int = 0


JAVA = Tool("java", ("-version",), "default-jdk-headless", oldest=17)
MAVEN = Tool("mvn", ("-B", "--version"), "maven")
PROMETHEUS = Tool("prometheus", ("--version",), "prometheus")
PROMTOOL = Tool("promtool", ("--version",), "prometheus")
ALERTMANAGER = Tool("prometheus-alertmanager", ("--version",), "prometheus-alertmanager")  # as Debian calls it
AMTOOL = Tool("amtool", ("--version",), "prometheus-alertmanager")
OPENSSL = Tool("openssl", ("version",), "openssl")
SYSTEMD = Tool("systemd-analyze", ("--version",), "systemd", oldest=250)
HELM = Tool("helm", ("version", "--short"), None, oldest=3)
CHROMIUM = Tool("chromium", ("--version",), "chromium", oldest=120)
TOOLS = (JAVA, MAVEN, PROMETHEUS, PROMTOOL, ALERTMANAGER, AMTOOL, OPENSSL, SYSTEMD, HELM, CHROMIUM)


def found(tool: Tool) -> str | None:
    """Its path: on the PATH, or in this environment."""
    return shutil.which(tool.name) or shutil.which(tool.name, path=str(Path(sys.prefix) / "bin"))


def lack(tool: Tool) -> str | None:
    """Why the tool can't be used here, or None where it can."""
    path = found(tool)
    if path is None:
        return f"{tool.name} is not on the PATH"
    try:
        done = subprocess.run(
            [path, *tool.ask], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PROBE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        return f"{tool.name} does not answer: {problem}"
    if done.returncode != 0:
        return f"{tool.name} does not work: it exits with {done.returncode}"
    version = major(done.stdout + done.stderr)
    return f"{tool.name} is version {version}, too old: {tool.oldest} is needed" if version < tool.oldest else None


def major(text: str) -> int:
    """The first version number's first part: 17 of 'openjdk version "17.0.15"', 8 of Java's own '1.8.0'; else 0.

    >>> major('openjdk version "17.0.15" 2025-04-15'), major('java version "1.8.0_402"'), major("no number")
    (17, 8, 0)
    """
    found = re.search(r"(\d+)\.(\d+)", text) or re.search(r"(\d+)", text)
    if found is None:
        return 0
    parts = [int(part) for part in found.groups()]
    return parts[1] if parts[0] == 1 and len(parts) > 1 else parts[0]


@cache
def _lack_once(tool: Tool) -> str | None:
    return lack(tool)


def needs(tool: Tool) -> str:
    """The tool's path; where it can't be used the running test is listed as not run."""
    reason = _lack_once(tool)
    if reason is not None:
        not_run(f"{reason} (make test-deps)")
    return found(tool) or tool.name
