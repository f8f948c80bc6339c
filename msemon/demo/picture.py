"""The README's picture, from a real run: `python -m msemon.demo.picture docs/images/demo.svg`."""

from __future__ import annotations

import argparse
import io
import re
import threading
from pathlib import Path

from rich.console import Console, RenderableType

from msemon.demo import screen, session
from msemon.demo.drift import USUAL
from msemon.demo.table import Recent
from msemon.settings import Settings

_SECONDS = USUAL.after_s + 40.0  # at speed 1
_NOW_S = 15.0
_WIDTH = 82
_ROWS = 16  # the totals and the countries


def main(arguments: list[str] | None = None) -> int:
    """Run the demo for `--seconds`, then write its table as SVG."""
    parser = argparse.ArgumentParser(prog="python -m msemon.demo.picture", description=__doc__)
    parser.add_argument("file", type=Path, help="the SVG to write")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="default: until well into the drift")
    options = parser.parse_args(arguments)
    options.file.write_text(svg(_table_after(options.seconds)), encoding="utf-8")
    return 0


def svg(table: RenderableType) -> str:
    """`table` as it looks on a terminal; without the fonts that rich would have a reader's browser fetch."""
    console = Console(record=True, width=_WIDTH, file=io.StringIO(), highlight=False)
    console.print(table)
    text = console.export_svg(title="msemon demo", unique_id="msemon-demo")
    text = re.sub(r"@font-face\s*{.*?}\s*", "", text, flags=re.DOTALL)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _table_after(seconds: float) -> RenderableType:
    recent = Recent(_NOW_S)
    with session.start(Settings(), port=0, speed=1.0) as running:
        pause = threading.Event()
        for second in range(int(seconds)):
            pause.wait(1.0)
            running.check()
            view = running.view()
            if view is not None:
                recent.add(float(second), view)
        view = running.view()
        if view is None:
            raise session.Failed("the demo has no numbers yet")
        return screen.picture(view, running.settings, recent, seconds, _ROWS)


if __name__ == "__main__":
    raise SystemExit(main())
