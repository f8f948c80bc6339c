"""A replay from its sources to what can be shown of it."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msemon.baseline_file import BadFile
from msemon.core import moments
from msemon.core.view import SeriesKey, Table, View
from msemon.events import Floats, Reason
from msemon.export.families import PER_MODEL, Selection, select
from msemon.replaying import columns
from msemon.replaying.engine import Engine, Episode, Tally
from msemon.replaying.recording import Recording
from msemon.replaying.sources import opened
from msemon.replaying.streams import BadSource, Stream, met
from msemon.settings import Settings, SettingsError, load
from msemon.settings.values import duration

ALL = "all"
"""Stands where a window's name does, for everything that was replayed."""

Progress = Callable[[Sequence[Stream], Tally], None]


@dataclass(slots=True)
class Replay:
    """What a replay found. `view` is of its end; `recording` of every step, where one was asked for."""

    view: View
    tally: Tally
    episodes: list[Episode]
    recording: Recording | None
    ended: Mapping[SeriesKey, Floats]  # counters (6,) of what has ended on the way, up to then

    @property
    def columns(self) -> dict[str, Any]:
        """The values over time as numpy columns of equal length: one row for each step, series and window.

        `time` is datetime64[us] in UTC, `model`, `version`, `dimension`, `segment` (both empty for a whole model) and
        `window` are texts, everything else float64 in the units of docs/metrics.md. Empty without a recording.
        """
        return {} if self.recording is None else columns.whole(self.recording)

    def to_pandas(self) -> Any:
        """The columns as a pandas DataFrame. Raises ImportError without pandas."""
        import pandas as pd

        return pd.DataFrame(self.columns)

    def to_polars(self) -> Any:
        """The columns as a polars DataFrame. Raises ImportError without polars."""
        import polars as pl

        found = self.columns
        return pl.DataFrame({name: values.tolist() if values.dtype == object else values
                             for name, values in found.items()})  # fmt: skip


def selection_of(settings: Settings) -> Selection:
    """What is recorded: everything of models, of segments what the settings export."""
    return Selection(PER_MODEL, select("all", settings.export.segment_metrics).segments)


def run(
    sources: Sequence[str],
    settings: Settings,
    *,
    step_us: int | None = None,
    record: bool = False,
    progress: Progress = lambda _, __: None,
) -> Replay:
    """Replay these sources. `step_us` is the shortest window where it is None.

    Raises BadSource, also where nothing of it can be used; BadFile; SettingsError.
    """
    step_us = step_us or round(min(length.seconds for length in settings.windows.lengths) * 1e6)
    names = [length.name for length in settings.windows.lengths]
    recording = Recording(names, selection_of(settings)) if record else None
    with opened(sources, settings) as streams:
        each = None if recording is None else recording.add
        engine = Engine(settings, met(streams), step_us, each, lambda tally: progress(streams, tally))
        view = engine.run()
    refused(sources, engine.tally)
    return Replay(view, engine.tally, engine.episodes, recording, engine.ended)


def refused(sources: Sequence[str], tally: Tally) -> None:
    """Raises BadSource where there is nothing that can be used."""
    if not tally.usable:
        counts: Counter[Reason] = Counter()
        for (_, reason), count in tally.rejections.items():
            counts[reason] += count
        why = ", ".join(f"{reason} {count:,}" for reason, count in counts.most_common())
        raise BadSource(f"{', '.join(sources)}: " + (f"no event that can be used: {why}" if why else "no events"))


def replay(*sources: str | Path, step: str | None = None, config: str | Path | None = None, **settings: Any) -> Replay:
    """Replay files and `kafka://` ranges as `msemon replay` does, for notebooks.

    `step` is a duration such as "1m": how often values are recorded and drift is looked for (the shortest window).
    Settings are a TOML file `config`, the environment, and keywords by section, which win: `windows={"lengths":
    ["1h"]}, segments=[["country"]]`.

    Raises ValueError for settings or sources that can't be used, with a line for each mistake.
    """
    flags: dict[str, str] = {}
    for section, value in settings.items():
        named = {f"{section}.{k}": v for k, v in value.items()} if isinstance(value, Mapping) else {section: value}
        flags |= {name: text if isinstance(text, str) else json.dumps(text) for name, text in named.items()}
    step_us = None if step is None else round(duration(step).seconds * 1e6)
    try:
        loaded = load(flags, None if config is None else str(config), None, os.environ)
        return run([str(source) for source in sources], loaded, step_us=step_us, record=True)
    except SettingsError as error:
        raise ValueError("\n".join(error.mistakes)) from None
    except (BadSource, BadFile) as error:
        raise ValueError(str(error)) from None


# What is shown of the end.


Numbers = dict[str, dict[str, float]]
"""By window, ALL for the whole replay; windows without pairs are left out."""


def models(done: Replay) -> list[tuple[SeriesKey, Numbers]]:
    """Each model and version with its numbers, also those that ended before the replay did: of these ALL alone."""
    return _summary(done, done.view.models, {key: sums for key, sums in done.ended.items() if not key.dimension})


def segments(done: Replay) -> list[tuple[SeriesKey, Numbers]]:
    """Each segment likewise."""
    return _summary(done, done.view.segments, {key: sums for key, sums in done.ended.items() if key.dimension})


def _summary(done: Replay, table: Table, ended: Mapping[SeriesKey, Floats]) -> list[tuple[SeriesKey, Numbers]]:
    keys = [*table.keys, *(ended.keys() - set(table.keys))]
    counters = np.zeros((6, len(keys)))
    counters[:, : len(table.keys)] = table.counters
    for i, key in enumerate(keys):
        counters[:, i] += ended.get(key, 0.0)
    of_windows = {name: _numbers(each) for name, each in zip(done.view.windows, table.windows, strict=True)}
    of_windows[ALL] = _totals(counters)
    out = []
    for i, key in enumerate(keys):
        shown = {name: {n: float(v[i]) for n, v in each.items() if math.isfinite(v[i])}
                 for name, each in of_windows.items() if i < each["pairs"].size and each["pairs"][i] > 0.0}  # fmt: skip
        out.append((key, shown))
    return sorted(out)


def _numbers(of_window: Floats) -> dict[str, Floats]:
    with np.errstate(all="ignore"):
        lower, upper = moments.rmse_bounds(of_window)
        return {
            "pairs": moments.pairs(of_window),
            "weight": moments.weight(of_window),
            "mse": moments.mse(of_window),
            "rmse": moments.rmse(of_window),
            "rmse_lower": lower,
            "rmse_upper": upper,
            "mae": moments.mae(of_window),
            "bias": moments.bias(of_window),
            "r2": moments.r2(of_window),
            "max_absolute_error": moments.max_absolute_error(of_window),
        }


def _totals(counters: Floats) -> dict[str, Floats]:
    pairs, weight, squared, absolute, over, under = counters
    with np.errstate(all="ignore"):
        mse = squared / weight
        return {
            "pairs": pairs,
            "weight": weight,
            "mse": mse,
            "rmse": np.sqrt(mse),
            "mae": absolute / weight,
            "bias": (over - under) / weight,
        }
