"""The per-series families as text, written by ourselves.

prometheus-client makes one object a sample: 14 µs each, with the GIL held, which a hundred thousand series can't pay
on every scrape. Here a series' labels are escaped once and kept, and a window of a family is one comprehension. The
bytes are those prometheus-client would write for the same samples; the tests hold us to that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress

import msgspec
import numpy as np

from msemon.core.view import DELAY_BOUNDS_S, Counts, SeriesKey, Table, View
from msemon.events import Floats
from msemon.export.families import Family, Selection

_GO_EXPONENT = 1e6  # from here Go writes an exponent, Python only
_PYTHON_EXPONENT = 1e16  # from here
_PYTHON_SMALL = 1e-4  # and below here (exactly: digits and exponent agree between repr and msgspec in between)


def texts(values: Floats) -> list[str]:
    """Each value as prometheus-client's `floatToGoString` writes it. Finite values only."""
    if not len(values):
        return []
    # msgspec finds the same shortest digits as repr in a fifth of the time; only the exponents look different.
    found: list[str] = msgspec.json.encode(values.tolist())[1:-1].decode().split(",")
    sizes = np.abs(values)
    for i in np.flatnonzero((sizes < _PYTHON_SMALL) | (sizes >= _PYTHON_EXPONENT)).tolist():
        found[i] = repr(float(values[i]))
    for i in np.flatnonzero((values >= _GO_EXPONENT) & (values < _PYTHON_EXPONENT)).tolist():
        found[i] = _with_exponent(found[i])
    return found


def _with_exponent(decimal: str) -> str:
    whole, fraction = decimal.split(".")
    mantissa = f"{whole[0]}.{whole[1:]}{fraction}".rstrip("0.")
    return f"{mantissa}e+{len(whole) - 1:02d}"


def escaped(text: str) -> str:
    """A label's value between its quotes."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


class Renderer:
    """Keeps the label text of the series it last rendered. Not for two threads at once."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._models: dict[SeriesKey, str] = {}
        self._segments: dict[SeriesKey, str] = {}

    def blocks(self, view: View, openmetrics: bool) -> Iterator[bytes]:
        """The exposition in pieces of one family and window, so that the whole need not be held as text.

        Without the `# EOF` of OpenMetrics: the daemon's own metrics follow.
        """
        self._models = _labels(view.models.keys, SeriesKey._fields[:2], self._models)
        self._segments = _labels(view.segments.keys, SeriesKey._fields, self._segments)
        models, segments = list(self._models.values()), list(self._segments.values())
        for family in self._selection.models:
            yield from _family(family, view, view.models, models, openmetrics)
        for family in self._selection.segments:
            yield from _family(family, view, view.segments, segments, openmetrics)


def render(view: View, openmetrics: bool, selection: Selection) -> bytes:
    """All per-model and per-segment families of a view, in Prometheus' text format 0.0.4 or OpenMetrics 1.0.0."""
    return b"".join(Renderer(selection).blocks(view, openmetrics))


def _labels(keys: Sequence[SeriesKey], names: Sequence[str], known: dict[SeriesKey, str]) -> dict[SeriesKey, str]:
    """Label text of each key, in its order; what the view no longer has is forgotten."""
    return {key: known.get(key) or _label(key, names) for key in keys}


def _label(key: SeriesKey, names: Sequence[str]) -> str:
    return ",".join(f'{name}="{escaped(getattr(key, name))}"' for name in sorted(names))


def _family(family: Family, view: View, table: Table, labels: list[str], openmetrics: bool) -> Iterator[bytes]:
    header = _header(family, openmetrics)
    for lines in _samples(family, view, table, labels):
        if lines:
            # What reaches here is clean text; but one lone surrogate must not cost everybody the scrape.
            yield (header + "".join(lines)).encode("utf-8", "replace")
            header = ""


def _header(family: Family, openmetrics: bool) -> str:
    # Our own texts hold nothing that either format would escape.
    name = family.stem if openmetrics else family.name
    return f"# HELP {name} {family.meaning}\n# TYPE {name} {family.kind}\n"


def _samples(family: Family, view: View, table: Table, labels: list[str]) -> Iterator[list[str]]:
    if family.values is None:
        yield _histogram(family.name, view.delays, view.delay_sum, labels)
    elif family.windowed:
        for i, window in enumerate(view.windows):
            yield _lines(f"{family.name}{{", labels, f',window="{escaped(window)}"}} ', family.values(view, table, i))
    else:
        yield _lines(f"{family.name}{{", labels, "} ", family.values(view, table, 0))


def _lines(head: str, labels: list[str], tail: str, values: Floats) -> list[str]:
    """One line for each value that is there."""
    there = np.isfinite(values)
    if there.all():
        kept: Iterator[str] = iter(labels)
    else:
        kept, values = compress(labels, there.tolist()), values[there]
    return [f"{head}{label}{tail}{text}\n" for label, text in zip(kept, texts(values), strict=True)]


def _histogram(name: str, counts: Counts, sums: Floats, labels: list[str]) -> list[str]:
    bounds = [*texts(np.array(DELAY_BOUNDS_S)), "+Inf"]
    heads = [f'{name}_bucket{{le="{bound}",' for bound in bounds]
    lines = []
    cumulative = counts.cumsum(axis=1).astype(np.float64)
    for label, row, total in zip(labels, cumulative, texts(sums), strict=True):
        written = texts(row)
        lines += [f"{head}{label}}} {text}\n" for head, text in zip(heads, written, strict=True)]
        lines += [f"{name}_count{{{label}}} {written[-1]}\n", f"{name}_sum{{{label}}} {total}\n"]
    return lines
