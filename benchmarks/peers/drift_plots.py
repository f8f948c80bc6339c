"""The pictures of docs/drift-results.md: drift_plots.py NOTES.json DIRECTORY. Needs matplotlib, nothing of msemon."""

import json
import math
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "msemon", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3}
import matplotlib.pyplot as plt  # the backend is chosen first

notes, out = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
MARKS = {"msemon": "o", "ADWIN": "s", "Page–Hinkley": "^", "KSWIN": "D", "mean + k sigma": "v"}


def save(figure, name):
    figure.savefig(out / name, metadata={"Date": None}, bbox_inches="tight", facecolor="white")


def named(kind):
    """(name, detector, row) of the rivals' table."""
    for key, row in notes["rivals"].items():
        if key.startswith(kind + " | "):
            _, name, detector = key.split(" | ")
            yield name, detector, row


def false_alarms():
    names = list(dict.fromkeys(name for name, _, _ in named("rate")))
    figure, axes = plt.subplots(figsize=(7.5, 5))
    for detector, mark in MARKS.items():
        rows = [(name, row) for name, each, row in named("rate") if each == detector]
        if not rows:
            continue
        points = [(row["spans"] / max(row["alarms"], 1), names.index(name)) for name, row in rows]
        x, y = zip(*points, strict=True)
        axes.plot(x, y, mark, label=detector, markersize=8 if detector == "msemon" else 5)
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set(xscale="log", xlabel="mean time to a false alarm / T  (none seen: as if one)", yticks=range(len(names)))
    axes.set_yticklabels(names)
    axes.invert_yaxis()
    axes.legend(loc="upper left", bbox_to_anchor=(0.0, -0.12), ncols=5, frameon=False)
    save(figure, "drift-false-alarms.svg")


def delays():
    names = list(dict.fromkeys(name for name, _, _ in named("delay")))
    figure, axes = plt.subplots(figsize=(7.5, 3.5))
    for i, detector in enumerate(MARKS):
        medians = {n: row["median"] for n, d, row in named("delay") if d == detector}
        heights = [medians.get(name) or math.nan for name in names]
        axes.bar([x + 0.16 * (i - 2) for x in range(len(names))], heights, 0.16, label=detector)
    axes.set(yscale="log", ylabel="pairs to the alarm (median)", xticks=range(len(names)))
    axes.set_xticklabels(names, rotation=20)
    axes.legend(ncols=5, fontsize=8, loc="upper left", bbox_to_anchor=(0.0, 1.14), frameon=False)
    save(figure, "drift-delays.svg")


def example():
    noted = notes["example"]["Gaussian"]
    e = {name: noted[name][::3] for name in ("minute", "mse", "evidence", "active")} | {"threshold": noted["threshold"]}
    figure, (above, below) = plt.subplots(2, 1, figsize=(7.5, 4), sharex=True)
    above.plot(e["minute"], e["mse"], linewidth=1)
    above.set(ylabel="MSE, 5 m window", ylim=(0, None))
    below.plot(e["minute"], e["evidence"], linewidth=1.2)
    below.axhline(e["threshold"][0], color="tab:red", linewidth=1)
    below.text(2, e["threshold"][0] * 1.15, "threshold", color="tab:red")
    below.set(ylabel="evidence", xlabel="minutes", yscale="symlog", ylim=(0, None))
    for axes in (above, below):
        axes.fill_between(
            e["minute"], 0, 1, where=e["active"], transform=axes.get_xaxis_transform(), color="tab:red", alpha=0.15
        )
    save(figure, "drift-example.svg")


false_alarms()
delays()
example()
