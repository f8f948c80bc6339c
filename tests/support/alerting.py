"""The project's rules and Alertmanager's configuration, and both made quick for tests that run in real time."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.compose import DEPLOY, read_yaml

RULES = DEPLOY / "prometheus" / "rules"
ALERTS = RULES / "msemon.alerts.yml"
RECORDS = RULES / "msemon.recording.yml"
ALERTMANAGER_FILE = DEPLOY / "alertmanager" / "alertmanager.yml"

Rule = dict[str, Any]

_DURATION = re.compile(r"(?<![\w.])(\d+)(m|h|d|w)(?![\w.])")
_SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 604800}


def alerts(group: str | None = None) -> dict[str, Rule]:
    """The alert rules by name, of one group or of all."""
    found = [each for each in read_yaml(ALERTS)["groups"] if group in {None, each["name"]}]
    return {rule["alert"]: rule for each in found for rule in each["rules"]}


def records() -> dict[str, Rule]:
    """The recording rules by name."""
    return {rule["record"]: rule for each in read_yaml(RECORDS)["groups"] for rule in each["rules"]}


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in (*alerts().values(), *records().values()))


def inhibitions() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_yaml(ALERTMANAGER_FILE)["inhibit_rules"]
    return found


def shortened(text: str, factor: int) -> str:
    """Rules with every duration divided: `for`, `keep_firing_for`, ranges, offsets and subquery steps. What is a number
    in an expression and the window's name in quotes stay. Nothing else differs from the rules as they are shipped.

    >>> shortened('max_over_time(x{window="24h"}[15m:1m] offset 1d) > 600', 30)
    'max_over_time(x{window="24h"}[30s:2s] offset 2880s) > 600'
    """

    def divided(match: re.Match[str]) -> str:
        return f"{max(1, int(match[1]) * _SECONDS[match[2]] // factor)}s" if int(match[1]) else match[0]

    quoted = re.split(r'("[^"\n]*")', text)
    return "".join(part if i % 2 else _DURATION.sub(divided, part) for i, part in enumerate(quoted))


def quick_alertmanager(webhook: str) -> dict[str, Any]:
    """Alertmanager's configuration as it is shipped, but for two things: it waits a second where that waits longer, and
    every receiver sends to this address with its own name at the end.
    """
    settings: dict[str, Any] = copy.deepcopy(read_yaml(ALERTMANAGER_FILE))
    settings["route"] |= {"group_wait": "1s", "group_interval": "1s"}
    for receiver in settings["receivers"]:
        receiver["webhook_configs"] = [{"url": f"{webhook}/{receiver['name']}"}]
    return settings


def write_shortened(directory: Path, factor: int) -> list[Path]:
    """Both rule files, shortened, in this directory."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for source in (RECORDS, ALERTS):
        written.append(directory / source.name)
        written[-1].write_text(shortened(source.read_text(encoding="utf-8"), factor), encoding="utf-8")
    return written
