"""Fuzzes with atheris: `python tests/fuzz/run.py [TARGET] [SECONDS]`, each target where none is named, a minute long.

A crash is a finding: libFuzzer writes the input that led to it into the folder it was started in. What is found goes
into the corpus, with the change that mends it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the tests' own helpers

MINUTE_S = 60
MOST_MEMORY_MB = 2_048
LONGEST_S = 20  # for one input
LONGEST_BYTES = 65_536


def fuzz(name: str, seconds: int) -> None:
    """Never returns: libFuzzer ends the process, with another code than 0 where it found something."""
    import atheris

    with atheris.instrument_imports(include=["msemon", "fastavro"]):
        from fuzz.targets import CORPUS, TARGETS

    found = tempfile.mkdtemp(prefix=f"msemon-fuzz-{name}-")  # the first folder is where new inputs go
    limits = [f"-max_total_time={seconds}", f"-rss_limit_mb={MOST_MEMORY_MB}", f"-timeout={LONGEST_S}",
              f"-max_len={LONGEST_BYTES}"]  # fmt: skip
    atheris.Setup([sys.argv[0], *limits, "-print_final_stats=1", found, str(CORPUS / name)], TARGETS[name])
    atheris.Fuzz()


def main() -> int:
    words = sys.argv[1:]
    seconds = words.pop() if words and words[-1].isdigit() else str(MINUTE_S)
    if words:
        fuzz(words[0], int(seconds))
    from fuzz.targets import TARGETS

    ended = [subprocess.run([sys.executable, __file__, name, seconds], check=False).returncode for name in TARGETS]
    return int(any(ended))


if __name__ == "__main__":
    sys.exit(main())
