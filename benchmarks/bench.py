"""All benchmarks, one after the other, and the page of their results: `make bench`, about 20 minutes.

    python benchmarks/bench.py [--output FILE] [--only WORD] [--short]

Every script has its time; one that fails or takes longer is said on the page and stops nothing else. Exit code 1 then.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from benchmarks import others
from benchmarks.measuring import FIGURES, ROOT, figures, machine, versions
from benchmarks.page import Told, page

HERE = ROOT / "benchmarks"
LIMIT_S = 240.0  # a script
LONGER_S = {"end_to_end.py": 2_400.0}  # its own 27 minutes, and a last run
ARGUMENTS = {"stage_state.py": ["--tasks", "4"]}
PACKAGES = ["numpy", "msgspec", "kafka-python", "crc32c", "confluent-kafka", "prometheus-client", "river", "orjson"]
SAID = 4_000  # characters of a failure


def scripts(only: str) -> list[str]:
    """The quick ones first."""
    stages = sorted(path.name for path in HERE.glob("stage_*.py"))
    return [name for name in ("memory.py", *stages, "end_to_end.py") if only in name]


def told(name: str, arguments: list[str], limit_s: float, noted: Path) -> Told:
    """Run one, showing what it says."""
    print(f"== {name} {' '.join(arguments)}", flush=True)
    process = subprocess.Popen(
        [sys.executable, str(HERE / name), *arguments], env=os.environ | {FIGURES: str(noted)}, cwd=ROOT, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    late = threading.Timer(limit_s, process.kill)
    late.start()
    lines = []
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    code = process.wait()
    in_time = late.is_alive()
    late.cancel()
    said = "".join(lines).strip()
    failure = None if code == 0 else f"exit code {code}" if in_time else f"not done after {limit_s:.0f} s"
    return Told(name, said if failure is None else said[-SAID:], failure)


def main() -> int:
    parser = argparse.ArgumentParser(description="All benchmarks and the page of their results.")
    parser.add_argument("--output", type=Path, default=HERE / "RESULTS.md")
    parser.add_argument("--only", default="", help="scripts with this in their name")
    parser.add_argument("--short", action="store_true", help="only to show that they work")
    options = parser.parse_args()
    if not options.short:
        for name in others.ENVIRONMENTS:  # before anything is measured
            try:
                others.python_of(name)
            except others.Unusable as problem:
                print(f"{name} can't be installed: {problem}", flush=True)
    began, load = time.monotonic(), os.getloadavg()
    with tempfile.TemporaryDirectory() as directory:
        noted = Path(directory) / "figures"
        said = []
        for name in scripts(options.only):
            arguments = ["--short"] if options.short else ARGUMENTS.get(name, [])
            said.append(told(name, arguments, LONGER_S.get(name, LIMIT_S), noted))
        found = figures(noted)
    facts = [
        f"{datetime.now(UTC):%Y-%m-%d}, {machine()}; Apache Kafka on the same machine" + (" (short)" * options.short),
        versions(["msemon", *PACKAGES]),
        f"the others': {', '.join(others.versions())}",
        f"load average before: {load[0]:.1f}; it took {(time.monotonic() - began) / 60:.0f} minutes",
    ]
    options.output.write_text(page(facts, found, said))
    print(f"written: {options.output}")
    return 1 if any(each.failure for each in said) else 0


if __name__ == "__main__":
    sys.exit(main())
