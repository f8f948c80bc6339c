"""The per-series families as text, written by ourselves.

prometheus-client makes one object a sample: 14 µs each, with the GIL held, which a hundred thousand series can't pay
on every scrape. Here a series' labels are escaped and encoded once and kept; a value costs its digits, which msgspec
finds for thousands at a time, and a place in one join. The bytes are those prometheus-client would write for the same
samples; the tests hold us to that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress

import msgspec
import numpy as np

from msemon.core.view import DELAY_BOUNDS_S, Counts, SeriesKey, Table, View
from msemon.events import Floats
from msemon.export.families import Family, Selection

_AT_ONCE = 4096  # samples: no single call then holds the interpreter for more than a fraction of a millisecond
_GO_EXPONENT = 1e6  # from here Go writes an exponent, Python only
_PYTHON_EXPONENT = 1e16  # from here
_EXPONENTS = [b"e+%02d" % (digits - 1) for digits in range(18)]  # by digits before the point
_PYTHON_SMALL = 1e-4  # and below here (exactly: digits and exponent agree between repr and msgspec in between)


def texts(values: Floats) -> list[bytes]:
    """Each value as prometheus-client's `floatToGoString` writes it. Finite values only."""
    if not len(values):
        return []
    # msgspec finds the same shortest digits as repr in a fifth of the time; only the exponents look different.
    found = msgspec.json.encode(values.tolist())[1:-1].split(b",")
    sizes = np.abs(values)
    for i in np.flatnonzero((sizes < _PYTHON_SMALL) & (values != 0.0) | (sizes >= _PYTHON_EXPONENT)).tolist():
        found[i] = repr(float(values[i])).encode()
    for i in np.flatnonzero((values >= _GO_EXPONENT) & (values < _PYTHON_EXPONENT)).tolist():
        found[i] = _with_exponent(found[i])
    return found


def _with_exponent(decimal: bytes) -> bytes:
    dot = decimal.index(b".")
    mantissa = (decimal[:1] + b"." + decimal[1:dot] + decimal[dot + 1 :]).rstrip(b"0.")
    return mantissa + _EXPONENTS[dot]


def escaped(text: str) -> str:
    """A label's value between its quotes."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


class _Labels:
    """The label text of a table's series, as of the table last rendered."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = sorted(names)
        self._keys: Sequence[SeriesKey] = ()
        self._known: dict[SeriesKey, bytes] = {}
        self._texts: list[bytes] = []

    def of(self, keys: Sequence[SeriesKey]) -> list[bytes]:
        """Label text of each key; what is not among them is forgotten."""
        if keys is not self._keys:  # views of the same series have the same list
            self._known = {key: self._known.get(key) or self._text(key) for key in keys}
            self._texts = list(self._known.values())
            self._keys = keys
        return self._texts

    def _text(self, key: SeriesKey) -> bytes:
        text = ",".join(f'{name}="{escaped(getattr(key, name))}"' for name in self._names)
        # What reaches here is clean; but one lone surrogate must not cost everybody the scrape.
        return text.encode("utf-8", "replace")


class Renderer:
    """Keeps the label text of the series it last rendered. Not for two threads at once."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._models = _Labels(SeriesKey._fields[:2])
        self._segments = _Labels(SeriesKey._fields)

    def blocks(self, view: View, openmetrics: bool) -> Iterator[bytes]:
        """The exposition in pieces of a few thousand samples, so that the whole need not be held as text.

        Without the `# EOF` of OpenMetrics: the daemon's own metrics follow.
        """
        models, segments = self._models.of(view.models.keys), self._segments.of(view.segments.keys)
        for family in self._selection.models:
            yield from _family(family, view, view.models, models, openmetrics)
        for family in self._selection.segments:
            yield from _family(family, view, view.segments, segments, openmetrics)


def render(view: View, openmetrics: bool, selection: Selection) -> bytes:
    """All per-model and per-segment families of a view, in Prometheus' text format 0.0.4 or OpenMetrics 1.0.0."""
    return b"".join(Renderer(selection).blocks(view, openmetrics))


def _family(family: Family, view: View, table: Table, labels: list[bytes], openmetrics: bool) -> Iterator[bytes]:
    before = header(family, openmetrics)
    for lines in _samples(family, view, table, labels):
        yield before + lines
        before = b""


def header(family: Family, openmetrics: bool) -> bytes:
    """The lines before a family's samples."""
    # Our own texts hold nothing that either format would escape.
    name = family.stem if openmetrics else family.name
    return f"# HELP {name} {family.meaning}\n# TYPE {name} {family.kind}\n".encode()


def _samples(family: Family, view: View, table: Table, labels: list[bytes]) -> Iterator[bytes]:
    """The family's lines, some thousand at a time and never none."""
    if family.values is None:
        yield from _histogram(family.name, view.delays, view.delay_sum, labels)
        return
    head = f"{family.name}{{".encode()
    tails = [f',window="{escaped(window)}"}} ' for window in view.windows] if family.windowed else ["} "]
    for i, tail in enumerate(tails):
        values = family.values(view, table, i)
        for begin in range(0, len(labels), _AT_ONCE):
            part = slice(begin, begin + _AT_ONCE)
            if lines := _lines(head, labels[part], tail.encode(), values[part]):
                yield lines


def _lines(head: bytes, labels: Sequence[bytes], tail: bytes, values: Floats) -> bytes:
    """One line for each value that is there."""
    there = np.isfinite(values)
    if not there.all():
        labels, values = list(compress(labels, there.tolist())), values[there]
    if not labels:
        return b""
    pieces = [b"\n" + head] * (4 * len(labels))
    pieces[0] = head
    pieces[1::4] = labels
    pieces[2::4] = [tail] * len(labels)
    pieces[3::4] = texts(values)
    pieces.append(b"\n")
    return b"".join(pieces)


def _histogram(name: str, counts: Counts, sums: Floats, labels: list[bytes]) -> Iterator[bytes]:
    bounds = [*texts(np.array(DELAY_BOUNDS_S)), b"+Inf"]
    heads = [b'%b_bucket{le="%b",' % (name.encode(), bound) for bound in bounds]
    count, total = f"{name}_count{{".encode(), f"{name}_sum{{".encode()
    cumulative = counts.cumsum(axis=1).astype(np.float64)
    for label, row, written in zip(labels, cumulative, texts(sums), strict=True):
        amounts = texts(row)
        lines = [b"%b%b} %b\n" % (head, label, amount) for head, amount in zip(heads, amounts, strict=True)]
        lines += [b"%b%b} %b\n" % (count, label, amounts[-1]), b"%b%b} %b\n" % (total, label, written)]
        yield b"".join(lines)
