"""Logging: text on a terminal, else JSON lines, always to stderr.

What is logged are coordinates (topic, partition, offset) and never payloads; so tracebacks come without local
variables, those of code that handles messages without the exception's own words, and the Kafka client, whose debug
lines hold whole requests, is never heard below INFO.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TextIO

import structlog
from structlog.typing import Processor

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("auto", "text", "json")

_HANDLE_MESSAGES = tuple(
    str(Path(__file__).parent / name)
    for name in ("core", "dead_letters", "decoding", "events", "sources/kafka_records", "sources/librdkafka_messages",
                 "sources/record_format")
)  # fmt: skip
_WITHHELD = "its words are withheld, they may be a message's"

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def configure(level: str = "info", log_format: str = "auto", stream: TextIO | None = None) -> None:
    """Sets up structlog and the standard library's logging alike; calling it again replaces what was set up."""
    stream = stream or sys.stderr
    text = log_format == "text" or (log_format == "auto" and stream.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(text, stream)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Every attempt to connect is an INFO line of its own; those are for whoever asked for debugging.
    quiet_client(logging.INFO if root.level <= logging.DEBUG else logging.WARNING)


def quiet_client(level: int = logging.CRITICAL) -> None:
    """Hears nothing below `level` from the Kafka client."""
    logging.getLogger("kafka").setLevel(level)


def _renderers(text: bool, stream: TextIO) -> list[Processor]:
    if text:
        return [
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(),
                exception_formatter=lambda out, exc_info: print("\n" + told(exc_info), file=out, end=""),
                sort_keys=False,
            )
        ]
    return [structlog.processors.ExceptionRenderer(told), structlog.processors.JSONRenderer(default=str)]


def told(exc_info: _ExcInfo) -> str:
    """The traceback. Where it went through code that handles messages, every exception of it is told by its type alone:
    words such as `invalid literal for int(): …` quote what was at hand.
    """
    errors = list(_chain(exc_info[1]))
    frames = [frame for error in errors for frame in traceback.extract_tb(error.__traceback__)]
    if not any(frame.filename.startswith(_HANDLE_MESSAGES) for frame in frames):
        return "".join(traceback.format_exception(exc_info[1])).rstrip()
    lines = []
    for error in reversed(errors):
        lines += ["Traceback (most recent call last):\n", *traceback.format_tb(error.__traceback__)]
        lines += [f"{type(error).__qualname__} ({_WITHHELD})\n"]
    return "".join(lines).rstrip()


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The exception, then what it came from."""
    seen = set[int]()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def one_line(problem: BaseException) -> str:
    """What went wrong, in a line for a log or a report."""
    name, text = type(problem).__name__, " ".join(str(problem).split())
    return (text if text.startswith(name) else f"{name}: {text}")[:300]
