"""Replaying Parquet: pairs a second of CPU time, beside decoding alone; and memory, which must not grow with the file.

python benchmarks/stage_replay.py [--short]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from benchmarks.measuring import figure, table

COUNTS = [20_000] if "--short" in sys.argv else [1_000_000, 10_000_000]
DAY_S = 86_400.0
SETTINGS = json.dumps({"segments": '[["country"]]'})

CHILD = """
import json, resource, sys, time
from msemon.replaying.run import run
from msemon.replaying.sources import opened
from msemon.settings import load

settings = load(json.loads(sys.argv[2]), environ={})
began = time.process_time()
if sys.argv[3] == "decode":
    with opened([sys.argv[1]], settings) as streams:
        pairs = sum(len(decoded.pairs.times) for stream in streams for decoded in stream)
else:
    pairs = run([sys.argv[1]], settings).tally.usable
spent = time.process_time() - began
print(json.dumps({"pairs": pairs, "s": spent, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def write(path: Path, count: int) -> None:
    """Whole pairs of 4 models in 8 countries over one day, in row groups of a million."""
    rng = np.random.default_rng(1)
    models, countries = np.array([f"model {i}" for i in range(4)]), np.array([f"c{i}" for i in range(8)])
    writer, begin = None, 0
    while begin < count:
        size = min(1_000_000, count - begin)
        at = 1_760_000_000.0 + np.sort(begin + rng.random(size) * size) / count * DAY_S
        prediction = rng.normal(100.0, 10.0, size)
        rows = pa.table({
            "model": models[rng.integers(4, size=size)],
            "ts": pa.array((at * 1e6).astype(np.int64), pa.timestamp("us", "UTC")),
            "prediction": prediction,
            "label": prediction - rng.normal(0.0, 3.0, size),
            "country": countries[rng.integers(8, size=size)],
        })  # fmt: skip
        writer = writer or pq.ParquetWriter(path, rows.schema)
        writer.write_table(rows)
        begin += size
    assert writer is not None
    writer.close()


def run(path: Path, what: str) -> dict[str, float]:
    command = [sys.executable, "-c", CHILD, str(path), SETTINGS, what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    said: dict[str, float] = json.loads(done.stdout)
    return said


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        for count in COUNTS:
            path = Path(directory) / f"{count}.parquet"
            write(path, count)
            decoding, whole = run(path, "decode"), run(path, "replay")
            assert decoding["pairs"] == whole["pairs"] == count
            figure(f"replay of {count:,} pairs, events per second of CPU", count / whole["s"])
            share = f"{decoding['s'] / whole['s']:.0%}"
            rows.append([f"{count:,}", f"{count / whole['s']:,.0f}", share, f"{whole['mib']:.0f}"])
    print(table(["pairs", "a second of CPU", "of it decoding", "MiB at most"], rows))


if __name__ == "__main__":
    main()
