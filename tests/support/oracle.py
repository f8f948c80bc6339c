"""What `/metrics` has to say, worked out from all pairs at once with pandas and scikit-learn.

A frame of pairs has a row each: model, version, partition, time_us (the pair's), record_us (of the record that
completed it), prediction and label (numbers, or lists), weight, delay_us (NaN for a pair that was not joined), and a
column of clean text for every segment key. A frame of predictions: model, version, time_us, labelled.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from msemon.settings.values import Duration
from support.running import Daemon, Labels, Scrape

# The contract's precision: relative, and for what can cancel, of the size of its terms; nothing is said of the rest.
EXACT = 1e-12
R2_ABSOLUTE = 1e-9
BOUNDS = 1e-9

ENOUGH = 7  # effective pairs, for standard errors and bounds
BUCKETS_S = [1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, *(days * 86400 for days in (1, 3, 7, 14, 30)), math.inf]


class Window(NamedTuple):
    """A window by its name, the length of a pane in µs, and how many panes lie before that of now."""

    name: str
    pane_us: int
    panes: int

    def pane(self, now_us: int) -> int:
        return now_us // self.pane_us

    def holds(self, times_us: pd.Series, now_us: int) -> pd.Series:
        """Which of these times are in the window that ends with the pane of now."""
        panes = times_us // self.pane_us
        return (panes >= self.pane(now_us) - self.panes) & (panes <= self.pane(now_us))


def windows_of(lengths: Iterable[str], panes: int) -> list[Window]:
    return [Window(name, round(Duration(name).seconds * 1e6) // panes, panes) for name in lengths]


class Value(NamedTuple):
    """A value and how far from it an answer may be."""

    value: float
    tolerance: float

    def near(self, other: float) -> bool:
        return abs(other - self.value) <= self.tolerance


Expected = dict[tuple[str, Labels], Value]


def relative(value: float, precision: float = EXACT) -> Value:
    return Value(value, precision * abs(value))


def outputs(values: pd.Series) -> Any:
    """Numbers as (n,), lists as (n, outputs)."""
    return np.array(values.tolist(), dtype=np.float64)


def means_of(pairs: pd.DataFrame) -> dict[str, Value]:
    """The windowed families of some pairs, by name without prefixes; those that are absent are not there."""
    weights = pairs["weight"].to_numpy(dtype=np.float64)
    if not weights.sum() > 0:
        return {}
    predicted, label = outputs(pairs["prediction"]), outputs(pairs["label"])
    mse = mean_squared_error(label, predicted, sample_weight=weights)
    mae = mean_absolute_error(label, predicted, sample_weight=weights)
    errors = (predicted - label).reshape(len(pairs), -1)
    sums = sums_of(pairs)
    found = {
        "mse": relative(mse),
        "rmse": relative(math.sqrt(mse)),
        "mae": relative(mae),
        "bias": Value(float(np.average(errors.mean(axis=1), weights=weights)), EXACT * mae),
        "max_absolute_error": relative(float(np.abs(errors)[weights > 0].max())),
        "window_pairs": Value(len(pairs), 0),
        "window_weight": sums["weight_total"],
        "window_squared_error": sums["squared_error_total"],
        "window_absolute_error": sums["absolute_error_total"],
        "window_error": Value(
            math.fsum(weights * errors.mean(axis=1)), EXACT * sums["absolute_error_total"].value
        ),
    }  # fmt: skip
    if label.ndim == 1 and len(np.unique(label[weights > 0])) > 1:
        found["r2"] = Value(r2_score(label, predicted, sample_weight=weights), R2_ABSOLUTE)
    return found | _bounds(np.square(errors).mean(axis=1), weights, mse)


def _bounds(squared: Any, weights: Any, mse: float) -> dict[str, Value]:
    effective = weights.sum() ** 2 / np.square(weights).sum()
    if effective < ENOUGH:
        return {}
    variance = np.average(np.square(squared - mse), weights=weights)
    error = math.sqrt(variance / (effective - 1))
    half = 1.96 * error / mse * math.sqrt(1 + 6 / math.sqrt(effective)) if error else 0.0
    return {
        "mse_standard_error": relative(error, BOUNDS),
        "rmse_lower": relative(math.sqrt(mse * math.exp(-half)), BOUNDS),
        "rmse_upper": relative(math.sqrt(mse * math.exp(half)), BOUNDS),
    }


def sums_of(pairs: pd.DataFrame) -> dict[str, Value]:
    """The counters of some pairs, added up without rounding."""
    weights = pairs["weight"].to_numpy(dtype=np.float64)
    errors = (outputs(pairs["prediction"]) - outputs(pairs["label"])).reshape(len(pairs), -1)
    columns = {
        "weight_total": np.ones_like(errors),
        "squared_error_total": np.square(errors),
        "absolute_error_total": np.abs(errors),
        "overprediction_total": np.maximum(errors, 0),
        "underprediction_total": np.maximum(-errors, 0),
    }
    found = {name: relative(math.fsum(weights * column.mean(axis=1))) for name, column in columns.items()}
    return {"pairs_total": Value(len(pairs), 0)} | found


@dataclass
class Oracle:
    """All that one process should export of its models and segments."""

    pairs: pd.DataFrame
    predictions: pd.DataFrame
    windows: Sequence[Window]
    dimensions: Sequence[Sequence[str]] = ()
    series_limit: int = 1_000
    record_times_known: bool = True
    """Whether `record_us` says which record completed a pair: not so where topics were read in any order."""

    _grouped: dict[tuple[str, str], pd.DataFrame] = field(init=False)

    def __post_init__(self) -> None:
        self._grouped = dict(iter(self.pairs.groupby(["model", "version"])))

    def now(self, pairs: pd.DataFrame, wall_us: int) -> int:
        """Where a model's windows end: the largest of its partitions' stream times, and of the wall clock less lags."""
        found = []
        for _, each in pairs.groupby("partition"):
            lag = max(0, int((each["record_us"] - each["time_us"]).min()))
            found.append(max(int(each["time_us"].max()), wall_us - lag))
        return max(found)

    def panes(self, wall_us: int) -> list[int]:
        """The pane of now of every model and window: two scrapes with the same ones show the same windows."""
        return [
            window.pane(self.now(pairs, wall_us)) for pairs in self._grouped.values() for window in self.windows
        ]  # fmt: skip

    def expected(self, wall_us: int) -> Expected:
        """Every sample about models and segments at this moment."""
        found: Expected = {}
        for (model, version), pairs in self._grouped.items():
            names = {"model": model, "version": version}
            now_us = self.now(pairs, wall_us)
            found |= self._family("msemon_", names, pairs, now_us)
            found |= self._of_model(names, pairs, now_us)
            for dimension, segment, part in self._segments(pairs):
                labels = names | {"dimension": dimension, "segment": segment}
                found |= self._family("msemon_segment_", labels, part, now_us)
        return found

    def _segments(self, pairs: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
        for keys in self.dimensions:
            for values, part in pairs.groupby(list(keys)):
                escaped = [value.replace("\\", "\\\\").replace(",", "\\,") for value in values]
                yield ",".join(keys), ",".join(escaped), part

    def _family(self, prefix: str, labels: dict[str, str], pairs: pd.DataFrame, now_us: int) -> Expected:
        found = {(prefix + name, place(labels)): value for name, value in sums_of(pairs).items()}
        for window in self.windows:
            there = pairs[window.holds(pairs["time_us"], now_us)]
            if len(there):
                at = place(labels | {"window": window.name})
                found |= {(prefix + name, at): value for name, value in means_of(there).items()}
        return found

    def _of_model(self, names: dict[str, str], pairs: pd.DataFrame, now_us: int) -> Expected:
        sums = sums_of(pairs)
        at = place(names)
        segments = sum(pairs.groupby(list(keys)).ngroups for keys in self.dimensions)
        found = {
            ("msemon_lifetime_pairs", at): sums["pairs_total"],
            ("msemon_lifetime_weight", at): sums["weight_total"],
            ("msemon_lifetime_squared_error", at): sums["squared_error_total"],
            ("msemon_stream_timestamp_seconds", at): Value(pairs["time_us"].max() / 1e6, 1e-6),
            ("msemon_series", at): Value(segments, 0),
            ("msemon_series_limit", at): Value(self.series_limit, 0),
            ("msemon_series_folded_total", at): Value(0, 0),
        }
        if self.record_times_known:
            found["msemon_last_pair_timestamp_seconds", at] = Value(pairs["record_us"].max() / 1e6, 1e-6)
        return found | self._coverage(names, now_us) | delays_of(names, pairs["delay_us"].dropna())

    def _coverage(self, names: dict[str, str], now_us: int) -> Expected:
        found: Expected = {}
        mine = self.predictions[
            (self.predictions["model"] == names["model"]) & (self.predictions["version"] == names["version"])
        ]
        for window in self.windows:
            there = mine[window.holds(mine["time_us"], now_us)]
            if len(there):
                at = place(names | {"window": window.name})
                found["msemon_window_predictions", at] = Value(len(there), 0)
                found["msemon_window_labelled", at] = Value(int(there["labelled"].sum()), 0)
        return found


def delays_of(names: dict[str, str], delays_us: pd.Series) -> Expected:
    """The histogram of label delays."""
    name = "msemon_label_delay_seconds"
    seconds = delays_us.clip(lower=0) / 1e6
    found = {
        (f"{name}_bucket", place(names | {"le": _bound(most)})): Value(int((seconds <= most).sum()), 0)
        for most in BUCKETS_S
    }
    found[f"{name}_count", place(names)] = Value(len(seconds), 0)
    found[f"{name}_sum", place(names)] = relative(math.fsum(seconds), 1e-9)
    return found


def _bound(most: float) -> str:
    if most == math.inf:
        return "+Inf"
    if most < 1e6:
        return str(float(most))
    mantissa, exponent = f"{most:.17e}".split("e+")
    return f"{mantissa.rstrip('0').rstrip('.')}e+{exponent}"  # as Go writes it


def place(labels: dict[str, str]) -> Labels:
    return frozenset(labels.items())


def differences(scrape: Scrape, expected: Expected) -> list[str]:
    """A line for each sample about models and segments that is missing, too much or wrong.

    What is learnt and alarmed is not the oracle's: tests/unit/test_drift_in_process.py holds it against its own.
    """
    found = {
        key: value for key, value in scrape.samples.items() if "model" in dict(key[1]) and not _LEARNT.match(key[0])
    }
    lines = []
    for key, value in found.items():
        wanted = expected.get(key)
        if wanted is None:
            lines.append(f"not expected: {_text(*key)} {value!r}")
        elif not wanted.near(value):
            lines.append(f"wrong: {_text(*key)} {value!r}, not {wanted.value!r} (tolerance {wanted.tolerance!r})")
    return lines + [f"missing: {_text(*key)} {expected[key].value!r}" for key in expected.keys() - found.keys()]


_LEARNT = re.compile("msemon_(segment_)?(baseline|drift)_")


def _text(name: str, labels: Labels) -> str:
    return f"{name}{dict(sorted(labels))}"


def agree(daemon: Daemon, oracle: Oracle, openmetrics: bool = False, ignore: Iterable[str] = ()) -> Scrape:
    """A scrape that says about models and segments exactly what the oracle says, and nothing else.

    Families in `ignore` are passed over. Windows end with the wall clock, so a scrape during which one moves on by a
    pane is not judged, and another one taken.
    """
    passed_over = set(ignore)
    for _ in range(10):
        before_us = time.time_ns() // 1000
        scrape = daemon.scrape(openmetrics)
        if oracle.panes(before_us) != oracle.panes(time.time_ns() // 1000):
            continue
        lines = differences(scrape, oracle.expected(before_us))
        lines = [line for line in lines if not any(f" {name}{{" in line for name in passed_over)]
        assert not lines, "\n".join(sorted(lines)[:50])
        return scrape
    raise AssertionError("the windows move on faster than can be scraped")
