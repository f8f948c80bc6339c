"""The renderer against prometheus-client, on samples and label texts of any kind."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable

import hypothesis.strategies as st
import numpy as np
from hypothesis import example, given
from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_fd_to_metric_families

from msemon.core import moments
from msemon.core.view import SeriesKey, View
from msemon.events import Floats
from msemon.export.families import select
from msemon.export.render import render, texts
from support.views import Reference, accumulated, go_text, openmetrics_families, openmetrics_of, view_of

EVERYTHING = select("all", "all")
hostile = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.text(st.sampled_from('a\\"\n\r\t {},=#\x00 é'), max_size=12),
    st.sampled_from(["", "\\", '"', "\\n", "\n", '"} 1\n# EOF', 'a",b="c', " # {", "m{n}", "__other__", "\\\\\\"]),
)
any_float = st.floats(allow_nan=True, allow_infinity=True)
finite = st.floats(allow_nan=False, allow_infinity=False)
# What a counter or a histogram can be; openmetrics' parser refuses the rest.
amount = st.one_of(st.just(0.0), st.floats(0, 1e300), st.integers(0, 2**60).map(float), st.just(math.nan))
pairs = st.lists(st.tuples(st.floats(-1e75, 1e75), st.floats(-1e75, 1e75), st.floats(0, 1e75)), max_size=9)


@st.composite
def views(draw: st.DrawFn) -> View:
    models = draw(st.lists(st.builds(SeriesKey, hostile, hostile), unique=True, max_size=4))
    segments = draw(st.lists(st.builds(SeriesKey, hostile, hostile, hostile, hostile), unique=True, max_size=4))
    windows = draw(st.lists(st.sampled_from(["5m", "1h", "24h"]), unique=True, min_size=1))
    view = view_of(dict.fromkeys(models, ()), dict.fromkeys(segments, ()), windows)
    for table in (view.models, view.segments):
        table.windows[:] = [_moments(draw, len(table.keys)) for _ in windows]
        table.counters = _filled(draw, amount, table.counters.shape)
        table.drift = _filled(draw, amount, table.drift.shape)
    for name in ("lifetime", "stream_time", "last_pair", "series", "series_limit"):
        setattr(view, name, _filled(draw, any_float, getattr(view, name).shape))
    view.folded = _filled(draw, amount, view.folded.shape)
    view.delay_sum = np.nan_to_num(_filled(draw, amount, view.delay_sum.shape))
    view.delays = _filled(draw, st.integers(0, 2**40).map(float), view.delays.shape).astype(np.int64)
    return view


def _filled(draw: st.DrawFn, values: st.SearchStrategy[float], shape: tuple[int, ...]) -> Floats:
    size = math.prod(shape)
    return np.array(draw(st.lists(values, min_size=size, max_size=size))).reshape(shape)


def _moments(draw: st.DrawFn, k: int) -> Floats:
    columns = [accumulated(draw(pairs)) for _ in range(k)]
    return np.concatenate(columns, axis=1) if columns else moments.empty(0)


@given(st.lists(finite))
@example([1e6, -1e6, 1e16, 1e-4, 9.9e-5, 0.0, -0.0])
def test_values_are_written_as_prometheus_client_does(values: list[float]) -> None:
    assert texts(np.array(values, float)) == [go_text(value).encode() for value in values]


@given(st.floats(1e5, 1e17), st.floats(1e-6, 1e-3))
def test_values_near_the_changes_of_notation_too(large: float, small: float) -> None:
    for value in (large, -large, small, -small, math.floor(large)):
        assert texts(np.array([value], float)) == [go_text(value).encode()]


@given(views())
def test_the_text_format_is_byte_for_byte_prometheus_clients(view: View) -> None:
    assert render(view, openmetrics=False, selection=EVERYTHING) == generate_latest(Reference(view, EVERYTHING))


@given(views())
def test_openmetrics_is_byte_for_byte_prometheus_clients(view: View) -> None:
    expected = openmetrics_of(Reference(view, EVERYTHING))
    assert render(view, openmetrics=True, selection=EVERYTHING) + b"# EOF\n" == expected


Read = set[tuple[str, frozenset[tuple[str, str]], float]]


def _read(families: Iterable[Metric]) -> Read:
    samples = [sample for metric in families for sample in metric.samples]
    return {(sample.name, frozenset(sample.labels.items()), float(sample.value)) for sample in samples}


@given(views())
def test_both_formats_are_read_back_as_the_same_samples(view: View) -> None:
    expected = _read(Reference(view, EVERYTHING).collect())
    text = io.StringIO(render(view, openmetrics=False, selection=EVERYTHING).decode(), newline="\n")
    openmetrics = io.StringIO(render(view, openmetrics=True, selection=EVERYTHING).decode() + "# EOF\n", newline="\n")
    assert _read(text_fd_to_metric_families(text)) == expected
    assert _read(openmetrics_families(openmetrics)) == expected
