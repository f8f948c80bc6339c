"""`make check` asks whether weaknesses are known of the packages in the image: pip-audit, within a time limit.

Exits with 1 where some are. Where nobody answers, or not in time, it says that nothing was checked and exits with 0:
no change of ours could mend that.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LIMIT_S = 90.0
SOURCE_S = 10
"""For one answer of whoever keeps the advisories."""

LOCK = Path(__file__).resolve().parents[2] / "deploy" / "docker" / "requirements.txt"
ACCEPTED: dict[str, str] = {}
"""Advisories that do not concern us, by their id, each with the reason."""


def command(lock: Path) -> list[str]:
    accepted = [f"--ignore-vuln={name}" for name in ACCEPTED]
    options = ["--require-hashes", "--disable-pip", "--no-deps", "--format=json", "--progress-spinner=off"]
    where = [f"--timeout={SOURCE_S}", f"--requirement={lock}"]
    return [sys.executable, "-m", "pip_audit", *options, *accepted, *where]


def ask(asked: Sequence[str], timeout_s: float) -> list[dict[str, Any]] | str:
    """The packages, each with what is known of it, or why that could not be had."""
    try:
        done = subprocess.run(
            asked, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {timeout_s:g} s"
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        said = done.stderr.strip().splitlines() or [f"pip-audit exits with {done.returncode}"]
        return said[-1][:300]
    return packages


def main(asked: Sequence[str] | None = None, timeout_s: float = LIMIT_S) -> int:
    """Says what was found; exit code as above."""
    packages = ask(asked or command(LOCK), timeout_s)
    if isinstance(packages, str):
        print(f"NOT CHECKED for known weaknesses: {packages}")
        return 0
    weak = [package for package in packages if package.get("vulns")]
    for package in weak:
        names = ", ".join(str(each["id"]) for each in package["vulns"])
        print(f"{package['name']} {package['version']} has known weaknesses: {names}", file=sys.stderr)
    if not weak:
        print(f"No known weakness in the {len(packages)} packages of the image.")
    return 1 if weak else 0


if __name__ == "__main__":
    sys.exit(main())
