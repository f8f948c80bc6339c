"""`msemon replay`: what comes out of a replay, in the form that was asked for; whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import msgspec

from msemon.core.view import SeriesKey
from msemon.export.families import select
from msemon.replaying import columns, openmetrics
from msemon.replaying.run import Numbers, Progress, Replay, models, run, segments
from msemon.replaying.streams import BadSource
from msemon.replaying.words import name, number, said, segment, time_text
from msemon.settings import Settings, SettingsError

_NEEDS = {"parquet": "pyarrow", "html": "matplotlib"}
_TO_A_FILE = ("parquet", "html")
_MINUTE_US = 60_000_000


@dataclass(frozen=True, slots=True)
class Options:
    """The command's own arguments."""

    sources: Sequence[str]
    format: str = "table"
    step_us: int | None = None
    output: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


def replay(settings: Settings, options: Options) -> int:
    """The command: 0, or 1 with one line on stderr where a source can't be read. Raises SettingsError."""
    _possible(options)
    step_us = options.step_us or (_MINUTE_US if options.format == "openmetrics" else None)
    record = options.format in ("openmetrics", "parquet", "html")
    try:
        with progress_bar() as progress:
            done = run(options.sources, settings, step_us=step_us, record=record, progress=progress)
        placed(options.output, lambda out: _put(done, settings, options, out))
    except BrokenPipeError:
        raise
    except (BadSource, OSError) as error:
        print(f"msemon replay: {error}", file=sys.stderr)
        return 1
    return 0


def _possible(options: Options) -> None:
    needed = _NEEDS.get(options.format)
    if needed is not None and find_spec(needed) is None:
        raise SettingsError([f"--format {options.format} needs {needed}: pip install 'msemon[replay]'"])
    if options.format in _TO_A_FILE and options.output is None:
        raise SettingsError([f"--format {options.format} writes a file: --output FILE"])
    if options.labels and options.format != "openmetrics":
        raise SettingsError(["--label belongs to --format openmetrics"])
    check_place(options.output)


def check_place(output: str | None) -> None:
    """Before the work is done: whether there is a place for what it will make. Raises SettingsError."""
    if output is not None:
        path = Path(output)
        if path.is_dir():
            raise SettingsError([f"--output {output}: is a directory"])
        if not path.parent.is_dir():
            raise SettingsError([f"--output {output}: there is no directory {path.parent}"])
        if not os.access(path if path.exists() and not path.is_file() else path.parent, os.W_OK):
            raise SettingsError([f"--output {output}: {os.strerror(errno.EACCES)}"])


def _put(done: Replay, settings: Settings, options: Options, out: IO[bytes]) -> None:
    if options.format == "table":
        out.write(table(done).encode())
    elif options.format == "json":
        out.write(msgspec.json.format(msgspec.json.encode(document(done)), indent=1) + b"\n")
    elif done.recording is None:
        raise AssertionError("recorded for these formats")
    elif options.format == "openmetrics":
        chosen = select(settings.export.metrics, settings.export.segment_metrics)
        out.writelines(openmetrics.written(done.recording, chosen, options.labels))
    elif options.format == "parquet":
        _parquet(done, out)
    else:
        from msemon.replaying import report

        out.write(report.html(done, settings).encode())


def _parquet(done: Replay, out: IO[bytes]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    assert done.recording is not None
    schema = pa.schema([(name, _arrow_type(pa, name)) for name in columns.names(done.recording)])
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for block in columns.blocks(done.recording):
            writer.write_table(pa.table(block, schema=schema))


def _arrow_type(pa: Any, name: str) -> Any:
    if name == "time":
        return pa.timestamp("us", "UTC")
    return pa.string() if name in columns.NAMES else pa.float64()


def placed(output: str | None, put: Callable[[IO[bytes]], object]) -> None:
    """What `put` writes goes to the file, which appears whole or not at all; or, only when it is whole, to stdout.

    Raises OSError, in words that name the output; BrokenPipeError where nobody reads stdout any more.
    """
    try:
        _placed(output, put)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(f"{output or 'stdout'}: {error.strerror or error}") from None


def _placed(output: str | None, put: Callable[[IO[bytes]], object]) -> None:
    if output is None:
        _copied(sys.stdout.buffer, put)
        return
    path = Path(output)
    if path.is_char_device() or path.is_fifo():  # /dev/null, say: not to be replaced by a file
        with path.open("wb") as device:
            _copied(device, put)
        return
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            put(file)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).chmod(0o666 & ~_umask())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink()
            raise


def _copied(out: IO[bytes], put: Callable[[IO[bytes]], object]) -> None:
    with tempfile.TemporaryFile() as whole:
        put(whole)
        whole.seek(0)
        shutil.copyfileobj(whole, out)
    out.flush()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar on stderr, where that is a terminal and rich is installed."""
    if not sys.stderr.isatty() or find_spec("rich") is None:
        yield lambda _, __: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    events = TextColumn("{task.fields[events]:>13,} events")
    with Bar(
        TextColumn("replaying"), BarColumn(), TaskProgressColumn(), events, TimeRemainingColumn(),
        console=Console(stderr=True), transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task("", total=1.0, events=0)
        yield lambda streams, tally: bar.update(
            task, completed=sum(each.progress() for each in streams) / len(streams), events=tally.events
        )


# What a person reads.


def table(done: Replay) -> str:
    """Each model and segment, with a line for each window and one for all of it."""
    lines = [
        ("model", "segment", "window", "pairs", "RMSE", "95 % bounds", "MAE", "bias"),
        *(row for key, windows in (*models(done), *segments(done)) for row in _rows(key, windows)),
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    shown = []
    for line in lines:
        cells = [
            cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ]
        shown.append("  ".join(cells).rstrip())
    return "\n".join([*shown, "", *said(done)]) + "\n"


def _rows(key: SeriesKey, windows: Numbers) -> Iterator[tuple[str, ...]]:
    for window, numbers in windows.items():
        bounds = " – ".join(number(numbers[n]) for n in ("rmse_lower", "rmse_upper") if n in numbers)
        cells = [number(numbers[n]) if n in numbers else "" for n in ("rmse", "mae", "bias")]
        pairs = f"{numbers['pairs']:,.0f}"
        yield name(key), segment(key), window, pairs, cells[0], bounds, cells[1], cells[2]


def document(done: Replay) -> dict[str, Any]:
    """The same for programs."""
    tally = done.tally
    series = [{**key._asdict(), "windows": windows} for key, windows in (*models(done), *segments(done))]
    kinds: dict[str, dict[str, int]] = {}
    for (topic, kind), count in sorted(tally.kinds.items()):
        kinds.setdefault(topic, {})[kind] = count
    rejected: dict[str, dict[str, int]] = {}
    for (topic, reason), count in sorted(tally.rejections.items()):
        rejected.setdefault(topic, {})[reason] = count
    join = {
        "matched": tally.matched,
        "waiting_predictions": tally.waiting[0],
        "waiting_labels": tally.waiting[1],
        "repeats": tally.duplicates,
        "conflicting": tally.conflicting,
        "evicted": tally.evicted,
    }
    drift = [
        {"at": time_text(each.at_us), "active": each.change.active, **each.change.key._asdict(),
         "since": time_text(each.change.since_us), "mse": each.change.mse, "baseline_mse": each.change.baseline_mse,
         "evidence": each.change.evidence, "threshold": each.change.threshold, "pairs": each.change.pairs}
        for each in done.episodes
    ]  # fmt: skip
    return {
        "from": time_text(tally.first_us),
        "to": time_text(tally.last_us),
        "events": kinds,
        "rejected": rejected,
        "join": join,
        "series": series,
        "drift": drift,
    }
