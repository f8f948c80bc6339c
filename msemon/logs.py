"""Logging: text on a terminal, else JSON lines, always to stderr.

What is logged are coordinates (topic, partition, offset) and never payloads; so tracebacks come without local
variables, and the Kafka client, whose debug lines hold whole requests, is never heard below INFO.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import Processor

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("auto", "text", "json")


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
                colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback, sort_keys=False
            )
        ]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]


def one_line(problem: BaseException) -> str:
    """What went wrong, in a line for a log or a report."""
    name, text = type(problem).__name__, " ".join(str(problem).split())
    return (text if text.startswith(name) else f"{name}: {text}")[:300]
