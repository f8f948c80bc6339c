"""Simulations of drift detection: how often it alarms for nothing, how soon it sees drift, how soon that is over.

    python benchmarks/drift.py [WORD…] [--scale X] [--page]

Many streams at once go through the modules the daemon uses (`msemon.core.drift`, `msemon.core.baseline`): panes in
three rings, looked at every second. Makes the rows whose names hold all the words, and notes each in
`benchmarks/drift.json`, so that it can be done in pieces; `--page` writes `docs/drift-results.md` and its pictures from
that. `--scale` makes runs longer or shorter.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import drift_page, drift_recovery, drift_rivals
from benchmarks.drift_fleet import delays, false_alarms
from benchmarks.drift_page import NOTES, Notes, Row
from benchmarks.drift_streams import GAUSS, RHO, STREAMS, YEAR_S, Autoregressive, Case, fixed
from msemon.events import Floats

Rows = Iterator[tuple[str, Callable[[], Row]]]
"""Names of rows, and what makes them."""


def cases(scale: float) -> dict[str, list[Case]]:
    """The tables of false alarms."""
    base = Case("", GAUSS, hours=12.0 * scale)
    learn = replace(base, learn=5_000, learn_s=3_600)
    short = replace(base, hours=4.0 * scale)
    slow = replace(base, rate=0.1 / 3600, step_s=1440, between_s=YEAR_S, hours=24 * 365 * scale)
    quick = replace(base, rate=1000.0, rings=((1, 60), (10, 60)), between_s=900.0, streams=40, hours=0.5 * scale)
    family = replace(base, between_s=1800.0, family=100, hours=6.0 * scale, level=RHO)
    day = replace(base, rate=1.0, step_s=5, hours=24.0, streams=50)
    t3 = fixed(STREAMS["Student-t3"])
    return {
        "null": [replace(base, name=name, draw=fixed(draw)) for name, draw in STREAMS.items()],
        "edge": [replace(base, name=name, draw=fixed(draw), level=RHO) for name, draw in STREAMS.items()],
        "baselines": [replace(learn, name=name, draw=fixed(draw)) for name, draw in STREAMS.items()],
        "autocorrelation": [
            replace(kind, name=f"AR(1) φ = {phi}, {text}", draw=partial(Autoregressive, phi), streams=200)
            for phi in (0.3, 0.5, 0.7, 0.9, 0.97)
            for text, kind in (
                ("given", short), ("learnt", learn),
                ("learnt, 12 tasks", replace(learn, tasks=12)),
            )
        ],
        "cycles": [
            replace(kind, name=f"{swing}, {text}", cycle=cycle, tide=tide)
            for swing, cycle, tide in (
                ("±20 %", 0.2, 0.0), ("±50 %", 0.5, 0.0), ("±50 %, least traffic at its worst", 0.5, -0.8),
            )
            for text, kind in (
                ("given: the daily mean", day),
                ("learnt in a day", replace(day, learn=5_000, learn_s=86_400)),
                ("learnt in 3 hours", replace(day, learn=5_000, learn_s=3 * 3600)),
            )
        ],
        "kinds": [
            replace(short, name="errors of 1e-6", scale=1e-6),
            replace(short, name="errors of 1e6", scale=1e6),
            replace(slow, name="0.1 pairs an hour"),
            replace(slow, name="0.1 pairs an hour, Student-t3", draw=t3),
            replace(quick, name="1000 pairs a second", level=RHO),
            replace(family, name="family of 100"),
            replace(family, name="family of 100, Student-t3", draw=t3),
            replace(short, name="4 tasks, learnt", learn=5_000, learn_s=3_600, tasks=4),
            replace(short, name="12 tasks, learnt", learn=5_000, learn_s=3_600, tasks=12),
            replace(short, name="12 tasks, learnt, Student-t3", learn=5_000, learn_s=3_600, tasks=12, draw=t3),
            replace(short, name="weighted", weighted=True, level=RHO),
            replace(short, name="vectors of 8", outputs=8, level=RHO),
            replace(short, name="10 % late by up to 10 min", late=0.1, level=RHO),
        ],
    }  # fmt: skip


def quantiles(pairs: Floats) -> Row:
    """Of pairs until something happened; NaN counts as never."""
    some = pairs[~np.isnan(pairs)]
    never = pairs.size - some.size
    whole = np.where(np.isnan(pairs), np.inf, pairs)
    median, late = np.quantile(whole, [0.5, 0.9], method="lower")
    return {"median": _finite(median), "late": _finite(late), "never": never}


def _finite(x: float) -> float | None:
    return float(x) if np.isfinite(x) else None


def rows_of_false_alarms(table: Sequence[Case]) -> Rows:
    def make(case: Case) -> Row:
        outcome = false_alarms(case)
        return {"spans": outcome.spans, "alarms": outcome.alarms}

    for case in table:
        yield case.name, partial(make, case)


def rows_of_delays() -> Rows:
    def make(case: Case, ratio: float, gradual_s: float) -> Row:
        return quantiles(delays(case, ratio, gradual_s))

    for name, draw in STREAMS.items():
        case = Case(name, fixed(draw), between_s=YEAR_S, streams=100)
        for ratio, gradual_s in ((1.2, 0), (1.5, 0), (2.0, 0), (4.0, 0), (2.0, 600), (4.0, 600)):
            yield f"{name} | {_change(ratio, gradual_s)}", partial(make, case, ratio, gradual_s)


def _change(ratio: float, gradual_s: float) -> str:
    return f"×{ratio:g}" + (f" over {gradual_s / 60:.0f} min" if gradual_s else "")


def rows_of_recovery(lasting_pairs: int) -> Rows:
    def make(name: str, ratio: float) -> Row:
        alarms = drift_recovery.alarmed(STREAMS[name], ratio, 100)
        back = drift_recovery.ended(alarms, STREAMS[name], 1.0, 8 * 3600, once=True)
        seconds = round(lasting_pairs / alarms.delay.size / 10)
        lasts = drift_recovery.ended(alarms, STREAMS[name], ratio, seconds, once=False)
        row = {"delay": float(np.median(alarms.delay)), "ends": lasts.ends, "pairs": lasts.pairs}
        return row | quantiles(back.after)

    for name in STREAMS:
        for ratio in (1.5, 2.0, 4.0):
            yield f"{name} | ×{ratio:g}", partial(make, name, ratio)


def rows_of_rivals() -> Rows:
    def tune(name: str) -> Row:
        return {"parameter": drift_rivals.tuned(name)}

    def parameter(name: str) -> float:
        return float(noted()["rivals"][f"parameter | {name}"]["parameter"])

    def rate(name: str, case: Case) -> Row:
        ours = name == "msemon"
        found = drift_rivals.msemon_rate(case) if ours else drift_rivals.rate(name, parameter(name), case)
        return {"spans": found[0], "alarms": found[1]}

    def delay(name: str, ratio: float, gradual_s: float) -> Row:
        if name == "msemon":
            return quantiles(drift_rivals.msemon_delay(ratio, gradual_s))
        return quantiles(drift_rivals.delay(name, parameter(name), ratio, gradual_s))

    for name in drift_rivals.RIVALS:
        yield f"parameter | {name}", partial(tune, name)
    for name in ("msemon", *drift_rivals.RIVALS):
        for case in drift_rivals.CASES:
            yield f"rate | {case.name} | {name}", partial(rate, name, case)
        for ratio, gradual_s in drift_rivals.CHANGES:
            yield f"delay | {_change(ratio, gradual_s)} | {name}", partial(delay, name, ratio, gradual_s)


def tables(scale: float) -> dict[str, Rows]:
    made = {"false alarms, " + name: rows_of_false_alarms(table) for name, table in cases(scale).items()}
    made["delays"] = rows_of_delays()
    made["recovery"] = rows_of_recovery(round(1_000_000 * scale))
    made["rivals"] = rows_of_rivals()
    made["example"] = iter([("Gaussian", drift_recovery.example)])
    return made


def noted() -> Notes:
    notes: Notes = json.loads(NOTES.read_text()) if NOTES.exists() else {}
    return notes


def in_order(notes: Notes) -> Notes:
    """As they stand in the tables, whenever they were made; what no table has any more comes last."""
    places = {(table, name): place for table, rows in tables(1.0).items() for place, (name, _) in enumerate(rows)}
    return {
        table: dict(sorted(rows.items(), key=lambda item: places.get((table, item[0]), len(places))))
        for table, rows in notes.items()
    }


def note(table: str, name: str, row: Row) -> None:
    """Beside what other runs note meanwhile."""
    with Path(__file__).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        notes = noted()
        notes.setdefault(table, {})[name] = row
        NOTES.write_text(json.dumps(notes, ensure_ascii=False, indent=0) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("words", nargs="*", help="that the names of the rows to make hold")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--page", action="store_true", help="write the page from what was noted, simulate nothing")
    said = parser.parse_args()
    if said.page:
        drift_page.write(in_order(noted()))
        return
    for table, rows in tables(said.scale).items():
        for name, make in rows:
            if not all(word in f"{table} | {name}" for word in said.words):
                continue
            begun = time.process_time()
            row = make() | {"scale": said.scale}
            row["cpu_s"] = round(time.process_time() - begun, 1)
            note(table, name, row)
            print(table, "|", name, "|", row["cpu_s"], "s", flush=True)


if __name__ == "__main__":
    main()
