"""The simulated fleet on its own, against any broker: `python -m msemon.demo --bootstrap HOST:PORT`."""

from __future__ import annotations

import argparse
import math
import signal
import sys

from msemon.demo.drift import USUAL, Drift, place
from msemon.demo.fleet import LABELS_TOPIC, PREDICTIONS_TOPIC
from msemon.demo.producer import Fleet, quiet_kafka


def main(arguments: list[str] | None = None) -> int:
    """Send until `--duration` is over, SIGINT or SIGTERM. Exit code 0: a broker was there; 1: none ever answered."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        drift = _drift(options)
    except ValueError as error:
        parser.error(f"drift: {error}")
    quiet_kafka()
    topics = {PREDICTIONS_TOPIC: options.predictions, LABELS_TOPIC: options.labels}
    fleet = Fleet(options.bootstrap, seed=options.seed, speed=options.speed, drift=drift, topics=topics)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: fleet.stop())
    connected = fleet.run(options.duration)
    print(f"{fleet.sent} messages sent, {fleet.failed} failed", flush=True)
    return 0 if connected else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m msemon.demo", description=__doc__)
    parser.add_argument("--bootstrap", required=True, metavar="HOST:PORT", help="a broker; waited for")
    parser.add_argument("--predictions", default=PREDICTIONS_TOPIC, metavar="TOPIC", help="default: %(default)s")
    parser.add_argument("--labels", default=LABELS_TOPIC, metavar="TOPIC", help="default: %(default)s")
    parser.add_argument("--duration", type=_positive, metavar="SECONDS", help="default: until stopped")
    parser.add_argument("--speed", type=_positive, default=1.0, metavar="X", help="multiplies the rate of events")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="the same seed sends the same values")
    drift = parser.add_argument_group("drift", "times are divided by the speed")
    drift.add_argument("--drift-in", type=place, metavar="MODEL:KEY=VALUE,…", help="default: price:country=FR")
    drift.add_argument("--drift-ratio", type=_positive, metavar="X", help="of its RMSE; 1: nothing drifts")
    drift.add_argument("--drift-after", type=float, metavar="SECONDS", help="from the start to the first beginning")
    drift.add_argument("--drift-for", type=float, metavar="SECONDS", help="from a beginning to its end")
    drift.add_argument("--drift-every", type=float, metavar="SECONDS", help="between beginnings; inf: once")
    parser.set_defaults(drift_in=(USUAL.model, USUAL.segment), drift_ratio=USUAL.ratio)
    parser.set_defaults(drift_after=USUAL.after_s, drift_for=USUAL.for_s, drift_every=USUAL.every_s)
    return parser


def _drift(options: argparse.Namespace) -> Drift:
    model, segment = options.drift_in
    return Drift(model, segment, options.drift_ratio, options.drift_after, options.drift_for, options.drift_every)


def _positive(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0.0):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


if __name__ == "__main__":
    sys.exit(main())
