"""The results page: the figures that are promised beside what was measured, then what every script said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from benchmarks.measuring import digits, median, spread, table


class Promise(NamedTuple):
    """A figure by its name in `measuring.figure`; where `at_most`, less is better."""

    what: str
    figure: str
    least: float
    goal: float
    at_most: bool = False

    def verdict(self, values: Sequence[float]) -> str:
        """Of the median, as it was measured.

        >>> [Promise("", "", 0.75, 0.85).verdict([value]) for value in (0.7, 0.75, 0.9)]
        ['missed', 'reached', 'goal reached']
        >>> [Promise("", "", 64, 40, at_most=True).verdict([value]) for value in (65, 64, 40)]
        ['missed', 'reached', 'goal reached']
        """
        sign = -1 if self.at_most else 1
        value = sign * median(values)
        if value >= sign * self.goal:
            return "goal reached"
        return "reached" if value >= sign * self.least else "missed"


PROMISES = [
    Promise("events/s on kafka-python / its own drain", "msemon, kafka-python / drain, kafka-python", 0.75, 0.85),
    Promise("events/s on librdkafka / its own drain", "msemon, librdkafka / drain, confluent-kafka", 0.35, 0.5),
    Promise("events/s on librdkafka / the hand-written confluent-kafka script", "msemon, librdkafka / by hand", 1, 1.3),
    Promise("events/s on librdkafka / Pathway with two threads", "msemon, librdkafka / Pathway, two threads", 2, 3),
    Promise("events/s on kafka-python / the river script", "msemon, kafka-python / river", 3.5, 4),
    Promise(
        "two replicas on two cores / one, kafka-python",
        "msemon, kafka-python, two replicas / msemon, kafka-python", 1.7, 1.9,
    ),
    Promise(
        "bytes per waiting prediction beside its id, at 5 million waiting",
        "bytes a waiting prediction", 64, 40, at_most=True,
    ),
    Promise("bytes per (series, non-empty pane)", "bytes a series and pane", 136, 112, at_most=True),
    Promise("seconds to render 1,000,000 samples", "seconds to render a million samples", 1.2, 0.7, at_most=True),
    Promise("times faster than `generate_latest`", "times faster than generate_latest", 10, 20),
    Promise("ingestion while such a scrape runs every 5 s / without", "ingestion with scrapes / without", 0.67, 0.85),
    Promise(
        "throughput at 10,000 series / at 32", "msemon, librdkafka, 10,000 series / msemon, librdkafka", 0.8, 0.9
    ),
    Promise(
        "throughput with 5 million ids waiting / with none",
        "msemon, librdkafka, 5 million waiting / msemon, librdkafka", 0.7, 0.85,
    ),
]  # fmt: skip


class Told(NamedTuple):
    """What a script said, and how it failed if it did."""

    script: str
    output: str
    failure: str | None


def promises(figures: Mapping[str, Sequence[float]]) -> str:
    """The table of all of them, measured or not."""
    rows = []
    for each in PROMISES:
        values = figures.get(each.figure)
        measured = ("not measured", "") if values is None else (spread(values), each.verdict(values))
        bounds = [f"{'≤' if each.at_most else '≥'} {digits(bound)}" for bound in (each.least, each.goal)]
        rows.append([each.what, measured[0], *bounds, measured[1]])
    return table(["what", "measured: median (lowest to highest)", "at least", "the goal", ""], rows)


def page(begin: Sequence[str], figures: Mapping[str, Sequence[float]], told: Sequence[Told]) -> str:
    """The whole of it, in Markdown; `begin` are facts about the run."""
    parts = ["# Results", "Written by `make bench`; see [README.md](README.md) for what is measured and how."]
    parts += ["\n".join(f"- {fact}" for fact in begin), "## The figures", promises(figures)]
    failed = [f"- `{each.script}`: {each.failure}" for each in told if each.failure]
    if failed:
        parts += ["## What failed", "\n".join(failed)]
    for each in told:
        parts += [f"## {each.script}", each.output if "\n| --- " in each.output else f"```\n{each.output}\n```"]
    return "\n\n".join(parts) + "\n"
