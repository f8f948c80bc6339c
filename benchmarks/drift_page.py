"""The page docs/drift-results.md, from what `drift.py` noted: tables from the notes, words from a template."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template
from typing import Any

from benchmarks.measuring import ROOT
from benchmarks.others import python_of

NOTES = Path(__file__).with_name("drift.json")
TEMPLATE = Path(__file__).with_name("drift-results.md.in")
PAGE = ROOT / "docs" / "drift-results.md"
IMAGES = ROOT / "docs" / "images"
DETECTORS = ("msemon", "ADWIN", "Page–Hinkley", "KSWIN", "mean + k sigma")

Row = dict[str, Any]
Notes = dict[str, dict[str, Row]]


def write(notes: Notes) -> None:
    """The page and its pictures."""
    parts = {name.removeprefix("false alarms, "): rates(rows) for name, rows in notes.items() if "false" in name}
    parts |= {"delays": delays(notes["delays"]), "recovery": recovery(notes["recovery"])}
    parts |= {"rivals_rates": rivals_rates(notes["rivals"]), "rivals_delays": rivals_delays(notes["rivals"])}
    parts["parameters"] = parameters(notes["rivals"])
    parts["cpu"] = f"{sum(row['cpu_s'] for rows in notes.values() for row in rows.values()) / 60:.0f}"
    PAGE.write_text(Template(TEMPLATE.read_text()).substitute(parts))
    script = ROOT / "benchmarks" / "peers" / "drift_plots.py"
    subprocess.run([python_of("plots"), script, NOTES, IMAGES], check=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def at_least(row: Row) -> float:
    """The lower 95 % bound of mean time / T, by Poisson's law."""
    alarms = row["alarms"]
    return float(row["spans"] / (alarms + 1.96 * math.sqrt(alarms) + 1.92 + 1.0))


def mean_time(row: Row) -> str:
    return f"{row['spans'] / row['alarms']:.2f}" if row["alarms"] else "none"


def rates(rows: dict[str, Row]) -> str:
    columns = ("streams", "T simulated", "false alarms", "mean time / T", "at least (95 %)")
    return table(
        columns,
        [(name, f"{r['spans']:.0f}", r["alarms"], mean_time(r), f"{at_least(r):.2f}") for name, r in rows.items()],
    )


def pairs(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def delays(rows: dict[str, Row]) -> str:
    columns = ("streams", "change", "median pairs", "90 %", "never")
    return table(columns, [(name, pairs(r["median"]), pairs(r["late"]), r["never"]) for name, r in rows.items()])


def recovery(rows: dict[str, Row]) -> str:
    columns = ("streams", "drift", "median pairs to the alarm", "from the return to its end", "90 %",
               "wrong ends", "in pairs of drift")  # fmt: skip
    return table(
        columns,
        [
            (name, pairs(r["delay"]), pairs(r["median"]), pairs(r["late"]), r["ends"], f"{r['pairs']:,}")
            for name, r in rows.items()
        ],
    )


def keeps(row: Row) -> bool:
    """Not more alarms than were set, by more than chance (95 %)."""
    return bool(row["alarms"] <= row["spans"] + 1.96 * math.sqrt(row["spans"]))


def rivals_rates(rows: dict[str, Row]) -> str:
    names = dict.fromkeys(key.split(" | ")[1] for key in rows if key.startswith("rate"))

    def cell(row: Row | None) -> str:
        if row is None:
            return "not run"
        return mean_time(row) if keeps(row) else f"**{mean_time(row)}**"

    return table(
        ("streams", *DETECTORS), [(n, *(cell(rows.get(f"rate | {n} | {d}")) for d in DETECTORS)) for n in names]
    )


def rivals_delays(rows: dict[str, Row]) -> str:
    names = dict.fromkeys(key.split(" | ")[1] for key in rows if key.startswith("delay"))

    def cell(row: Row | None) -> str:
        if row is None:
            return "not run"
        return pairs(row["median"]) + (f" ({row['never']} % never)" if row["never"] else "")

    return table(
        ("change", *DETECTORS), [(n, *(cell(rows.get(f"delay | {n} | {d}")) for d in DETECTORS)) for n in names]
    )


def parameters(rows: dict[str, Row]) -> str:
    found = {name: rows.get(f"parameter | {name}", {}).get("parameter", math.nan) for name in DETECTORS[1:]}
    return table(
        ("detector", "what is tuned", "to"),
        [
            ("ADWIN", "`delta`", f"{math.exp(-found['ADWIN']):.2g}"),
            ("Page–Hinkley", '`threshold`, with `delta=0.1`, `mode="up"`', f"{found['Page–Hinkley']:.0f}"),
            ("KSWIN", "the distance (of 30) that `alpha` stands for", f"{found['KSWIN']:.0f}"),
            ("mean + k sigma", "k, for means of 100 pairs", f"{found['mean + k sigma']:.2f}"),
        ],
    )
