"""`msemon baseline`: what the daemon would learn from all of these sources, as the file that it reads."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist

import numpy as np

from msemon.baseline_file import BadFile, Entry, entries, written
from msemon.core.baseline import FIELDS, LEAST_PAIRS, Learner, Learning
from msemon.core.panes import Block
from msemon.core.task import Task
from msemon.core.view import SeriesKey
from msemon.core.watch import ANY
from msemon.replaying.command import check_place, placed, progress_bar
from msemon.replaying.engine import Engine
from msemon.replaying.run import Progress, refused
from msemon.replaying.sources import opened
from msemon.replaying.streams import BadSource, OfOneTask
from msemon.replaying.words import name, number, segment
from msemon.settings import Settings
from msemon.wiring import shape_of

CHANCE = 0.01
"""That a comparison calls any of its series changed where none is."""

_FOR_EVER = 1 << 62


@dataclass(frozen=True, slots=True)
class Options:
    """The command's own arguments."""

    sources: Sequence[str]
    output: str
    compare: str | None = None


def baseline(settings: Settings, options: Options) -> int:
    """The command: 0, or 1 with one line on stderr where something can't be read. Raises SettingsError."""
    check_place(options.output)
    try:
        old = None if options.compare is None else entries(Path(options.compare).read_bytes())
        with progress_bar() as progress:
            found, few = measure(options.sources, settings, progress)
        placed(options.output, lambda out: out.write(written(found)))
    except BadFile as error:
        print(f"msemon baseline: {options.compare}: {error}", file=sys.stderr)
        return 1
    except (BadSource, OSError) as error:
        print(f"msemon baseline: {error}", file=sys.stderr)
        return 1
    left_out = f"; {few:,} with less than {LEAST_PAIRS} pairs left out" if few else ""
    print(f"{options.output}: baselines of {len(found):,} series{left_out}")
    if old is not None:
        print("\n".join(compared(old, {entry.key: entry for entry in found})))
    return 0


def measure(sources: Sequence[str], settings: Settings, progress: Progress) -> tuple[list[Entry], int]:
    """An entry for each series that has enough pairs, by name, and how many have too few.

    All of the sources are learnt from as by one task that never has enough: from the first pair to the last, whatever
    `baseline.learn_*` and `baseline.file` say. Raises BadSource, SettingsError.
    """
    shape = replace(shape_of(settings), drift=False, learn_pairs=_FOR_EVER, learn_after_us=0, learn_time_us=0)
    step_us = round(max(length.seconds for length in settings.windows.lengths) * 1e6)
    with opened(sources, settings) as streams:
        # Where errors are spread over partitions, only together do they tell how much they hang together.
        whole = [OfOneTask(stream) for stream in streams]
        engine = Engine(settings, whole, step_us, None, lambda tally: progress(streams, tally), shape)
        engine.process.tasks[0].watch.kept_us = _FOR_EVER
        engine.run()
        refused(sources, engine.tally)
    learnt = _learnt(engine.process.tasks[0])
    keys = sorted(learnt)
    table = np.array([learnt[key] for key in keys]).reshape(len(keys), FIELDS).T
    learner = Learner(Learning(_FOR_EVER, 0, 0, shape.tolerated_ratio))
    learner.table = Block.of(np.arange(len(keys)), table)
    found = learner.measured(np.arange(len(keys)))
    enough = (found.pairs >= LEAST_PAIRS) & found.sound
    out = []
    for i in np.flatnonzero(enough).tolist():
        worst = bool(found.mse[i] > found.overall_mse[i])
        out.append(
            Entry(
                **{part: text for part, text in keys[i]._asdict().items() if text or part in ("model", "version")},
                mse=float(found.mse[i]),
                upper_mse=float(found.upper_mse[i]),
                pairs=int(found.pairs[i]),
                mean_weight=float(found.mean_weight[i]),
                variance_ratio=float(found.variance_ratio[i]),
                cv=float(found.cv[i]) or None,
                standard_error=float(found.standard_error[i]),
                overall_mse=float(found.overall_mse[i]) if worst else None,
                overall_standard_error=float(found.overall_standard_error[i]) if worst else None,
            )
        )
    if not out:
        raise BadSource(f"no series has {LEAST_PAIRS} pairs with a weight and an error: no baseline can be made")
    return out, len(keys) - len(out)


def _learnt(task: Task) -> dict[SeriesKey, Sequence[float]]:
    """The learner's column of each series, ended ones included."""
    sids, data = task.watch.learner.held()
    of_sid = dict(zip(sids.tolist(), data.T.tolist(), strict=True))
    living = {key: of_sid[sid] for sid, key in enumerate(task.series.keys) if key is not None and sid in of_sid}
    return {key: kept.learning for key, kept in task.watch.kept.items() if kept.learning} | living


# What has changed.


def compared(old: dict[SeriesKey, Entry], new: dict[SeriesKey, Entry]) -> list[str]:
    """A line for each series whose error has changed by more than chance, came or went, and one that sums up.

    The MSEs of all pairs are compared, by the ratio's logarithm: with standard errors wide enough for errors that hang
    together, and a limit so that all comparisons together call a change where none is in CHANCE of cases.
    """
    both = sorted(old.keys() & new.keys())
    limit = NormalDist().inv_cdf(1.0 - CHANCE / 2 / max(len(both), 1))
    lines, unknown = [], 0
    for key in both:
        before, after = _point(old[key]), _point(new[key])
        error = np.hypot(_spread(old[key]), _spread(new[key]))
        unknown += old[key].standard_error is None
        z = (
            np.log(after / before) / error
            if error > 0.0
            else np.inf * np.log(after / before)
            if after != before
            else 0.0
        )
        if abs(z) > limit:
            grown = "worse" if z > 0 else "better"
            lines.append(
                f"{grown}: {_called(key)}: MSE {number(before)} to {number(after)}, ×{after / before:.3g}, "
                f"{abs(z):.1f} standard errors"
            )
    lines += [f"new: {_called(key)}: MSE {number(_point(new[key]))}" for key in sorted(new.keys() - old.keys())]
    lines += [f"gone: {_called(key)}" for key in sorted(old.keys() - new.keys())]
    changed = sum(line.startswith(("worse", "better")) for line in lines)
    lines.append(f"{changed:,} of {len(both):,} series have changed by more than chance (limit {limit:.1f})")
    if unknown:
        lines.append(f"of {unknown:,} series the old file has no standard error: taken as exact")
    return lines


def _point(entry: Entry) -> float:
    return entry.mse if entry.overall_mse is None else entry.overall_mse


def _spread(entry: Entry) -> float:
    """Standard error of the MSE's logarithm: (SE / MSE) · √(1 + 6/√n) · √VIF."""
    error = entry.standard_error if entry.overall_mse is None else entry.overall_standard_error
    widened = np.sqrt((1.0 + 6.0 / np.sqrt(max(entry.pairs, 1))) * max(entry.variance_ratio, 1.0))
    return float((error or 0.0) / _point(entry) * widened)


def _called(key: SeriesKey) -> str:
    version = "" if key.version == ANY else key.version
    return f"{name(key._replace(version=version))} {segment(key)}".rstrip()
