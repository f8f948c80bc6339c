"""What all benchmarks say alike: the machine, versions, medians with their spread, and the figures of the page.

A script prints for people; `figure` also notes its values for `make bench`, which names a file in FIGURES.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
FIGURES = "MSEMON_BENCH_FIGURES"
"""The environment variable that names a file to which figures are appended, a JSON object a line."""


def short() -> bool:
    """Whether only to show that the benchmark works, on as little as that takes."""
    return "--short" in sys.argv


def machine() -> str:
    """What the figures are of.

    >>> " cores, " in machine()
    True
    """
    memory = psutil.virtual_memory().total / 1024**3
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {_processor()}, {platform.system()}, {_python()}"


def versions(packages: Iterable[str]) -> str:
    """Those of this interpreter's packages."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)


def median(values: Sequence[float]) -> float:
    """Their median.

    >>> median([3.0, 1.0, 2.0])
    2.0
    """
    return statistics.median(values)


def spread(values: Sequence[float]) -> str:
    """Median and extremes, to three digits.

    >>> spread([0.8, 0.75, 0.9])
    '0.8 (0.75 to 0.9)'
    >>> spread([1234.5])
    '1,230'
    """
    middle = digits(median(values))
    return middle if len(values) == 1 else f"{middle} ({digits(min(values))} to {digits(max(values))})"


def digits(value: float) -> str:
    """Three significant digits, thousands set apart.

    >>> digits(93_456.0), digits(0.12345), digits(7.0)
    ('93,500', '0.123', '7')
    """
    return f"{float(f'{value:.3g}'):,.12g}"


def figure(name: str, values: float | Sequence[float]) -> None:
    """Note what was measured under this name, for the page; `values` are of repeated measurements."""
    where = os.environ.get(FIGURES)
    if where:
        listed = [values] if isinstance(values, int | float) else list(values)
        with Path(where).open("a") as file:
            file.write(json.dumps({"name": name, "values": listed}) + "\n")


def figures(path: Path) -> dict[str, list[float]]:
    """What was noted in this file."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {each["name"]: each["values"] for each in map(json.loads, lines)}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown.

    >>> print(table(["a", "b"], [["1", "2"]]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _python() -> str:
    return f"Python {platform.python_version()}"
