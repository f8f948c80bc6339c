"""Time of rendering the per-series families, a sample: `python benchmarks/stage_render.py [SAMPLES]`.

The first rendering escapes every label, the others find them; prometheus-client's is of a tenth of the samples.
"""

from __future__ import annotations

import platform
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from prometheus_client import generate_latest

from msemon.export.families import select
from msemon.export.render import Renderer

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.views import Reference, large_view

SEGMENTS = 100


def seconds(work: Callable[[], object], repeat: int = 5) -> float:
    best = float("inf")
    for _ in range(repeat):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best


def samples_in(exposition: bytes) -> int:
    return sum(not line.startswith(b"#") for line in exposition.splitlines())


def main() -> None:
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    selection = select()
    one = samples_in(b"".join(Renderer(selection).blocks(large_view(1, SEGMENTS), openmetrics=False)))
    view = large_view(round(wanted / one) or 1, SEGMENTS)
    renderer = Renderer(selection)

    def render() -> bytes:
        return b"".join(renderer.blocks(view, openmetrics=False))

    cold = seconds(render, repeat=1)
    warm = seconds(render)
    body = render()
    samples = samples_in(body)
    gzip = seconds(lambda: zlib.compress(body, 1))
    small = large_view(round(wanted / one / 10) or 1, SEGMENTS)
    reference = seconds(lambda: generate_latest(Reference(small, selection)), repeat=1)
    few = samples_in(b"".join(Renderer(selection).blocks(small, openmetrics=False)))

    print(f"{platform.machine()}, Python {platform.python_version()}: {samples:,} samples, {len(body) / 1e6:.1f} MB")
    print(f"first rendering     {cold / samples * 1e6:6.2f} µs a sample")
    print(f"rendering           {warm / samples * 1e6:6.2f} µs a sample, {warm:.3f} s in all")
    print(f"gzip, level 1       {gzip / samples * 1e6:6.2f} µs a sample, without the interpreter's lock")
    print(f"prometheus-client   {reference / few * 1e6:6.2f} µs a sample")


if __name__ == "__main__":
    main()
