"""Rendering a million samples, and prometheus-client's `generate_latest` on the same ones:
`python benchmarks/stage_render.py [--short] [SAMPLES]`.

CPU time, so that a busy machine disturbs it less. Every byte is compared. Of prometheus-client only `generate_latest`
itself is timed, not the making of its sample objects. The first rendering escapes every label, the others find them.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client import Metric, generate_latest
from prometheus_client.registry import Collector

from msemon.core import moments
from msemon.core.view import View
from msemon.export.families import Selection, select
from msemon.export.render import Renderer

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]
from benchmarks.measuring import figure
from support.views import Reference, large_view

SEGMENTS = 100


class Made(Collector):
    """Sample objects that are there already."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def samples_in(exposition: bytes) -> int:
    return sum(not line.startswith(b"#") for line in exposition.splitlines())


def view_of(samples: int, selection: Selection) -> View:
    """About that many; errors of every fourth series are a thousand times as large, so that notations mix."""
    one = samples_in(b"".join(Renderer(selection).blocks(large_view(1, SEGMENTS), openmetrics=False)))
    view = large_view(round(samples / one) or 1, SEGMENTS)
    for table in (view.models, view.segments):
        table.counters[2:, ::4] *= 1e6
        for window in table.windows:
            window[moments.MEAN_Q, ::4] *= 1e6
            window[moments.M2_Q, ::4] *= 1e12
    return view


def reference(view: View, selection: Selection) -> tuple[float, bytes]:
    """(seconds, text) of generate_latest, a family at a time so that a million objects need not be held."""
    spent, text = 0.0, []
    for family in (*selection.models, *selection.segments):
        one = Selection((family,), ()) if family in selection.models else Selection((), (family,))
        made = Made(list(Reference(view, one).collect()))
        began = time.process_time()
        text.append(generate_latest(made))
        spent += time.process_time() - began
    return spent, b"".join(text)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true", help="a few samples: does it run?")
    parser.add_argument("samples", type=int, nargs="?", default=1_000_000)
    given = parser.parse_args()
    selection = select()
    view = view_of(10_000 if given.short else given.samples, selection)
    renderer = Renderer(selection)

    def render() -> bytes:
        return b"".join(renderer.blocks(view, openmetrics=False))

    cold = seconds(render)
    each = [seconds(render) for _ in range(5)]
    warm = statistics.median(each)
    began = time.perf_counter()
    body = render()
    wall = time.perf_counter() - began
    gzip = seconds(lambda: zlib.compress(body, 1))
    theirs, expected = reference(view, selection)
    assert body == expected, "not what prometheus-client writes"
    n = samples_in(body)

    print(f"{platform.machine()}, Python {platform.python_version()}: {n:,} samples, {len(body) / 1e6:.1f} MB")
    print(f"rendering                {warm:8.3f} s, {warm / n * 1e6:.3f} µs a sample (wall clock {wall:.3f} s)")
    print(f"the first rendering      {cold:8.3f} s")
    print(f"gzip, level 1            {gzip:8.3f} s, without the interpreter's lock")
    print(f"generate_latest          {theirs:8.3f} s, {theirs / n * 1e6:.3f} µs a sample")
    print(f"generate_latest / ours   {theirs / warm:8.1f}")
    figure("seconds to render a million samples", [took / n * 1e6 for took in each])
    figure("times faster than generate_latest", [theirs / took for took in each])


if __name__ == "__main__":
    main()
