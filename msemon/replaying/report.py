"""A report that a person can read: one HTML file, each model's pictures and numbers in it, nothing from elsewhere."""

from __future__ import annotations

import html as markup
import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from msemon.core.view import SeriesKey
from msemon.events import Floats
from msemon.replaying.recording import Recording, Series
from msemon.replaying.run import Numbers, Replay, models, segments
from msemon.replaying.words import episode_text, number, said
from msemon.settings import Settings

SEGMENTS_SHOWN = 8
"""Of a model in the picture: those with the largest share of its squared error."""

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 3rem; border-top: 1px solid #8886; padding-top: 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }
th, td { text-align: right; padding: .15rem .8rem; border-bottom: 1px solid #8883; }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
svg { max-width: 100%; height: auto; background: #fff; }
.drift { color: #b3261e; font-weight: 600; }
"""
_PLAIN: Any = {"svg.hashsalt": "msemon", "svg.fonttype": "none", "text.parse_math": False}
_RED, _GREY = "#b3261e", "#6e7781"


def html(done: Replay, settings: Settings) -> str:
    """The report. `done` has a recording."""
    recording = done.recording
    assert recording is not None
    parts = ["<h1>msemon replay</h1>", "<p>" + "<br>".join(map(markup.escape, said(done))) + "</p>"]
    parts_of = segments(done)
    for key, windows in models(done):
        own = [(k, w) for k, w in parts_of if k[:2] == key[:2]]
        parts.append(f"<h2>{markup.escape(f'{key.model} {key.version}'.rstrip())}</h2>")
        parts += _episodes(done, key)
        if key in recording.models.keys:  # else it came and went within one step
            with mpl.rc_context(_PLAIN):
                parts.append(_picture(recording, done, key, settings))
        parts.append(_numbers([(key, windows), *own]))
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>msemon replay</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _episodes(done: Replay, key: SeriesKey) -> list[str]:
    own = [each for each in done.episodes if each.change.key[:2] == key[:2]]
    if not own:
        return ["<p>No drift was found.</p>"]
    items = [
        f"<li{' class=drift' if each.change.active else ''}>{markup.escape(episode_text(each))}</li>" for each in own
    ]
    return ["<ul>", *items, "</ul>"]


def _numbers(rows: Sequence[tuple[SeriesKey, Numbers]]) -> str:
    heads = ("segment", "window", "pairs", "RMSE", "lower", "upper", "MAE", "bias", "R²")
    names = ("rmse", "rmse_lower", "rmse_upper", "mae", "bias", "r2")
    lines = ["<table><tr>" + "".join(f"<th>{head}</th>" for head in heads) + "</tr>"]
    for key, windows in rows:
        for window, numbers in windows.items():
            cells = [f"{key.dimension}={key.segment}" if key.dimension else "all", window, f"{numbers['pairs']:,.0f}"]
            cells += [number(numbers[name]) if name in numbers else "" for name in names]
            lines.append("<tr>" + "".join(f"<td>{markup.escape(cell)}</td>" for cell in cells) + "</tr>")
    return "\n".join([*lines, "</table>"])


def _picture(recording: Recording, done: Replay, key: SeriesKey, settings: Settings) -> str:
    """RMSE with bounds by window, by segment, label delay and coverage, one above the other on one time axis."""
    times = recording.times.astype("datetime64[us]")
    models = recording.models
    place = models.keys.index(key)
    lengths = sorted(settings.windows.lengths)
    figure = Figure(figsize=(10, 11), layout="constrained")
    by_window, by_segment, coverage, delay = figure.subplots(4, 1, sharex=True, height_ratios=(3, 3, 1.5, 1.5))
    for length in lengths:
        _bounded(by_window, models, times, place, length.name, label=length.name)
    baseline = np.sqrt(_of(models, "baseline_mse", place))
    if np.isfinite(baseline).any():
        by_window.plot(times, baseline, color=_GREY, linestyle="--", linewidth=1, label="baseline")
    for axes in (by_window, by_segment):
        _shade(axes, done, key)
    _finish(by_window, "RMSE by window, in its 95 % bounds (red: drift)")
    _segments(by_segment, recording, times, key, lengths[min(1, len(lengths) - 1)].name)
    for length in lengths:
        made, labelled = (_of(models, name, place, length.name) for name in ("window_predictions", "window_labelled"))
        with np.errstate(all="ignore"):
            coverage.plot(times, labelled / made, label=length.name, linewidth=1)
    coverage.set_ylim(-0.03, 1.03)
    _finish(coverage, "Share of predictions whose label has come")
    _delays(delay, models, place, times)
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def _bounded(axes: Any, series: Series, times: Any, place: int, window: str, label: str) -> None:
    """A series' RMSE over one window, and its bounds as a band where they were recorded."""
    line = axes.plot(times, _of(series, "rmse", place, window), label=label, linewidth=1.2)[0]
    lower, upper = (series.column(name, window) for name in ("rmse_lower", "rmse_upper"))
    if lower is not None and upper is not None:
        band = [series.values(column, place, place + 1)[:, 0] for column in (lower, upper)]
        axes.fill_between(times, *band, alpha=0.15, color=line.get_color(), linewidth=0)


def _of(series: Series, name: str, place: int, window: str | None = None) -> Floats:
    column = series.column(name, window)
    assert column is not None, name
    return series.values(column, place, place + 1)[:, 0]


def _segments(axes: Any, recording: Recording, times: Any, key: SeriesKey, window: str) -> None:
    """RMSE of the segments that make most of the squared error, in one window."""
    series = recording.segments
    places = [i for i, other in enumerate(series.keys) if other[:2] == key[:2]]
    if series.column("rmse", window) is not None and places:
        squared = series.find("window_squared_error", window)
        shares = np.zeros(len(places)) if squared is None else np.nansum(squared[:, places], axis=0)
        for i in np.argsort(-shares, kind="stable")[:SEGMENTS_SHOWN].tolist():
            other = series.keys[places[i]]
            _bounded(axes, series, times, places[i], window, label=f"{other.dimension}={other.segment}")
    _finish(axes, f"RMSE over {window} of the segments with the largest squared error, in their 95 % bounds")


def _delays(axes: Any, series: Series, place: int, times: Any) -> None:
    """Median and 95th percentile of the label delay so far, by the histogram's buckets."""
    columns = [c for c in series.columns if c.name == "label_delay_seconds_bucket"]
    if columns:
        counts = np.stack([series.values(column, place, place + 1)[:, 0] for column in columns])
        bounds = np.array([float(column.label[1]) for column in columns if column.label])
        for share, name in ((0.5, "median"), (0.95, "95th percentile")):
            with np.errstate(all="ignore"):
                reached = (counts >= share * counts[-1]).argmax(axis=0)
            seconds = np.where(np.nan_to_num(counts[-1]) > 0, bounds[reached], np.nan)
            axes.step(times, np.where(np.isfinite(seconds), seconds, np.nan), where="post", label=name, linewidth=1)
        if np.nansum(counts[-1]):
            axes.set_yscale("log")
            axes.yaxis.set_minor_locator(LogLocator(subs=(3.0,)))
            for formatted in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
                formatted(lambda seconds, _: f"{seconds:g}")  # the log scale's own is mathematical text
    _finish(axes, "Label delay so far, seconds (upper end of the histogram's bucket)")


def _shade(axes: Any, done: Replay, key: SeriesKey) -> None:
    """Where the model itself, or for its segments one of them, was in drift."""
    begun: dict[SeriesKey, int] = {}
    for each in done.episodes:
        if each.change.key[:2] != key[:2]:
            continue
        if each.change.active:
            begun[each.change.key] = each.at_us
        elif each.change.key in begun:
            _span(axes, begun.pop(each.change.key), each.at_us)
    for at_us in begun.values():
        _span(axes, at_us, done.tally.last_us)


def _span(axes: Any, begin_us: int, end_us: int) -> None:
    begin, end = (np.datetime64(time, "us") for time in (begin_us, end_us))
    axes.axvspan(begin, end, color=_RED, alpha=0.1, linewidth=0)


def _finish(axes: Any, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=8, loc="upper left", ncols=4, frameon=False)
