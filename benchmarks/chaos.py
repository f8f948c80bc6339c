"""The soak of the state: `python benchmarks/chaos.py [--events 3000000] [--rate 6000] [--minutes 20] …`.

Two replicas on the kafka store, Apache Kafka, four partitions; every few seconds a replica is killed, frozen or
stopped, once the broker restarts, and in the end both replicas are killed at once. Prints what the replicas add up to
beside what the log says; exit code 1 where a count differs at all or a sum by more than 1e-12.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[1] / "tests")]

from support.chaos import Plan, run


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill replicas under load and compare the counts with the log.")
    parser.add_argument("--events", type=int, default=3_000_000)
    parser.add_argument("--rate", type=int, default=6_000, help="events a second")
    parser.add_argument("--minutes", type=float, default=20.0, help="longest time to produce in")
    parser.add_argument("--every", type=float, default=5.0, help="mean seconds between two faults")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--directory", type=Path, help="for logs and the broker's data; kept")
    given = parser.parse_args()
    plan = Plan(given.events, given.rate, given.minutes, given.every, given.seed, catch_up_s=300.0)
    print(plan, flush=True)
    with tempfile.TemporaryDirectory(prefix="msemon-chaos-") as temporary:
        result = run(plan, given.directory or Path(temporary))
    print(result.table())
    return 1 if result.wrong or not result.rows else 0


if __name__ == "__main__":
    sys.exit(main())
