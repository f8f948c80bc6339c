"""The sources a person names: files, pipes, `-` for standard input, and ranges of topics as `kafka://TOPIC?from=…&to=…`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from msemon.replaying.lines import Lines
from msemon.replaying.streams import BadSource, Stream
from msemon.settings import Settings, SettingsError
from msemon.settings.values import Start, start
from msemon.wiring import json_decoder_of, shape_of

if TYPE_CHECKING:
    from msemon.replaying.topics import Range

STDIN = "-"

_PARQUET = b"PAR1"


@contextmanager
def opened(sources: Sequence[str], settings: Settings) -> Iterator[list[Stream]]:
    """The streams of all sources. Raises BadSource, and SettingsError for what no source can be."""
    with ExitStack() as closing:
        yield _streams(sources, settings, closing)


def _streams(sources: Sequence[str], settings: Settings, closing: ExitStack) -> list[Stream]:
    files = [source for source in sources if not _is_topic(source)]
    streams: list[Stream] = [_file(_path(source, closing), settings, str(Path(source))) for source in files]
    ranges = [_range(source) for source in sources if _is_topic(source)]
    names = [*(stream.topic for stream in streams), *(each.topic for each in ranges)]
    if twice := {name for name in names if names.count(name) > 1}:
        raise SettingsError([f"{name}: named twice" for name in sorted(twice)])
    if ranges:
        from msemon.replaying.topics import streams_of

        streams += streams_of(ranges, settings, closing)
    return streams


def _is_topic(source: str) -> bool:
    return source.startswith("kafka://")


def _path(source: str, closing: ExitStack) -> Path:
    """Where the bytes of a source lie: of a pipe, in a copy, since a file is read from its beginning more than once."""
    if source != STDIN and not Path(source).is_fifo():
        return Path(source)
    copy = closing.enter_context(NamedTemporaryFile(prefix="msemon-"))  # noqa: SIM115 - closed by `closing`
    with nullcontext(sys.stdin.buffer) if source == STDIN else Path(source).open("rb") as pipe:
        shutil.copyfileobj(pipe, copy)
    copy.flush()
    return Path(copy.name)


def _file(path: Path, settings: Settings, name: str | None = None) -> Stream:
    name = name or str(path)
    try:
        with path.open("rb") as file:
            parquet = file.read(len(_PARQUET)) == _PARQUET
    except OSError as error:
        raise BadSource(f"{name}: {error.strerror or error}") from None
    if not parquet:
        return Lines(path, json_decoder_of(settings), settings.limits.message_bytes, name)
    if find_spec("pyarrow") is None:
        raise SettingsError([f"{path}: Parquet needs pyarrow: pip install 'msemon[replay]'"])
    from msemon.replaying.parquet import Table

    return Table(
        path,
        segment_keys=shape_of(settings).segment_keys,
        fields=settings.format.fields,
        max_future_us=round(settings.windows.max_future * 1e6),
        label_length=settings.limits.label_length,
        vector_length=settings.limits.vector_length,
        name=name,
    )


def _range(source: str) -> Range:
    from msemon.replaying.topics import Range

    parts = urlsplit(source)
    topic = unquote(parts.netloc)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if not topic or parts.path not in ("", "/") or not query.keys() <= {"from", "to"}:
        raise SettingsError([f"{source}: expected kafka://TOPIC?from=TIME&to=TIME (both may be missing)"])
    return Range(topic, _time(source, "from", query, "earliest"), _time(source, "to", query, "latest"))


def _time(source: str, name: str, query: dict[str, str], default: str) -> Start:
    try:
        return start(query.get(name, default).replace(" ", "+"))  # an offset's + that was not escaped
    except ValueError as error:
        raise SettingsError([f"{source}: {name}: {error}"]) from None
