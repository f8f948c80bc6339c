"""The simulated fleet on its own, against any broker: `python -m msemon.demo --bootstrap HOST:PORT`."""

from __future__ import annotations

import argparse
import math
import signal
import sys

from msemon.demo.producer import Fleet, quiet_kafka


def main(arguments: list[str] | None = None) -> int:
    """Send until `--duration` is over, SIGINT or SIGTERM. Exit code 0: a broker was there; 1: none ever answered."""
    options = _parser().parse_args(arguments)
    quiet_kafka()
    fleet = Fleet(options.bootstrap, seed=options.seed, speed=options.speed)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: fleet.stop())
    connected = fleet.run(options.duration)
    print(f"{fleet.sent} messages sent, {fleet.failed} failed", flush=True)
    return 0 if connected else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m msemon.demo", description=__doc__)
    parser.add_argument("--bootstrap", required=True, metavar="HOST:PORT", help="a broker; waited for")
    parser.add_argument("--duration", type=_positive, metavar="SECONDS", help="default: until stopped")
    parser.add_argument("--speed", type=_positive, default=1.0, metavar="X", help="multiplies the rate of events")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="the same seed sends the same values")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0.0):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


if __name__ == "__main__":
    sys.exit(main())
